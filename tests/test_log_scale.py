"""The log scale against the original's, and where there is nothing to scale."""

from pathlib import Path

import numpy as np
import pytest

from moa_jax.deepinsight.log_scale import LogScale


@pytest.fixture(scope="module")
def reference():
    """Columns of two and three values, constant, above and below 0; test values out of range."""
    path = Path(__file__).parent / "reference/deepinsight_logscaler.npz"
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)


def test_scaled_as_in_the_original(reference):
    scale = LogScale().fit(reference["train"])
    np.testing.assert_array_equal(scale.minimum_, reference["min0"])
    assert scale.maximum_ == pytest.approx(float(reference["max"]), rel=1e-9)
    for name in ("train", "test"):
        before = reference[name].copy()
        found = scale.transform(before)
        np.testing.assert_allclose(found, reference[f"{name}_out"], rtol=1e-9, atol=1e-12)
        # The original raises small values in place.
        np.testing.assert_array_equal(before, reference[name])
    assert (np.minimum(reference["test"], reference["min0"]) < reference["min0"]).any()


def test_one_maximum_for_all_columns():
    """ln(x + |min| + 1) / ln 21: a column over [-10, 10], a switch, and one that begins at 2."""
    values = np.array([[-10.0, 0.0, 2.0], [10.0, 1.0, 3.0]])
    scale = LogScale().fit(values)
    assert scale.maximum_ == pytest.approx(np.log(21), rel=1e-15)
    expected = np.array([[1.0, 1.0, 5.0], [21.0, 2.0, 6.0]])
    found = scale.transform(values)
    np.testing.assert_allclose(found, np.log(expected) / np.log(21), rtol=1e-14)
    assert scale.transform(np.array([[-99.0, -1.0, 99.0]])).tolist() == [[0.0, 0.0, 1.0]]


@pytest.mark.parametrize("constant", [0.0, -3.0])
def test_nothing_to_scale(constant):
    values = np.full((4, 3), constant)
    scale = LogScale().fit(values)
    assert scale.maximum_ == 0
    np.testing.assert_array_equal(scale.transform(values), np.zeros((4, 3)))
    assert scale.transform(values + 9).tolist() == np.ones((4, 3)).tolist()
