"""Tests of blend weights: search, nested score, and the weighted sum."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from moa_jax.blend import weights
from moa_jax.errors import UserError
from moa_jax.predictions import Predictions

REFERENCE = Path(__file__).parent / "reference"
FIGURES = json.loads((REFERENCE / "blend_cases.json").read_text())

# Two models, two rows, two targets.
SMALL = np.array([[[0.9, 0.2], [0.3, 0.1]], [[0.6, 0.4], [0.2, 0.5]]])
SMALL_TARGETS = np.array([[1, 0], [0, 1]], np.uint8)


@pytest.fixture(scope="module")
def case():
    with np.load(REFERENCE / "blend_cases.npz", allow_pickle=False) as stored:
        return dict(stored)


def table(ids, targets, values):
    return Predictions(np.array(ids, object), tuple(targets), np.array(values, float))


def test_log_loss_of_a_literal_blend():
    # The blend is [[0.75, 0.3], [0.25, 0.3]].
    expected = -(math.log(0.75) + math.log(0.7) + math.log(0.75) + math.log(0.3)) / 4
    assert weights.log_loss([0.5, 0.5], SMALL, SMALL_TARGETS) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("at", [[0.5, 0.5], [1.0, 0.0], [0.2, 0.3], [0.9, 0.3]])
def test_gradient_against_finite_differences(at):
    at, step = np.array(at), 1e-6
    loss, gradient = weights.log_loss_and_gradient(at, SMALL, SMALL_TARGETS)
    numerical = [
        (
            weights.log_loss(at + step * unit, SMALL, SMALL_TARGETS)
            - weights.log_loss(at - step * unit, SMALL, SMALL_TARGETS)
        )
        / (2 * step)
        for unit in np.eye(2)
    ]
    assert loss == pytest.approx(weights.log_loss(at, SMALL, SMALL_TARGETS), abs=1e-15)
    np.testing.assert_allclose(gradient, numerical, rtol=0, atol=1e-8)


def test_gradient_is_flat_where_the_loss_is_clipped():
    predictions = np.array([[[0.0, 1.0, 0.5]]])
    loss, gradient = weights.log_loss_and_gradient(
        np.array([1.0]), predictions, np.array([[1, 0, 1]])
    )
    expected = (34.538776394910684 + 34.53957599234088 + math.log(2)) / 3
    assert loss == pytest.approx(expected, abs=1e-13)
    np.testing.assert_allclose(gradient, [-1 / 3], rtol=1e-15)


def test_gradient_of_more_cells_than_fit_in_one_part():
    generator = np.random.default_rng(0)
    predictions = generator.uniform(0.01, 0.99, (3, 150, 250))
    targets = (generator.random((150, 250)) < 0.1).astype(np.uint8)
    at = np.array([0.2, 0.5, 0.3])
    assert targets.size > 2 * weights.CELLS_IN_CACHE
    blend = np.einsum("k,knl->nl", at, predictions)
    expected = np.mean((blend - targets) * predictions / (blend * (1 - blend)), axis=(1, 2))
    loss, gradient = weights.log_loss_and_gradient(at, predictions, targets)
    np.testing.assert_allclose(gradient, expected, rtol=1e-12)
    assert loss == pytest.approx(weights.log_loss(at, predictions, targets), abs=1e-14)


def test_losses_and_gradient_of_the_reference_case(case):
    oof, targets = case["oof"], case["y"]
    single = [weights.log_loss(unit, oof, targets) for unit in np.eye(4)]
    np.testing.assert_allclose(single, FIGURES["single_model_logloss"], rtol=0, atol=1e-14)
    loss, gradient = weights.log_loss_and_gradient(np.full(4, 0.25), oof, targets)
    assert loss == pytest.approx(FIGURES["equal_weights_logloss"], abs=1e-14)
    np.testing.assert_allclose(gradient, case["gradient_at_equal_weights"], rtol=0, atol=1e-14)


def test_slsqp_finds_the_reference_optimum(case):
    found = weights.slsqp(case["oof"], case["y"])
    np.testing.assert_allclose(found, case["weights_exact"], rtol=0, atol=1e-4)
    original = FIGURES["slsqp_original_setup"]["weights"]
    np.testing.assert_allclose(found, original, rtol=0, atol=1e-4)
    loss = weights.log_loss(found, case["oof"], case["y"])
    assert loss == pytest.approx(FIGURES["exact"]["value"], abs=1e-9)


def test_slsqp_of_two_constant_models():
    # Three of four labels are positive: the best constant is 0.75 = 0.8125 * 0.9 + 0.1875 * 0.1.
    predictions = np.broadcast_to(np.array([0.9, 0.1])[:, None, None], (2, 4, 1)).copy()
    found = weights.slsqp(predictions, np.array([[1], [1], [0], [1]]))
    np.testing.assert_allclose(found, [0.8125, 0.1875], rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_models", [1, 2, 3, 5, 7])
def test_slsqp_keeps_bounds_and_sum_exactly(num_models):
    generator = np.random.default_rng(num_models)
    targets = generator.random((60, 5)) < 0.2
    noise = generator.normal(size=(num_models, 60, 5))
    found = weights.slsqp(1 / (1 + np.exp(1.5 - targets - noise)), targets.astype(np.uint8))
    assert found.min() >= 0
    assert found.max() <= 1
    assert math.fsum(found) == found.sum() == found[::-1].sum() == 1


def test_slsqp_without_any_positive_label():
    predictions = np.stack([np.full((3, 2), 0.2), np.full((3, 2), 0.1)])
    np.testing.assert_array_equal(weights.slsqp(predictions, np.zeros((3, 2))), [0, 1])


def test_slsqp_is_never_worse_than_the_best_model(case, monkeypatch):
    def stuck(objective, start, **options):
        return weights.optimize.OptimizeResult(x=np.array([0.0, 0.0, 0.0, 1.0]))

    monkeypatch.setattr(weights.optimize, "minimize", stuck)
    np.testing.assert_array_equal(weights.slsqp(case["oof"], case["y"]), [0, 1, 0, 0])


def test_nested_scores_rows_with_the_weights_of_the_others():
    # The first model is right on fold 0 and the second on fold 1, so the weights that either fold
    # is scored with follow the model that fails there.
    folds = np.array([0, 1, 1, 0, 0])
    first = np.where(folds == 0, 0.9, 0.2)[:, None]
    targets = np.ones((5, 1), np.uint8)
    loss, found, blended = weights.nested(np.stack([first, 1.1 - first]), targets, folds)
    np.testing.assert_array_equal(found, [[0, 1], [1, 0]])
    np.testing.assert_allclose(blended, np.full((5, 1), 0.2), rtol=1e-15)
    assert loss == pytest.approx(-math.log(0.2), abs=1e-14)


def test_nested_loss_of_the_reference_case_lies_above_the_optimum(case):
    loss, found, blended = weights.nested(case["oof"], case["y"], np.arange(300) % 5)
    assert found.shape == (5, 4)
    assert FIGURES["exact"]["value"] < loss < min(FIGURES["single_model_logloss"])
    held_out = np.einsum("k,knl->nl", found[2], case["oof"][:, 2::5])
    np.testing.assert_allclose(blended[2::5], held_out, rtol=1e-14)


@pytest.mark.parametrize(
    ("which", "expected"), [("lb_effective_weights", "lb_blend"), ("cv_weights", "cv_blend")]
)
def test_combine_reproduces_the_published_blends(case, which, expected):
    chosen = {f"model{k}": weight for k, weight in enumerate(case[which])}
    models = {
        name: table(list("abcde"), "xyz", values)
        for name, values in zip(chosen, case["lb_subs"], strict=False)
    }
    blended = weights.combine(models, chosen)
    np.testing.assert_allclose(blended.values, case[expected], rtol=0, atol=1e-15)
    np.testing.assert_array_equal(blended.values[2], 0)


def test_combine_joins_rows_and_columns_by_name():
    models = {
        "one": table(["a", "b"], ["x", "y"], [[0.1, 0.2], [0.3, 0.4]]),
        "two": table(["b", "a"], ["y", "x"], [[0.8, 0.7], [0.6, 0.5]]),
    }
    blended = weights.combine(models, {"two": 1.0, "one": 2.0})
    assert list(blended.ids) == ["a", "b"]
    assert blended.targets == ("x", "y")
    # 2 * one + two: neither renormalised nor clipped at 1.
    np.testing.assert_allclose(blended.values, [[0.7, 1.0], [1.3, 1.6]], rtol=1e-15)


@pytest.mark.parametrize(
    ("ids", "targets", "message"),
    [
        (["a", "c"], ["x"], "same sig_ids in one and two, .* first is 'b' in one$"),
        (["c", "b", "a"], ["x"], "same sig_ids in one and two, found 1 .* is 'c' in two$"),
        (["a", "b"], ["z"], "same targets in one and two, found 2 .* first is 'x' in one$"),
    ],
)
def test_combine_names_the_models_that_do_not_fit(ids, targets, message):
    models = {
        "one": table(["a", "b"], ["x"], [[0.1], [0.2]]),
        "two": table(ids, targets, [[0.1]] * len(ids)),
    }
    with pytest.raises(UserError, match=message):
        weights.combine(models, {"one": 0.5, "two": 0.5})


def test_combine_wants_one_weight_per_model():
    models = {"one": table(["a"], ["x"], [[0.1]]), "two": table(["a"], ["x"], [[0.1]])}
    with pytest.raises(UserError, match=r"blend.weights.three: expected one of .*'one', 'two'"):
        weights.combine(models, {"one": 0.5, "three": 0.5})
    with pytest.raises(UserError, match="expected a weight for two, found none"):
        weights.combine(models, {"one": 0.5})
