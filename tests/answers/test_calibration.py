"""Tests of calibration: each method on data whose answer is known, and the honest choice."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from moa_jax.answers import calibration
from moa_jax.answers.calibration import Calibration
from moa_jax.training import metrics
from moa_jax.training.log_odds import log_odds, of_log_odds


def drawn(rows=3000, seed=0):
    """True probabilities [N, 2] and labels that are drawn by them."""
    rng = np.random.default_rng(seed)
    truth = of_log_odds(rng.normal(-1.5, 1.5, (rows, 2)))
    return truth, (rng.random(truth.shape) < truth).astype(np.uint8)


def test_a_temperature_is_found_again():
    truth, labels = drawn()
    found = calibration.fit("temperature", of_log_odds(2.5 * log_odds(truth)), labels)
    assert found.temperature == pytest.approx(2.5, rel=0.05)
    np.testing.assert_allclose(found.apply(of_log_odds(2.5 * log_odds(truth))), truth, atol=0.02)


def test_a_few_cells_without_a_mistake_make_nothing_sure():
    """By their likelihood alone no temperature would be too low."""
    labels = np.arange(20)[:, None] % 2
    found = calibration.fit("temperature", np.where(labels, 0.9, 0.1), labels)
    assert found.apply(0.9) < 0.99 and found.temperature > 0.5


def test_isotonic_regression_is_that_of_scikit_learn():
    """Of cells and one more at either end, where no two share a bin."""
    rng = np.random.default_rng(3)
    odds = np.sort(rng.permutation(60)[:40] / 10 - 3)
    labels = (rng.random(40) < of_log_odds(odds)).astype(float)
    found = calibration.fit("isotonic", of_log_odds(odds)[:, None], labels[:, None])
    ends = np.concatenate([[odds[0] - 1], odds, [odds[-1] + 1]])
    expected = IsotonicRegression().fit(ends, np.concatenate([[1], labels, [0]]))
    applied = found.apply(of_log_odds(odds))
    np.testing.assert_allclose(applied, expected.predict(odds), atol=1e-9)
    assert 0 < applied.min() and applied.max() < 1


@pytest.mark.parametrize(
    ("distort", "chosen"),
    [
        (lambda p: p, "none"),
        (lambda p: of_log_odds(3 * log_odds(p)), "temperature"),
        (lambda p: p**4 / 2 + p / 20, "isotonic"),
    ],
)
def test_what_fits_new_compounds_is_chosen(distort, chosen):
    truth, labels = drawn()
    units = np.arange(len(labels)) // 2
    found, losses, crossed = calibration.choose(distort(truth), labels, units)
    assert found.method == chosen == min(losses, key=losses.get)
    assert np.abs(crossed - truth).mean() < 0.02
    assert calibration.choose(distort(truth), labels, units)[0] == found


def test_what_only_remembers_compounds_is_not_chosen():
    """Every compound has a score of its own, by which its own rows' labels can be learned."""
    rng = np.random.default_rng(5)
    units = np.repeat(np.arange(12), 30)
    scores = (0.3 + 0.01 * rng.permutation(12))[units][:, None]
    labels = np.repeat(rng.permutation(12) < 4, 30)[:, None]
    found, losses, _ = calibration.choose(scores, labels, units)
    rowwise = calibration.choose(scores, labels, np.arange(len(units)))[1]
    assert rowwise["isotonic"] < rowwise["none"] < losses["isotonic"]
    assert found.method != "isotonic"


def test_equal_losses_choose_none():
    half = np.full((40, 1), 0.5)
    labels = np.arange(40)[:, None] % 2
    found, losses, crossed = calibration.choose(half, labels, np.arange(40) // 2)
    assert losses["none"] == losses["temperature"] and found == Calibration()
    assert (crossed == half).all()


def test_unknown_cells_teach_nothing():
    truth, labels = drawn(400)
    known = np.random.default_rng(0).random(labels.shape) < 0.7
    other = np.where(known, labels, 1 - labels)
    scores = of_log_odds(2 * log_odds(truth))
    units = np.arange(400)
    first = calibration.choose(scores, labels, units, known=known)
    second = calibration.choose(scores, other, units, known=known)
    assert first[0] == second[0] and first[1] == second[1]
    assert calibration.choose(scores, labels, units)[1] != first[1]
    nothing = np.zeros_like(known)
    assert calibration.choose(scores, labels, units, known=nothing)[0] == Calibration()


def test_a_loss_is_the_score_of_the_run():
    """Over known cells, however many each mechanism has of them."""
    truth, labels = drawn(400)
    known = np.random.default_rng(0).random(labels.shape) < np.array([0.9, 0.1])
    _, losses, _ = calibration.choose(truth, labels, np.arange(400), known=known)
    assert losses["none"] == pytest.approx(metrics.mean_log_loss(labels, truth, known), rel=1e-12)


@pytest.mark.parametrize("method", calibration.METHODS)
def test_a_record_is_restored_and_order_is_kept(method):
    truth, labels = drawn(200)
    found = calibration.fit(method, truth, labels)
    restored = Calibration.restore(found.record())
    assert restored == found
    values = restored.apply(np.linspace(0, 1, 500))
    assert (np.diff(values) >= 0).all() and values.min() >= 0 and values.max() <= 1


def test_a_record_of_something_else_is_refused():
    with pytest.raises(ValueError, match="calibration by one of"):
        Calibration.restore({**Calibration().record(), "method": "platt"})
    with pytest.raises(ValueError, match="calibration by one of"):
        Calibration.restore({**Calibration().record(), "method": "isotonic"})
