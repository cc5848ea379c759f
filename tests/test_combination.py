"""Tests of the combination: weights by name, and the weighted sum of predictions."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from moa_jax.blend import combination
from moa_jax.errors import UserError
from moa_jax.store.predictions import Predictions
from moa_jax.training.means import LOG_ODDS, MEANS

REFERENCE = Path(__file__).parent / "reference"


@pytest.fixture(scope="module")
def case():
    with np.load(REFERENCE / "blend_cases.npz", allow_pickle=False) as stored:
        return dict(stored)


def table(ids, targets, values):
    return Predictions(np.array(ids, object), tuple(targets), np.array(values, float))


@pytest.mark.parametrize(
    ("which", "expected"), [("lb_effective_weights", "lb_blend"), ("cv_weights", "cv_blend")]
)
def test_combine_reproduces_the_published_blends(case, which, expected):
    chosen = {f"model{k}": weight for k, weight in enumerate(case[which])}
    models = {
        name: table(list("abcde"), "xyz", values)
        for name, values in zip(chosen, case["lb_subs"], strict=False)
    }
    blended = combination.combine(models, chosen)
    np.testing.assert_allclose(blended.values, case[expected], rtol=0, atol=1e-15)
    np.testing.assert_array_equal(blended.values[2], 0)


def test_a_mean_of_log_odds_joins_as_a_sum_does():
    """Controls, which are 0 throughout, stay so; a 0 among others is a small probability."""
    models = {
        "one": table(["a", "b", "c"], ["x", "y"], [[0.1, 0.2], [0.0, 0.0], [0.0, 0.3]]),
        "two": table(["c", "b", "a"], ["y", "x"], [[0.6, 0.0], [0.0, 0.0], [0.8, 0.7]]),
    }
    found = combination.combine(models, {"two": 0.25, "one": 0.75}, LOG_ODDS)
    odds = [np.log(p / (1 - p)) for p in ([0.1, 0.2], [0.7, 0.8]) for p in [np.array(p)]]
    np.testing.assert_allclose(
        found.values[0], 1 / (1 + np.exp(-(0.75 * odds[0] + 0.25 * odds[1]))), rtol=1e-12
    )
    assert found.values[1].tolist() == [0, 0]
    assert 0 < found.values[2, 0] < 1e-6 < found.values[2, 1]


@pytest.mark.parametrize("mean", MEANS.values(), ids=MEANS)
def test_a_single_models_blend_has_its_bits(mean):
    only = table(["a", "b"], ["x"], [[1e-12], [0.3]])
    assert combination.combine({"one": only}, {"one": 1.0}, mean).values.tolist() == (
        only.values.tolist()
    )


def test_combine_joins_rows_and_columns_by_name():
    models = {
        "one": table(["a", "b"], ["x", "y"], [[0.1, 0.2], [0.3, 0.4]]),
        "two": table(["b", "a"], ["y", "x"], [[0.8, 0.7], [0.6, 0.5]]),
    }
    blended = combination.combine(models, {"two": 1.0, "one": 2.0})
    assert list(blended.ids) == ["a", "b"]
    assert blended.targets == ("x", "y")
    # 2 * one + two: neither renormalised nor clipped at 1.
    np.testing.assert_allclose(blended.values, [[0.7, 1.0], [1.3, 1.6]], rtol=1e-15)


def test_the_spread_of_a_blend_is_that_within_its_models():
    """The weighted mean of their variances, of those that have one; by name as the values."""
    models = {
        "one": table(["a", "b"], ["x", "y"], [[0.1, 0.2], [0.3, 0.4]]),
        "two": table(["b", "a"], ["y", "x"], [[0.8, 0.7], [0.6, 0.5]]),
        "file": table(["a", "b"], ["x", "y"], [[0.5, 0.5], [0.5, 0.5]]),
    }
    assert combination.combine(models, dict.fromkeys(models, 1.0)).spread is None
    spreads = {"one": [[1.0, 2.0], [np.nan, np.nan]], "two": [[5.0, np.nan], [7.0, 3.0]]}
    for name, spread in spreads.items():
        models[name] = dataclasses.replace(models[name], spread=np.array(spread))
    weights = {"one": 0.5, "two": {"x": 0.25, "y": 0.0}, "file": 0.25}
    blended = combination.bounded(combination.combine(models, weights))
    expected = [[np.sqrt((0.5 * 1 + 0.25 * 9) / 0.75), 2.0], [np.nan, np.nan]]
    np.testing.assert_allclose(blended.spread, expected, rtol=1e-12)
    np.testing.assert_allclose(blended.aligned(["b"]).spread, [[np.nan, np.nan]])


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
        combination.combine(models, {"one": 0.5, "two": 0.5})


def test_combine_wants_one_weight_per_model():
    models = {"one": table(["a"], ["x"], [[0.1]]), "two": table(["a"], ["x"], [[0.1]])}
    with pytest.raises(UserError, match=r"blend.weights.three: expected one of .*'one', 'two'"):
        combination.combine(models, {"one": 0.5, "three": 0.5})
    with pytest.raises(UserError, match="expected a weight for two, found none"):
        combination.combine(models, {"one": 0.5})


def test_the_old_cv_model_has_its_own_slot(case):
    """The released script reads the new-CV file in the old-CV model's place."""
    effective = case["lb_effective_weights"]
    models = {f"model{k}": table(list("abcde"), "xyz", v) for k, v in enumerate(case["lb_subs"])}
    chosen = dict(zip(models, effective, strict=True))
    released = combination.combine(models | {"model6": models["model2"]}, chosen)
    expected = case["lb_blend_as_released_script"]
    np.testing.assert_allclose(released.values, expected, rtol=0, atol=1e-15)
    ours = combination.combine(models, chosen)
    assert np.abs(ours.values - expected).max() > 1e-3


def test_weights_of_each_target_are_joined_by_name():
    models = {
        "one": table(["a"], ["x", "y"], [[0.1, 0.2]]),
        "two": table(["a"], ["y", "x"], [[0.8, 0.6]]),
    }
    values = np.array([[0.25, 1.0], [0.75, 0.0]])
    chosen = combination.named(values, ["one", "two"], ["y", "x"])
    assert chosen == {"one": {"y": 0.25, "x": 1.0}, "two": {"y": 0.75, "x": 0.0}}
    blended = combination.combine(models, chosen)
    np.testing.assert_allclose(blended.values, [[0.1, 0.25 * 0.2 + 0.75 * 0.8]], rtol=1e-15)
    del chosen["two"]["x"]
    with pytest.raises(UserError, match="blend.weights.two: expected a weight for x, found none"):
        combination.combine(models, chosen)


def test_common_weights_by_name():
    assert combination.named(np.array([0.25, 0.75]), ["one", "two"]) == {"one": 0.25, "two": 0.75}
