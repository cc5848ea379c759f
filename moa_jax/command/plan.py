"""Plan: what a run would train, in which memory and time, on devices that need not be there.

Every stage's training step is compiled and nothing is run. Memory, FLOPs and bytes are XLA's own
figures of the compiled program; time follows from them, published peaks and an assumed efficiency.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax.experimental import topologies

from moa_jax.command.hardware import HARDWARE, Hardware
from moa_jax.config import ParallelConfig, RunConfig, suggestion
from moa_jax.data.dataset import Dataset
from moa_jax.engine import limits, participation, run
from moa_jax.errors import UserError, first_line
from moa_jax.recipes import notes, system
from moa_jax.recipes.context import Context
from moa_jax.recipes.host_stage import HostStage
from moa_jax.recipes.system import BuiltStage
from moa_jax.store import memory
from moa_jax.store.workdir import Workdir
from moa_jax.training import shapes
from moa_jax.training.layout import Layout, members_that_fit
from moa_jax.training.loop import stage_programs
from moa_jax.training.parallel import (
    Devices,
    check_per_member,
    choose_inner,
    choose_per_member,
    choose_strategy,
)
from moa_jax.training.stage import Stage

# A validation step is a forward pass, a training step about three: products with the weights, and
# of the gradients with inputs and with weights.
FORWARD_SHARE = 1 / 3
# Two fused multiply-adds of eight float32 lanes per cycle at 2 GHz; two channels of DDR4.
CPU_CORE_FLOPS, CPU_BANDWIDTH = 64e9, 40e9


@dataclasses.dataclass(frozen=True)
class Topology:
    """The devices that a run is planned for.

    Attributes:
      text: as configured.
      hardware: one of the devices.
      num_devices: how many there are.
      compile_for: what programs are compiled for: the devices themselves, or a CPU in the place of
        one. As members do not communicate, one device's part of the program tells all but what
        sharing batches adds.
    """

    text: str
    hardware: Hardware
    num_devices: int
    compile_for: Devices

    @property
    def is_estimate(self) -> bool:
        return self.hardware.platform == "gpu"

    def to_compile(self, stage: Stage, per_member: int) -> tuple[Stage, Devices]:
        """Returns what to compile, where so many devices share the batches of each member."""
        if len(self.compile_for.devices) == self.num_devices:
            return stage, self.compile_for.sharing_batches(per_member)
        part = dataclasses.replace(stage, batch_size=-(-stage.batch_size // per_member))
        return part, self.compile_for


def topology(text: str, strategy: str = "auto") -> Topology:
    """Returns the devices that a text such as `v5e:2x4`, `gpu:8` or `cpu` stands for.

    Args:
      text: kind of device, and after a colon their number or, of TPUs, their grid.
      strategy: as in the configuration; of TPUs, the whole program is compiled with it.

    Raises:
      UserError: the text is none, or libtpu is needed and not installed.
    """
    kind, _, size = text.partition(":")
    kinds = ["cpu", *HARDWARE]
    if kind not in kinds:
        raise UserError(
            f"config.plan.topology: expected one of {', '.join(kinds)}, with a size such as "
            f"gpu:8 or v5e:2x4, found {text!r}{suggestion(kind, kinds)}"
        )
    grid = (size or "1").split("x")
    sizes = [int(part) if part.isdecimal() and len(part) < 7 else 0 for part in grid]
    if not 0 < (count := math.prod(sizes)) <= 100_000:
        raise UserError(
            f"config.plan.topology: expected a size such as 8 or 2x4 after {kind}:, found {size!r}"
        )
    if kind in HARDWARE and HARDWARE[kind].platform == "tpu":
        devices = _tpu_devices(kind, sizes)
        chosen = Devices(choose_strategy(strategy, count), devices)
        return Topology(text, HARDWARE[kind], count, chosen)
    chosen = Devices("vmap", (jax.local_devices(backend="cpu")[0],))
    return Topology(text, HARDWARE.get(kind) or _this_cpu(chosen, count), count, chosen)


def _this_cpu(devices: Devices, count: int) -> Hardware:
    cores = os.cpu_count() or 1
    return Hardware(
        f"a part of {cores} CPU cores",
        "cpu",
        devices.memory_bytes() // count,
        cores * CPU_CORE_FLOPS / count,
        CPU_BANDWIDTH / count,
    )


def _tpu_devices(kind: str, grid: Sequence[int]) -> tuple[jax.Device, ...]:
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            f"config.plan.topology: {kind} needs no TPU, but its compiler: "
            "pip install 'moa-jax[tpu]'"
        )
    # Only the compiler is wanted: there is no metadata server to ask, and no TPU to lock.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    bounds = [*grid, 1, 1][:3]
    # JAX runs both cores of a v4 chip as one device. Its hosts have four chips, others' vary.
    options: dict[str, Any] = {"chip_config_name": "megacore" if kind == "v4" else "default"}
    if kind != "v4":
        options["chips_per_host_bounds"] = tuple(bounds)
    name = f"{kind}:{'x'.join(map(str, bounds if kind == 'v4' else bounds[:2]))}"
    try:
        found = topologies.get_topology_desc(name, platform="tpu", **options)
    except jax.errors.JaxRuntimeError as error:
        reason = first_line(error)
        raise UserError(f"config.plan.topology: {name} cannot be had: {reason}") from None
    return tuple(found.devices)


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """What training a stage takes.

    Attributes:
      name: `<model>/<stage>`.
      inputs: number of the network's inputs.
      at_most: whether a selection of columns, which only a fit knows, may leave fewer; parameters,
        memory and FLOPs are then bounds too.
      members, groups, slots: networks, how many groups train in turn, and a group's slots.
      per_member: devices that share the batches of each.
      epochs, steps: most epochs that a member may have, and optimiser steps of each.
      parameters: trainable parameters of one member.
      memory_bytes: peak of one device: arguments, results and temporaries of the training program;
        None if the compiler finds that it does not fit.
      flops: of all members in all epochs, validation included; None where memory is.
      flops_seconds, bytes_seconds: time of the products, and of reading and writing memory, if no
        member stops early; the longer one counts. None where memory is.
    """

    name: str
    inputs: int
    members: int
    groups: int
    slots: int
    per_member: int
    epochs: int
    steps: int
    parameters: int
    at_most: bool = False
    memory_bytes: int | None = None
    flops: float | None = None
    flops_seconds: float | None = None
    bytes_seconds: float | None = None


def plan_stage(
    built: BuiltStage, target: Topology, parallel: ParallelConfig, efficiency: float
) -> StagePlan:
    """Compiles a stage's training program and returns what it takes.

    Args:
      built: the stage's outline.
      target: the devices.
      parallel: how members are spread.
      efficiency: share of peak FLOPs and bandwidth that is reached.
    """
    stage, hardware, count = built.stage, target.hardware, target.num_devices
    assert isinstance(stage, Stage)
    check_per_member(parallel.devices_per_member, count)

    def shared_by(num_members: int) -> int:
        wanted, strategy = parallel.devices_per_member, parallel.strategy
        return choose_per_member(wanted, strategy, stage.forward.shares_batches, count, num_members)

    at_once = parallel.members_at_once or members_that_fit(
        stage, count // shared_by(len(stage.members)), count * hardware.memory_bytes
    )
    per_member = shared_by(min(at_once, len(stage.members)))
    layout = Layout.of(stage, count // per_member, at_once, parallel.steps_per_call)
    per_shard, steps = layout.slots_per_shard, max(map(stage.steps_per_epoch, stage.members))
    member = shapes.state(stage)
    known = StagePlan(
        name=stage.name,
        inputs=built.num_inputs,
        at_most=built.at_most,
        members=len(stage.members),
        groups=len(layout.groups),
        slots=per_shard * count // per_member,
        per_member=per_member,
        epochs=stage.epochs,
        steps=steps,
        parameters=shapes.num_parameters(member),
    )
    inner = choose_inner(stage.forward.inner, hardware.platform)
    part, devices = target.to_compile(stage, per_member)
    compiled = compiled_step(part, devices, inner, per_shard, layout.steps_per_call)
    if compiled is None:
        return known
    cost: Any = compiled.cost_analysis()
    # XLA counts the body of a loop once: one step of all members of a device, or of one of them
    # where they run in turn; of a batch that devices share, one device's part.
    counted = per_shard if inner == "vmap" else 1
    flops, num_bytes = (cost[name] / counted for name in ("flops", "bytes accessed"))
    forward_steps = FORWARD_SHARE * shapes.validation_steps(stage)
    total_steps = stage.mean_epochs * (steps + forward_steps)
    steps_in_turn = len(layout.groups) * per_shard * total_steps / efficiency
    return dataclasses.replace(
        known,
        memory_bytes=peak_bytes(compiled),
        flops=len(stage.members) * per_member * total_steps * flops,
        flops_seconds=steps_in_turn * flops / hardware.flops,
        bytes_seconds=steps_in_turn * num_bytes / hardware.bandwidth,
    )


def compiled_step(
    stage: Stage, devices: Devices, inner: str, per_shard: int, steps: int
) -> jax.stages.Compiled | None:
    """Returns a stage's training program for devices; None if it does not fit in their memory.

    Args:
      stage: a stage, or its outline.
      devices, inner: see `parallel.map_members`.
      per_shard: members of each device, or of those that share batches.
      steps: optimiser steps of a device call.
    """
    try:
        # It never runs: what LLVM does to it for a CPU changes neither memory nor FLOPs.
        return stage_programs(stage, devices, inner, runs_once=True).train.compiled(
            devices.member_shapes(shapes.state(stage), per_shard),
            devices.member_shapes(shapes.train(stage, steps), per_shard),
            devices.shared_shapes(shapes.shared(stage)),
        )
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None


def peak_bytes(compiled: jax.stages.Compiled) -> int:
    """Returns the memory that a program needs on one device, by XLA's analysis."""
    memory: Any = compiled.memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
    )


