"""Tests of the weighing: every method's weights, and which score is reported."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest

from moa_jax.blend import search, weighing
from moa_jax.config import BlendConfig
from moa_jax.data import folds
from moa_jax.store.predictions import Predictions
from moa_jax.training import metrics
from moa_jax.training.means import LOG_ODDS, MEANS

REFERENCE = Path(__file__).parent / "reference" / "blend_cases.npz"
TARGETS = tuple("abcdefghij")


@pytest.fixture(scope="module")
def case():
    with np.load(REFERENCE, allow_pickle=False) as stored:
        return stored["oof"], stored["y"]


@pytest.fixture(scope="module")
def oof(case):
    ids = np.array([f"id_{i}" for i in range(300)], object)
    return {f"m{k}": Predictions(ids, TARGETS, values) for k, values in enumerate(case[0])}


def weigh(oof, labels, honest=False, seed=3, units=None, **config):
    return weighing.weigh(BlendConfig(**config), oof, labels, 30, seed, honest, units)


def test_searched_weights_are_reported_in_sample_and_nested(case, oof):
    found = weigh(oof, case[1])
    expected = search.slsqp(*case)
    assert list(found.weights.values()) == expected.tolist()
    assert found.record["score"] == found.record["loss"]
    assert found.record["loss"] == pytest.approx(search.log_loss(expected, *case), abs=1e-14)
    parts = folds.k_fold(300, 5, 3)
    nested, _, _ = search.nested(search.slsqp, *case, parts)
    assert found.record["nested"]["loss"] == nested
    assert len(found.record["nested"]["weights"]) == 5
    assert found.record["best_model"] == "m1"


def test_parts_of_the_nested_score_keep_units_whole(case, oof):
    units = np.arange(300) // 25
    found = weigh(oof, case[1], units=units).record["nested"]
    parts = folds.k_fold(12, 5, 3)[units]
    nested, _, _ = search.nested(search.slsqp, *case, parts)
    assert found["loss"] == nested != weigh(oof, case[1]).record["nested"]["loss"]
    few = weigh(oof, case[1], units=units // 4).record["nested"]
    assert len(few["weights"]) == 3


@pytest.mark.parametrize("method", ["slsqp", "per_target"])
def test_rows_of_one_unit_are_scored_by_equal_weights(case, oof, method):
    """Without them there is nothing to search on."""
    units = np.zeros(300, int)
    (found,) = weigh(oof, case[1], units=units, method=method).record["nested"]["weights"]
    assert list(found.values()) == pytest.approx([0.25] * 4)


@pytest.mark.parametrize("method", ["slsqp", "per_target"])
def test_honest_runs_report_the_nested_score_and_its_predictions(case, oof, method):
    usual, honest = (weigh(oof, case[1], honest=h, method=method) for h in (False, True))
    assert honest.record["score"] == honest.record["nested"]["loss"] > honest.record["loss"]
    assert honest.weights == usual.weights
    scored = metrics.mean_log_loss(case[1], honest.oof.values)
    assert scored == pytest.approx(honest.record["score"], abs=1e-14)
    assert honest.record["conventions"] == metrics.conventions(case[1], honest.oof.values, 30)
    assert usual.record["score"] == usual.record["loss"]


def test_weights_of_each_target(case, oof):
    found = weigh(oof, case[1], method="per_target")
    assert found.weights["m2"] == dict(
        zip(TARGETS, search.per_target(*case)[2].tolist(), strict=True)
    )
    assert found.record["loss"] < weigh(oof, case[1]).record["loss"]
    assert set(found.record["nested"]["weights"][0]) == set(oof)
    json.dumps(found.record)


def test_tpe_states_what_it_found_and_applies_it_normalised(case, oof):
    pytest.importorskip("optuna")
    found = weigh(oof, case[1], method="tpe", trials=25)
    stated = found.record["tpe"]
    assert stated["trials"] == 25
    assert stated["sum"] == pytest.approx(sum(stated["found"].values()))
    assert sum(found.weights.values()) == pytest.approx(1, abs=1e-15)
    for name, weight in found.weights.items():
        assert weight == pytest.approx(stated["found"][name] / stated["sum"], rel=1e-14)


def test_fixed_weights_have_one_score(case, oof):
    config = {"method": "fixed", "weights": dict.fromkeys(oof, 1 / len(oof))}
    found = weigh(oof, case[1], honest=True, **config)
    assert found.weights == config["weights"] and "nested" not in found.record
    assert found.record["score"] == metrics.mean_log_loss(case[1], found.oof.values)
    assert np.isfinite(list(found.record["conventions"].values())).all()


def test_a_model_without_out_of_fold_predictions_leaves_the_blend_unscored(case, oof):
    weights = {"m0": 0.5, "other": 0.5}
    found = weigh({"m0": oof["m0"], "other": None}, case[1], method="fixed", weights=weights)
    assert found.oof is None and "score" not in found.record
    assert found.record["losses"].keys() == {"m0"}
    assert found.weights == weights


def test_a_single_model_has_the_whole_weight(case, oof):
    assert weigh({"m3": oof["m3"]}, case[1]).weights == {"m3": 1.0}
    assert weigh({"m3": oof["m3"]}, case[1], method="fixed").weights == {"m3": 1.0}


@pytest.mark.parametrize("method", ["slsqp", "per_target"])
def test_a_prior_is_of_every_search(case, oof, method):
    find = functools.partial(getattr(search, method), prior=20.0)
    found = weigh(oof, case[1], method=method, prior=20.0)
    expected = find(*case)
    assert np.array_equal([*map(_values, found.weights.values())], expected)
    nested, _, _ = search.nested(find, *case, folds.k_fold(300, 5, 3))
    assert found.record["nested"]["loss"] == nested
    assert found.record["prior"] == 20.0 and "prior" not in weigh(oof, case[1]).record


def _values(weight):
    return list(weight.values()) if isinstance(weight, dict) else weight


@pytest.mark.parametrize("honest", [False, True])
@pytest.mark.parametrize("method", ["slsqp", "per_target", "tpe", "fixed"])
def test_the_mean_is_of_search_blend_and_scores(case, oof, method, honest):
    if method == "tpe":
        pytest.importorskip("optuna")
    weights = {"m0": 0.1, "m1": 0.2, "m2": 0.3, "m3": 0.4} if method == "fixed" else {}
    options = {"method": method, "weights": weights, "trials": 20}
    found = weigh(oof, case[1], honest, mean="log_odds", **options)
    expected = np.array([0.1, 0.2, 0.3, 0.4])
    if method != "fixed":
        find = search.method(method, 20, 3, mean=LOG_ODDS)
        expected = find(*case)
        nested, _, values = search.nested(find, *case, folds.k_fold(300, 5, 3), mean=LOG_ODDS)
        assert found.record["nested"]["loss"] == nested
    assert np.array_equal([*map(_values, found.weights.values())], expected)
    blend = search.blended(expected, case[0], LOG_ODDS)
    assert found.record["loss"] == pytest.approx(metrics.mean_log_loss(case[1], blend), rel=1e-12)
    reported = values if honest and method != "fixed" else blend
    np.testing.assert_allclose(found.oof.values, reported, rtol=1e-12)
    assert found.record["mean"] == "log_odds" and "mean" not in weigh(oof, case[1]).record


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("prior", [0.0, 20.0])
@pytest.mark.parametrize("method", ["slsqp", "per_target", "tpe"])
def test_losses_without_each_model(case, oof, method, prior, mean):
    config, of = BlendConfig(method=method, prior=prior, mean=mean), MEANS[mean]
    found = weighing.losses_without(config, oof, case[1])
    others = np.delete(case[0], 1, axis=0)
    find = search.per_target if method == "per_target" else search.slsqp
    weights = find(others, case[1], prior=prior, mean=of)
    expected = search.log_loss(weights, others, case[1], mean=of)
    assert found["m1"] == pytest.approx(expected, abs=1e-14)
