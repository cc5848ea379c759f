"""Rows of tables that devices share: batches, validation and prediction to the last bit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import systems
import toy
from jax.sharding import PartitionSpec

from moa_jax.config import ParallelConfig
from moa_jax.data import simulate
from moa_jax.engine import run
from moa_jax.errors import UserError
from moa_jax.recipes import profile, profile_features, system
from moa_jax.recipes.context import Context
from moa_jax.store import processes
from moa_jax.store.workdir import Workdir
from moa_jax.training import layout, predict, rules, shapes, shared_rows
from moa_jax.training.layout import Settings
from moa_jax.training.loop import StageRun
from moa_jax.training.parallel import MEMBER, Devices
from moa_jax.training.progress import MetricsLog
from moa_jax.training.stage import by_row

DEVICES = len(jax.devices())
SPREAD = Devices.available("shard_map").sharing_rows()


def bits(array):
    return np.asarray(array).view(np.uint8)


def awkward(dtype):
    """Numbers that adding zero would change: a negative zero, and NaN with a payload."""
    table = np.random.default_rng(0).normal(size=(2 * DEVICES + 3, 2, 5))
    table[3] = -0.0
    table = (table > 0) if dtype is bool else table.astype(dtype)
    if dtype is np.float32:
        table.view(np.uint32)[5] = 0x7FC12345
    return table


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16, np.uint8, bool])
def test_rows_arrive_as_they_are(dtype):
    table = awkward(dtype)
    generator = np.random.default_rng(1)
    wanted = generator.integers(0, len(table), (DEVICES, 3, 4)).astype(np.int32)
    wanted[0, 0] = [0, len(table) - 1, 3, 5]
    sets = generator.integers(0, 2, (DEVICES, 3)).astype(np.int32)

    def taken(table, wanted, sets):
        return jax.vmap(lambda rows, number: table[rows, number])(wanted[0], sets[0])[None]

    rows = SPREAD.put_tables(table)
    split = PartitionSpec(MEMBER)
    found = jax.jit(
        jax.shard_map(
            taken,
            mesh=SPREAD.mesh,
            in_specs=(shared_rows.specs(rows), split, split),
            out_specs=split,
            check_vma=False,
        )
    )(rows, wanted, sets)
    np.testing.assert_array_equal(bits(found), bits(table[wanted, sets[..., None]]))
    # Each device has a part of the table, and no more.
    (part,) = {shard.data.shape for shard in rows.part.addressable_shards}
    assert part == (-(-len(table) // DEVICES), 2, 5)
    (shape,) = jax.tree.leaves(SPREAD.table_shapes(shapes.of(table)))
    assert (shape.shape, shape.sharding) == (rows.part.shape, rows.part.sharding)


def stage(inner, known):
    """Folds of unequal size whose members stop at different epochs."""
    made = toy.stage(inner=inner, epochs=6, stop=rules.patience(1), lr=0.3)
    if not known:
        return made
    is_known = np.random.default_rng(2).random(made.targets.shape) < 0.7

    def loss(outputs, targets, cells):
        each = jnp.square(outputs[0] - targets) * cells
        return each.sum() / jnp.maximum(cells.sum(), 1)

    return dataclasses.replace(made, known=is_known, loss=loss, valid_weights=by_row)


def fitted(folder, made, devices):
    """Returns what fitting a stage leaves: files, predictions out of fold and by new weights."""
    folder.mkdir()
    settings = Settings(devices, members_at_once=8, steps_per_call=3)
    run = StageRun(made, folder, settings, MetricsLog(folder, tensorboard=False))
    run.fit()
    ids = [member.id for member in made.members]
    predictor = predict.Predictor("toy", made.forward, folder, ids, devices, made.member_data)
    found = predict.out_of_fold(made, predictor, made.targets)
    group = run.group(0)
    weights = {path.name: path.read_bytes() for path in folder.glob("members/*.npz")}
    return weights, found.values, group.predict(group.init(), np.arange(5))


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("inner", ["vmap", "loop"])
def test_a_stage_is_trained_and_predicted_to_the_same_bits(tmp_path, inner, known):
    made = stage(inner, known)
    weights, *predicted = fitted(tmp_path / "whole", made, Devices.available("auto"))
    found, *others = fitted(tmp_path / "spread", made, SPREAD)
    assert len(weights) == 8 and found == weights
    for ours, theirs in zip(others, predicted, strict=True):
        np.testing.assert_array_equal(bits(ours), bits(theirs))


def run_of(folder, name, dataset, rows):
    """Fits a model on all devices and returns its arrays and predictions by their files' names."""
    config = systems.tiny(name, parallel={"rows": rows})
    context = dataclasses.replace(
        systems.context(folder, name), config=config, devices=Devices.available("auto")
    )
    system.fit(config.models[name], dataset, context)
    files = [p for p in folder.rglob("*") if p.suffix in (".npz", ".parquet", ".csv")]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


DENSE = ["simple_nn_old", "two_heads_resnet"]


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("name", DENSE)
def test_a_model_writes_the_same_bytes(tmp_path, caplog, name):
    dataset = simulate.make(rows=60, seed=1, genes=8, cells=4, scored=3, nonscored=2)
    files = run_of(tmp_path / "whole", name, dataset, "replicated")
    assert "share the rows" not in caplog.text
    with caplog.at_level("INFO", "absl"):
        found = run_of(tmp_path / "spread", name, dataset, "sharded")
    assert f": {DEVICES} devices share the rows" in caplog.text
    assert len(files) > 8 and found == files