def outline(
    config: RunConfig, dataset: Dataset, workdir: Workdir, target: Topology
) -> list[BuiltStage]:
    """Returns the stages of all models in the order of training, with zeros for features.

    Raises:
      UserError: the data do not suit a model's configuration.
    """
    run.check(config, dataset)
    stages = []
    for name, model in config.models.items():
        context = Context(name, workdir, target.compile_for, config)
        stages += limits.checked(system.outline(model, dataset, context), name, model)
    return stages


def report(config: RunConfig, dataset: Dataset, workdir: Workdir) -> str:
    """Returns the plan of a run as Markdown."""
    config, left_out = participation.of(config, workdir, dataset)
    target = topology(config.plan.topology, config.parallel.strategy)
    stages = outline(config, dataset, workdir, target)
    networks = [built for built in stages if isinstance(built.stage, Stage)]
    rows = [plan_stage(b, target, config.parallel, config.plan.efficiency) for b in networks]
    lines = [*_heading(config, dataset, target), *nesting(config, stages), *on_host(stages)]
    lines += [f"`{name}` is left out: {reason}." for name, reason in left_out.items()]
    if not rows:
        return "\n".join(lines)
    return "\n".join([*lines, "", *_table(rows, target)])


def nesting(config: RunConfig, stages: Sequence[BuiltStage]) -> Iterator[str]:
    """Yields what each nested chain of the stages costs."""
    for name in config.models:
        own = [built for built in stages if built.stage.name.startswith(f"{name}/")]
        for note in notes.of_nesting((built.stage.members, built.split) for built in own):
            yield f"{name}: {note}"


