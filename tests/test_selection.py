"""Selection by variance against scikit-learn's, and where no column passes."""

import logging

import numpy as np
import pytest
from sklearn.feature_selection import VarianceThreshold

from moa_jax.features.selection import VarianceSelection


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
