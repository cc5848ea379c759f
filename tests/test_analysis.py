"""Tests of what the report shows of predictions: targets, calibration, correlations, profiles."""

import dataclasses

import numpy as np
import pytest

from moa_jax.answers import mechanism_scores
from moa_jax.config import BlendConfig
from moa_jax.data import simulate
from moa_jax.deepinsight.feature_map import FeatureMap
from moa_jax.deepinsight.log_scale import LogScale
from moa_jax.report import analysis
from moa_jax.store import transform_files
from moa_jax.store.predictions import Predictions
from moa_jax.training.metrics import conventions, mean_log_loss


@pytest.fixture(scope="module")
def dataset():
    return simulate.make(rows=120, seed=5, genes=6, cells=3, scored=4, nonscored=0, test_rows=30)


def predicted(dataset, seed, rows=None):
    rows = dataset.take(np.flatnonzero(~dataset.is_control)) if rows is None else rows
    values = np.random.default_rng(seed).uniform(0.01, 0.5, (len(rows), 4))
    return Predictions(rows.ids, dataset.scored.names, values)


def test_targets_are_sorted_by_the_loss_of_the_blend():
    labels = np.array([[0, 1], [0, 0], [0, 1], [1, 0]])
    blend = Predictions(np.array(list("abcd")), ("x", "y"), np.full((4, 2), [0.25, 0.9]))
    other = Predictions(blend.ids, blend.targets, np.full((4, 2), 0.5))
    table = analysis.targets_table(labels, blend, {"other": other})
    assert table["target"].tolist() == ["y", "x"]
    assert table["positives"].tolist() == [2, 1]
    assert table["mean_prediction"].tolist() == pytest.approx([0.9, 0.25])
    losses = [-(np.log(0.9) + np.log(0.1)) / 2, -(np.log(0.25) + 3 * np.log(0.75)) / 4]
    assert table["loss"].tolist() == pytest.approx(losses)
    assert table["loss of other"].tolist() == pytest.approx([np.log(2)] * 2)


def test_calibration_by_half_decades():
    probabilities = np.array([[0.0, 0.002], [0.003, 0.004], [0.5, 1.0]])
    labels = np.array([[0, 0], [1, 0], [0, 1]])
    bins = mechanism_scores.reliability(labels, probabilities)
    assert [part["cells"] for part in bins] == [1, 2, 1, 2]
    assert [part["positives"] for part in bins] == [0, 1, 0, 1]
    np.testing.assert_allclose([part["predicted"] for part in bins], [0, 0.0025, 0.004, 0.75])
    np.testing.assert_allclose([part["observed"] for part in bins], [0, 0.5, 0, 0.5])


def test_a_blend_above_1_counts_as_1():
    (part,) = mechanism_scores.reliability(np.array([[1]]), np.array([[1.2]]))
    assert part["cells"] == 1


def test_correlations_of_rows_by_name(dataset):
    first = predicted(dataset, 0)
    shuffled = first.aligned(first.ids[::-1])
    found = analysis.correlations({"a": first, "b": shuffled}, first.ids[:50])
    np.testing.assert_allclose(found["pearson"], np.ones((2, 2)), atol=1e-12)
    assert found["models"] == ["a", "b"] and found["rows"] == 50
    constant = Predictions(first.ids, first.targets, np.full_like(first.values, 0.1))
    assert analysis.correlations({"a": first, "b": constant}, first.ids)["spearman"][0][1] is None


