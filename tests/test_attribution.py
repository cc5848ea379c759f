"""Tests of attributions: their sums, their rows, drivers that are known, pixels by hand."""

import dataclasses
import json
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import systems
from flax import linen as nn

from moa_jax.command import inference, repair
from moa_jax.config import ExplainConfig, RunConfig
from moa_jax.data import simulate
from moa_jax.data.dataset import ORIGINAL_LEVELS, Targets
from moa_jax.deepinsight import inputs
from moa_jax.deepinsight.images import paint, pixel_tables
from moa_jax.engine import explanation, run
from moa_jax.errors import UserError
from moa_jax.recipes import attribution_baseline, ensemble, prediction, profile, system
from moa_jax.recipes.attribution import attributions
from moa_jax.recipes.attribution_baseline import Baseline, Ends
from moa_jax.recipes.context import Context
from moa_jax.recipes.image_features import ImageFeatures
from moa_jax.recipes.nn_tabnet_profiles import TabNetProfile
from moa_jax.recipes.origins import Origins, Traced
from moa_jax.recipes.profile_nn import PopulationProfile
from moa_jax.recipes.simple_nn import SimpleProfile
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir
from moa_jax.training import in_turn, reuse
from moa_jax.training.attribution import Lines, Reading, mean_gradients, quadrature
from moa_jax.training.means import PROBABILITIES
from moa_jax.training.parallel import Devices
from moa_jax.training.reuse import LastUsed
from moa_jax.training.trees import Finished, Prediction, PredictionShared

MODEL = "profile_nn"
DRIVERS = {"g-0": "mechanism_000", "g-1": "mechanism_001,_second_type"}


class Bent(nn.Module):
    """A linear layer, of whose logits the second is bent at 0."""

    @nn.compact
    def __call__(self, x, mask=None, train=False):
        kernel = self.param("kernel", nn.initializers.normal(), (x.shape[1], 2), x.dtype)
        logits = x @ kernel
        return logits.at[:, 1].set(jnp.square(nn.relu(logits[:, 1])))


def explained(table, start, pairs, kernel, reading, steps):
    program = mean_gradients(Bent(), reading, steps)
    shared = PredictionShared(Lines(jnp.asarray(table), jnp.asarray(start), jnp.eye(2)), len(pairs))
    member = Finished({"params": {"kernel": jnp.asarray(kernel)}}, ())
    with jax.enable_x64(True):
        own = Prediction(member, jnp.asarray(np.asarray(pairs, np.int32)))
        return jax.jit(program)((), own, shared)[1]


def plain(columns, data):
    return (columns,)


def whole(table, data):
    return table


def test_a_linear_network_is_explained_exactly():
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        table, start, kernel = rng.normal(size=(5, 4)), rng.normal(size=4), rng.normal(size=(4, 2))
        pairs = [[[row, 0] for row in range(5)]]
        found = explained(table, start, pairs, kernel, Reading(whole, plain), 1)
        np.testing.assert_allclose(found.gradients[0], np.tile(kernel[:, 0], (5, 1)), atol=1e-12)
        change = (table - start) @ kernel[:, 0]
        np.testing.assert_allclose(found.change[0], change, atol=1e-12)
        sums = (np.asarray(found.gradients[0]) * (table - start)).sum(1)
        np.testing.assert_allclose(sums, change, atol=1e-9)


def test_more_steps_miss_less_where_a_network_is_bent():
    rng = np.random.default_rng(1)
    errors = []
    with jax.enable_x64(True):
        table, start, kernel = rng.normal(size=(9, 4)), rng.normal(size=4), rng.normal(size=(4, 2))
        pairs = [[[row, 1] for row in range(9)]]
        for steps in (1, 8, 64):
            found = explained(table, start, pairs, kernel, Reading(whole, plain), steps)
            sums = (np.asarray(found.gradients[0]) * (table - start)).sum(1)
            errors.append(np.abs(sums - found.change[0]).max())
    bent = np.square(np.maximum(table @ kernel[:, 1], 0))
    expected = bent - np.square(max(start @ kernel[:, 1], 0))
    np.testing.assert_allclose(found.change[0], expected, atol=1e-12)
    assert errors[2] < 1e-3 < errors[1] < errors[0]


