"""Tests of labels that were not measured: they move no weight, no score and no choice."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import systems
import toy
from data_folders import frames, write

from moa_jax.answers import mechanism_scores
from moa_jax.blend import search, weighing
from moa_jax.config import BlendConfig
from moa_jax.data import simulate, tables
from moa_jax.data.dataset import Dataset, Targets, shares
from moa_jax.engine import run
from moa_jax.errors import UserError
from moa_jax.features.selection import t_test_columns, t_test_p_values
from moa_jax.recipes import system
from moa_jax.recipes.selection import greedy
from moa_jax.report import analysis
from moa_jax.store import files
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir
from moa_jax.training import losses, metrics
from moa_jax.training.layout import Settings
from moa_jax.training.loop import StageRun
from moa_jax.training.parallel import Devices
from moa_jax.training.stage import by_row

RNG = np.random.default_rng(0)
Y = (RNG.random((40, 5)) < 0.4).astype(np.uint8)
P = RNG.random((2, 40, 5))
KNOWN = RNG.random((40, 5)) < 0.7
KNOWN[3] = False  # a row of which nothing is known


def flat(values):
    return values[..., KNOWN][..., None]


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def test_a_softmax_takes_no_mask_of_cells():
    with pytest.raises(ValueError, match="mask: expected one of rows"):
        losses.cross_entropy(jnp.zeros((40, 5)), jnp.asarray(Y, float), jnp.asarray(KNOWN))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", losses.LOSSES)
def test_a_loss_and_its_gradient_are_those_without_the_cells(name):
    logits, loss = RNG.normal(size=(40, 5)), losses.LOSSES[name]
    mask = np.arange(40) < 33  # of the others, which fill the batch up, nothing counts
    cells = KNOWN & mask[:, None]
    targets = losses.smoothed(jnp.asarray(Y, float), 0.1)

    def alone(logits):
        real = np.ones(cells.sum(), bool)
        return loss(logits[cells][:, None], targets[cells][:, None], real)

    def masked(logits):
        return loss(logits, targets, cells)

    expected = jax.value_and_grad(alone)(jnp.asarray(logits))
    found = jax.value_and_grad(masked)(jnp.asarray(logits))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)
    whole = loss(logits, targets, np.repeat(mask[:, None], 5, 1))
    np.testing.assert_allclose(whole, loss(logits, targets, mask), rtol=1e-12)


def toy_loss(outputs, targets, mask):
    return losses.binary_cross_entropy(outputs[0], targets, mask)


def fitted(tmp_path, name, change):
    """Weights and validation losses of a toy stage, its targets changed where they are unknown."""
    stage = toy.stage(epochs=2, seeds=(0,))
    known = np.random.default_rng(1).random(stage.targets.shape) < 0.6
    targets = np.where(known, stage.targets, change(stage.targets)).astype(stage.targets.dtype)
    stage = dataclasses.replace(
        stage, targets=targets, known=known, loss=toy_loss, valid_weights=by_row
    )
    settings = Settings(Devices.available("vmap"), members_at_once=4, steps_per_call=64)
    stage_run = StageRun(stage, tmp_path / name, settings, None)
    group = stage_run.group(0)
    state = group.init()
    for call in range(stage_run.layout.calls_per_epoch):
        state = group.train_steps(state, 0, call)
    state, report = group.validate(state)
    return stage, group.slots.unpad(state), report


def test_what_stands_in_an_unknown_cell_moves_nothing(tmp_path):
    stage, state, report = fitted(tmp_path, "one", lambda targets: targets)
    _, other, other_report = fitted(tmp_path, "other", lambda targets: 1 - targets)
    same = jax.tree.map(lambda a, b: np.array_equal(a, b), state.params, other.params)
    assert all(jax.tree.leaves(same))
    np.testing.assert_array_equal(report.valid_loss, other_report.valid_loss)
    # The loss that rules see is the mean over known cells of all batches, however they share them.
    for slot, member in enumerate(stage.members):
        variables = {
            "params": jax.tree.map(lambda a, s=slot: a[s], state.params),
            "batch_stats": jax.tree.map(lambda a, s=slot: a[s], state.batch_stats),
        }
        data = {name: values[slot] for name, values in stage.member_data.items()}
        rows = member.select_rows
        inputs = toy.inputs(stage.shared, data, rows, None, False)
        p = jax.nn.sigmoid(stage.forward.network.apply(variables, *inputs)[0])
        expected = metrics.mean_log_loss(stage.targets[rows], p, stage.known[rows])
        assert np.ravel(report.valid_loss)[slot] == pytest.approx(expected, rel=1e-5)


def test_scores_are_those_without_the_cells():
    scores = metrics.conventions(Y, P[0], 0, None, KNOWN)
    expected = metrics.conventions(flat(Y), flat(P[0]), 0)
    for name in ("treated", "epsilon", "epsilon_all"):
        assert scores[name] == pytest.approx(expected[name], rel=1e-12)
    assert scores["printed"] == pytest.approx(scores["treated"] * 5 / 6, rel=1e-12)
    # Controls count by their cells, of which none is unknown.
    of_controls = np.full((7, 5), 0.25)
    beside = metrics.conventions(Y, P[0], 7, of_controls, KNOWN)
    cells = KNOWN.sum()
    total = cells * scores["epsilon"] - 35 * np.log(0.75)
    assert beside["epsilon_all"] == pytest.approx(total / (cells + 35), rel=1e-12)
    assert beside["printed"] == pytest.approx(scores["printed"] * cells / (cells + 35), rel=1e-12)
    by_target = metrics.target_log_losses(Y, P[0], KNOWN)
    own = KNOWN[:, 2]
    assert by_target[2] == pytest.approx(metrics.mean_log_loss(Y[own, 2], P[0][own, 2]), rel=1e-12)
    every = np.ones_like(KNOWN)
    for name, score in metrics.conventions(Y, P[0], 7, of_controls, every).items():
        assert score == pytest.approx(metrics.conventions(Y, P[0], 7, of_controls)[name])


def test_searched_weights_are_those_without_the_cells():
    np.testing.assert_allclose(search.slsqp(P, Y, KNOWN), search.slsqp(flat(P), flat(Y)))
    found = search.per_target(P, Y, KNOWN)
    own = KNOWN[:, 1]
    alone = search.slsqp(P[:, own, 1:2], Y[own, 1:2])
    np.testing.assert_allclose(found[:, 1], alone, atol=1e-9)
    weights = np.array([0.3, 0.7])
    loss = search.log_loss(weights, flat(P), flat(Y))
    assert search.log_loss(weights, P, Y, KNOWN) == pytest.approx(loss, rel=1e-12)
    rows, none = np.arange(40) % 4, KNOWN & (np.arange(5) != 2)
    assert search.per_target(P, Y, none)[:, 2].tolist() == [0.5, 0.5]
    assert search.slsqp(P, Y, np.zeros_like(KNOWN)).tolist() == [0.5, 0.5]
    nested = search.nested(search.slsqp, P, Y, rows, KNOWN)
    changed = search.nested(search.slsqp, P, np.where(KNOWN, Y, 1 - Y), rows, KNOWN)
    assert nested[0] == changed[0] == metrics.mean_log_loss(Y, nested[2], KNOWN)
    np.testing.assert_array_equal(nested[1], changed[1])


def test_tpe_finds_weights_without_the_cells():
    pytest.importorskip("optuna")
    find = search.method("tpe", 8, 0)
    changed = find(P, np.where(KNOWN, Y, 1 - Y), KNOWN)
    np.testing.assert_array_equal(find(flat(P), flat(Y)), changed)
    assert find(P, Y, np.zeros_like(KNOWN)).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("method", ["slsqp", "per_target", "fixed"])
def test_a_weighing_and_its_analysis_see_known_cells_alone(method):
    names, ids = tuple("abcde"), np.array([f"r{i}" for i in range(40)])
    oof = {name: Predictions(ids, names, p) for name, p in zip(("x", "y"), P, strict=True)}
    config = BlendConfig(method=method, weights={"x": 0.25, "y": 0.75})
    seen = []
    for labels in (Y, np.where(KNOWN, Y, 1 - Y)):
        weighed = weighing.weigh(config, oof, labels, 3, 0, False, known=KNOWN)
        without = weighing.losses_without(config, oof, labels, KNOWN)
        table = analysis.targets_table(labels, weighed.oof, oof, KNOWN)
        bins = mechanism_scores.reliability(labels, weighed.oof.values, KNOWN)
        seen.append((weighed.record, without, table.to_dict(), bins))
        assert table["known"].sum() == sum(one["cells"] for one in bins) == KNOWN.sum()
        assert table["positives"].sum() == Y[KNOWN].sum()
    assert seen[0] == seen[1]
    score = metrics.mean_log_loss(Y, weighed.oof.values, KNOWN)
    assert seen[0][0]["score"] == pytest.approx(score, rel=1e-12)


def test_an_ensemble_is_chosen_without_the_cells():
    candidates = [RNG.random((40, 5)).astype(np.float32) for _ in range(6)]
    rows = np.flatnonzero(np.arange(40) % 3)
    own = np.zeros_like(KNOWN)
    own[rows] = KNOWN[rows]
    expected = greedy([p[own][:, None] for p in candidates], Y[own][:, None], 9).counts
    assert greedy(candidates, Y, 9, rows, KNOWN).counts.tolist() == expected.tolist()
    assert greedy(candidates, np.where(KNOWN, Y, 1 - Y), 9, rows, KNOWN).counts.tolist() == (
        expected.tolist()
    )
    assert (
        greedy(candidates, np.where(KNOWN, Y, 1 - Y), 9, rows).counts.tolist() != expected.tolist()
    )


def test_shares_and_tests_of_columns_are_of_known_labels():
    found = shares(Y, KNOWN)
    assert found[3] == pytest.approx(Y[KNOWN[:, 3], 3].mean(), rel=1e-15)
    values = RNG.normal(size=(40, 8)) + Y[:, :1] * np.arange(8)
    targets = np.where(KNOWN, Y, 1 - Y)
    assert t_test_columns(values, targets, 3, KNOWN).tolist() == (
        t_test_columns(values, Y, 3, KNOWN).tolist()
    )
    one = KNOWN[:, :1]
    own = one[:, 0]
    p = t_test_p_values(values[own], Y[own, :1])[0]
    assert t_test_columns(values, targets[:, :1], 3, one).tolist() == (
        sorted(np.argsort(p, kind="stable")[:3].tolist())
    )


def test_targets_keep_nothing_in_unknown_cells():
    targets = Targets(("a", "b", "c", "d", "e"), 1 - Y, KNOWN)
    assert not targets.values[~KNOWN].any()
    assert Targets(targets.names, Y, np.ones_like(KNOWN)).known is None
    part = targets.take(np.array([5, 0]), np.array([False, True, True, False, False]))
    assert part.names == ("b", "c")
    np.testing.assert_array_equal(part.known, KNOWN[[5, 0], 1:3])


def emptied(tmp_path, edits, words=("",)):
    content = frames()
    table = content["train_targets_scored"].astype(object)
    for number, (row, column) in enumerate(edits):
        table.loc[row, column] = words[number % len(words)]
    write(tmp_path, content | {"train_targets_scored": table})
    return tmp_path


def test_an_empty_cell_is_an_error_that_names_the_way_out(tmp_path):
    folder = emptied(tmp_path, [(2, "one")])
    with pytest.raises(UserError) as error:
        tables.load(folder)
    line = str(error.value)
    assert "train_targets_scored.csv: column one, sig_id 0002: expected a finite number, " in line
    assert "found nothing" in line and "config.data.missing_targets=mask" in line


def test_empty_cells_are_read_as_not_measured(tmp_path):
    edits = [(2, "one"), (2, "two, with comma"), (3, "one"), (5, "one"), (4, "one")]
    folder = emptied(tmp_path, edits, ("", "NA", "nan"))
    found = tables.load(folder, missing_targets="mask")
    assert not found.is_control[[2, 3, 5]].any() and found.is_control[4]
    unknown = np.argwhere(~found.targets.known).tolist()
    assert unknown == [[2, 0], [2, 1], [3, 0], [5, 0]]  # a control has no mechanism
    assert len(found) == 12 and found.nonscored.known is None
    assert found.description()["not_measured"] == {"scored": 4}
    as_zero = dataclasses.replace(found, scored=Targets(found.targets.names, found.targets.values))
    assert found.fingerprint() != as_zero.fingerprint()
    assert "not_measured" not in as_zero.description()
    with pytest.raises(UserError, match="column one, sig_id 0003: expected 0 or 1, found 'inf'"):
        tables.load(
            emptied(tmp_path, [(2, "one"), (3, "one")], ("", "inf")), missing_targets="mask"
        )


def test_a_target_that_is_known_nowhere(tmp_path):
    folder = emptied(tmp_path, [(row, "one") for row in range(12) if row % 5 != 4])
    with pytest.raises(UserError, match="column one: expected labels of treated rows, found none"):
        tables.load(folder, missing_targets="mask")


def partly_known(rows=90, share=0.75, nonscored=3) -> Dataset:
    data = simulate.make(
        rows=rows, seed=3, genes=8, cells=4, scored=4, nonscored=nonscored, test_rows=7
    )
    often = (data.features[:, :4] > 0.3) & ~data.is_control[:, None]

    def masked(names, values, seed):
        known = np.random.default_rng(seed).random(values.shape) < share
        known[data.is_control] = True
        return Targets(names, values.astype(np.uint8), known)

    other = None
    if data.nonscored:
        other = masked(data.nonscored.names, often[:, :nonscored], 6)
    return dataclasses.replace(data, scored=masked(data.scored.names, often, 5), nonscored=other)


def finished(config, data, folder):
    """Trains and blends; returns the scores of the models' own predictions on known cells."""
    workdir = Workdir(folder)
    run.train(config, workdir, data)
    run.blend(config, workdir, data, {})
    treated = data.targets.take(~data.is_control)
    for name in config.models:
        oof = Predictions.read(folder / name / "oof.parquet")
        assert oof.values.shape == treated.values.shape and np.isfinite(oof.values).all()
        scores = files.read_json(folder / name / "metrics.json")["scores"]
        expected = metrics.mean_log_loss(treated.values, oof.values, treated.known)
        assert scores["treated"] == pytest.approx(expected, rel=1e-9)
        test = Predictions.read(folder / name / "test.parquet").values
        assert np.isfinite(test).all()
    return workdir


