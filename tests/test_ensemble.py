"""Tests of ensembles: the greedy choice, what a fold's choice knows, and new rows."""

import dataclasses
import json
import shutil
import weakref
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import systems

from moa_jax.blend import sources
from moa_jax.command import repair
from moa_jax.data import simulate
from moa_jax.data.dataset import Targets
from moa_jax.engine import run
from moa_jax.errors import UserError
from moa_jax.recipes import ensemble, prediction, selection, stage_predictions, system
from moa_jax.recipes.selection import best, greedy
from moa_jax.recipes.stage_predictions import StagePredictions
from moa_jax.store import arrays
from moa_jax.store.model_files import ENSEMBLE
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir
from moa_jax.training import predict
from moa_jax.training.log_odds import MemberSpread
from moa_jax.training.means import MEANS, PROBABILITIES
from moa_jax.training.members import MemberId, Nesting, cross_validation
from moa_jax.training.metrics import mean_log_loss

RNG = np.random.default_rng(0)
TARGETS = (RNG.random((60, 4)) < 0.3).astype(np.uint8)


def noisy(size, seed):
    generator = np.random.default_rng(seed)
    shifted = np.where(TARGETS, 1.0, -1.5) + size * generator.normal(size=TARGETS.shape)
    return (1 / (1 + np.exp(-shifted))).astype(np.float32)


def test_the_best_candidate_alone():
    sure = np.where(TARGETS, 0.9, 0.1)
    assert greedy([noisy(1, 0), sure, noisy(1, 1)], TARGETS, 10).counts.tolist() == [0, 1, 0]


def test_candidates_are_taken_as_often_as_it_helps():
    """The mean is that of three shares to one, which no choice without repeats has."""
    p, q = np.full((4, 1), 0.2), np.full((4, 1), 0.6)
    targets = np.array([[0], [0], [0], [1]])
    found = greedy([p, q], targets, 50).counts
    assert (found @ [0.2, 0.6]) / found.sum() == pytest.approx(0.25, abs=0.02)
    assert found[0] > found[1] > 0


def test_every_choice_lowers_the_loss_and_the_first_is_the_best():
    candidates = [noisy(1.5, seed) for seed in range(8)]
    single = [mean_log_loss(TARGETS, p) for p in candidates]
    losses = []
    for most in range(1, 8):
        counts = greedy(candidates, TARGETS, most).counts
        assert counts.sum() <= most
        mean = np.tensordot(counts, candidates, 1) / counts.sum()
        losses.append(mean_log_loss(TARGETS, mean))
    assert losses[0] == pytest.approx(min(single), rel=1e-6)
    assert all(b <= a + 1e-12 for a, b in zip(losses, losses[1:], strict=False))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("block", [7, 32, 2**15])
@pytest.mark.parametrize("mean", MEANS)
def test_the_loss_is_that_of_the_mean(monkeypatch, block, mean):
    """Cells are looked at in blocks, and share logarithms; some networks are sure and wrong."""
    monkeypatch.setattr(selection, "BLOCK", block)
    candidates = [noisy(1.5, seed) for seed in range(3)]
    for p in candidates:
        p[0, 0], p[1, 0] = 1 - TARGETS[0, 0], 0.5
    candidates = [p.astype(float) for p in candidates]
    kind = {"probabilities": selection._ProbabilityLoss, "log_odds": selection._LogOddsLoss}[mean]
    seen, found = kind.__call__, []

    def watched(*arguments):
        found.append(seen(*arguments))
        return found[-1]

    monkeypatch.setattr(kind, "__call__", watched)
    choice = greedy(iter(candidates), TARGETS, 4, mean=MEANS[mean])
    taken, losses = [], []
    for size in range(1, 5):
        means = [
            MEANS[mean].over((1, candidates[index]) for index in [*taken, other])
            for other in range(3)
        ]
        of_target = np.maximum([np.where(TARGETS, p, 1 - p) for p in means], 1e-15)
        own = -np.log(of_target).mean((1, 2))
        np.testing.assert_allclose(found[3 * (size - 1) : 3 * size], own, rtol=1e-9)
        taken.append(int(np.argmin(own)))
        losses.append(own.min())
    best = int(np.argmin(losses)) + 1
    assert np.bincount(taken[:best], minlength=3).tolist() == choice.counts.tolist()
    assert choice.loss == pytest.approx(min(losses), rel=1e-9) and choice.mean is MEANS[mean]