def test_the_rule_is_exact_for_polynomials():
    nodes, weights = quadrature(5)
    for degree in range(10):
        np.testing.assert_allclose((weights * nodes**degree).sum(), 1 / (degree + 1), atol=1e-14)


def test_columns_that_are_held_have_no_part():
    rng = np.random.default_rng(2)
    with jax.enable_x64(True):
        table, start, kernel = rng.normal(size=(3, 4)), rng.normal(size=4), rng.normal(size=(4, 2))
        reading = Reading(whole, plain, held=(1,))
        found = explained(table, start, [[[r, 0] for r in range(3)]], kernel, reading, 2)
    free = [0, 2, 3]
    change = (table - start)[:, free] @ kernel[free, 0]
    np.testing.assert_allclose(found.change[0], change, atol=1e-12)


PROFILES = {
    "standard": PopulationProfile("standard", 3),
    "rank_gauss": PopulationProfile("rank_gauss", 3),
    "components": PopulationProfile("components", 3, limit=1.0),
    "simple": SimpleProfile({"gene": 3, "cell": 2}, {"gene": 3, "cell": 2}, True),
    "tabnet": TabNetProfile({"gene": 3, "cell": 2}, {"gene": 3, "cell": 2}, True),
}
NAMES = ["g-a", "g-b", "g-c", "g-d", "g-e", "c-a", "c-b", "c-c"]


def of_rows(described, rows=6):
    """A profile's columns of some rows and a baseline, with their origins, and as they are."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=(80, 3)) @ rng.normal(size=(3, 8)) + rng.normal(size=(80, 8))
    steps = profile.Steps(len(values))
    described.columns(values, 5, steps)
    some = np.concatenate([2 * values[:rows], values.mean(0)[None]])
    made = described.columns(Traced.of(some, NAMES), 5, Origins(steps.fitted))
    return made, described.columns(some, 5, profile.Steps(fitted=steps.fitted)), some, steps.fitted


@pytest.mark.parametrize("name", PROFILES)
def test_attributions_of_columns_are_those_of_their_features(name):
    made, columns, _, _ = of_rows(PROFILES[name])
    np.testing.assert_allclose(made.values, columns, atol=1e-12)
    rows = np.array([0, 5, 5, 2])
    gradients = np.random.default_rng(4).normal(size=(4, columns.shape[1]))
    found = made.carry(gradients, rows)
    expected = (gradients * (columns[rows] - columns[-1])).sum(1)
    np.testing.assert_allclose(sum(found.values()), expected, atol=1e-9)
    own = {"simple": 34, "tabnet": 31}.get(name, 8)
    assert set(NAMES) <= found.keys() and len(found) <= own


def test_components_are_shared_by_loadings_and_differences():
    made, columns, some, fitted = of_rows(PopulationProfile("components", 3))
    by_column = fitted["standard_scale"]
    scaled = np.clip((some - by_column.mean_) / by_column.scale_, -8, 8)
    loadings, scale = fitted["components"].components_, fitted["whitening"].scale_
    gradients = np.array([[0.5, -2.0, 3.0]])
    found = made.carry(gradients, np.array([1]))
    for column, name in enumerate(NAMES):
        of_each = gradients[0] / scale * loadings[:, column]
        expected = of_each.sum() * (scaled[1, column] - scaled[-1, column])
        np.testing.assert_allclose(found[name], [expected], atol=1e-9)


def test_a_bounded_component_is_shared_as_its_sum_is():
    made, columns, _, _ = of_rows(PopulationProfile("components", 3, limit=1.0))
    free = of_rows(PopulationProfile("components", 3, limit=1.0))[0].parts[0].sums
    row = int(np.argmax(np.abs(columns[:-1, 0]) == 1.0))
    assert abs(columns[row, 0]) == 1.0
    found = made.carry(np.array([[1.0, 0.0, 0.0]]), np.array([row]))
    terms = (made.parts[0].of.values[row] - made.parts[0].of.values[-1]) * made.parts[0].loadings[0]
    share = (columns[row, 0] - columns[-1, 0]) / (free[row, 0] - free[-1, 0])
    np.testing.assert_allclose([found[name][0] for name in NAMES], share * terms, atol=1e-9)


def test_what_is_no_function_of_columns_keeps_a_name():
    made, columns, some, _ = of_rows(PROFILES["tabnet"])
    found = made.carry(np.ones((1, columns.shape[1])), np.array([0]))
    assert {"gene_clusters 1", "cell_clusters 2", "gene deviation", "all skewness"} <= found.keys()
    # A mean is a sum of columns and needs no name.
    assert not any(name.endswith(" mean") for name in found)


def test_pixels_go_to_their_genes():
    """Genes 0 and 1 share a pixel: of its mean each has its own half, its greatest is one's."""
    tables = pixel_tables([np.array([[0, 0], [0, 0], [1, 1]])], 2)
    tables = {name: jnp.asarray(table[0]) for name, table in tables.items()}

    class Pixels(nn.Module):
        @nn.compact
        def __call__(self, images, train=False):
            self.param("kernel", nn.initializers.ones, (1,))
            mean, greatest = images[:, 0, 0, 0], images[:, 0, 0, 2]
            return jnp.stack([3 * mean, 2 * greatest + images[:, 1, 1, 1]], axis=1)

    reading = Reading(whole, lambda columns, data: (paint(columns, tables, 2),))
    program = mean_gradients(Pixels(), reading, 4)
    table, start = np.array([[0.5, 0.9, 0.4]]), np.array([0.1, 0.0, 0.2])
    with jax.enable_x64(True):
        shared = PredictionShared(Lines(jnp.asarray(table), jnp.asarray(start), jnp.eye(2)), 1)
        member = Finished({"params": {"kernel": jnp.ones(1)}}, ())
        pairs = jnp.asarray(np.array([[[0, 0], [0, 1]]], np.int32))
        _, found = jax.jit(program)((), Prediction(member, pairs), shared)
    shares = np.asarray(found.gradients[0]) * (table - start)
    np.testing.assert_allclose(shares[0], [1.5 * 0.4, 1.5 * 0.9, 0], atol=1e-12)
    # From 1/6 of the way on gene 1 is the greater one: the path has four nodes, all behind it
    # but the first.
    assert shares[1][2] == pytest.approx(0.2) and shares[1][1] > 1.2 > shares[1][0] > 0