def on_host(stages: Sequence[BuiltStage]) -> Iterator[str]:
    """Yields what libraries fit on the host, of which XLA tells nothing."""
    for stage, num_inputs, *_ in stages:
        if isinstance(stage, HostStage):
            yield (
                f"`{stage.name}`: {stage.training.learner.name} of {num_inputs:,} inputs, "
                f"{len(stage.members)} members, fitted on the host one after another in about "
                f"{memory.size(stage.num_bytes)} of memory; not in the table."
            )


def _heading(config: RunConfig, dataset: Dataset, target: Topology) -> list[str]:
    hardware = target.hardware
    treated = int((~dataset.is_control).sum())
    lines = [
        f"`{target.text}`: {target.num_devices} x {hardware.name}, each with "
        f"{hardware.memory_bytes / 2**30:.1f} GiB, {hardware.flops / 1e12:.3g} TFLOP/s and "
        f"{hardware.bandwidth / 1e9:.4g} GB/s at peak, of which {config.plan.efficiency:.0%} is "
        "assumed to be reached.",
        f"Data: {len(dataset)} rows, {treated} of them treated, {len(dataset.genes)} genes, "
        f"{len(dataset.cells)} cells.",
    ]
    if target.is_estimate:
        lines.append(
            "Estimated: FLOPs, bytes and memory are of the program that XLA compiles for a CPU, "
            "which fuses less than a GPU's: expect less memory and less time by bytes."
        )
    return lines


def _table(rows: Sequence[StagePlan], target: Topology) -> list[str]:
    lines = [
        "| stage | inputs | members | groups x slots | epochs x steps | parameters "
        "| GiB per device | PFLOP | time by FLOPs | time by bytes |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        flops, most = "" if row.flops is None else _peta(row.flops), "at most " * row.at_most
        lines.append(
            f"| `{row.name}` | {most}{row.inputs:,} | {row.members} | {_slots(row)} "
            f"| {row.epochs} x {row.steps} | {most}{row.parameters:,} | {_memory(row, target)} "
            f"| {flops} | {_duration(row.flops_seconds)} | {_duration(row.bytes_seconds)} |"
        )
    every = [row.flops for row in rows if row.flops is not None]
    if len(every) == len(rows):
        times = (sum(getattr(r, f"{by}_seconds") for r in rows) for by in ("flops", "bytes"))
        lines.append(
            f"| together | | {sum(row.members for row in rows)} | | | | | {_peta(sum(every))} | "
            + " | ".join(map(_duration, times))
            + " |"
        )
    return lines


def _slots(row: StagePlan) -> str:
    each = f", {row.per_member} devices each" if row.per_member > 1 else ""
    return f"{row.groups} x {row.slots}{each}"


def _memory(row: StagePlan, target: Topology) -> str:
    if row.memory_bytes is None:
        return "does not fit"
    exceeds = row.memory_bytes > target.hardware.memory_bytes
    return f"{row.memory_bytes / 2**30:.2f}" + (", does not fit" if exceeds else "")


def _peta(flops: float) -> str:
    return f"{float(f'{flops / 1e15:.3g}'):,g}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