@pytest.mark.slow
@pytest.mark.parametrize("rows", ["replicated", "sharded"])
def test_rows_that_are_made_in_parts_write_the_same_bytes(tmp_path, monkeypatch, rows):
    """As of a table of many GiB, held in float32."""
    dataset = simulate.make(rows=60, seed=1, genes=8, cells=4, scored=3, nonscored=2, test_rows=9)

    def of_type(rows, dtype):
        return dataclasses.replace(rows, features=rows.features.astype(np.float32).astype(dtype))

    wide, short = (
        dataclasses.replace(of_type(dataset, dtype), test=of_type(dataset.test, dtype))
        for dtype in (np.float64, np.float32)
    )
    files = run_of(tmp_path / "whole", "profile_nn", wide, rows)
    monkeypatch.setattr(profile_features, "KEPT_BYTES", 0)
    monkeypatch.setattr(profile, "WHOLE_BYTES", 0)
    monkeypatch.setattr(profile, "PART_BYTES", 8 * 12 * 7)
    found = run_of(tmp_path / "parts", "profile_nn", short, rows)
    assert len(files) > 8 and found == files


def test_rows_are_shared_where_copies_would_fill_the_memory():
    made = toy.stage()
    tables = shapes.num_bytes(shapes.shared(made))
    enough = int(4 * tables / layout.TABLES_SHARE)

    def shares(rows="auto", strategy="auto", devices=4, memory=enough + 9, made=made):
        parallel = ParallelConfig(rows=rows, strategy=strategy)
        return layout.shares_rows(made, devices, memory, parallel)

    assert not shares() and shares(memory=enough - 9)
    assert shares(rows="sharded") and not shares(rows="replicated", memory=0)
    assert not shares(rows="sharded", devices=1)
    assert not shares(strategy="pmap", memory=0) and shares(strategy="shard_map", memory=0)
    # Devices that may share batches keep the tables whole.
    assert not shares(rows="sharded", made=toy.stage(shares_batches=True))


def test_processes_go_by_the_memory_of_the_first(tmp_path, monkeypatch):
    context = systems.context(tmp_path, "simple_nn_old")
    context = dataclasses.replace(context, devices=Devices.available("auto"))
    assert not context.devices_of(toy.stage(), 4).shares_rows
    monkeypatch.setattr(processes, "said_by_first", lambda memory: 1)
    assert context.devices_of(toy.stage(), 4).shares_rows


def test_a_run_goes_on_with_the_rows_that_it_began_with(tmp_path, monkeypatch):
    made = toy.stage()

    def shares(memory, rows="auto", strategy="auto", folder="run"):
        monkeypatch.setattr(Devices, "memory_bytes", lambda self: memory)
        config = systems.tiny("simple_nn_old", parallel={"rows": rows, "strategy": strategy})
        workdir = Workdir(tmp_path / folder)
        if not workdir.path.exists():
            workdir.path.mkdir()
            dataset = simulate.make(rows=60, seed=1, genes=8, cells=4, scored=3, nonscored=2)
            workdir.bind(config, dataset, "auto")
        devices = Devices.available(strategy)
        return Context("model", workdir, devices, config).devices_of(made, 4).shares_rows

    little, much = 1, 10**12
    assert shares(little) and shares(much)
    assert not shares(much, folder="other") and not shares(little, folder="other")
    # What is asked for counts, now and later.
    assert not shares(much, "replicated") and not shares(little)
    assert shares(much, "sharded") and shares(much)
    # Where devices cannot share rows nothing is kept.
    assert not shares(little, strategy="pmap", folder="third") and shares(little, folder="third")
    assert not shares(little, strategy="pmap", folder="third") and shares(much, folder="third")


def test_shared_rows_leave_room_for_more_members():
    made = dataclasses.replace(toy.stage(), shared=np.zeros((9999, toy.COLUMNS), np.float32))
    parallel = ParallelConfig(rows="replicated")
    tables = shapes.num_bytes(shapes.shared(made))
    spread = dataclasses.replace(parallel, rows="sharded")
    memory = int(2 * tables / layout.MEMORY_SHARE)
    whole, shared = (layout.members_at_once(made, 2, memory, p) for p in (parallel, spread))
    # A device each is the least; the room of a copy is that of all others.
    assert (whole, shared) == (2, 8)


def test_a_strategy_that_cannot_share_rows_is_refused():
    with pytest.raises(UserError, match="auto or shard_map with rows=sharded, found pmap"):
        systems.tiny("simple_nn_old", parallel={"rows": "sharded", "strategy": "pmap"})


@pytest.mark.parametrize(
    ("model", "field", "value", "message"),
    [
        ("efficientnet", "rows", "sharded", "no model here has rows that devices share"),
        ("simple_nn_old", "devices_per_member", 2, "no model here shares batches"),
    ],
)
def test_a_field_that_suits_no_model_is_told(caplog, model, field, value, message):
    dataset = simulate.make(rows=60, seed=1, genes=8, cells=4, scored=3, nonscored=2)
    run.check(systems.tiny(model), dataset)
    assert message not in caplog.text
    run.check(systems.tiny(model, parallel={field: value}), dataset)
    assert f"config.parallel.{field}: {message}" in caplog.text
