"""Selection by variance against scikit-learn's, and where no column passes."""

import logging

import numpy as np
import pytest
from scipy import stats
from sklearn.feature_selection import VarianceThreshold

from moa_jax.features.selection import (
    ChosenColumns,
    VarianceSelection,
    t_test_columns,
    t_test_p_values,
)


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(size=(100, 12)) * np.linspace(0.2, 1.5, 12)


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_selection_is_scikit_learns(values, threshold):
    values[:, 3] = 0.1
    model = VarianceThreshold(threshold).fit(values)
    found = VarianceSelection(threshold).fit(values)
    np.testing.assert_array_equal(found.kept_, model.get_support(indices=True))
    assert 3 not in found.kept_
    np.testing.assert_array_equal(found.transform(values[:7]), model.transform(values[:7]))


def test_population_variance_strictly_above():
    """The columns' variances are 1, 4 and 0; with n - 1 the first would be 2."""
    values = np.array([[0.0, 1.0, 7.0], [2.0, 5.0, 7.0]])
    assert VarianceSelection(1).fit(values).kept_.tolist() == [1]
    assert VarianceSelection(0.99).fit(values).kept_.tolist() == [0, 1]


def test_largest_variance_is_kept_where_none_passes(caplog):
    values = np.array([[0.0, 1.0, 7.0], [2.0, 5.0, 7.0]])
    with caplog.at_level(logging.INFO, logger="absl"):
        found = VarianceSelection(9).fit(values)
        assert found.transform(values).tolist() == [[1], [5]]
        assert VarianceSelection(0).fit(np.ones((4, 3))).kept_.tolist() == [0]
    assert "variances: column 1 of 3 kept, though its 4 is not above 9" in caplog.text


def test_restored(values):
    fitted = VarianceSelection(0.5).fit(values)
    restored = VarianceSelection.restore(fitted.parameters(), fitted.state())
    assert restored.threshold == 0.5
    np.testing.assert_array_equal(restored.transform(values), fitted.transform(values))


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_p_values_are_scipys(values, offset):
    values = values + offset
    targets = np.random.default_rng(1).random((100, 6)) < 0.2
    targets[:, 4], targets[:, 5] = False, True
    found = t_test_p_values(values, targets)
    assert found.shape == (4, 12)
    for target, row in zip(targets.T[:4], found, strict=True):
        expected = stats.ttest_ind(values[target], values[~target]).pvalue
        np.testing.assert_allclose(row, expected, rtol=1e-9 if offset == 0 else 1e-6)


def test_a_column_is_judged_by_the_quartile_of_its_p_values():
    """A column that tells two of four targets is taken before one that tells one of them."""
    generator = np.random.default_rng(0)
    targets = generator.random((200, 4)) < 0.3
    values = generator.normal(size=(200, 6))
    values[:, 4] += targets[:, 0] + targets[:, 1]
    values[:, 1] += 3 * targets[:, 2]
    values[:, 2] = 7.0
    assert t_test_columns(values, targets, 1).tolist() == [4]
    every = t_test_columns(values, targets, 6)
    assert every.tolist() == list(range(6))
    assert 2 not in t_test_columns(values, targets, 5)
    assert t_test_columns(values, np.zeros((200, 4)), 2).tolist() == [0, 1]


def test_few_rows_have_p_values():
    values = np.array([[0.0, 1.0], [2.0, 1.0]])
    assert t_test_columns(values, np.array([[0], [1]]), 1).tolist() == [0]
    apart = np.array([[0.0], [0.0], [1.0], [1.0]])
    assert t_test_p_values(apart, np.array([[0], [0], [1], [1]])) == pytest.approx(0, abs=1e-6)


def test_chosen_columns(values):
    restored = ChosenColumns.restore(ChosenColumns(np.array([5, 1])).parameters(), {})
    assert restored.kept_.dtype == np.int32
    np.testing.assert_array_equal(restored.transform(values), values[:, [5, 1]])
