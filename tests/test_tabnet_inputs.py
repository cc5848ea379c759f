"""What TabNetClassifier is given: pairs for evaluation, and the factors of its losses by hand."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from moa_jax.estimators import tabnet_classifier, tabnet_inputs
from moa_jax.training import losses

X, Y = np.zeros((2, 2)), np.array([0, 1])
ROWS = np.array([1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize(
    ("eval_set", "count"),
    [
        ((X, Y), 1),
        ([X, Y], 1),
        ([(X, Y)], 1),
        ([[X, Y], (X, Y), (X, Y)], 3),
        (((X, Y), (X, Y)), 2),
        # Tables of two rows are no pairs, however they are written.
        ((X.tolist(), Y.tolist()), 1),
        ((X.tolist(), [[0, 1], [1, 0]]), 1),
        ([(X.tolist(), Y), (X.tolist(), Y)], 2),
        ((pd.DataFrame(X), pd.Series(Y)), 1),
        ([(pd.DataFrame(X), Y), (X, pd.Series(Y))], 2),
    ],
)
def test_pairs(eval_set, count):
    found = tabnet_inputs.evaluation_pairs(eval_set)
    assert len(found) == count
    assert all(np.shape(x) == (2, 2) and len(y) == 2 for x, y in found)


@pytest.mark.parametrize("eval_set", [None, X, "ab", (), [Y], (X,), (X, Y, Y), ([X], [Y]), (Y, X)])
def test_what_is_no_pair(eval_set):
    with pytest.raises(ValueError, match=r"^eval_set: expected a pair \(X, y\) or a list"):
        tabnet_inputs.evaluation_pairs(eval_set)


def factors(class_weight, rows=None):
    """Of the classes a, a, b, c."""
    targets = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    classes = np.array(["a", "b", "c"])
    found = tabnet_inputs.loss_weights(class_weight, rows, targets, classes, False)
    return found if found is None else found[:, 0].tolist()


def test_factors_of_classes():
    assert factors(None) is None
    assert factors(None, ROWS) == ROWS.tolist()
    assert factors({"a": 2, "c": 0.5}) == [2, 2, 1, 0.5]
    assert factors({"a": 2, "c": 0.5}, ROWS) == [2, 4, 3, 2]
    # As scikit-learn: rows / (classes * rows of the class).
    np.testing.assert_allclose(factors("balanced"), [2 / 3, 2 / 3, 4 / 3, 4 / 3])
    # Every class weighs 10 / 3 in all, shared in proportion to its rows' weights.
    np.testing.assert_allclose(factors("balanced", ROWS), [10 / 9, 20 / 9, 10 / 3, 10 / 3])


def test_factors_of_labels():
    targets = np.array([[1, 0], [1, 0], [1, 0], [0, 0]], np.float32)

    def found(class_weight, rows=None):
        return tabnet_inputs.loss_weights(class_weight, rows, targets, np.arange(2), True)

    # The second label is never true: there is nothing to balance it with.
    np.testing.assert_allclose(found("balanced")[:, 0], [2 / 3, 2 / 3, 2 / 3, 2])
    np.testing.assert_array_equal(found("balanced")[:, 1], 1)
    np.testing.assert_array_equal(found({1: 5}, ROWS), [[5, 1], [10, 2], [15, 3], [4, 4]])
    np.testing.assert_array_equal(found([{0: 3}, {0: 7}]), [[1, 7], [1, 7], [1, 7], [3, 7]])
    for wrong in ([{0: 1}], 3, [{0: 1}, None]):
        with pytest.raises(ValueError, match="class_weight: expected None, 'balanced', or factors"):
            found(wrong)
    with pytest.raises(ValueError, match="class_weight: expected classes .*, found 2"):
        found({2: 1})


def test_factors_have_mean_1_over_the_rows_of_each_part():
    weights = np.array([[1.0], [3.0], [6.0], [0.0], [0.0]])
    found = tabnet_classifier._scaled(weights, np.array([0, 1]), np.array([2]), np.array([3, 4]))
    np.testing.assert_array_equal(found[:, 0], [0.5, 1.5, 1, 1, 1])


def test_losses_with_factors_by_hand():
    logits = jnp.array([[0.0, 1.0], [2.0, -1.0], [9.0, 9.0]])
    targets = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    mask, of_row = jnp.array([True, True, False]), jnp.array([[3.0], [0.5], [7.0]])
    each = jnp.log(1 + jnp.exp(jnp.where(targets > 0, -logits, logits)))
    of_label = jnp.array([[3.0, 1.0], [0.5, 2.0], [7.0, 7.0]])
    for weights in (of_row, of_label):
        found = losses.binary_cross_entropy(logits, targets, mask, weights)
        np.testing.assert_allclose(found, (each * weights)[:2].mean(), rtol=1e-6)
    of_class = jnp.log(1 + jnp.exp(jnp.array([1.0, 3.0])))
    found = losses.cross_entropy(logits, targets, mask, of_row)
    np.testing.assert_allclose(found, (of_class * of_row[:2, 0]).mean(), rtol=1e-6)
    # The estimator's targets carry the factors behind the classes.
    carried = tabnet_classifier._loss(
        (logits, 0.25), jnp.concatenate([targets, of_row], 1), mask, losses.cross_entropy, 2, 0.1
    )
    np.testing.assert_allclose(carried, found - 0.025, rtol=1e-6)
