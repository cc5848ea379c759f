"""Tests of the search for weights: its losses, every method, and the nested score."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from moa_jax.blend import search
from moa_jax.errors import UserError
from moa_jax.training import metrics
from moa_jax.training.means import LOG_ODDS, MEANS, PROBABILITIES

REFERENCE = Path(__file__).parent / "reference"
FIGURES = json.loads((REFERENCE / "blend_cases.json").read_text())

# Two models, two rows, two targets.
SMALL = np.array([[[0.9, 0.2], [0.3, 0.1]], [[0.6, 0.4], [0.2, 0.5]]])
SMALL_TARGETS = np.array([[1, 0], [0, 1]], np.uint8)


@pytest.fixture(scope="module")
def case():
    with np.load(REFERENCE / "blend_cases.npz", allow_pickle=False) as stored:
        return dict(stored)


def test_log_loss_of_a_literal_blend():
    # The blend is [[0.75, 0.3], [0.25, 0.3]].
    expected = -(math.log(0.75) + math.log(0.7) + math.log(0.75) + math.log(0.3)) / 4
    assert search.log_loss([0.5, 0.5], SMALL, SMALL_TARGETS) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("mean", MEANS.values(), ids=MEANS)
@pytest.mark.parametrize("at", [[0.5, 0.5], [1.0, 0.0], [0.2, 0.3], [0.9, 0.3]])
def test_gradient_against_finite_differences(at, mean):
    at, step = np.array(at), 1e-6
    loss, gradient = search.log_loss_and_gradient(at, mean.of(SMALL), SMALL_TARGETS, mean)

    def loss_at(weights):
        return search.log_loss(weights, SMALL, SMALL_TARGETS, mean=mean)

    numerical = [
        (loss_at(at + step * unit) - loss_at(at - step * unit)) / (2 * step) for unit in np.eye(2)
    ]
    assert loss == pytest.approx(loss_at(at), abs=1e-15)
    np.testing.assert_allclose(gradient, numerical, rtol=0, atol=1e-8)


def test_gradient_is_flat_where_the_loss_is_clipped():
    predictions = np.array([[[0.0, 1.0, 0.5]]])
    loss, gradient = search.log_loss_and_gradient(
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
    assert targets.size > 2 * search.CELLS_IN_CACHE
    blend = np.einsum("k,knl->nl", at, predictions)
    expected = np.mean((blend - targets) * predictions / (blend * (1 - blend)), axis=(1, 2))
    loss, gradient = search.log_loss_and_gradient(at, predictions, targets)
    np.testing.assert_allclose(gradient, expected, rtol=1e-12)
    assert loss == pytest.approx(search.log_loss(at, predictions, targets), abs=1e-14)


def test_losses_and_gradient_of_the_reference_case(case):
    oof, targets = case["oof"], case["y"]
    single = [search.log_loss(unit, oof, targets) for unit in np.eye(4)]
    np.testing.assert_allclose(single, FIGURES["single_model_logloss"], rtol=0, atol=1e-14)
    loss, gradient = search.log_loss_and_gradient(np.full(4, 0.25), oof, targets)
    assert loss == pytest.approx(FIGURES["equal_weights_logloss"], abs=1e-14)
    np.testing.assert_allclose(gradient, case["gradient_at_equal_weights"], rtol=0, atol=1e-14)


def test_slsqp_finds_the_reference_optimum(case):
    found = search.slsqp(case["oof"], case["y"])
    np.testing.assert_allclose(found, case["weights_exact"], rtol=0, atol=1e-4)
    original = FIGURES["slsqp_original_setup"]["weights"]
    np.testing.assert_allclose(found, original, rtol=0, atol=1e-4)
    loss = search.log_loss(found, case["oof"], case["y"])
    assert loss == pytest.approx(FIGURES["exact"]["value"], abs=1e-9)


def test_slsqp_of_two_constant_models():
    # Three of four labels are positive: the best constant is 0.75 = 0.8125 * 0.9 + 0.1875 * 0.1.
    predictions = np.broadcast_to(np.array([0.9, 0.1])[:, None, None], (2, 4, 1)).copy()
    found = search.slsqp(predictions, np.array([[1], [1], [0], [1]]))
    np.testing.assert_allclose(found, [0.8125, 0.1875], rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_models", [1, 2, 3, 5, 7])
def test_slsqp_keeps_bounds_and_sum_exactly(num_models):
    generator = np.random.default_rng(num_models)
    targets = generator.random((60, 5)) < 0.2
    noise = generator.normal(size=(num_models, 60, 5))
    found = search.slsqp(1 / (1 + np.exp(1.5 - targets - noise)), targets.astype(np.uint8))
    assert found.min() >= 0
    assert found.max() <= 1
    assert math.fsum(found) == found.sum() == found[::-1].sum() == 1


def test_slsqp_without_any_positive_label():
    predictions = np.stack([np.full((3, 2), 0.2), np.full((3, 2), 0.1)])
    np.testing.assert_array_equal(search.slsqp(predictions, np.zeros((3, 2))), [0, 1])


def blend_of(weights, oof, mean):
    """Returns the blend by its definition."""
    if mean is not LOG_ODDS:
        return np.tensordot(weights, oof, 1)
    odds = np.tensordot(weights, np.log(oof / (1 - oof)), 1)
    return 1 / (1 + np.exp(-odds))


def likelihood(weights, oof, targets, prior, mean):
    """Returns nats of all cells, and what the prior has against weights that differ."""
    against = prior * len(oof) * ((weights - 1 / len(oof)) ** 2).sum()
    blend = blend_of(weights, oof, mean)
    return -np.log(np.where(targets, blend, 1 - blend)).sum() + against


@pytest.mark.parametrize("mean", MEANS.values(), ids=MEANS)
@pytest.mark.parametrize("prior", [1.0, 100.0])
def test_slsqp_with_a_prior_finds_the_most_probable_weights(case, prior, mean):
    oof, targets = case["oof"], case["y"]
    found = search.slsqp(oof, targets, prior=prior, mean=mean)
    least = likelihood(found, oof, targets, prior, mean)
    for other in np.eye(4):
        for step in (1e-3, 1e-2, 0.3, 1):
            nearby = (1 - step) * found + step * other
            assert likelihood(nearby, oof, targets, prior, mean) >= least - 1e-6
    without = search.slsqp(oof, targets, mean=mean)
    assert likelihood(without, oof, targets, prior, mean) > least + 1e-3


@pytest.mark.parametrize("method", ["slsqp", "per_target"])
def test_every_method_searches_by_the_mean(case, method):
    """What is found for one mean is better by it than what is found for the other."""
    oof, targets, find = case["oof"], case["y"], getattr(search, method)
    found = {name: find(oof, targets, mean=mean) for name, mean in MEANS.items()}
    for name, mean in MEANS.items():
        losses = {
            other: search.log_loss(weights, oof, targets, mean=mean)
            for other, weights in found.items()
        }
        assert min(losses, key=losses.__getitem__) == name and len(set(losses.values())) == 2


def test_tpe_tries_by_the_mean(case):
    pytest.importorskip("optuna")
    oof, targets = case["oof"], case["y"]
    first, other = (search.tpe(oof, targets, 60, 0, mean=mean) for mean in MEANS.values())
    assert (first != other).any()
    # Of equal weights, which are tried first, no other is worse.
    blends = [blend_of(weights, oof, LOG_ODDS) for weights in (other, np.full(4, 0.25))]
    found, equal = (metrics.mean_log_loss_epsilon(targets, blend) for blend in blends)
    assert found <= equal


def test_nested_blends_by_the_mean(case):
    oof, targets, parts = case["oof"], case["y"], np.arange(300) % 3
    loss, weights, blend = search.nested(
        lambda others, labels: np.array([0.1, 0.2, 0.3, 0.4]), oof, targets, parts, mean=LOG_ODDS
    )
    np.testing.assert_allclose(blend, blend_of(weights[0], oof, LOG_ODDS), rtol=1e-9)
    assert loss == pytest.approx(metrics.mean_log_loss(targets, blend), rel=1e-12)


@pytest.mark.parametrize("weights", [np.ones(1), np.ones((1, 2))])
def test_a_single_model_is_as_it_predicts_by_either_mean(weights):
    """Surer than log odds hear, too."""
    alone = np.array([[[1e-12, 0.2], [1.0, 0.1]]])
    np.testing.assert_array_equal(search.blended(weights, alone, LOG_ODDS), alone[0])
    found = search.log_loss(weights, alone, SMALL_TARGETS, None, LOG_ODDS)
    assert found == search.log_loss(weights, alone, SMALL_TARGETS)


def test_a_mean_of_log_odds_with_weights_of_each_target():
    weights = np.array([[1.0, 0.25], [0.0, 0.75]])
    found = search.blended(weights, SMALL, LOG_ODDS)
    for target in range(2):
        own = blend_of(weights[:, target], SMALL[:, :, target], LOG_ODDS)
        np.testing.assert_allclose(found[:, target], own, rtol=1e-12)
    unknown = np.array([[True, False], [True, True]])
    losses = [
        search.log_loss(weights, SMALL, SMALL_TARGETS, mask, LOG_ODDS) for mask in (None, unknown)
    ]
    cells = -np.log(np.where(SMALL_TARGETS, found, 1 - found))
    np.testing.assert_allclose(losses, [cells.mean(), cells[unknown].mean()], rtol=1e-12)


def test_all_weight_costs_the_prior_for_each_other_model(case):
    costs = likelihood(np.eye(4)[1], case["oof"], case["y"], 7.0, PROBABILITIES)
    without = likelihood(np.eye(4)[1], case["oof"], case["y"], 0, PROBABILITIES)
    assert costs - without == pytest.approx(7.0 * 3)
    # One model is right by so much more than the other that it has all the weight, or 0.75.
    predictions = np.array([[[0.5]], [[0.5 * math.exp(-2)]]])
    found = search.slsqp(predictions, np.array([[1]]), prior=0.0)
    assert found.tolist() == [1, 0]
    first, second = search.slsqp(predictions, np.array([[1]]), prior=1.0)
    share = first + second * math.exp(-2)
    # The gradients of log(share) and of the prior along first - second.
    assert (1 - math.exp(-2)) / share == pytest.approx(4 * (first - second), abs=1e-4)


def test_a_prior_fades_with_rows_and_holds_each_target(case):
    oof, targets = case["oof"], case["y"]
    equal = np.full(4, 0.25)
    apart = [
        np.abs(search.slsqp(np.tile(oof, (1, n, 1)), np.tile(targets, (n, 1)), None, 30) - equal)
        for n in (1, 10)
    ]
    assert apart[0].sum() < apart[1].sum()
    np.testing.assert_allclose(search.slsqp(oof, targets, None, 1e6), equal, rtol=0, atol=1e-3)
    found = search.per_target(oof, targets, prior=3.0)
    alone = search.slsqp(oof[..., 2:3], targets[:, 2:3], prior=3.0)
    np.testing.assert_array_equal(found[:, 2], alone)


def test_slsqp_is_never_worse_than_the_best_model(case, monkeypatch):
    def stuck(objective, start, **options):
        return search.optimize.OptimizeResult(x=np.array([0.0, 0.0, 0.0, 1.0]))

    monkeypatch.setattr(search.optimize, "minimize", stuck)
    np.testing.assert_array_equal(search.slsqp(case["oof"], case["y"]), [0, 1, 0, 0])


def test_nested_scores_rows_with_the_weights_of_the_others():
    # The first model is right on fold 0 and the second on fold 1, so the weights that either fold
    # is scored with follow the model that fails there.
    folds = np.array([0, 1, 1, 0, 0])
    first = np.where(folds == 0, 0.9, 0.2)[:, None]
    targets = np.ones((5, 1), np.uint8)
    loss, found, blended = search.nested(
        search.slsqp, np.stack([first, 1.1 - first]), targets, folds
    )
    np.testing.assert_array_equal(found, [[0, 1], [1, 0]])
    np.testing.assert_allclose(blended, np.full((5, 1), 0.2), rtol=1e-15)
    assert loss == pytest.approx(-math.log(0.2), abs=1e-14)


def test_nested_loss_of_the_reference_case_lies_above_the_optimum(case):
    loss, found, blended = search.nested(search.slsqp, case["oof"], case["y"], np.arange(300) % 5)
    assert found.shape == (5, 4)
    assert FIGURES["exact"]["value"] < loss < min(FIGURES["single_model_logloss"])
    held_out = np.einsum("k,knl->nl", found[2], case["oof"][:, 2::5])
    np.testing.assert_allclose(blended[2::5], held_out, rtol=1e-14)


def test_per_target_finds_the_reference_optima(case):
    oof, targets = case["oof"], case["y"]
    found = search.per_target(oof, targets)
    assert found.shape == (4, 10)
    assert (found.sum(0) == 1).all() and (found >= 0).all()
    for expected in ("per_target_weights_exact", "per_target_weights_slsqp_original_setup"):
        np.testing.assert_allclose(found.T, case[expected], rtol=0, atol=1e-4)
    losses = metrics.target_log_losses(targets, search.blended(found, oof))
    np.testing.assert_allclose(losses, case["per_target_value_exact"], rtol=0, atol=1e-9)
    loss = search.log_loss(found, oof, targets)
    assert loss == pytest.approx(FIGURES["per_target_mean"], abs=1e-9)


def test_nested_score_of_weights_per_target(case):
    folds = np.arange(300) % 5
    loss, found, blend = search.nested(search.per_target, case["oof"], case["y"], folds)
    assert found.shape == (5, 4, 10)
    np.testing.assert_allclose(
        blend[3::5], np.einsum("kl,knl->nl", found[3], case["oof"][:, 3::5]), rtol=1e-14
    )
    assert FIGURES["per_target_mean"] < loss


def test_blended_with_weights_of_each_target():
    found = search.blended(np.array([[1.0, 0.25], [0.0, 0.75]]), SMALL)
    np.testing.assert_allclose(found, [[0.9, 0.35], [0.3, 0.4]], rtol=1e-15)


def test_tpe_nears_the_optimum_of_its_box(case):
    pytest.importorskip("optuna")
    oof, targets = case["oof"], case["y"]
    found = search.tpe(oof, targets, trials=300, seed=1120)
    assert found.min() >= 0 and found.max() <= 1
    box = FIGURES["box_no_sum_constraint"]
    blend = np.clip(search.blended(found, oof), 0, 1)
    loss = metrics.mean_log_loss_epsilon(targets, blend)
    assert box["value"] - 1e-9 < loss < box["value"] + 5e-4
    np.testing.assert_allclose(found, box["weights"], rtol=0, atol=0.1)
    blend = np.clip(search.blended(np.array(box["weights"]), oof), 0, 1)
    fixed = metrics.mean_log_loss_epsilon(targets, blend)
    assert fixed == pytest.approx(box["value"], abs=1e-9)
    # The sum is free in the search, and 1 in what is applied.
    assert abs(found.sum() - 1) > 1e-3
    normalised = search.normalised(found)
    assert normalised.sum() == pytest.approx(1, abs=1e-15)
    np.testing.assert_allclose(normalised / normalised[0], found / found[0], rtol=1e-14)


def test_tpe_repeats_itself_and_follows_its_seed(case):
    pytest.importorskip("optuna")
    first, again, other = (
        search.method("tpe", trials=15, seed=seed)(case["oof"], case["y"]) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_tpe_is_never_worse_than_equal_weights(case):
    pytest.importorskip("optuna")
    found = search.tpe(case["oof"], case["y"], trials=1, seed=0)
    np.testing.assert_array_equal(found, np.full(4, 0.25))


def test_tpe_without_optuna(monkeypatch):
    monkeypatch.setattr(search.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="config.blend.method: expected Optuna for tpe, found none"):
        search.check_installed("tpe")
    search.check_installed("slsqp")


def test_weights_that_are_all_0_become_equal():
    np.testing.assert_array_equal(search.normalised(np.zeros(4)), np.full(4, 0.25))