def test_that_mean_is_taken_which_loses_less():
    """Two that are right where the other is unsure, and two that are wrong and sure in turn."""
    sure, unsure = np.where(TARGETS, 0.999, 0.001), np.full(TARGETS.shape, 0.5)
    left = (np.arange(60) % 2 == 0)[:, None]
    complements = [np.where(left, sure, unsure), np.where(left, unsure, sure)]
    right, wrong = np.where(TARGETS, 0.9, 0.1), np.where(TARGETS, 1e-6, 1 - 1e-6)
    opposed = [np.where(left, right, wrong), np.where(left, wrong, right)]
    for candidates, name in ((complements, "log_odds"), (opposed, "probabilities")):
        both = [greedy(candidates, TARGETS, 10, mean=mean) for mean in MEANS.values()]
        found = best(lambda own=candidates: iter(own), TARGETS, 10, tuple(MEANS.values()))
        assert found.mean.name == name and found.loss == min(one.loss for one in both)
        assert found.counts.tolist() == both[[*MEANS].index(name)].counts.tolist()
        (other,) = MEANS.keys() - {name}
        alone = best(lambda own=candidates: iter(own), TARGETS, 10, (MEANS[other],))
        assert alone.mean.name == other and alone.loss > found.loss


def test_rows_that_are_not_looked_at_do_not_count():
    rows = np.arange(0, 60, 2)
    candidates = [noisy(1.5, seed) for seed in range(6)]
    expected = greedy([p[rows] for p in candidates], TARGETS[rows], 20).counts
    looked_at = (np.arange(60) % 2 == 0)[:, None]
    right = np.where(TARGETS, 0.999, 0.001)
    worst = int(np.argmin(expected))
    candidates[worst] = np.where(looked_at, candidates[worst], right)
    assert greedy(candidates, TARGETS, 20, rows).counts.tolist() == expected.tolist()
    assert greedy(candidates, TARGETS, 20).counts.tolist() != expected.tolist()


class Folder:
    """Stands for a context whose manifest believes everything."""

    def __init__(self, path):
        self.folder, self.manifest, self.workdir = path, self, self
        self.run = remedy = "this run"
        self.remedy = remedy

    def add(self, paths):
        self.listed = paths

    def verify(self, *paths):
        assert [*paths] == self.listed


def chosen(tmp_path, by_seed, nested, mean="probabilities"):
    fold_of_row = np.arange(60) % 3
    views = {}
    for seed, values in by_seed.items():
        views[seed] = {(): values}
        if nested:
            views[seed] |= {(k,): values.copy() for k in range(3)}
    design = type("Design", (), {"name": "only"})
    predictions = {"only": StagePredictions(TARGETS, {}, views)}
    context = Folder(tmp_path)
    means = (MEANS[mean],)
    result = ensemble.choose(context, [design], predictions, TARGETS, fold_of_row, 10, means)
    return context, design, views, fold_of_row, result


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("mean", MEANS)
def test_a_folds_choice_is_that_of_the_other_folds(tmp_path, nested, mean):
    by_seed = {seed: noisy(1.5, seed) for seed in range(5)}
    context, design, _, fold_of_row, (whole, found) = chosen(tmp_path, by_seed, nested, mean)
    candidates = [*by_seed.values()]
    for fold in range(3):
        own = fold_of_row == fold
        of = MEANS[mean]
        counts = greedy([p[~own] for p in candidates], TARGETS[~own], 10, mean=of).counts
        values = np.stack(candidates).astype(float)
        if mean == "log_odds":
            values = np.log(values / (1 - values))
        expected = np.tensordot(counts, values, 1)[own] / counts.sum()
        if mean == "log_odds":
            expected = 1 / (1 + np.exp(-expected))
        np.testing.assert_allclose(found[own], expected, rtol=1e-5)
    counts = greedy(candidates, TARGETS, 10, mean=MEANS[mean]).counts
    assert whole.mean is MEANS[mean]
    assert whole.counts == {"only": {n: c for n, c in enumerate(counts.tolist()) if c}}
    again = ensemble.read(context, [design])
    assert again == whole
    every = [MemberId(seed, fold) for seed in range(5) for fold in range(2)]
    assert whole.weights("only", every).tolist() == np.repeat(counts, 2).tolist()


