"""Tests of confidence: what is called, by hand, on null data and on data with an effect."""

import numpy as np
import pytest

from moa_jax.answers import confidence, rule


def share(counts, false):
    return (false + 1) / counts


def with_negatives(scores, labels, count=1):
    """Scores and labels with some negative rows below all others."""
    below = np.zeros((count, scores.shape[1]))
    return np.concatenate([scores, below]), np.concatenate([labels, below])


def test_the_lowest_threshold_within_the_rate_is_taken():
    scores = np.linspace(1, 0, 101)[:, None]
    labels = np.ones((101, 1), int)
    labels[[15, 40, 41, 42, 43, 44, 45, 46]] = 0
    (found,) = confidence.thresholds(scores, labels, 0.1)
    calls = scores[:, 0] >= found
    # Of all 101 cells 8 are false: (8 + 1) / 101 is within.
    assert calls.all()
    (found,) = confidence.thresholds(scores, labels, 0.06)
    # Within 40 calls with one false: (1 + 1) / 40.
    assert (scores[:, 0] >= found).sum() == 40
    assert confidence.estimated_share(scores, labels, np.array([found])) == (40, 1, share(40, 1))


def test_few_calls_are_not_enough():
    scores, labels = with_negatives(np.linspace(1, 0.5, 9)[:, None], np.ones((9, 1)))
    assert confidence.thresholds(scores, labels, 0.1).tolist() == [np.inf]
    assert confidence.estimated_share(scores, labels, np.array([np.inf])) == (0, 0, 1.0)
    ten = with_negatives(np.linspace(1, 0.5, 10)[:, None], np.ones((10, 1)))
    assert confidence.thresholds(*ten, 0.1).tolist() == [0.5]


def test_equal_scores_are_called_together_or_not_at_all():
    scores = np.full((40, 1), 0.5)
    labels = (np.arange(40) < 30)[:, None]
    assert confidence.thresholds(scores, labels, 0.1).tolist() == [np.inf]
    assert confidence.thresholds(scores, labels, 0.3).tolist() == [0.5]


def test_a_mechanism_worse_than_the_others_gets_a_higher_threshold():
    rng = np.random.default_rng(0)
    scores = np.sort(rng.random((100, 3)), 0)[::-1]
    labels = np.ones((100, 3), int)
    labels[10:30, 2] = 0
    scores, labels = with_negatives(scores, labels)
    found = confidence.thresholds(scores, labels, 0.1)
    assert found[0] == found[1] == scores.min()
    assert scores[12, 2] < found[2] <= scores[9, 2]
    # By itself it would have needed none that is false: its calls are mixed with those of all.
    assert (labels[:, 2][scores[:, 2] >= found[2]] == 0).any()


def test_a_mechanism_without_a_positive_cell_is_never_called():
    scores = np.full((100, 2), 0.9)
    labels = np.stack([np.ones(100), np.zeros(100)], 1)
    scores, labels = with_negatives(scores, labels, 20)
    assert confidence.thresholds(scores, labels, 0.1).tolist() == [0.9, np.inf]
    known = np.ones(scores.shape, bool)
    known[:, 0] = False
    assert confidence.thresholds(scores, labels, 0.1, known=known).tolist() == [np.inf, np.inf]


def test_what_every_row_has_is_not_called_and_makes_no_room_for_false_calls():
    """It is told from nothing. Of the other mechanism every fifth of the likeliest is false."""
    scores, labels = np.linspace(1, 0.5, 200)[:, None].repeat(2, 1), np.ones((200, 2))
    labels[::5, 1] = 0
    found = confidence.thresholds(scores, labels, 0.15)
    assert found.tolist() == [np.inf, np.inf]
    labels[-1, 0] = 0
    assert np.isfinite(confidence.thresholds(scores, labels, 0.15)).all()
    known = np.ones(labels.shape, bool)
    known[-1] = False
    assert np.isinf(confidence.thresholds(scores, labels, 0.15, known=known)).all()


