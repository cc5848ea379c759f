"""Absurd numbers, and data that are too small: each is one line before anything is written."""

import contextlib
import dataclasses
import importlib
import math
import os
import re
import types
import typing

import numpy as np
import pytest
from systems import context

from moa_jax import config as configuration
from moa_jax import schema
from moa_jax.config import DataConfig, ParallelConfig, RunConfig
from moa_jax.data import simulate
from moa_jax.data.dataset import Targets
from moa_jax.engine import configurations, limits, loading, run
from moa_jax.errors import UserError
from moa_jax.estimators.deep_insight import DeepInsight
from moa_jax.estimators.tabnet_classifier import TabNetClassifier
from moa_jax.estimators.tabnet_inputs import TRAINING, check_parameters
from moa_jax.models.hyperparameters import TABNET
from moa_jax.plan.outlines import outline
from moa_jax.plan.topology import topology
from moa_jax.recipes import (
    RECIPES,
    profile_features,
    profile_nn,
    simple_nn,
    system,
    three_stage_nn,
)
from moa_jax.store import cores, memory
from moa_jax.store.workdir import Workdir
from moa_jax.training import footprint, shapes
from moa_jax.training.parallel import Devices

ABSURD = (1e308, -1e308, 10**15, 10**400, 10**5000, math.nan, math.inf, "12", None, True, (3, "x"))
# A machine too small for nearly everything.
SMALL = 2**20


def sections(cls):
    """Yields a dataclass and those of its fields, all the way down."""
    yield cls
    for hint in typing.get_type_hints(cls).values():
        if dataclasses.is_dataclass(hint):
            yield from sections(hint)


EVERY = {cls for top in (RunConfig, *RECIPES.values()) for cls in sections(top)}
NUMBERS = [
    pytest.param(cls, field, kind, id=f"{cls.__module__.split('.')[-1]}.{cls.__name__}.{field}")
    for cls in sorted(EVERY, key=lambda cls: (cls.__module__, cls.__name__))
    for field, hint in typing.get_type_hints(cls).items()
    for kind in (hint, *typing.get_args(hint))
    if kind in (int, float) and typing.get_origin(hint) in (None, tuple)
]


@pytest.mark.parametrize(("cls", "field", "kind"), NUMBERS)
def test_no_number_of_any_section_may_be_absurd(cls, field, kind):
    several = typing.get_origin(typing.get_type_hints(cls)[field]) is tuple
    (found,) = (f for f in dataclasses.fields(cls) if f.name == field)
    length = found.metadata.get("length", 1)
    for value in (*ABSURD, *((2**40, 1.5) if kind is int else ())):
        given = (value,) * length if several else value
        with pytest.raises(UserError, match=rf"^here\.{field}: expected ") as caught:
            schema.build(cls, {field: given}, "here")
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 250
    low, high = schema.limits(kind, found.metadata)
    assert -schema.LARGEST[kind] <= low < high <= schema.LARGEST[kind]


@pytest.mark.parametrize("name", [n for n in configurations.packaged() if n != "blend_files"])
def test_packaged_configurations_have_no_other_sections(name):
    module = importlib.import_module(f"moa_jax.configs.{name}")
    config = configuration.parse(module.get_config().to_dict(), RECIPES)
    for model in config.models.values():
        assert set(sections(type(model))) <= EVERY


def test_a_field_takes_so_many_values():
    with pytest.raises(UserError, match="here.weights: expected values by name, found 1e[+]308"):
        schema.build(configuration.BlendConfig, {"weights": 1e308}, "here")
    with pytest.raises(UserError, match="here.seeds: expected at most 10000 values, found 1000000"):
        schema.build(simple_nn.Config, {"seeds": [0] * 10**6}, "here")


@pytest.fixture(scope="module")
def dataset():
    return simulate.make(rows=60, genes=8, cells=4, scored=3, nonscored=2, test_rows=0)


def changed(**fields):
    config = simple_nn.Config(hidden=8, seeds=(0,), gene_factors=2, cell_factors=2, batch_size=16)
    return dataclasses.replace(config, **fields)


def refused(model, dataset, folder, **sections):
    """Returns the line that a run ends with, which leaves nothing behind."""
    config = RunConfig({"mine": model}, **sections)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError) as caught:
        patch.setattr(system, "fit", None)  # what is let through would take for ever
        run.train(config, Workdir(folder / "work"), dataset)
    assert not list(folder.rglob("*"))
    return str(caught.value)