def test_a_nested_choice_reads_what_has_not_seen_the_fold(tmp_path):
    """A candidate that is right by its view without fold 0 alone is taken for fold 0 alone."""
    by_seed = {0: noisy(1.0, 0), 1: noisy(1.0, 1)}
    fold_of_row = np.arange(60) % 3
    views = {seed: {(): p} | {(k,): p for k in range(3)} for seed, p in by_seed.items()}
    views[1] = {(): by_seed[1], (0,): np.where(TARGETS, 0.999, 0.001), (1,): 1 - by_seed[1]}
    views[1][2,] = 1 - by_seed[1]
    design = type("Design", (), {"name": "only"})
    predictions = {"only": StagePredictions(TARGETS, {}, views)}
    _, found = ensemble.choose(
        Folder(tmp_path), [design], predictions, TARGETS, fold_of_row, 10, (PROBABILITIES,)
    )
    np.testing.assert_allclose(found[fold_of_row == 0], by_seed[1][fold_of_row == 0], rtol=1e-6)
    np.testing.assert_allclose(found[fold_of_row != 0], by_seed[0][fold_of_row != 0], rtol=1e-6)


@pytest.mark.parametrize(("mean", "expected"), [("probabilities", 0.5), ("log_odds", 0.5106171)])
def test_a_mean_over_stages_weighs_each_by_its_members(monkeypatch, mean, expected):
    """Of controls, which every stage predicts as 0, it is 0."""
    first, second = (type("Design", (), {"name": name}) for name in ("first", "second"))
    counts = {"first": {0: 2, 5: 1}, "second": {3: 1}}
    made = ensemble.Ensemble([first, second], counts, MEANS[mean])
    found = {"first": np.array([[0.4], [0.0]]), "second": np.array([[0.8], [0.0]])}
    monkeypatch.setattr(prediction, "predict_rows", lambda *_: (found, None))
    rows = SimpleNamespace(is_control=np.array([False, True]))
    _, values, _ = system._predicted(rows, None, made, None)
    np.testing.assert_allclose(values[0], expected, rtol=1e-6)
    assert values[1] == 0


def test_a_changed_choice_is_told(tmp_path):
    context, design, *_ = chosen(tmp_path, {0: noisy(1, 0)}, False)
    path = tmp_path / ENSEMBLE
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "counts": {"only": {"0": 7}}}))
    with pytest.raises(UserError, match=r"ensemble\.json"):
        ensemble.read(context, [design])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    data = simulate.make(rows=90, seed=3, genes=8, cells=4, scored=3, nonscored=0, test_rows=7)
    often = (data.features[:, :3] > 0.3) & ~data.is_control[:, None]
    data = dataclasses.replace(data, scored=Targets(data.scored.names, often.astype(np.uint8)))
    config = systems.tiny("profile_nn", parallel={"strategy": "vmap"})
    run.train(config, Workdir(folder), data)
    return folder, config, data


def context_of(folder, config):
    workdir = Workdir(folder)
    assert workdir.read()["config"]["models"]
    context = systems.context(folder, "profile_nn")
    return dataclasses.replace(context, workdir=workdir, config=config)


def test_new_rows_are_predicted_by_the_choice(finished):
    folder, config, data = finished
    context = context_of(folder, config)
    predict = system.load(config.models["profile_nn"], context, data.targets.names)
    stored = Predictions.read(folder / "profile_nn" / "test.parquet").values
    np.testing.assert_allclose(predict(data.test).values, stored, atol=1e-6)
    outcome = system.finished_outcome(config.models["profile_nn"], context)
    alone = {}
    for design in outcome.designs:
        for seed in outcome.counts[design.name]:
            weights = lambda _, every, s=seed: np.array([m.seed == s for m in every], float)  # noqa: E731
            members = prediction.trained([design], context, weights, mean=outcome.mean)
            found, _ = prediction.predict_rows(data.test, context, members)
            alone[design.name, seed] = found[design.name]
    # Of a mean over the folds that is of the same.
    assert outcome.mean.name == "log_odds"
    expected = outcome.mean.over(
        (outcome.counts[stage][seed], values) for (stage, seed), values in alone.items()
    )
    np.testing.assert_allclose(stored, expected * ~data.test.is_control[:, None], atol=1e-6)