def test_analyse(dataset):
    oof = {"a": predicted(dataset, 0), "b": predicted(dataset, 1)}
    tests = {name: predicted(dataset, 2 + i, dataset.test) for i, name in enumerate(oof)}
    fixed = BlendConfig(method="fixed", weights={"a": 0.5, "b": 0.25})
    found = analysis.analyse(fixed, dataset, oof, tests, oof["a"])
    labels = dataset.scored.values[~dataset.is_control]
    controls = int(dataset.is_control.sum())
    assert found["scores"]["b"] == conventions(labels, oof["b"].values, controls)
    # Of a model that predicts the controls they count as they are predicted.
    of_controls = predicted(dataset, 4, dataset.take(np.flatnonzero(dataset.is_control)))
    counted = analysis.analyse(fixed, dataset, oof, tests, oof["a"], {"b": of_controls})["scores"]
    assert counted["a"] == found["scores"]["a"]
    assert counted["b"] == conventions(labels, oof["b"].values, controls, of_controls.values)
    assert counted["b"]["epsilon_all"] > found["scores"]["b"]["epsilon_all"] + 1e-3
    # The other model alone takes up the whole sum of the weights.
    assert found["without"]["a"] == pytest.approx(mean_log_loss(labels, 0.75 * oof["b"].values))
    treated = ~dataset.test.is_control
    assert found["test"]["rows"] == treated.sum() < len(dataset.test)
    x, y = (p.values[treated, 0] for p in tests.values())
    one = analysis.correlations(
        {n: Predictions(p.ids, p.targets[:1], p.values[:, :1]) for n, p in tests.items()},
        dataset.test.ids[treated],
    )
    assert one["pearson"][0][1] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)


@pytest.mark.parametrize("treated", [0, 1, 2])
def test_one_test_row_or_none_correlates_nothing(dataset, treated):
    """All test rows may be controls."""
    is_control = np.arange(len(dataset.test)) >= treated
    rows = dataclasses.replace(dataset.test, is_control=is_control)
    tests = {name: predicted(dataset, seed, rows) for seed, name in enumerate("ab")}
    data = dataclasses.replace(dataset, test=rows)
    found = analysis.analyse(BlendConfig(), data, {}, tests, None)
    assert ("test" in found) == (treated > 1)


def test_compounds_to_predict_that_have_training_wells_are_counted(dataset):
    """Those of treated wells: controls are of no compound."""
    drugs = np.where(dataset.is_control, "new", [f"d{i // 4}" for i in range(len(dataset))])
    assert analysis.known_compounds(dataset) is None
    asked = np.array(["d0", "d0", "new", "d5", "d7", *["x"] * (len(dataset.test) - 5)], object)
    is_control = asked == "d7"
    test = dataclasses.replace(dataset.test, drug_id=asked, is_control=is_control)
    data = dataclasses.replace(dataset, drug_id=drugs.astype(object), test=test)
    found = analysis.analyse(BlendConfig(), data, {}, {}, None)
    assert found["known_compounds"] == 2
    unknown = dataclasses.replace(data, drug_id=None)
    assert "known_compounds" not in analysis.analyse(BlendConfig(), unknown, {}, {}, None)


def test_analyse_of_a_single_model_without_out_of_fold_predictions(dataset):
    tests = {"a": predicted(dataset, 0, dataset.test)}
    assert analysis.analyse(BlendConfig(), dataset, {}, tests, None) == {"scores": {}}


def test_profiles_placed_by_a_stored_map(dataset, tmp_path):
    table = np.column_stack([np.zeros((len(dataset), 3)), dataset.features])
    scale = LogScale().fit(table)
    feature_map = FeatureMap("pca").fit(scale.transform(table))
    transform_files.save(tmp_path / "pca_0" / "fold0", {"scale": scale, "map": feature_map})
    found = analysis.feature_map(tmp_path / "pca_0" / "fold0", table, dataset)
    assert found["name"] == "pca_0/fold0"
    assert found["groups"] == ["treatment"] * 3 + ["gene"] * 6 + ["cell"] * 3
    np.testing.assert_array_equal(found["positions"], feature_map.positions_)
    assert 0 < len(found["images"]) <= 3
    for image in found["images"]:
        row = dataset.ids.tolist().index(image["sig_id"])
        assert dataset.scored.values[row, dataset.scored.names.index(image["target"])] == 1
        np.testing.assert_allclose(image["values"], scale.transform(table[[row]])[0])
