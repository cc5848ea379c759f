"""The training loop on a toy stage with per-member features and an auxiliary loss."""

import dataclasses
import functools
import itertools
import json
import shutil
import types
import weakref
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from toy import ROWS

from moa_jax.config import ParallelConfig
from moa_jax.errors import UserError
from moa_jax.training import initial, layout, loop, members, predict, rules, slots, weights
from moa_jax.training.layout import Settings, even_groups
from moa_jax.training.loop import StageRun
from moa_jax.training.parallel import Devices
from moa_jax.training.progress import MetricsLog
from moa_jax.training.rules import Rate, Rule, Selection
from moa_jax.training.stage import by_row
from moa_jax.training.trees import Batches, Own, Shared, Training


class Stopped(Exception):
    """Stands for a kill between two device calls."""


def settings(**changes):
    defaults = {"devices": Devices.available("vmap"), "members_at_once": 8, "steps_per_call": 3}
    return Settings(**{**defaults, **changes})


def fit(folder, stage, **changes):
    folder.mkdir(exist_ok=True)
    run = StageRun(stage, folder, settings(**changes), MetricsLog(folder, tensorboard=False))
    run.fit()
    return run


def kept(folder):
    return {p.name: weights.read(p) for p in sorted((folder / "members").glob("*.npz"))}


def flat(member_weights):
    return np.concatenate([np.ravel(a) for a in jax.tree.leaves(member_weights.variables)])


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """The folder of the toy stage as it is, and the run that fitted it."""
    folder = tmp_path_factory.mktemp("default")
    return folder, fit(folder, toy.stage())


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory):
    """The folder of two epochs on one device."""
    folder = tmp_path_factory.mktemp("two")
    fit(folder, toy.stage(epochs=2))
    return folder


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def valid_losses(folder, member):
    return [
        record["valid_loss"]
        for record in records(folder)
        if (record["seed"], record["fold"]) == (member.seed, member.fold)
    ]


def plain_loop(stage, member, index, epochs):
    """One member on its own, batch by batch, without vmap, padding, tables or rules."""
    network = stage.forward.network
    data = jax.tree.map(lambda a: a[index], stage.member_data)
    total = epochs * stage.steps_per_epoch(member)
    optimizer = stage.optimizer(total, 1.0)
    key = members.member_key(0, member, True)
    init_key, _ = jax.random.split(key)
    inputs = stage.forward.inputs(stage.shared, data, jnp.zeros(2, int), key, False)
    variables = network.init(init_key, *inputs)
    params, stats, step = variables["params"], variables["batch_stats"], 0
    opt = optimizer.init(params)
    best, chosen, losses = np.inf, None, []

    @functools.partial(jax.jit, static_argnames="count")
    def gradients(params, stats, x, targets, key, count):
        def objective(params):
            outputs, updated = network.apply(
                {"params": params, "batch_stats": stats},
                *x,
                mask=jnp.arange(stage.batch_size) < count,
                train=True,
                rngs={"dropout": key},
                mutable=["batch_stats"],
            )
            real = jax.tree.map(lambda a: a[:count], outputs)
            return stage.loss(real, targets, jnp.ones(count)), updated

        return jax.grad(objective, has_aux=True)(params)

    for epoch in range(epochs):
        order = members.epoch_order(0, member, epoch, True)
        cuts = [*range(0, len(order), stage.batch_size), len(order)]
        if cuts[-1] - cuts[-2] == 1:  # a batch of one row takes another from the batch before
            cuts[-2] -= 1
        for start, end in itertools.pairwise(cuts):
            rows = order[start:end]
            input_key, dropout_key = jax.random.split(jax.random.fold_in(key, step))
            # Noise is drawn for the whole batch width; real rows come first.
            padded = np.r_[rows, np.zeros(stage.batch_size - len(rows), int)]
            x = stage.forward.inputs(stage.shared, data, padded, input_key, True)

            grads, updated = gradients(
                params, stats, x, stage.targets[rows], dropout_key, count=len(rows)
            )
            updates, opt = optimizer.update(grads, opt, params)
            params = jax.tree.map(jnp.add, params, updates)
            stats, step = updated["batch_stats"], step + 1
        batches = []
        for start in range(0, len(member.select_rows), stage.batch_size):
            rows = member.select_rows[start : start + stage.batch_size]
            x = stage.forward.inputs(stage.shared, data, rows, key, False)
            outputs = network.apply({"params": params, "batch_stats": stats}, *x)
            batches.append(stage.loss(outputs, stage.targets[rows], jnp.ones(len(rows))))
        losses.append(float(np.mean(batches)))
        if losses[-1] < best:
            best, chosen = losses[-1], (params, stats, epoch + 1)
    return losses, chosen


