"""What is computed of rows without a fit: statistics in pandas' definitions, one-hot levels."""

import numpy as np
import pandas as pd
import pytest

from moa_jax.features.one_hot import one_hot
from moa_jax.features.row_statistics import row_statistics


def test_literal():
    np.testing.assert_allclose(
        row_statistics(np.array([[1.0, 2, 4, 8, 16]])),
        [[31, 6.2, 6.099180272790763, 1.303763440860216, 1.325314709813405]],
        rtol=1e-14,
    )


@pytest.mark.parametrize("columns", [4, 5, 872])
@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (3, 100), (1e-5, 0)])
def test_statistics_are_those_of_pandas(columns, scale, shift):
    values = np.random.default_rng(0).standard_t(4, size=(50, columns)) * scale + shift
    table = pd.DataFrame(values)
    # Both last ones know no scale, but older versions of pandas take small variances for none.
    unit = table / scale
    expected = np.stack(
        [
            table.sum(axis=1),
            table.mean(axis=1),
            table.std(axis=1),
            unit.kurt(axis=1),
            unit.skew(axis=1),
        ],
        axis=1,
    )
    np.testing.assert_allclose(row_statistics(values), expected, rtol=1e-9, atol=1e-11)


def test_few_columns():
    """Skewness needs three columns, kurtosis four; the deviation of one is 0."""
    found = [row_statistics(np.array([[1.0, 3, 8, 8]])[:, :n])[0].tolist() for n in (1, 2, 3)]
    np.testing.assert_allclose(
        found,
        [
            [1, 1, 0, 0, 0],
            [4, 2, 2**0.5, 0, 0],
            [12, 4, 13**0.5, 0, 3 / 2 * 36 / 13**1.5],
        ],
        rtol=1e-14,
    )


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 872])
@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -1e9, 1e-300])
def test_equal_values_have_no_deviation_kurtosis_or_skewness(columns, value):
    found = row_statistics(np.full((2, columns), value))
    np.testing.assert_array_equal(found[:, 2:], 0)
    np.testing.assert_allclose(found[:, 0], columns * value, rtol=1e-14)
    np.testing.assert_allclose(found[:, 1], value, rtol=1e-14)


def test_a_deviation_too_small_for_floats_is_none():
    found = row_statistics(np.array([[1e-300, 2e-300, 3e-300, 5e-300]]))
    np.testing.assert_array_equal(found[:, 2:], 0)


def test_rows_do_not_see_each_other():
    values = np.random.default_rng(0).normal(size=(9, 872))
    values[4] = 0.1
    alone = np.concatenate([row_statistics(row[None]) for row in values])
    np.testing.assert_array_equal(row_statistics(values), alone)


def test_one_hot_has_fixed_levels():
    found = one_hot(np.array([48, 24, 48]), (24, 48, 72))
    assert found.dtype == np.float64
    assert found.tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0]]
    assert one_hot(np.array(["D2", "D1"], object), ("D1", "D2")).tolist() == [[0, 1], [1, 0]]
    assert one_hot(np.array([], object), ("D1", "D2")).shape == (0, 2)