@pytest.mark.parametrize("method", ["none", "temperature", "isotonic"])
def test_nothing_is_called_that_is_likelier_false_than_true(method):
    """Of three classes alike in frequency, told apart surely but for some rows, which are guessed.

    The sure ones leave room within the rate for guesses, of which two in three are false.
    """
    rng = np.random.default_rng(0)
    classes, is_sure = rng.integers(0, 3, 600), np.arange(600) < 570
    guess = np.full((600, 3), 1 / 3) + rng.uniform(-0.02, 0.02, (600, 3))
    scores = np.where(is_sure[:, None], np.where(np.eye(3)[classes] > 0, 0.98, 0.01), guess)
    labels = np.eye(3, dtype=int)[classes]
    free = confidence.thresholds(scores, labels, 0.1)
    assert (scores >= free)[~is_sure].all() and (free < 0.5).all()
    found, _ = rule.learn(scores, labels, np.arange(600), 0.1, (method,))
    called = found.confident(scores)
    if method != "isotonic":  # by which the highest guesses, as it happens, are just above a half
        assert (called == (is_sure[:, None] & (labels > 0))).all()
    assert (called & is_sure[:, None] == labels * is_sure[:, None]).all()
    assert found.calibrated(found.thresholds).min() >= 0.5
    new = np.linspace(0, 1, 301)[:, None].repeat(3, 1)
    assert (found.calibrated(new)[found.confident(new)] >= 0.5).all()


def test_wells_of_a_compound_count_together_as_one():
    """Nine compounds of ten wells each are nine calls."""
    scores, labels = with_negatives(np.linspace(1, 0.5, 90)[:, None], np.ones((90, 1)))
    units = np.arange(91) // 10
    found, _ = rule.learn(scores, labels, units, 0.1, ("none",))
    assert np.isinf(found.thresholds).all() and not found.confident(scores).any()
    found, _ = rule.learn(scores, labels, np.arange(91), 0.1, ("none",))
    assert found.confident(scores[:90]).all() and (found.calls, found.false_calls) == (90, 0)


def simulated(rng, effect, prevalences, compounds=150):
    """Scores and labels of compounds; without an effect the profile says nothing of the label."""
    labels = rng.random((compounds, len(prevalences))) < prevalences
    odds = np.log(prevalences / (1 - prevalences)) + rng.normal(size=labels.shape)
    return 1 / (1 + np.exp(-odds - effect * labels)), labels


def false_shares(effect, prevalences, trials, rate=0.1):
    """Share of false ones among the calls of new compounds, by trial, and calls in all."""
    rng = np.random.default_rng(0)
    shares, calls = [], 0
    for _ in range(trials):
        found = confidence.thresholds(*simulated(rng, effect, prevalences), rate)
        scores, labels = simulated(rng, effect, prevalences, 1000)
        called = scores >= found
        shares.append((called & ~labels).sum() / max(called.sum(), 1))
        calls += called.sum()
    return np.array(shares), calls


@pytest.mark.parametrize(
    "prevalences", [np.full(30, 0.02), np.linspace(0.01, 0.5, 20), np.full(3, 0.7)]
)
def test_null_data_are_not_called_beyond_the_rate(prevalences):
    shares, _ = false_shares(0.0, prevalences, 60)
    assert shares.mean() <= 0.1


def test_an_effect_is_called_within_the_rate():
    shares, calls = false_shares(6.0, np.full(20, 0.05), 40)
    assert shares.mean() <= 0.1 and calls > 40 * 500


def test_a_rule_is_restored():
    scores, labels = simulated(np.random.default_rng(0), 5.0, np.full(6, 0.1))
    found, crossed = rule.learn(scores, labels, np.arange(150))
    restored = rule.AnswerRule.restore(found.record())
    assert crossed.shape == scores.shape and found.calls > 10
    assert (restored.confident(scores) == found.confident(scores)).all()
    assert (restored.calibrated(scores) == found.calibrated(scores)).all()
    assert restored.record() == found.record()
    none = rule.AnswerRule.none(6)
    assert not none.confident(scores).any() and (none.calibrated(scores) == scores).all()


def test_a_cell_that_is_not_known_moves_no_threshold():
    """It is no call, so that below the lowest known one there still is nothing."""
    scores = np.stack([np.linspace(1, 0.1, 40), np.linspace(1, 0.5, 40)], 1)
    scores, labels = with_negatives(scores, np.ones((40, 2)), 20)
    assert confidence.thresholds(scores, labels, 0.1).tolist() == [0.1, 0.1]
    more, labels = np.concatenate([scores, [[0.3, 0.2]]]), np.concatenate([labels, [[1, 1]]])
    known = np.arange(61)[:, None] < [60, 60]
    assert confidence.thresholds(more, labels, 0.1, known=known).tolist() == [0.1, 0.1]
