"""Plan: outlines have the shapes of what is fitted, and figures follow from the compiled step."""

import dataclasses
import importlib.util
import re
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import systems
import toy

from moa_jax.config import ParallelConfig, PlanConfig
from moa_jax.data import simulate
from moa_jax.data.folds import Split
from moa_jax.engine import limits
from moa_jax.errors import UserError
from moa_jax.plan import outlines, report, step
from moa_jax.plan import stage_plan as stage_plan_module
from moa_jax.plan import topology as topologies
from moa_jax.plan.stage_plan import plan_stage
from moa_jax.plan.step import Step
from moa_jax.plan.topology import topology
from moa_jax.plan.traffic import Traffic
from moa_jax.recipes import (
    deepinsight_cnn,
    nn_tabnet,
    profile_features,
    system,
    two_heads_resnet,
)
from moa_jax.recipes.dense import DenseTraining
from moa_jax.recipes.stage_predictions import StagePredictions
from moa_jax.recipes.system import BuiltStage, Fitting
from moa_jax.store import memory
from moa_jax.training import footprint, shapes
from moa_jax.training.layout import Layout
from moa_jax.training.parallel import Devices
from moa_jax.training.stage import Forward

MODELS = ("simple_nn_old", "simple_nn_new", "three_stage_nn", "nn_tabnet", "two_heads_resnet",
          "efficientnet")  # fmt: skip


@pytest.fixture(scope="module")
def dataset():
    return simulate.make(rows=160, seed=1, genes=12, cells=6, scored=4, nonscored=3)


