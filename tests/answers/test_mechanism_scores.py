"""Tests of mechanisms' scores against scikit-learn, of resamples, and of unknown labels."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from moa_jax.answers import mechanism_scores as scores
from moa_jax.answers.mechanism_scores import Resamples

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def wells():
    """Labels, predictions with ties, compounds, and resamples of these."""
    rng = np.random.default_rng(0)
    units = np.sort(rng.integers(0, 25, 150))
    units = np.unique(units, return_inverse=True)[1]
    values = np.round(rng.uniform(0.01, 0.9, (150, 3)), 2)
    labels = (rng.random((150, 3)) < values / 2).astype(np.uint8)
    return labels, values, units, Resamples.draw(units, 20, seed=3)


@pytest.mark.parametrize("masked", [False, True])
def test_every_resample_is_scored_as_scikit_learn_scores_its_rows(wells, masked):
    labels, values, units, resamples = wells
    known = np.random.default_rng(1).random(labels.shape) < 0.6 if masked else None
    auc, precision = scores.ranking(labels, values, resamples, known)
    losses = scores.loss_estimates(labels, values, resamples, known)
    for draw in (0, 1, 20):
        for column in range(3):
            rows = np.ones(150, bool) if known is None else known[:, column]
            y, p = labels[rows, column], values[rows, column]
            times = resamples.times[units[rows], draw]
            weighted = {"sample_weight": times}
            assert auc[draw, column] == pytest.approx(roc_auc_score(y, p, **weighted))
            expected = average_precision_score(y, p, **weighted)
            assert precision[draw, column] == pytest.approx(expected)
            expected = log_loss(np.repeat(y, times.astype(int)), np.repeat(p, times.astype(int)))
            assert losses[draw, column] == pytest.approx(expected)


def test_a_resample_without_positive_or_without_negative_rows_ranks_nothing():
    labels, values = np.array([[1], [0]]), np.array([[0.9], [0.1]])
    resamples = Resamples(np.arange(2), np.array([[1.0, 2.0, 0.0], [1.0, 0.0, 2.0]]))
    for found in scores.ranking(labels, values, resamples):
        assert found[0] == 1 and np.isnan(found[1:]).all()


def test_compounds_are_drawn_whole_and_as_many_as_there_are(wells):
    _, _, units, resamples = wells
    assert resamples.times.shape == (units.max() + 1, 21)
    assert (resamples.times[:, 0] == 1).all()
    assert (resamples.times.sum(0) == units.max() + 1).all()
    again = Resamples.draw(units, 20, seed=3)
    assert (again.times == resamples.times).all()
    assert (Resamples.draw(units, 20, seed=4).times != resamples.times).any()


def test_resamples_are_the_same_few_at_a_time(wells, monkeypatch):
    labels, values, units, resamples = wells
    expected = scores.table(NAMES, labels, values, resamples)
    monkeypatch.setattr(scores, "BLOCK", 8 * (units.max() + 1) * 4)
    few = Resamples.draw(units, 20, seed=3)
    assert [part.shape[1] for part in few.parts()] == [4, 4, 4, 4, 4, 1]
    assert [part.shape[1] for part in few.parts(3 * len(few.times))] == [1] * 21
    np.testing.assert_array_equal(few.times, resamples.times)
    np.testing.assert_array_equal(few.times.T[1:], multinomial(units.max() + 1, 20, 3))
    pd.testing.assert_frame_equal(scores.table(NAMES, labels, values, few), expected, rtol=1e-12)


def multinomial(count, resamples, seed):
    return np.random.default_rng(seed).multinomial(count, [1 / count] * count, resamples)


def test_resamples_of_many_wells_take_a_byte_each(monkeypatch):
    """And what is made of them is made of some at a time."""
    monkeypatch.setattr(scores, "BLOCK", 1 << 21)
    rng, count, resamples = np.random.default_rng(0), 60_000, 40
    labels, values = rng.random((count, 1)) < 0.4, rng.random((count, 1))
    tracemalloc.start()
    try:
        drawn = Resamples.draw(np.arange(count), resamples)
        assert tracemalloc.get_traced_memory()[1] < 3 * count * resamples
        tracemalloc.reset_peak()
        scores.loss_estimates(labels, values, drawn)
        scores.ranking(labels, values, drawn)
        # A column of places, before, within and after, is 2 MB: a dozen arrays of some of them.
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()


def test_the_score_of_a_run_is_the_mean_over_known_cells(wells):
    labels, values, units, resamples = wells
    known = np.random.default_rng(1).random(labels.shape) < 0.6
    cells = log_loss(labels[known], values[known])
    assert scores.overall(labels, values, resamples, known)[0] == pytest.approx(cells)
    times = np.repeat(np.arange(150), resamples.times[units, 7].astype(int))
    drawn = log_loss(labels[times][known[times]], values[times][known[times]])
    assert scores.overall(labels, values, resamples, known)[7] == pytest.approx(drawn)
    found = scores.overall(labels, values, resamples)
    assert found[0] == pytest.approx(log_loss(labels.ravel(), values.ravel()))
    assert found.shape == (21,) and len(set(found)) > 15


def test_a_mechanism_that_none_or_all_have_is_not_ranked(wells):
    labels, values, units, resamples = wells
    labels = labels.copy()
    labels[:, 0], labels[:, 1] = 0, 1
    table = scores.table(NAMES, labels, values, resamples, units.astype(str))
    assert table["roc_auc"].isna().tolist() == [True, True, False]
    assert table["enrichment"].isna().tolist() == [True, False, False]
    assert table["wells"].tolist() == [0, 150, labels[:, 2].sum()]
    assert table["compounds"].tolist()[:2] == [0, units.max() + 1]


def test_a_table_has_intervals_around_its_scores(wells):
    labels, values, units, resamples = wells
    table = scores.table(NAMES, labels, values, resamples, units.astype(str))
    for name in ("log_loss", "roc_auc", "average_precision"):
        assert (table[f"{name}_low"] < table[name]).all()
        assert (table[name] < table[f"{name}_high"]).all()
    assert "compounds" not in scores.table(NAMES, labels, values, resamples)
    known = np.zeros(labels.shape, bool)
    known[:100] = True
    masked = scores.table(NAMES, labels, values, resamples, units.astype(str), known)
    assert masked["scored_wells"].tolist() == [100] * 3
    first = scores.table(
        NAMES, labels[:100], values[:100], Resamples(units[:100], resamples.times),
        units[:100].astype(str),
    )  # fmt: skip
    assert masked.equals(first)


def test_top_hits_are_one_of_a_hundred():
    values = np.linspace(1, 0, 400)[:, None]
    labels = np.zeros((400, 1))
    labels[[0, 3, 50, 200]] = 1
    # Two of the four top rows, where of all it is 4 in 400.
    assert scores.enrichment(labels, values).tolist() == [50.0]
    tied = np.where(values > 0.99, 1.0, 0.5) * np.ones((400, 1))
    tied[:8] = 1.0
    assert scores.enrichment(labels, tied).tolist() == [25.0]


def test_reliability_by_half_decades():
    values = np.array([[0.0, 0.002], [0.003, 0.004], [0.5, 1.0]])
    labels = np.array([[0, 0], [1, 0], [0, 1]])
    bins = scores.reliability(labels, values)
    assert [part["cells"] for part in bins] == [1, 2, 1, 2]
    assert [part["positives"] for part in bins] == [0, 1, 0, 1]
    np.testing.assert_allclose([part["predicted"] for part in bins], [0, 0.0025, 0.004, 0.75])
    table = scores.reliability_table(("x", "y"), labels, values)
    assert table.groupby("mechanism")["cells"].sum().tolist() == [3, 3]
    known = labels == 1
    assert [part["observed"] for part in scores.reliability(labels, values, known)] == [1.0, 1.0]