def test_members_agree_with_plain_loops_in_float64(tmp_path):
    with jax.enable_x64(True):
        stage = toy.stage()
        fit(tmp_path / "a", stage)
        found = kept(tmp_path / "a")
        for index in (0, 3, 6):
            member = stage.members[index]
            losses, (params, stats, epoch) = plain_loop(stage, member, index, stage.epochs)
            own = found[f"{member.name}.npz"]
            assert own.epoch == epoch
            np.testing.assert_allclose(own.loss, min(losses), rtol=1e-9)
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12),
                dict(own.variables),
                {"params": params, "batch_stats": stats},
            )
            logged = valid_losses(tmp_path / "a", member)
            np.testing.assert_allclose(logged, losses, rtol=1e-9)


@pytest.mark.parametrize("strategy", ["pmap", "shard_map"])
@pytest.mark.parametrize("inner", ["vmap", "loop"])
def test_strategies_agree(tmp_path, two_epochs, strategy, inner):
    fit(tmp_path, toy.stage(epochs=2, inner=inner), devices=Devices.available(strategy))
    for one, two in zip(kept(two_epochs).values(), kept(tmp_path).values(), strict=True):
        np.testing.assert_allclose(flat(one), flat(two), atol=2e-5)


@pytest.mark.usefixtures("optimised")
def test_pmap_and_shard_map_train_to_the_same_bits(tmp_path):
    for strategy in ("pmap", "shard_map"):
        fit(tmp_path / strategy, toy.stage(), devices=Devices.available(strategy))
    for one, two in zip(
        kept(tmp_path / "pmap").values(), kept(tmp_path / "shard_map").values(), strict=True
    ):
        np.testing.assert_array_equal(flat(one), flat(two))


def test_one_compilation_per_program(default):
    _, run = default
    assert {name: p.compilations for name, p in run.programs._asdict().items()} == {
        "initialise": 1,
        "train": 1,
        "validate": 1,
        "predict": 0,
    }


def test_the_next_epochs_table_is_made_while_the_devices_compute(tmp_path, monkeypatch):
    """Before they are waited for, and no table beyond the last epoch."""
    events, batches, wait = [], loop.Group.batches, jax.block_until_ready

    def made(self, epoch, call):
        events.append(epoch)
        return batches(self, epoch, call)

    monkeypatch.setattr(loop.Group, "batches", made)
    monkeypatch.setattr(jax, "block_until_ready", lambda x: events.append("wait") or wait(x))
    fit(tmp_path, toy.stage(epochs=2), steps_per_call=64)
    assert events == [0, 0, 1, "wait", 1, 1, "wait"]


def test_groups_share_the_compilation_and_agree_with_all_at_once(tmp_path, default):
    run = fit(tmp_path, toy.stage(), members_at_once=3)
    assert [len(group) for group in run.groups] == [3, 3, 2]
    assert run.compilations == 3
    for one, two in zip(kept(default[0]).values(), kept(tmp_path).values(), strict=True):
        np.testing.assert_allclose(flat(one), flat(two), atol=2e-5)


def test_even_groups():
    assert [len(g) for g in even_groups(range(30), 12)] == [10, 10, 10]
    assert [len(g) for g in even_groups(range(5), 8)] == [5]


def stop_after(monkeypatch, saves):
    """Lets the run end by itself right after a number of checkpoints."""
    save, count = loop.Checkpoints.save, iter(range(saves, -1, -1))

    def counting(self, *args):
        save(self, *args)
        self.wait()
        if next(count) == 1:
            raise Stopped

    monkeypatch.setattr(loop.Checkpoints, "save", counting)


