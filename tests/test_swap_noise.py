"""Swap noise: how many rows and columns change, which never do, and the original's rows."""

from pathlib import Path

import jax
import numpy as np
import pytest

from moa_jax.deepinsight import swap_noise as module
from moa_jax.deepinsight.swap_noise import swap_noise, swapped

COLUMNS, TREATMENT, COUNT = 875, 3, 131


def mask(seed, rows=4000, columns=COLUMNS, treatment=TREATMENT, probability=0.1, portion=0.15):
    key = jax.random.key(seed)
    return np.asarray(swapped(key, (rows, columns), treatment, probability, portion))


def test_rows_and_columns_that_change():
    changed = mask(0)
    counts = changed.sum(axis=1)
    assert set(counts) == {0, COUNT}
    # 4000 draws at 0.1: the standard deviation is 19.
    assert abs((counts > 0).sum() - 400) < 80
    assert not changed[:, :TREATMENT].any()
    # About 400 draws of 131 in 872: every column is met, none far more often than 60 +- 7.
    by_column = changed[:, TREATMENT:].sum(axis=0)
    expected = (counts > 0).sum() * COUNT / (COLUMNS - TREATMENT)
    assert np.abs(by_column - expected).max() < 5 * np.sqrt(expected)
    # Rows differ in their columns.
    rows = changed[counts > 0]
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_pairs_of_columns_are_independent():
    changed = mask(1, rows=20000, columns=7, treatment=2, probability=1.0, portion=0.3)[:, 2:]
    together = (changed.T.astype(float) @ changed) / len(changed)
    # Two of five columns, any pair alike: 2/5 on the diagonal, 1/10 beside it.
    np.testing.assert_allclose(np.diag(together), 0.4, atol=0.02)
    np.testing.assert_allclose(together[~np.eye(5, dtype=bool)], 0.1, atol=0.015)


def test_values_come_from_the_donor_of_the_row():
    values, donors = np.zeros((300, 40), np.float32), np.arange(12000).reshape(300, 40)
    found = np.asarray(jax.jit(swap_noise)(values, donors.astype(np.float32), jax.random.key(0)))
    changed = found != 0
    assert set(changed.sum(axis=1)) == {0, 6}
    np.testing.assert_array_equal(found[changed], donors[changed])
    assert found.dtype == np.float32


def test_keys_decide():
    np.testing.assert_array_equal(mask(0, rows=99), mask(0, rows=99))
    assert (mask(0, rows=99) != mask(1, rows=99)).any()


@pytest.mark.parametrize(("probability", "count"), [(0.0, 0), (1.0, 2)])
def test_certain_rows(probability, count):
    changed = mask(0, rows=50, columns=20, probability=probability, portion=0.1)
    assert (changed.sum(axis=1) == count).all()


@pytest.mark.parametrize(
    ("columns", "treatment", "portion", "count"),
    [(10, 3, 0.9, 7), (3, 3, 0.5, 0), (2, 3, 0.5, 0), (4, 0, 1.0, 4), (6, 0, 0.15, 0)],
)
def test_few_columns(columns, treatment, portion, count):
    changed = mask(0, 9, columns, treatment, 1.0, portion)
    assert changed.shape == (9, columns)
    assert (changed.sum(axis=1) == count).all()


def test_under_vmap():
    values, donors = np.zeros((2, 30, 40), np.float32), np.ones((2, 30, 40), np.float32)
    keys = jax.random.split(jax.random.key(0))
    found = jax.vmap(lambda v, d, k: swap_noise(v, d, k, probability=0.5))(values, donors, keys)
    for member in range(2):
        alone = swap_noise(values[member], donors[member], keys[member], probability=0.5)
        np.testing.assert_array_equal(found[member], alone)


def test_rows_as_in_the_original(monkeypatch):
    """Its decisions, donors and columns give its rows, those that it changes not in place."""
    path = Path(__file__).parent / "reference/deepinsight_swap.npz"
    with np.load(path, allow_pickle=False) as stored:
        reference = dict(stored)
    values = np.random.default_rng(5).random((200, COLUMNS))
    donors = values.copy()
    changed = np.zeros(values.shape, bool)
    positions, features = reference["positions"], reference["features"].astype(int)
    changed[positions[:, None], features] = True
    donors[positions] = values[reference["source_rows"]]
    # What holds for ours holds for its.
    assert features.shape[1] == COUNT == int(COLUMNS * 0.15)
    assert features.min() >= TREATMENT and (changed.sum(axis=1)[positions] == COUNT).all()
    monkeypatch.setattr(module, "swapped", lambda *_: changed)
    with jax.enable_x64(True):
        found = np.asarray(swap_noise(values, donors, jax.random.key(0)))
    np.testing.assert_array_equal(found[positions], reference["result_rows_copy"])
    others = np.setdiff1d(np.arange(200), positions)
    np.testing.assert_array_equal(found[others], values[others])