def few_members():
    """A population of three in one group."""
    config = systems.tiny("profile_nn", parallel={"strategy": "vmap"})
    model = dataclasses.replace(
        config.models["profile_nn"], members=3, inputs=("standard",), widths=(8,), depths=(1,)
    )
    return dataclasses.replace(config, models={"profile_nn": model})


def test_a_run_with_unknown_labels(tmp_path):
    config = few_members()
    data = partly_known(nonscored=0)
    workdir = finished(config, data, tmp_path / "run")
    (planned,) = system.outline(config.models["profile_nn"], data, systems.context(tmp_path))
    np.testing.assert_array_equal(planned.stage.known, data.targets.take(~data.is_control).known)
    weighed = files.read_json(tmp_path / "run" / "blend" / "weights.json")
    alone = files.read_json(tmp_path / "run" / "profile_nn" / "metrics.json")
    assert weighed["score"] == pytest.approx(alone["scores"]["treated"], rel=1e-9)
    table = pd.read_csv(tmp_path / "run" / "blend" / "targets.csv")
    treated = data.targets.take(~data.is_control)
    assert sorted(table["known"]) == sorted(treated.known.sum(0))
    run.report(workdir)
    page = (tmp_path / "run" / "blend" / "report.html").read_text()
    assert f"Not measured: {(~treated.known).sum()} labels of scored targets." in page
    assert workdir.read()["data"]["not_measured"] == {"scored": int((~treated.known).sum())}
    # Losses of folds are weighed by the labels that they are of.
    stage = planned.stage
    (folder,) = (p.parent for p in (tmp_path / "run" / "profile_nn").glob("*/metrics.json"))
    scores = files.read_json(folder / "metrics.json")["fold_scores"]
    counts = {(m.seed, m.fold): stage.known[m.valid_rows].sum() for m in stage.members}
    assert {(s["seed"], s["fold"]): s["known"] for s in scores} == counts

    def lowest(weight):
        of_seeds = ([s for s in scores if s["seed"] == seed] for seed in range(3))
        return min(
            np.average([s["score"] for s in own], weights=[s[weight] for s in own])
            for own in of_seeds
        )

    assert f"{lowest('known'):.5f}" != f"{lowest('rows'):.5f}"
    (note,) = (n for n in alone["notes"] if n.startswith("Best member alone"))
    assert f" {lowest('known'):.5f}." in note


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "honest"),
    [
        ("three_stage_nn", False),
        ("nn_tabnet", False),
        ("efficientnet", False),
        ("two_heads_resnet", True),
        ("profile_nn", True),
    ],
)
def test_every_system_learns_from_known_labels(tmp_path, model, honest):
    config = systems.tiny(model, parallel={"strategy": "vmap"}, honest=honest)
    finished(config, partly_known(rows=120), tmp_path / "run")


def test_a_fold_without_known_labels(tmp_path):
    data = partly_known(nonscored=0)
    known = np.zeros_like(data.targets.known)
    known[[0, 1]] = True
    few = dataclasses.replace(data, scored=Targets(data.targets.names, data.targets.values, known))
    config = few_members()
    with pytest.raises(UserError, match="models.profile_nn: folds: expected known labels among"):
        run.train(config, Workdir(tmp_path / "run"), few)
    assert not (tmp_path / "run" / "profile_nn").exists()