def test_the_spread_over_members_is_that_of_each_one_alone(finished):
    """Of all that are in the mean, of every stage, fold and seed, as often as they are."""
    folder, config, data = finished
    context = context_of(folder, config)
    recipe = config.models["profile_nn"]
    outcome = system.finished_outcome(recipe, context)
    expected = spread_of_each(outcome, context, data, recipe.folds)
    test = sources.of_model(Workdir(folder).manifest("profile_nn"), data).test
    np.testing.assert_allclose(test.spread, expected, rtol=1e-4)
    predict = system.load(recipe, context, data.targets.names)
    np.testing.assert_allclose(predict(data.test).spread, expected, rtol=1e-4)
    assert np.nanmin(test.spread) > 0
    first, second = recipe.stages(context.levels, False)[:2]
    seeds = [recipe.dealt(index)[0] for index in range(2)]
    counts = {first.name: {seeds[0]: 2}, second.name: {seeds[1]: 1}}
    two = ensemble.Ensemble([first, second], counts, PROBABILITIES)
    members = prediction.trained(two.designs, context, two.weights, predicting=two.shares)
    _, found = prediction.predict_rows(data.test, context, members)
    expected = spread_of_each(two, context, data, recipe.folds)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def spread_of_each(outcome, context, data, folds):
    """The spread of an outcome's members, each of which predicts the test rows alone."""
    odds, counts = [], []
    for design in outcome.designs:
        for seed, count in outcome.counts[design.name].items():
            for fold in range(folds):
                weights = lambda _, every, own=(seed, fold): np.array(  # noqa: E731
                    [(m.seed, m.fold) == own for m in every], float
                )
                found = prediction.trained([design], context, weights)(data.test)[design.name].whole
                odds.append(np.log(found) - np.log1p(-found))
                counts.append(count)
    assert len(odds) > 2
    mean = np.average(odds, axis=0, weights=counts)
    squares = np.tensordot(counts, (np.array(odds) - mean) ** 2, 1)
    expected = np.sqrt(squares / (sum(counts) - np.square(counts).sum() / sum(counts)))
    expected[data.test.is_control] = np.nan
    return expected


def test_a_stages_mean_has_the_weights_of_its_members(finished):
    folder, config, data = finished
    context = context_of(folder, config)
    recipe = config.models["profile_nn"]
    design = recipe.stages(context.levels, False)[0]
    shares = dict(zip(recipe.dealt(0), (3.0, 1.0, 0.0), strict=True))

    def predicted(weight_of):
        def weights(stage, every):
            return np.array([weight_of(member.seed) for member in every], float)

        trained = prediction.trained([design], context, weights)
        return prediction.predict_rows(data.test, context, trained)[0][design.name]

    alone = {seed: predicted(lambda other, s=seed: other == s) for seed in shares}
    expected = sum(share * alone[seed] for seed, share in shares.items()) / 4
    np.testing.assert_allclose(predicted(shares.get), expected, atol=1e-6)
    assert np.abs(expected - np.mean([*alone.values()], 0)).max() > 1e-4


def test_logarithms_are_of_the_members_that_count_one_by_one(finished, monkeypatch):
    """They may take longer than the networks do, and of all members at once much memory."""
    folder, config, data = finished
    context, recipe, seen = context_of(folder, config), config.models["profile_nn"], []
    design, seed = recipe.stages(context.levels, False)[0], recipe.dealt(0)[0]
    counting = PROBABILITIES._replace(of=lambda own: seen.append(own.shape) or own)
    members = prediction.trained(
        [design],
        context,
        lambda _, every: np.array([member.seed == seed for member in every], float),
        mean=counting,
    )
    spread = MemberSpread()
    members(data.test, spread)
    assert seen == [(len(data.test), len(data.targets.names))] * recipe.folds
    assert np.isfinite(spread.values()).all()


def test_a_stages_mean_may_be_of_log_odds(finished):
    folder, config, data = finished
    context = context_of(folder, config)
    recipe = config.models["profile_nn"]
    design = recipe.stages(context.levels, False)[0]
    rows = data.test.take(np.flatnonzero(~data.test.is_control))

    def predicted(is_in, mean=PROBABILITIES):
        def weights(stage, every):
            return np.array([is_in(member.seed, member.fold) for member in every], float)

        return prediction.trained([design], context, weights, mean=mean)(rows)[design.name].whole

    members = [(seed, fold) for seed in recipe.dealt(0) for fold in range(recipe.folds)]
    alone = np.stack([predicted(lambda *of, own=own: of == own) for own in members])
    odds = np.log(alone / (1 - alone)).mean(0)
    found = predicted(lambda *of: True, MEANS["log_odds"])
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-odds)), rtol=1e-5)
    assert np.abs(found - alone.mean(0)).max() > 1e-4