def test_image_networks_are_explained_by_columns():
    """From the columns through scale and pixels of a fold to a network, to its small error."""
    rng = np.random.default_rng(6)
    data = driven(rows=60, test_rows=0)
    placement = inputs.Placement(2, 0, "pca", "current", 5.0, False, "original", 0)
    features = ImageFeatures(ORIGINAL_LEVELS, placement, 6, 0.0, 0.0)
    rows = data.take(np.flatnonzero(~data.is_control)[:5])
    ends = Ends(rows, Baseline.of(data))

    class Quadratic(nn.Module):
        @nn.compact
        def __call__(self, images, train=False):
            flat = images.reshape(len(images), -1)
            kernel = self.param("kernel", nn.initializers.normal(), (flat.shape[1], 1))
            return jnp.square(flat @ kernel)

    with jax.enable_x64(True):
        fold = inputs.fit_fold(inputs.raw_table(data, ORIGINAL_LEVELS), placement)
        table = ends.joined(inputs.device_table(ends.every, ORIGINAL_LEVELS))
        own = jax.tree.map(lambda a: jnp.asarray(a[0]), inputs.member_data([fold], 6))
        kernel = jnp.asarray(rng.normal(size=(108, 1)))
        network, reading = Quadratic(), Reading(features.columns, features.inputs_of)
        program = mean_gradients(network, reading, 512)
        lines = Lines(jnp.asarray(table[:-1]), jnp.asarray(table[-1]), jnp.eye(1))
        member = Finished({"params": {"kernel": kernel}}, own)
        pairs = jnp.asarray([[[row, 0] for row in range(5)]], jnp.int32)
        _, found = jax.jit(program)((), Prediction(member, pairs), PredictionShared(lines, 1))
        (images,) = features.inputs_of(jnp.asarray(table), own)
        logits = np.square(np.asarray(images).reshape(6, -1) @ np.asarray(kernel))[:, 0]
    (traced,) = features.origins(ends, table, "scored", None, ())
    carried = traced.carry(np.asarray(found.gradients[0]), np.arange(5))
    assert list(carried) == ["cp_type", "cp_dose", "cp_time", *data.genes, *data.cells]
    change = logits[:-1] - logits[-1]
    np.testing.assert_allclose(found.change[0], change, rtol=1e-9)
    np.testing.assert_allclose(sum(carried.values()), change, atol=1e-3 * np.abs(change).max())