@pytest.mark.parametrize("field", ["rows", "genes", "cells", "scored", "nonscored"])
def test_simulated_data_fit_in_memory(field, monkeypatch):
    monkeypatch.setattr(memory, "machine_bytes", lambda: 2**32)
    with pytest.raises(
        UserError, match=f"config.data.{field}: .* this machine has 4 GiB"
    ) as caught:
        loading.load_data(RunConfig({}, data=DataConfig("simulated", **{field: 2**31 - 1})))
    fits = int(str(caught.value).split("; ")[1].split()[0])
    limits.check_simulated(DataConfig("simulated", **{field: fits}))
    assert fits >= getattr(DataConfig(), field)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"hidden": 2**20}, r"models.mine.hidden: .* with 1048576, .*; \d+ would fit"),
        ({"epochs": 2**31 - 1}, r"models.mine.epochs: expected at most \d+ with \d+ steps in each"),
    ],
)
def test_a_network_fits_in_memory(fields, line, dataset, tmp_path):
    assert re.match(f"config.{line}", refused(changed(**fields), dataset, tmp_path))


def test_a_value_that_would_fit_does(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "machine_bytes", lambda: 2**26)
    line = refused(changed(hidden=8192), dataset, tmp_path)
    fits = int(line.split("; ")[1].split()[0])
    where = context(tmp_path, "mine")
    limits.check_memory(RunConfig({"mine": changed(hidden=fits)}), dataset, where)
    assert 8 < fits < 8192


def test_the_largest_layer_of_a_large_batch_counts(dataset, tmp_path, monkeypatch):
    """Layers may be larger than their weights tell; here the hidden one is as wide as they are."""
    where, rows, wide = context(tmp_path, "mine"), 4096, 64
    model = changed(hidden=wide, batch_size=rows)
    (built,) = system.outline(model, dataset, where)
    monkeypatch.setattr(footprint, "LARGE_BATCH", 0)
    found = footprint.of_stage(built.stage, where.devices, 1, 1)
    table = 4 * rows  # of positions
    assert found.batches == table + 4 * rows * (built.num_inputs + 2 * wide)


@pytest.mark.parametrize("kept", [2**30, 0])
def test_of_shared_rows_the_host_of_accelerators_makes_a_part_at_a_time(
    kept, dataset, tmp_path, monkeypatch
):
    """Of a table that is large; a small one it holds."""
    monkeypatch.setattr(profile_features, "KEPT_BYTES", kept)
    gpu = types.SimpleNamespace(
        platform="gpu", process_index=0, memory_stats=lambda: {"bytes_limit": 2**30}
    )
    where, found = context(tmp_path, "mine"), {}
    (built,) = system.outline(changed(), dataset, where)
    for rows in ("replicated", "sharded"):
        config = RunConfig({}, parallel=ParallelConfig(rows=rows, predict_rows=1))
        on = dataclasses.replace(where, config=config, devices=Devices("shard_map", (gpu,) * 4))
        found[rows] = limits._stage_bytes(built, on)
    size = shapes.num_bytes(shapes.of(built.stage.shared))
    made = size if kept else size // 4
    assert found["replicated"] - found["sharded"] == size - made