@pytest.mark.parametrize("honest", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_an_outline_has_the_members_and_shapes_of_a_fit(dataset, tmp_path, model, honest):
    """Every stage is built as for training, from predictions that stand for earlier ones."""
    recipe = systems.tiny(model).models[model]
    if honest:
        recipe = dataclasses.replace(recipe, folds=4).honest()  # a nested chain needs four
    own = systems.context(tmp_path, model)
    training, fitted = Fitting(recipe, dataset, own), []
    for name, design in systems.designs(recipe).items():
        fitted.append(training.build(design))
        shape = fitted[-1].stage.targets.shape
        half = np.full(shape, 0.5)
        nested = {(b,): half for b in range(4)} | {(b, c): half for c in range(4) for b in range(c)}
        training.passage.predictions[name] = StagePredictions(half, nested if honest else {})
    outlined = system.outline(recipe, dataset, own)
    assert [built.stage.name for built in outlined] == [built.stage.name for built in fitted]
    for outline, fit in zip(outlined, fitted, strict=True):
        here, there = outline.stage, fit.stage
        our_inputs, their_inputs = outline.num_inputs, fit.num_inputs
        assert [m.name for m in here.members] == [m.name for m in there.members]
        for member, other in zip(here.members, there.members, strict=True):
            np.testing.assert_array_equal(member.train_rows, other.train_rows)
            np.testing.assert_array_equal(member.select_rows, other.select_rows)
        assert here.forward.network == there.forward.network
        ours, theirs = (
            jax.tree.map(lambda a: (a.shape, a.dtype), (s.shared, s.targets, s.member_data))
            for s in (here, there)
        )
        if model == "nn_tabnet" and here.name.endswith("nonscored"):
            # The columns of little variance are known when the data are; they are not more.
            assert theirs[0][0][:2] == ours[0][0][:2] and theirs[0][0][2] <= ours[0][0][2]
            assert their_inputs <= our_inputs
            continue
        assert our_inputs == their_inputs
        if model == "efficientnet":
            # Columns may share a pixel.
            for data in (ours[2], theirs[2]):
                del data["pixels"]
        assert ours == theirs
        assert shapes.state(here) == shapes.state(there)


@pytest.fixture(autouse=True)
def without_gpu_compiler(monkeypatch):
    """Whatever is installed, programs are compiled for this CPU."""
    monkeypatch.setattr(topologies, "has_gpu_compiler", lambda: False)


def stage_plan(stage, target, parallel, efficiency=0.4):
    built = BuiltStage(stage, 6, Split({}))
    return plan_stage(built, target, parallel, PlanConfig(efficiency=efficiency))


def cut(found):
    """Number of groups, their slots, and devices that each member has."""
    (only,) = found.groups
    return only[:3]


def zeros(shape):
    return np.broadcast_to(np.zeros((), np.float32), shape)


def test_figures_are_those_of_the_compiled_step():
    described = DenseTraining(hidden=256, epochs=5, batch_size=32)
    stage = described.stage(
        name="toy/dense",
        forward=Forward(described.network(3), inner="vmap"),
        members=toy.stage().members,
        shared=zeros((toy.ROWS, 100)),
        targets=zeros((toy.ROWS, 3)),
    )
    found = stage_plan(stage, topology("cpu"), ParallelConfig(members_at_once=3), 0.5)
    assert (found.members, *cut(found)) == (8, 3, 3, 1)
    assert (found.epochs, found.steps) == (5, 3)
    # Every entry of a kernel costs 2 FLOPs a row in each of three products; of the first layer,
    # whose inputs have no gradient, in two.
    products = 2 * 32 * (2 * 100 * 256 + 3 * 256 * 256 + 3 * 256 * 3)
    total = 8 * 5 * (3 + 2 / 3)
    # Adam, batch normalisation and dropout's random bits come on top.
    assert products < found.flops / total < 1.6 * products
    state = shapes.num_bytes(shapes.state(stage))
    assert 3 * state < found.groups[0].step.memory_bytes < 6 * state


def test_time_follows_peaks_efficiency_and_devices():
    stage, one = toy.stage(), topology("a100")
    base = stage_plan(stage, one, ParallelConfig(), 0.4)
    assert cut(base) == (1, 8, 1)
    peaks = {kind: 3 * peak for kind, peak in one.card.peaks.items()}
    fast = dataclasses.replace(one.card, peaks=peaks, bandwidth=5 * one.card.bandwidth)
    target = dataclasses.replace(one, card=fast)
    faster = stage_plan(stage, target, ParallelConfig(), 0.2)
    assert base.flops_seconds == pytest.approx(3 / 2 * faster.flops_seconds)
    assert base.bytes_seconds == pytest.approx(5 / 2 * faster.bytes_seconds)
    eight = stage_plan(stage, topology("gpu:8"), ParallelConfig(), 0.4)
    assert cut(eight) == (1, 8, 1)
    # The fixed part of a small program does not shrink with the members.
    assert eight.flops_seconds < base.flops_seconds / 4
    assert eight.flops == pytest.approx(base.flops, rel=0.5)


def test_devices_without_a_member_share_batches():
    stage = dataclasses.replace(
        toy.stage(folds=2, seeds=(0,), inner="loop", shares_batches=True), batch_size=64
    )
    alone = stage_plan(stage, topology("gpu:2"), ParallelConfig(), 0.4)
    shared = stage_plan(stage, topology("gpu:8"), ParallelConfig(), 0.4)
    assert cut(alone) == (1, 2, 1)
    assert cut(shared) == (1, 2, 4)
    assert "| 1 x 2, 4 devices each |" in report.table([shared], topology("gpu:8"))[-2]
    # What does not depend on rows is done by all of them.
    assert alone.flops < shared.flops < 4 * alone.flops
    assert shared.flops_seconds < alone.flops_seconds
    wanted = ParallelConfig(devices_per_member=8)
    one = stage_plan(stage, topology("gpu:8"), wanted, 0.4)
    assert cut(one) == (2, 1, 8)
    with pytest.raises(UserError, match="devices_per_member: expected a divisor of 8 devices"):
        stage_plan(stage, topology("gpu:8"), ParallelConfig(devices_per_member=3), 0.4)


@pytest.mark.parametrize("inner", ["vmap", "loop"])
def test_a_step_is_the_same_in_calls_of_any_length(inner):
    stage = dataclasses.replace(toy.stage(folds=2, seeds=(0,), inner=inner), batch_size=2)
    few, many = (
        step.step_of(stage, topology("gpu:1"), Layout.of(stage, 1, 2, steps), 1).work
        for steps in (4, 40)
    )
    assert many.num_bytes == pytest.approx(few.num_bytes, rel=0.1)
    assert many.kernels == pytest.approx(few.kernels, rel=0.1)


def test_a_last_wave_of_few_members_is_planned_as_it_trains():
    stage = dataclasses.replace(
        toy.stage(folds=5, seeds=(0, 7), inner="loop", shares_batches=True), batch_size=64
    )
    found = stage_plan(stage, topology("gpu:8"), ParallelConfig(), 0.4)
    assert [group[:3] for group in found.groups] == [(1, 8, 1), (1, 2, 4)]
    equal = stage_plan(stage, topology("gpu:8"), ParallelConfig(devices_per_member=1), 0.4)
    assert equal.groups[0][:3] == (2, 8, 1)
    # The second wave's devices have a quarter of the rows each.
    assert found.flops_seconds < 0.8 * equal.flops_seconds


def test_inputs_that_a_selection_leaves_are_bounded(dataset, tmp_path):
    """Of the competition's 957 columns a threshold may leave out any; five of treatment stay."""
    wide = simulate.make(rows=120, genes=772, cells=100, scored=3, nonscored=3, test_rows=0)
    first, _ = system.outline(nn_tabnet.Config(), wide, systems.context(tmp_path))
    assert first.num_inputs == 957 + 5 and first.at_most
    found = stage_plan(toy.stage(), topology("cpu"), ParallelConfig(), 0.4)
    counts = re.compile(r"\| (at most 6|6) \|(?:[^|]*\|){3} (at most )?\d+ \| \d")
    for at_most, shown in ((True, "at most 6"), (False, "6")):
        line = report.table([dataclasses.replace(found, at_most=at_most)], topology("cpu"))[2]
        matched = counts.search(line)
        assert matched[1] == shown and (matched[2] == "at most ") == at_most


def test_a_plan_says_which_inputs_are_bounds(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(step, "compiled_step", lambda *_: None)
    lines = report.text(
        systems.tiny("nn_tabnet", "simple_nn_old"), dataset, systems.Unbound(tmp_path)
    )
    inputs = dict(re.findall(r"`(\w+/\w+)` \| ([\w ,]+) \|", lines))
    assert [name for name, found in inputs.items() if "at most" in found] == ["nn_tabnet/nonscored"]
    assert len(inputs) == 3


def test_what_does_not_fit_is_said():
    target = topology("gpu")
    small = dataclasses.replace(target.card, memory_bytes=1000)
    row = stage_plan(toy.stage(), target, ParallelConfig(), 0.4)
    assert "does not fit" in report._memory(
        row.groups[0].step, dataclasses.replace(target, card=small)
    )
    assert "does not fit" not in report._memory(row.groups[0].step, target)


def test_members_are_expected_to_stop_where_the_originals_did(monkeypatch):
    took = Step("as said", Traffic(1e9, 10, {"tf32": 1e9}), 1000, 7.0)
    monkeypatch.setattr(stage_plan_module, "step_of", lambda *_: took)
    target = topology("a100")

    def planned(recorded, wanted):
        built = BuiltStage(toy.stage(), 6, Split({}), expected_epochs=recorded)
        return plan_stage(built, target, ParallelConfig(), PlanConfig(epochs=wanted))

    for recorded, wanted, epochs in [(None, 0, 5), (2.5, 0, 2.5), (2.5, 1, 1), (2.5, 9, 5)]:
        found = planned(recorded, wanted)
        assert found.expected_epochs == epochs
        # Six steps, and three of validation, each of which is a third of one.
        whole = 5 * (6 + 3 / 3) * 1e9 / 2.039e12 / 0.4
        assert found.longest == pytest.approx(7 + whole)
        assert found.expected == pytest.approx(7 + whole * epochs / 5)
    line = report.table([planned(2.5, 0)], target)[2]
    assert "| 2.5 of 5 x 6 |" in line and line.endswith("| 7.0 s | 7.0 s | as said |")


def test_recipes_know_how_long_the_originals_trained():
    """B3 ended 12 epochs after epochs 24 to 26, 2-heads V2 with epoch 18; nothing ends 3-stage."""

    def expected(recipe):
        return [design.expected_epochs for design in systems.designs(recipe).values()]

    assert expected(deepinsight_cnn.Config()) == [pytest.approx(37.3)]
    assert expected(dataclasses.replace(deepinsight_cnn.Config(), patience=3)) == [28.3]
    assert expected(deepinsight_cnn.ORIGINAL["resnest_v2"]) == [50]
    assert expected(dataclasses.replace(deepinsight_cnn.Config(), patience=0)) == [None]
    assert expected(two_heads_resnet.ORIGINAL["v2"]) == [None, 18, 8]
    assert expected(systems.tiny("three_stage_nn").models["three_stage_nn"]) == [None] * 3


def test_outlines_know_what_is_expected(dataset, tmp_path):
    recipe = systems.tiny("two_heads_resnet").models["two_heads_resnet"]
    built = system.outline(recipe, dataset, systems.context(tmp_path))
    designs = systems.designs(recipe).values()
    assert [b.expected_epochs for b in built] == [design.expected_epochs for design in designs]
    assert built[1].expected_epochs


class InType(nn.Module):
    """Layers in a type of activations."""

    dtype: object = None

    @nn.compact
    def __call__(self, x, mask=None, train=False):
        for _ in range(3):
            x = nn.tanh(nn.Dense(512, dtype=self.dtype)(x))
        return nn.Dense(3)(x).astype(jnp.float32)


def in_type(dtype):
    described = DenseTraining(epochs=2, batch_size=64)
    return described.stage(
        name="toy/typed",
        forward=Forward(InType(dtype), inner="loop"),
        members=toy.stage(folds=2, seeds=(0,)).members,
        shared=zeros((toy.ROWS, 100)),
        targets=zeros((toy.ROWS, 3)),
    )


def test_an_estimate_of_bfloat16_is_faster_than_float32():
    """A CPU's own program would convert every activation there and back."""
    target = topology("gpu")
    full, half = (
        stage_plan(in_type(dtype), target, ParallelConfig()) for dtype in (None, "bfloat16")
    )
    assert half.bytes_seconds == pytest.approx(full.bytes_seconds / 2)
    assert half.flops_seconds == pytest.approx(full.flops_seconds / 2)
    assert half.groups[0].step.memory_bytes < full.groups[0].step.memory_bytes
    assert full.groups[0].step.work.flops.keys() == {"tf32"}
    assert half.groups[0].step.work.flops.keys() == {"bfloat16"}


def test_a_plan_says_how_its_figures_were_made(dataset, tmp_path):
    config = systems.tiny("simple_nn_old")
    for text, method in [("cpu", "the CPU |"), ("l4:2", "the CPU: estimate |")]:
        config = dataclasses.replace(config, plan=PlanConfig(topology=text))
        said = report.text(config, dataset, systems.Unbound(tmp_path))
        assert f"compiled for {method}" in said
        assert ("moa-jax[cuda-plan]" in said) == (text != "cpu")
    assert "`l4:2`: 2 x NVIDIA L4 24 GB, each with 22.4 GiB, 30.3 TFLOP/s in float32" in said
    assert "Host memory, at least: " in said


def test_a_plan_says_what_each_device_has_of_shared_rows(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(step, "compiled_step", lambda *_: None)
    config = systems.tiny("simple_nn_old", plan={"topology": "l4:8"})
    (built,) = system.outline(
        config.models["simple_nn_old"], dataset, systems.context(tmp_path, "simple_nn_old")
    )
    tables = shapes.num_bytes(shapes.shared(built.stage))
    for rows in ("replicated", "sharded"):
        parallel = dataclasses.replace(config.parallel, rows=rows)
        config = dataclasses.replace(config, parallel=parallel)
        said = report.text(config, dataset, systems.Unbound(tmp_path))
        line = f"share the rows of its tables, {memory.size(tables)}: {memory.size(tables / 8)} on"
        assert (f"`simple_nn_old/scored`: 8 devices {line} each." in said) == (rows == "sharded")


@pytest.mark.parametrize("name", ["simple_nn_old", "two_heads_resnet"])
def test_a_plan_says_what_the_host_holds(name, dataset, tmp_path, monkeypatch):
    """Of a large table that it can make in parts one device's, else all of it."""
    monkeypatch.setattr(step, "compiled_step", lambda *_: None)
    config = systems.tiny(name, plan={"topology": "l4:8"}, parallel={"rows": "sharded"})
    for kept in (2**30, 0):
        monkeypatch.setattr(profile_features, "KEPT_BYTES", kept)
        stages = system.outline(config.models[name], dataset, systems.context(tmp_path, name))
        in_parts = name == "simple_nn_old" and not kept
        sizes = []
        for stage in (built.stage for built in stages):
            read = shapes.num_bytes(shapes.of(stage.shared))
            own = shapes.num_bytes(shapes.of((stage.member_data, stage.targets)))
            sizes.append(read // (8 if in_parts else 1) + own + 8 * stage.targets.size)
        said = report.text(config, dataset, systems.Unbound(tmp_path))
        assert f"least: {memory.size(max(sizes))} for the tables" in said


def test_what_a_gpu_compiler_refuses_is_estimated(monkeypatch):
    """The card's program comes first, and the figures say that it was none."""
    real, asked = step.compiled_step, []

    def compiled_step(stage, devices, *arguments):
        asked.append(devices.devices[0].platform)
        if asked[-1] == "gpu":
            raise jax.errors.JaxRuntimeError("INTERNAL: no assembler")
        return real(stage, devices, *arguments)

    monkeypatch.setattr(step, "compiled_step", compiled_step)
    absent = types.SimpleNamespace(platform="gpu")
    target = dataclasses.replace(topology("gpu:2"), compile_for=Devices("vmap", (absent,)))
    assert not target.is_estimate and target.method == "compiled for A100"
    found = stage_plan(toy.stage(), target, ParallelConfig())
    assert asked == ["gpu", "cpu"]
    assert found.groups[0].step.method == "compiled for the CPU: estimate"


def test_predictions_of_seeds_take_memory(dataset, tmp_path):
    recipe = systems.tiny("profile_nn").models["profile_nn"]
    own = systems.context(tmp_path)
    (built, *_) = system.outline(recipe, dataset, own)
    assert built.by_seed == bool(recipe.choices)
    kept, plain = (
        footprint.of_stage(built.stage, own.devices, 1, 1, by_seed).predictions
        for by_seed in (True, False)
    )
    seeds = len({member.seed for member in built.stage.members})
    assert limits._stage_bytes(built, own) > limits._stage_bytes(built._replace(by_seed=False), own)
    assert plain == built.stage.targets.size * 8
    assert kept - plain == built.stage.targets.size * 4 * seeds


def test_programs_of_this_cpu_are_kept(monkeypatch):
    assert topologies.compiles_for_this_cpu("cpu:3") and topologies.compiles_for_this_cpu("gpu:8")
    monkeypatch.setattr(topologies, "has_gpu_compiler", lambda: True)
    assert topologies.compiles_for_this_cpu("cpu:3")
    assert not topologies.compiles_for_this_cpu("gpu:8")
    assert not topologies.compiles_for_this_cpu("v5e:2x4")


@pytest.mark.parametrize("text", ["gpuu:8", "gpu:0", "v5e:2xx4", "gpu:-1", ""])
def test_wrong_topologies_are_one_line(text):
    with pytest.raises(UserError, match="config.plan.topology: expected"):
        topology(text)


def test_tpus_need_their_compiler(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"moa-jax\[tpu\]"):
        topology("v5e:2x4")


def test_a_plan_says_what_an_honest_chain_costs(dataset, tmp_path):
    config = systems.tiny("nn_tabnet", honest=True)
    built = outlines.outline(config, dataset, systems.Unbound(tmp_path), topology("cpu"))
    assert [len(b.stage.members) for b in built] == [2 * 3, 2 * 3]
    (line,) = outlines.nesting(config, built)
    assert line.startswith("nn_tabnet: Nested: 12 networks in 2 stages instead of 12, so that no")
    plain = systems.tiny("nn_tabnet")
    built = outlines.outline(plain, dataset, systems.Unbound(tmp_path), topology("cpu"))
    assert list(outlines.nesting(plain, built)) == []