def test_what_is_made_again_is_the_same(finished, tmp_path):
    """Of a model that lost its choice and a stage, both are made again as they were."""
    folder, config, data = finished
    model = folder / "profile_nn"
    names = ("oof.parquet", "test.parquet", ENSEMBLE, "standard_8x1/seeds.npz")
    before = {name: (model / name).read_bytes() for name in names}
    for name in ("metrics.json", ENSEMBLE, "standard_8x1/metrics.json"):
        (model / name).unlink()
    run.train(config, Workdir(folder), data)
    assert before == {name: (model / name).read_bytes() for name in names}


def test_the_report_tells_what_was_chosen(finished):
    folder, config, _ = finished
    notes = json.loads((folder / "profile_nn" / "metrics.json").read_text())["notes"]
    text = "\n".join(notes)
    counts = json.loads((folder / "profile_nn" / ENSEMBLE).read_text())["counts"]
    for stage, seeds in counts.items():
        for seed, count in seeds.items():
            assert f"{count} x member {seed} ({stage}, alone 0." in text
            assert f"{config.models['profile_nn'].draw(int(seed)).steps} steps" in text
    assert "Rank correlation of draws" in text and "its labels may move the choice" in text


def test_a_damaged_choice_is_repaired(finished, tmp_path):
    folder, config, data = finished
    shutil.copytree(folder, tmp_path / "run")
    path = tmp_path / "run" / "profile_nn" / ENSEMBLE
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(UserError, match=r"ensemble\.json: damaged"):
        run.train(config, Workdir(tmp_path / "run"), data)
    repair.repair(config, Workdir(tmp_path / "run"), data)
    assert not path.exists()
    run.train(config, Workdir(tmp_path / "run"), data)
    assert path.read_bytes() == whole


def test_predictions_of_seeds_are_read_when_they_are_looked_up(tmp_path):
    generator = np.random.default_rng(0)
    written = {
        seed: {blocks: generator.random((3, 2), np.float32) for blocks in ((), (0,), (1, 2))}
        for seed in (12, 3)
    }
    stage_predictions.write_seeds(tmp_path, written)
    with mock.patch.object(arrays, "_read_entry", wraps=arrays._read_entry) as entries:
        found = stage_predictions.read_seeds(tmp_path)
        assert [call.args[1] for call in entries.call_args_list] == [arrays.DESCRIPTION]
        np.testing.assert_array_equal(found[3][1, 2], written[3][1, 2])
        read = [call.args[1] for call in entries.call_args_list]
    assert read == [arrays.DESCRIPTION, arrays.DESCRIPTION, "3/1-2"]
    assert list(found) == [12, 3]
    for seed, views in found.items():
        assert list(views) == list(written[seed]) and len(views) == 3
        assert (0,) in views and (2,) not in views
        for blocks, values in views.items():
            assert values.dtype == np.float32
            np.testing.assert_array_equal(values, written[seed][blocks])
    with pytest.raises(KeyError):
        found[3][2,]


def test_sums_of_one_seed_at_a_time_are_in_memory(monkeypatch):
    """Each is twice as large as the mean that is kept of it."""
    alive, most = weakref.WeakSet(), []

    class Mean(predict._Mean):
        def __init__(self, shape):
            super().__init__(shape)
            alive.add(self)
            most.append(len(alive))

    class Alike(predict.MemberPredictor):
        rows_at_once = 4

        def __call__(self, inputs, rows, steps):
            for number in range(len(members)):
                (table,) = rows([number])
                yield [number], np.full((1, *table.shape, 2), 0.1 * number)

    monkeypatch.setattr(predict, "_Mean", Mean)
    fold_of_row = np.arange(9) % 3
    members = cross_validation(dict.fromkeys(range(4), fold_of_row), 0, nesting=Nesting(3, 2))
    stage = SimpleNamespace(members=members, shared=(), known=None)
    found = predict.out_of_fold(stage, Alike(), np.zeros((9, 2), int), by_seed=True)
    # The mean of all, and of a seed its mean and those for each of three blocks.
    assert max(most) == 1 + (1 + 3)
    assert not found.nested
    assert list(found.by_seed) == [0, 1, 2, 3]
    for seed, views in found.by_seed.items():
        assert views.keys() == {(), (0,), (1,), (2,)}
        # Members leave out blocks 0 and 1, 0 and 2, 1 and 2; the first two have not seen block 0.
        np.testing.assert_allclose(views[()][0], 0.1 * (3 * seed + 0.5), rtol=1e-6)
        np.testing.assert_allclose(views[0,][2], 0.1 * (3 * seed + 1), rtol=1e-6)
    np.testing.assert_allclose(found.values[0], 0.1 * (3 * 1.5 + 0.5))