def test_members_rows_fit_in_memory(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "machine_bytes", lambda: SMALL)
    line = refused(changed(seeds=tuple(range(2000))), dataset, tmp_path)
    assert line.startswith("config.models.mine.seeds: ") and "with 2000 values" in line
    chain = dataclasses.replace(three_stage_nn.Config(folds=40).honest(), nested_blocks=40)
    line = refused(dataclasses.replace(chain, seeds=(0,)), dataset, tmp_path)
    assert line.startswith("config.models.mine.nested_blocks: ")
    # Its inputs are as many as its widths: neither alone is another number of them.
    monkeypatch.setattr(memory, "machine_bytes", lambda: SMALL // 8)
    line = refused(profile_nn.Config(members=256), dataset, tmp_path)
    assert line.startswith("config.models.mine.members: ") and "with 256, " in line
    # Which are dealt to the groups: forty in all, of each of five folds.
    positions = 8 * int((~dataset.is_control).sum()) * 40 * 5
    config = RunConfig({"mine": profile_nn.Config()})
    for at_hand, fits in ((positions, True), (positions - 1, False)):
        monkeypatch.setattr(memory, "machine_bytes", lambda at_hand=at_hand: at_hand)
        with contextlib.nullcontext() if fits else pytest.raises(UserError, match="all networks"):
            limits.check_counts(config, dataset)


def test_data_that_nothing_is_too_large_for_are_blamed(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "machine_bytes", lambda: 2**15)
    line = refused(changed(), dataset, tmp_path)
    assert line.endswith(
        "this machine has 32 KiB; take fewer rows or columns, or a machine with more"
    )


@pytest.mark.parametrize("treated", [2, 3])
def test_every_network_has_rows_to_train_on(treated, dataset, tmp_path):
    few = dataset.take(np.flatnonzero(~dataset.is_control)[:treated])
    line = refused(changed(folds=2), few, tmp_path)
    assert line.startswith("config.models.mine.folds: expected at least 2 training rows in every")
    with pytest.raises(UserError, match="folds: expected at least 2 training rows"):
        config = RunConfig({"mine": changed(folds=2)})
        outline(config, few, Workdir(tmp_path), topology("cpu"))


@pytest.mark.parametrize("value", [0, 1])
def test_targets_that_are_constant_stop_nothing(value, dataset, tmp_path):
    names, values = dataset.scored.names[:1], np.full((len(dataset), 1), value, np.uint8)
    one = dataclasses.replace(dataset, scored=Targets(names, values), nonscored=None)
    config = RunConfig({"mine": changed()})
    run.check(config, one)
    limits.check_memory(config, one, context(tmp_path, "mine"))


def test_nested_parts_of_the_blend_are_at_most_the_rows(dataset, tmp_path):
    blend = configuration.BlendConfig(nested_folds=1000)
    line = refused(changed(), dataset, tmp_path, blend=blend)
    assert line.startswith("config.blend.nested_folds: expected at most as many as treated rows")


def test_topologies_are_of_this_world():
    for size in ("9" * 40, "1000000", "99999x99999"):
        with pytest.raises(UserError, match="config.plan.topology: expected a size such as"):
            topology(f"gpu:{size}")


def groups(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "mounted", folder / "own"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"own": "0::/a/b\n", "mounted/a/b/memory.max": "max", "mounted/a/memory.max": "9000"},
            9000,
        ),
        ({"own": "0::/\n", "mounted/memory.max": "8000\n"}, 8000),
        ({"own": "0::/unseen\n", "mounted/memory.max": "7000\n"}, 7000),
        ({"mounted/memory.max": "6000"}, 6000),
        (
            {
                "own": "5:cpu:/x\n4:memory:/docker/1\n",
                "mounted/memory/docker/1/memory.limit_in_bytes": "5000",
                "mounted/memory/memory.limit_in_bytes": str(2**63 - 4096),
            },
            5000,
        ),
        ({"own": "0::/\n", "mounted/memory.max": "max"}, None),
        ({}, None),
    ],
)
def test_limits_of_control_groups_count(tmp_path, files, expected):
    found = memory.machine_bytes(*groups(tmp_path, files))
    assert found == (expected or memory.machine_bytes(tmp_path / "none", tmp_path / "none"))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"own": "0::/a/b\n", "mounted/a/cpu.max": "250000 100000\n"}, 3),
        ({"own": "0::/a\n", "mounted/a/cpu.max": "max 100000", "mounted/cpu.max": "5 100000"}, 1),
        (
            {
                "own": "4:memory:/x\n5:cpu,cpuacct:/docker/1\n",
                "mounted/cpu/docker/1/cpu.cfs_quota_us": "200000\n",
                "mounted/cpu/docker/1/cpu.cfs_period_us": "100000\n",
                "mounted/cpu/cpu.cfs_quota_us": "-1\n",
                "mounted/cpu/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        ({"own": "0::/\n", "mounted/cpu.max": "99000000 100000"}, 64),
        ({}, 64),
    ],
)
def test_quotas_of_control_groups_count(tmp_path, monkeypatch, files, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(64), raising=False)
    assert cores.available(*groups(tmp_path, files)) == expected


@pytest.mark.parametrize("name", [n for n in (*TABNET, *TRAINING) if n != "mask_type"])
def test_parameters_of_the_classifier(name):
    for value in ABSURD:
        with pytest.raises(ValueError, match=rf"^{name}: expected ") as caught:
            check_parameters(TabNetClassifier(**{name: value}))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "parameters",
    [
        {"clip_value": 1e308},
        {"cat_idxs": [0], "cat_dims": [10**12]},
        {"cat_idxs": [10**12], "cat_dims": [3]},
        {"cat_idxs": [0], "cat_dims": [3], "cat_emb_dim": 10**12},
        {"random_state": 10**12},
        {"n_d": 2**20},
        {"cat_idxs": [0], "cat_dims": [2**24], "cat_emb_dim": 2**20},
        {"cat_idxs": [0], "cat_dims": [2**24], "batch_size": 2**15},
    ],
    ids=str,
)
def test_further_parameters_of_the_classifier(parameters):
    X = np.zeros((2**15, 3), np.float32)
    with pytest.raises(ValueError, match="^(cat_|clip|random|n_d)"):
        TabNetClassifier(**parameters).fit(X, np.arange(2**15) % 2)


@pytest.mark.parametrize("value", ABSURD, ids=range(len(ABSURD)))
@pytest.mark.parametrize("name", ["resolution", "perplexity"])
def test_parameters_of_images(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected"):
        DeepInsight(**{name: value}).fit(np.eye(3))


def test_images_fit_in_memory(monkeypatch):
    fitted = DeepInsight(resolution=64, embedding="pca").fit(
        np.random.default_rng(0).random((9, 5))
    )
    monkeypatch.setattr(memory, "machine_bytes", lambda: SMALL)
    with pytest.raises(ValueError, match="X: 100 images of 64 pixels need .* in parts"):
        fitted.transform(np.zeros((100, 5)))