def driven(rows=150, test_rows=12):
    data = simulate.make(
        rows=rows, seed=3, genes=8, cells=4, scored=2, nonscored=0, test_rows=test_rows
    )
    treated = ~data.is_control
    often = (data.features[:, :2] > 0.3) & treated[:, None]
    scored = Targets(tuple(DRIVERS.values()), often.astype(np.uint8))
    # Controls of one treatment: their mean is a row that can be predicted.
    return dataclasses.replace(
        data,
        scored=scored,
        cp_time=np.where(treated, data.cp_time, 24),
        cp_dose=np.where(treated, data.cp_dose, "D1").astype(object),
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A population on data of which each mechanism has one driver, the run explaining it."""
    folder, data = tmp_path_factory.mktemp("run"), driven()
    explain = {"model": "best", "per_compound": True, "most_rows": 20}
    config = systems.tiny(MODEL, explain=explain, parallel={"strategy": "vmap"})
    recipe = dataclasses.replace(
        config.models[MODEL],
        members=2,
        folds=2,
        inputs=("standard", "components"),
        widths=(16, 16),
        depths=(1, 1),
        steps=(150, 150),
        epoch_steps=50,
        batch_size=32,
        learning_rate=(1e-2, 1e-2),
        input_dropout=(0.0, 0.0),
        input_noise=(0.0, 0.0),
    )
    config = dataclasses.replace(config, models={MODEL: recipe})
    workdir = Workdir(folder)
    run.train(config, workdir, data)
    run.blend(config, workdir, data, {})
    return Context(MODEL, workdir, Devices.available("vmap"), config), data


def explain(finished, rows=None, targets=None, **options):
    context, data = finished
    rows = data if rows is None else rows
    return attributions(context.config.models[MODEL], context, rows, targets, **options)


def test_a_run_finds_what_drives_it(finished):
    context, data = finished
    path = context.workdir.path / "blend" / explanation.FILE
    table = pd.read_parquet(path)
    assert list(table.columns) == ["mechanism", "compound", "feature", "attribution"]
    of_all = table[table["compound"].isna()]
    for driver, mechanism in DRIVERS.items():
        own = of_all[of_all["mechanism"] == mechanism].set_index("feature")["attribution"]
        assert own.abs().idxmax() == driver and own[driver] > 0
        assert list(own.index) == [*data.genes, *data.cells, "cp_time", "cp_dose"]
    told = json.loads(pyarrow.parquet.read_schema(path).metadata[explanation.METADATA])
    assert told["model"] == MODEL and told["steps"] == 16
    assert told["baseline"] == f"mean of {data.is_control.sum()} control rows"
    assert 0 < told["completeness"]["relative_error"] < 0.01
    oof = Predictions.read(context.folder / "oof.parquet")
    again = explain(finished, by="compound", predictions=oof, most_rows=20)
    pd.testing.assert_frame_equal(table, again)


def test_the_networks_of_all_stages_are_compiled_side_by_side(finished, monkeypatch):
    compiled, meeting = in_turn.compiled, threading.Barrier(2, timeout=60)

    def together(lowered, options):
        meeting.wait()
        return compiled(lowered, options)

    monkeypatch.setattr(in_turn, "compiled", together)
    monkeypatch.setattr(reuse, "PROGRAMS", LastUsed(4))
    context, data = finished
    designs = context.config.models[MODEL].stages(context.levels, False)
    counts = {design.name: {number: 1} for number, design in enumerate(designs)}
    every = ensemble.Ensemble([*designs], counts, PROBABILITIES)
    monkeypatch.setattr(ensemble, "read", lambda *_: every)
    assert len(explain(finished, data.take(np.flatnonzero(~data.is_control)[:5])))


def test_rows_sum_to_the_log_odds_of_the_networks(finished):
    context, data = finished
    rows = data.take(np.flatnonzero(~data.is_control)[:5])
    table = explain(finished, rows, by="row", steps=64)
    sums = table.groupby(["sig_id", "mechanism"], sort=False)["attribution"].sum().unstack()
    outcome = system.finished_outcome(context.config.models[MODEL], context)
    start = Baseline.of(data).rows(rows)
    assert len(start) == 1
    expected, total = 0.0, 0.0
    for design in outcome.designs:
        every = [(seed, fold) for seed in outcome.counts[design.name] for fold in range(2)]
        for seed, fold in every:
            weights = lambda _, members, k=(seed, fold): np.array(  # noqa: E731
                [(m.seed, m.fold) == k for m in members], float
            )
            predict = prediction.trained([design], context, weights)
            ends = attribution_baseline.joined(rows, start)
            found = predict(ends)[design.name].whole
            logits = np.log(found) - np.log1p(-found)
            count = outcome.counts[design.name][seed]
            expected = expected + count * (logits[:-1] - logits[-1])
            total += count
    np.testing.assert_allclose(
        sums.loc[rows.ids, list(data.targets.names)], expected / total, atol=1e-3
    )


def test_means_of_compounds_are_those_of_their_rows(finished):
    _, data = finished
    (target,) = list(DRIVERS.values())[:1]
    by_row = explain(finished, targets=[target], by="row")
    by_compound = explain(finished, targets=[target], by="compound")
    whole_mean = explain(finished, targets=[target])
    compound = dict(zip(data.ids, data.drug_id, strict=True))
    by_row["compound"] = by_row["sig_id"].map(compound)
    assert "vehicle" not in set(by_row["compound"])
    expected = by_row.groupby(["compound", "feature"])["attribution"].mean()
    found = by_compound.dropna().set_index(["compound", "feature"])["attribution"]
    assert len(found) == len(expected) and set(by_row["mechanism"]) == {target}
    np.testing.assert_allclose(found.loc[expected.index], expected, atol=1e-12)
    of_all = by_compound[by_compound["compound"].isna()].drop(columns="compound")
    pd.testing.assert_frame_equal(of_all.reset_index(drop=True), whole_mean)
    expected = by_row.groupby("feature")["attribution"].mean()
    found = whole_mean.set_index("feature")["attribution"]
    np.testing.assert_allclose(found.loc[expected.index], expected, atol=1e-12)


def test_new_rows_are_explained_by_the_work_folder_alone(finished, tmp_path):
    context, data = finished
    new = simulate._features_table(data.test)
    new.to_parquet(tmp_path / "new.parquet")
    config = dataclasses.replace(
        context.config,
        data=dataclasses.replace(context.config.data, test_features=str(tmp_path / "new.parquet")),
        explain=ExplainConfig("best", mechanisms=(DRIVERS["g-1"],), most_rows=4),
    )
    written = inference.infer(config, Workdir(context.workdir.path)).parent / explanation.FILE
    stored = pd.read_parquet(written)
    predicted = Predictions.read(written.parent / f"{MODEL}.parquet")
    expected = explain(finished, data.test, [DRIVERS["g-1"]], predictions=predicted, most_rows=4)
    pd.testing.assert_frame_equal(stored, expected)
    # The same once more changes nothing; other questions are answered anew.
    before = written.stat().st_mtime_ns
    inference.infer(config, Workdir(context.workdir.path))
    assert written.stat().st_mtime_ns == before
    other = dataclasses.replace(config, explain=ExplainConfig("best", most_rows=4))
    inference.infer(other, Workdir(context.workdir.path))
    assert set(pd.read_parquet(written)["mechanism"]) == set(DRIVERS.values())


def test_the_most_likely_rows_are_found_part_by_part(tmp_path):
    rng = np.random.default_rng(5)
    data = driven(rows=60, test_rows=0)
    names = data.targets.names
    every = Predictions(data.ids, names, rng.random((60, 2)))
    config = RunConfig({}, explain=ExplainConfig("best", most_rows=3))
    context = dataclasses.replace(systems.context(tmp_path), config=config)
    seen = explanation.MostLikely(context, names)
    for start in range(0, 60, 20):
        part = np.arange(start, start + 20)
        seen.add(data.take(part), every.aligned(data.ids[part]))
    treated = data.ids[~data.is_control]
    values = every.aligned(treated).values
    expected = {treated[row] for row in np.argsort(-values, axis=0)[:3].ravel()}
    assert set(seen.rows.ids) == expected == set(seen.predictions.ids)


def test_mistakes_are_told(finished):
    _, data = finished
    with pytest.raises(UserError, match="found 'mechanism_00'; did you mean mechanism_000"):
        explain(finished, targets=["mechanism_00"])
    with pytest.raises(UserError, match="by compound: expected known compounds, found none"):
        explain(finished, data.test, by="compound")
    controls = data.take(np.flatnonzero(data.is_control))
    with pytest.raises(UserError, match="expected treated rows to explain, found none"):
        explain(finished, controls)
    config = dataclasses.replace(
        finished[0].config, explain=ExplainConfig("best", mechanisms=("other",))
    )
    with pytest.raises(UserError, match=r"config\.explain\.mechanisms: .*, found 'other'"):
        run.check(config, data)
    config = dataclasses.replace(config, explain=ExplainConfig("best", per_compound=True))
    with pytest.raises(UserError, match=r"config\.explain\.per_compound: .*, found none"):
        run.check(config, dataclasses.replace(data, drug_id=None))


def test_the_baseline_is_the_mean_control_or_the_mean_row():
    data = driven(rows=60, test_rows=0)
    found = Baseline.of(data)
    np.testing.assert_allclose(found.features, data.features[data.is_control].mean(0))
    assert found.of_controls and str(found) == f"mean of {data.is_control.sum()} control rows"
    treated = data.take(np.flatnonzero(~data.is_control))
    found = Baseline.of(treated)
    np.testing.assert_allclose(found.features, treated.features.mean(0))
    for name in ("cp_time", "cp_dose"):
        for level in np.unique(getattr(treated, name).astype(str)):
            share = found.shares[getattr(found, name).astype(str) == level].sum()
            assert share == pytest.approx((getattr(treated, name).astype(str) == level).mean())
    ends = Ends(treated.take(np.arange(3)), found)
    table = np.eye(len(ends.every))
    np.testing.assert_allclose(ends.joined(table)[-1, 3:], found.shares)


def test_a_damaged_baseline_is_told_and_repaired(finished, tmp_path):
    context, data = finished
    shutil.copytree(context.workdir.path, tmp_path / "run")
    workdir = Workdir(tmp_path / "run")
    path = workdir.path / MODEL / attribution_baseline.FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    other = dataclasses.replace(context, workdir=workdir)
    with pytest.raises(UserError, match=r"baseline\.npz: damaged"):
        explain((other, data))
    repair.repair(context.config, Workdir(workdir.path), data)
    assert not path.exists()
    run.train(context.config, Workdir(workdir.path), data)
    assert path.read_bytes() == whole


def test_a_folder_without_baselines_is_not_explained(finished, tmp_path):
    """Such as an earlier version left: the blend goes on, and an earlier explanation goes."""
    context, data = finished
    shutil.copytree(context.workdir.path, tmp_path / "run")
    workdir = Workdir(tmp_path / "run")
    path = workdir.path / MODEL / attribution_baseline.FILE
    workdir.manifest(MODEL).discard(lambda listed: listed == path)
    run.blend(context.config, workdir, data, {})
    assert not (workdir.path / "blend" / explanation.FILE).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "simple_nn_old",
        "three_stage_nn",
        "nn_tabnet",
        "two_heads_resnet",
    ],
)
def test_every_recipe_is_explained(name, tmp_path):
    data = simulate.make(rows=90, seed=3, genes=8, cells=4, scored=3, nonscored=4, test_rows=6)
    often = (data.features[:, :3] > 0.3) & ~data.is_control[:, None]
    data = dataclasses.replace(data, scored=Targets(data.scored.names, often.astype(np.uint8)))
    config = systems.tiny(name, parallel={"strategy": "vmap"})
    workdir = Workdir(tmp_path)
    run.train(config, workdir, data)
    context = Context(name, workdir, Devices.available("vmap"), config)
    rows = data.take(np.flatnonzero(~data.is_control)[:10])
    found = attributions(config.models[name], context, rows, data.targets.names[:1], steps=64)
    assert found.attrs["completeness"]["relative_error"] < 0.05
    own = {*data.genes, *data.cells, "cp_time", "cp_dose", "cp_type"}
    made = {n for n in found["feature"] if n not in own}
    words = {name.split()[0].split("_")[0] for name in made}
    assert words <= {"gene", "cell", "all", "predictions"}
    assert {*data.genes, *data.cells} <= set(found["feature"])
    size = found["attribution"].abs()
    assert size[found["feature"].isin(own)].sum() > size[~found["feature"].isin(own)].sum() / 2