RESUMED = {"members_at_once": 4, "checkpoint_seconds": 0, "steps_per_call": 3}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A stage in two groups, and the folder of its run from beginning to end."""
    folder, stage = tmp_path_factory.mktemp("whole"), toy.stage(epochs=3, stop=rules.patience(2))
    fit(folder, stage, **RESUMED)
    return stage, folder


@pytest.mark.parametrize("saves", [1, 5, 8, 14])
def test_resume_is_bit_exact_from_any_call(tmp_path, uninterrupted, monkeypatch, saves):
    stage, folder = uninterrupted
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, saves)
        fit(tmp_path, stage, **RESUMED)
    fit(tmp_path, stage, **RESUMED)
    whole, resumed = kept(folder), kept(tmp_path)
    assert whole.keys() == resumed.keys() and len(whole) == 8
    for name in whole:
        np.testing.assert_array_equal(flat(whole[name]), flat(resumed[name]))
        assert whole[name][1:] == resumed[name][1:]
    assert records(folder) == records(tmp_path)


@pytest.mark.parametrize(("saves", "steps"), [(5, 2), (3, 9)], ids=["within", "at the end"])
def test_resume_of_an_epoch_by_calls_of_other_lengths(
    tmp_path, uninterrupted, monkeypatch, saves, steps
):
    """It goes on from the end of the epoch before, to the same bits."""
    stage, folder = uninterrupted
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, saves)
        fit(tmp_path, stage, **RESUMED)
    fit(tmp_path, stage, **{**RESUMED, "steps_per_call": steps})
    whole, resumed = kept(folder), kept(tmp_path)
    assert whole.keys() == resumed.keys() and len(whole) == 8
    for name in whole:
        np.testing.assert_array_equal(flat(whole[name]), flat(resumed[name]))
    assert records(folder) == records(tmp_path)


@pytest.mark.parametrize("saves", [2, 5])
def test_members_of_their_own_length_resume_bit_exactly(tmp_path, monkeypatch, saves):
    stage = dataclasses.replace(
        toy.stage(folds=3, seeds=(0,), epochs=4),
        own_epochs=lambda member: 4 - member.fold,
        epoch_steps=5,
        cohorts=2,
        select=rules.latest(),
    )
    fit(tmp_path / "whole", stage, **RESUMED)
    assert len({record["fold"] for record in records(tmp_path / "whole")}) == 3
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, saves)
        fit(tmp_path / "resumed", stage, **RESUMED)
    fit(tmp_path / "resumed", stage, **RESUMED)
    whole, resumed = kept(tmp_path / "whole"), kept(tmp_path / "resumed")
    assert whole.keys() == resumed.keys() and len(whole) == 3
    for name in whole:
        np.testing.assert_array_equal(flat(whole[name]), flat(resumed[name]))
        assert whole[name][1:] == resumed[name][1:]
    assert records(tmp_path / "whole") == records(tmp_path / "resumed")


def test_cohorts_train_one_after_another():
    stage = dataclasses.replace(toy.stage(folds=4, seeds=(0,)), cohorts=3)
    assert [len(group) for group in layout.Layout.of(stage, 1, 4, 9).groups] == [2, 2]
    assert [len(group) for group in layout.Layout.of(stage, 1, 1, 9).groups] == [1] * 4


def test_what_was_restored_is_not_held_while_training(tmp_path, uninterrupted, monkeypatch):
    """It would be one more state of all members, on the host."""
    stage, _ = uninterrupted
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, 1)
        fit(tmp_path, stage, **RESUMED)
    restore, found = loop.Checkpoints.restore, []

    def noted(self, template):
        position, state = restore(self, template)
        found.extend(map(weakref.ref, jax.tree.leaves(state)))
        return position, state

    def train_steps(self, state, epoch, call):
        assert found and not any(reference() is not None for reference in found)
        raise Stopped

    monkeypatch.setattr(loop.Checkpoints, "restore", noted)
    monkeypatch.setattr(loop.Group, "train_steps", train_steps)
    with pytest.raises(Stopped):
        fit(tmp_path, stage, **RESUMED)


def test_resume_in_other_groups_leaves_out_what_is_of_the_others(
    tmp_path, uninterrupted, monkeypatch, caplog
):
    """There may be no group of its number, nor one of its members. What they have stays."""
    stage, whole = uninterrupted
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, 10)
        fit(tmp_path, stage, **RESUMED)
    shutil.copytree(tmp_path / "checkpoints", tmp_path / "copy" / "checkpoints")
    for at_once, folder in ((8, tmp_path), (3, tmp_path / "copy")):
        caplog.clear()
        run = StageRun(stage, folder, settings(**{**RESUMED, "members_at_once": at_once}), None)
        with loop.Checkpoints(folder / "checkpoints", run._origin) as checkpoints:
            assert run._restore(checkpoints) == (loop.Position(0, 0, 0), None)
        assert caplog.text.count("checkpoint is left out: it is of another run, or of") == 2
        fields = "config.parallel.members_at_once=4 and config.parallel.steps_per_call=3 go on"
        assert caplog.text.count(fields) == 2 and "damaged" not in caplog.text
    # A setting that was a mistake, and is mended after the first checkpoint made with it.
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, 1)
        fit(tmp_path, stage, **{**RESUMED, "members_at_once": 8})
    run = StageRun(stage, tmp_path, settings(**RESUMED), None)
    with loop.Checkpoints(tmp_path / "checkpoints", run._origin) as checkpoints:
        assert run._restore(checkpoints)[0] > loop.Position(0, 2, 0)
    fit(tmp_path, stage, **RESUMED)
    for name, member in kept(whole).items():
        np.testing.assert_array_equal(flat(member), flat(kept(tmp_path)[name]))


@pytest.mark.parametrize("strategy", ["vmap", "shard_map"])
def test_of_several_processes_each_saves_its_shards_and_one_goes_on(
    tmp_path, uninterrupted, monkeypatch, strategy
):
    stage, whole = uninterrupted
    save, saved = loop.Checkpoints.save, []

    def noted(self, position, state):
        saved.extend(jax.tree.leaves(state))
        save(self, position, state)

    several = types.SimpleNamespace(are_several=lambda: True, is_first=lambda: True)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(loop.Checkpoints, "save", noted)
        stop_after(patch, 5)
        patch.setattr(slots, "processes", several)
        fit(tmp_path, stage, **RESUMED, devices=Devices.available(strategy))
    assert all(isinstance(leaf, jax.Array) for leaf in saved)
    fit(tmp_path, stage, **RESUMED)
    for name, member in kept(whole).items():
        np.testing.assert_allclose(flat(member), flat(kept(tmp_path)[name]), atol=2e-5)


def test_every_process_makes_the_weights_and_the_first_alone_holds_them(tmp_path, monkeypatch):
    run = StageRun(toy.stage(folds=2, seeds=(0,)), tmp_path, settings(), None)
    group, made = run.group(0), []
    monkeypatch.setattr(slots, "processes", types.SimpleNamespace(is_first=lambda: False))
    monkeypatch.setattr(weights, "write", lambda path, kept: made.append((path.stem, kept)))
    group.write_weights(group.init(), tmp_path)
    assert [name for name, _ in made] == [member.name for member in group.members]
    for _, member in made:
        assert not any(any(leaf.strides) for leaf in jax.tree.leaves(member.variables))


def test_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, monkeypatch, caplog):
    stage = toy.stage(epochs=3)
    fit(tmp_path / "a", stage, checkpoint_seconds=0)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, 4)
        fit(tmp_path / "b", stage, checkpoint_seconds=0)
    newest = max((tmp_path / "b" / "checkpoints").iterdir(), key=lambda p: int(p.name))
    for file in newest.rglob("*"):
        if file.is_file() and file.stat().st_size > 200:
            file.write_bytes(file.read_bytes()[:100])
    fit(tmp_path / "b", stage, checkpoint_seconds=0)
    assert f"{newest}: damaged checkpoint is left out" in caplog.text
    for one, two in zip(kept(tmp_path / "a").values(), kept(tmp_path / "b").values(), strict=True):
        np.testing.assert_array_equal(flat(one), flat(two))


def test_stopped_members_keep_their_state(tmp_path, monkeypatch):
    stage, rows = toy.stage(epochs=12, lr=0.5, stop=rules.patience(1)), []
    monkeypatch.setattr(loop.StageProgress, "call", lambda self, count, *of: rows.append(count))
    fit(tmp_path / "a", stage)
    found = kept(tmp_path / "a")
    runs = [w.epochs_run for w in found.values()]
    assert min(runs) < 12 and len(set(runs)) > 1
    for member in stage.members:
        own = found[f"{member.name}.npz"]
        losses = valid_losses(tmp_path / "a", member)
        assert len(losses) == own.epochs_run
        assert own.loss == min(losses) and losses.index(own.loss) + 1 == own.epoch
        rows.append(-own.epochs_run * len(member.train_rows))
    assert sum(rows) == 0, "rows of members that have stopped are no work"


def test_rate_rule_scales_the_learning_rate(tmp_path):
    """A rule with a state of its own: the rate is zero after the first epoch."""
    frozen = Rule(
        lambda: Rate(jnp.ones((), jnp.result_type(float))),
        lambda state, loss: Rate(state.scale * 0),
    )
    fit(tmp_path / "a", toy.stage(epochs=1))
    fit(tmp_path / "b", toy.stage(epochs=1, rate=frozen))
    for one, two in zip(kept(tmp_path / "a").values(), kept(tmp_path / "b").values(), strict=True):
        np.testing.assert_array_equal(flat(one), flat(two))
    group = StageRun(toy.stage(epochs=3, rate=frozen), tmp_path, settings(), None).group(0)
    state = group.init()
    params = []
    for epoch in range(2):
        state = group.train_steps(state, epoch, call=0)
        params.append(np.asarray(state.params["Dense_0"]["kernel"]))
        state, _ = group.validate(state)
    np.testing.assert_array_equal(*params)


def test_restored_if_stopped_keeps_the_best_epoch_of_stopped_members_only(tmp_path):
    stop = rules.patience(3, min_delta=1e-3)
    stage = toy.stage(epochs=7, lr=0.3, stop=stop)
    last = Rule(
        lambda: Selection(jnp.zeros((), jnp.result_type(float)), jnp.zeros((), bool)),
        lambda state, loss: Selection(loss, jnp.ones((), bool)),
    )
    restored = dataclasses.replace(stage, select=rules.restored_if_stopped(stop, 7))
    fit(tmp_path / "a", restored)
    fit(tmp_path / "b", dataclasses.replace(stage, select=last))
    found, at_end = kept(tmp_path / "a"), kept(tmp_path / "b")
    stopped = []
    for member in stage.members:
        own = found[f"{member.name}.npz"]
        losses = valid_losses(tmp_path / "a", member)
        assert own.loss == losses[own.epoch - 1]
        stopped.append(own.epoch < own.epochs_run)
        if stopped[-1]:
            assert own.epoch == own.epochs_run - 3
        else:
            assert own.epoch == own.epochs_run == 7
            np.testing.assert_array_equal(flat(own), flat(at_end[f"{member.name}.npz"]))
    assert any(stopped) and not all(stopped)


def first_layer(folder):
    """A start from the first layer and the statistics of finished members."""

    def start(member):
        variables = weights.read(folder / "members" / f"{member.name}.npz").variables
        first = {"Dense_0": variables["params"]["Dense_0"]}
        return {"params": first, "batch_stats": variables["batch_stats"]}

    return start


def test_start_takes_the_place_of_initial_variables(tmp_path, default):
    stage, (folder, _) = toy.stage(), default
    second = dataclasses.replace(stage, start=first_layer(folder))
    group = fit(tmp_path / "b", second).group(0)
    state = group.slots.unpad(group.init())
    fresh = StageRun(stage, tmp_path, settings(), None).group(0)
    fresh = fresh.slots.unpad(fresh.init())
    np.testing.assert_array_equal(
        state.params["Dense_1"]["kernel"], fresh.params["Dense_1"]["kernel"]
    )
    for index, member in enumerate(stage.members):
        before = kept(folder)[f"{member.name}.npz"].variables
        for params in (state.params, state.selected.params):
            own = jax.tree.map(lambda a, i=index: a[i], params["Dense_0"])
            jax.tree.map(np.testing.assert_array_equal, own, before["params"]["Dense_0"])
        np.testing.assert_array_equal(
            state.batch_stats["mean"][index], before["batch_stats"]["mean"]
        )


@pytest.mark.parametrize("saves", [2, 9])
def test_resume_with_a_start_is_bit_exact(tmp_path, monkeypatch, saves):
    fit(tmp_path / "first", toy.stage(epochs=1))
    asked = []

    def start(member):
        asked.append(member.name)
        return first_layer(tmp_path / "first")(member)

    stage = dataclasses.replace(toy.stage(epochs=2), start=start, validates_start=True)
    fit(tmp_path / "a", stage, **RESUMED)
    assert asked == [member.name for member in stage.members]
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, saves)
        fit(tmp_path / "b", stage, **RESUMED)
    fit(tmp_path / "b", stage, **RESUMED)
    for one, two in zip(kept(tmp_path / "a").values(), kept(tmp_path / "b").values(), strict=True):
        np.testing.assert_array_equal(flat(one), flat(two))
        assert one[1:] == two[1:]
    assert records(tmp_path / "a") == records(tmp_path / "b")


def test_start_must_be_part_of_the_network(tmp_path):
    for name, shape, expected in (
        ("Dense_2", (6, 8), r"Dense_2/kernel: expected none, found \(6, 8\)"),
        ("Dense_0", (5, 8), r"Dense_0/kernel: expected shape \(6, 8\), found \(5, 8\)"),
    ):
        start = {"params": {name: {"kernel": np.zeros(shape)}}}
        stage = dataclasses.replace(toy.stage(), start=lambda member, start=start: start)
        with pytest.raises(ValueError, match=f"start: params/{expected}"):
            fit(tmp_path / "a", stage)


def test_rules_may_see_the_loss_of_the_start(tmp_path):
    """Without progress the weights at the start are kept, as those of epoch 0."""
    fit(tmp_path / "first", toy.stage())
    repeats = rules.repeats(3)
    stage = dataclasses.replace(
        toy.stage(epochs=6, lr=0.0, stop=repeats),
        select=repeats,
        start=lambda member: (
            weights.read(tmp_path / "first" / "members" / f"{member.name}.npz").variables
        ),
        validates_start=True,
    )
    fit(tmp_path / "a", stage)
    for before, after in zip(
        kept(tmp_path / "first").values(), kept(tmp_path / "a").values(), strict=True
    ):
        # The statistics move without a learning rate: some members gain by that.
        assert (after.epoch == 0) == (flat(before).tolist() == flat(after).tolist())
        assert after.loss <= before.loss
    assert any(own.epoch == 0 and own.epochs_run == 4 for own in kept(tmp_path / "a").values())
    assert records(tmp_path / "a")[0]["epoch"] == 1


class Phase(NamedTuple):
    """State of a rule that keeps and stops nothing and restarts in its second epoch."""

    loss: jax.Array
    better: jax.Array
    stop: jax.Array
    epoch: jax.Array


def test_restart_goes_back_to_the_kept_weights(tmp_path):
    """After a restart the second epoch's updates are forgotten, the optimiser's moments too."""
    never = jnp.zeros((), bool)

    def update(state, loss):
        return Phase(loss, state.epoch == 0, never, state.epoch + 1)

    rule = Rule(
        lambda: Phase(jnp.zeros((), jnp.result_type(float)), never, never, jnp.int32(0)), update
    )
    stage = dataclasses.replace(
        toy.stage(epochs=2), select=rule, stop=rule, restarts=lambda state: state.stop.epoch == 2
    )
    group = StageRun(stage, tmp_path, settings(), None).group(0)
    state = group.init()
    steps = []
    for epoch in range(2):
        state = group.train_steps(state, epoch)
        moments = jax.tree.leaves(jax.tree.map(np.asarray, state.opt))
        assert any(m.any() for m in moments)
        state, _ = group.validate(state)
        steps.append(jax.tree.map(np.asarray, (state.params, state.batch_stats, state.opt)))
        kept_now = state.selected.params, state.selected.batch_stats
    first, second = steps
    jax.tree.map(np.testing.assert_array_equal, second[:2], first[:2])
    jax.tree.map(np.testing.assert_array_equal, second[:2], jax.tree.map(np.asarray, kept_now))
    assert any(m.any() for m in jax.tree.leaves(first[2]))
    assert not any(m.any() for m in jax.tree.leaves(second[2]))


def test_validation_loss_by_row_is_the_mean_over_rows(tmp_path):
    with jax.enable_x64(True):
        stage = dataclasses.replace(toy.stage(epochs=2), valid_weights=by_row)
        fit(tmp_path / "a", stage)
        for index, member in enumerate(stage.members):
            own = kept(tmp_path / "a")[f"{member.name}.npz"]
            data = jax.tree.map(lambda a, i=index: a[i], stage.member_data)
            rows = member.select_rows
            x = stage.forward.inputs(stage.shared, data, rows, None, False)
            outputs = stage.forward.network.apply(dict(own.variables), *x)
            expected = stage.loss(outputs, stage.targets[rows], np.ones(len(rows)))
            np.testing.assert_allclose(own.loss, expected, rtol=1e-12)


def test_divergence_is_told_with_seed_fold_and_epoch(tmp_path):
    stage = toy.stage(lr=float("inf"))
    with pytest.raises(UserError, match=r"toy/first: training diverged.*seed 0, fold 0 in epoch 1"):
        fit(tmp_path / "a", stage)


def test_another_key_implementation_is_refused(tmp_path):
    with jax.default_prng_impl("rbg"), pytest.raises(UserError, match="threefry2x32"):
        StageRun(toy.stage(), tmp_path, settings(), MetricsLog(tmp_path, tensorboard=False))


def test_a_group_steps_like_a_run(tmp_path):
    """Step by step: the same bits as `fit`, and predictions of the kept weights."""
    stage, devices = toy.stage(epochs=2), Devices.available("vmap")
    run = fit(tmp_path / "a", stage, members_at_once=4)
    group = run.group(1)
    assert [m.id for m in group.members] == [m.id for m in stage.members[4:]]
    state = group.init()
    for epoch in range(2):
        state, report = group.validate(group.train_steps(state, epoch))
        lines = [r for r in records(tmp_path / "a") if r["group"] == 1 and r["epoch"] == epoch + 1]
        assert report.valid_loss.tolist() == [np.float32(r["valid_loss"]) for r in lines]
    group.write_weights(state, tmp_path / "b" / "members")
    whole, stepped = kept(tmp_path / "a"), kept(tmp_path / "b")
    assert list(stepped) == [f"{m.name}.npz" for m in group.members]
    for name in stepped:
        np.testing.assert_array_equal(flat(stepped[name]), flat(whole[name]))
    rows = np.arange(ROWS).reshape(1, ROWS)
    found = group.predict(state, rows)
    assert found.shape == (4, 1, ROWS, toy.TARGETS)
    ids = [member.id for member in stage.members]
    predictor = predict.Predictor(
        "toy", stage.forward, tmp_path / "a", ids, devices, stage.member_data
    )
    table = members.index_table(rows[0], 128, 1)[0]
    ((_, every),) = predictor(stage.shared, lambda group: np.stack([table] * len(group)), 1)
    np.testing.assert_allclose(found[:, 0], every[4:, 0, :ROWS], rtol=1e-6)


@pytest.mark.parametrize("inner", ["vmap", "loop"])
def test_steps_without_rows_and_stopped_members_leave_the_state_untouched(inner):
    stage = toy.stage()
    shared = Shared(stage.shared, stage.targets)
    own = Own(jax.tree.map(lambda a: a[0], stage.member_data), np.int32(10))
    rows = np.zeros((2, stage.batch_size), np.int32)
    key = jax.random.key_data(jax.random.key(0))
    state, _ = initial.initialise(stage)(key, own, shared)
    stopped = state._replace(active=jnp.zeros((), bool))
    program = jax.jit(loop.train(stage, inner=inner))
    for before, counts in ((state, [0, 0]), (stopped, [9, 9])):
        own_batches = Training(own, Batches(rows, np.array(counts, np.int32)))
        after, _ = program(before, own_batches, shared)
        jax.tree.map(np.testing.assert_array_equal, before, after)
    after, _ = program(state, Training(own, Batches(rows, np.array([9, 0], np.int32))), shared)
    assert int(after.step) == 1


def test_members_in_a_loop_take_their_real_steps_and_none_is_a_branch(tmp_path):
    taken = []

    def loss(*arguments):
        jax.debug.callback(lambda: taken.append(1))
        return toy.loss(*arguments)

    stage = dataclasses.replace(toy.stage(seeds=(0,), inner="loop"), loss=loss)
    run = StageRun(stage, tmp_path, settings(steps_per_call=4), None)
    group = run.group(0)
    state = group.init()
    batches = group.put(group.batches(0, 0))
    program = run.programs.train.compiled(state, Training(group.own, batches), group.shared)
    # XLA copies what goes into a branch and comes out of it: the whole state, at every step.
    assert " while(" in program.as_text() and " conditional(" not in program.as_text()
    jax.block_until_ready(group.train_steps(state, 0))
    jax.effects_barrier()
    steps = [stage.steps_per_epoch(member) for member in stage.members]
    assert len(set(steps)) > 1 and len(taken) == sum(steps)


@pytest.mark.parametrize(
    ("members", "devices", "expected"),
    [
        (10, 8, [8, 2]),
        (25, 16, [16, 8, 1]),
        (5, 8, [4, 1]),
        (7, 4, [4, 3]),
        (1, 8, [1]),
        (3, 8, [3]),
        (16, 8, [8, 8]),
        (3, 1, [1, 1, 1]),
        (4, 6, [2, 2]),
    ],
)
def test_waves_end_soonest(members, devices, expected):
    """The cheapest of all ways, found by trying them, whose cost is written out here."""
    found = layout.wave_sizes(members, devices, 48)
    assert found == expected

    def time(sizes):
        each = [max(d for d in shares if devices // d >= size) for size in sizes]
        changes = sum(a != b for a, b in itertools.pairwise(each))
        return 0.1 * changes + sum(0.1 + 0.9 * -(-48 // d) / 48 for d in each)

    shares = [d for d in range(1, devices + 1) if devices % d == 0]

    def ways(left, largest):
        if not left:
            yield ()
        for size in range(min(left, largest), 0, -1):
            yield from ((size, *rest) for rest in ways(left - size, size))

    assert time(found) == pytest.approx(min(map(time, ways(members, devices))))


def test_waves_of_a_batch_that_devices_cannot_share():
    """Two rows: more than two devices each would add nothing but a compilation."""
    assert layout.wave_sizes(3, 8, 2) == [3]
    assert layout.wave_sizes(9, 8, 1) == [8, 1]


@pytest.mark.parametrize(
    ("members", "devices", "expected"),
    [(10, 4, [4, 4, 2]), (5, 2, [2, 2, 1]), (10, 5, 5), (10, 8, [8, 2]), (4, 8, 4)],
)
def test_waves_are_kept_where_the_last_one_shares_devices(members, devices, expected):
    stage = toy.stage(folds=members // 2 + 1, seeds=(0, 7), inner="loop", shares_batches=True)
    stage = dataclasses.replace(stage, members=(stage.members * 9)[:members], batch_size=48)
    found = layout.members_at_once(stage, devices, 2**40, ParallelConfig())
    assert found == expected


def test_groups_of_waves_use_the_devices_as_their_members_do(tmp_path):
    waves = (layout.Wave(3, 1), layout.Wave(1, 2))
    stage = toy.stage(folds=4, seeds=(0,), inner="loop")
    devices = dataclasses.replace(Devices.available("shard_map"), devices=tuple(jax.devices()[:2]))
    cut = layout.Layout.of(stage, 2, waves, 9)
    assert [len(group) for group in cut.groups] == [3, 1]
    assert "members_at_once=[3, 1] and" in settings(waves=waves).cut
    assert [cut.devices(number, devices).per_member for number in range(2)] == [1, 2]
    slots = [cut.slots(number, cut.devices(number, devices)) for number in range(2)]
    assert [(s.num_members, s.num_shards, s.per_shard) for s in slots] == [(3, 2, 2), (1, 1, 1)]


def test_members_that_fit_follow_memory():
    stage = toy.stage()
    assert layout.members_that_fit(stage, num_shards=1, memory_bytes=2**30) == 8
    assert layout.members_that_fit(stage, num_shards=1, memory_bytes=1) == 1
    assert layout.members_that_fit(stage, num_shards=3, memory_bytes=1) == 3
