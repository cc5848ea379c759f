"""Step: a stage's training program compiled for devices, and what one optimiser step takes."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import logging

from moa_jax.errors import first_line
from moa_jax.plan import hlo, traffic
from moa_jax.plan.topology import Topology
from moa_jax.plan.traffic import Traffic
from moa_jax.training import shapes
from moa_jax.training.layout import Layout
from moa_jax.training.loop import stage_programs
from moa_jax.training.parallel import Devices, choose_inner
from moa_jax.training.stage import Stage


class Step(NamedTuple):
    """What one optimiser step of all members of a device takes.

    Attributes:
      method: how the figures came about, in words.
      work: bytes, kernels and products.
      memory_bytes: peak of the device: arguments, results and temporaries of the whole program.
      compile_seconds: time that compiling took here.
    """

    method: str
    work: Traffic
    memory_bytes: int
    compile_seconds: float


def step_of(
    stage: Stage, target: Topology, layout: Layout, per_member: int, shares_rows: bool = False
) -> Step | None:
    """Compiles a stage's training program and returns what a step of it takes.

    A GPU's program that cannot be compiled here is estimated from a CPU's.

    Args:
      stage: a stage, or its outline.
      target: the devices.
      layout: how its members and steps are cut.
      per_member: devices that share the batches of each member.
      shares_rows: whether all share the rows that members read.

    Returns:
      None if the compiler finds that it does not fit in their memory.
    """
    inner = choose_inner(stage.forward.inner, target.card.platform)
    kind, share = _products_kind(stage), 1.0
    if target.is_estimate:
        stage, share = _in_float32(stage)
    part, devices = target.to_compile(stage, per_member, shares_rows)
    slots, steps = layout.slots_per_shard, layout.steps_per_call
    start = time.monotonic()
    try:
        compiled = compiled_step(part, devices, inner, slots, steps)
    except jax.errors.JaxRuntimeError as error:
        if target.card.platform != "gpu" or target.is_estimate:
            raise
        logging.warning("%s: estimated on the CPU: %s", stage.name, first_line(error))
        return step_of(stage, target.on_cpu(), layout, per_member, shares_rows)
    seconds = time.monotonic() - start
    if compiled is None:
        return None
    counted = traffic.of_program(hlo.parse(compiled.as_text() or "")).times(1 / steps)
    analysis: Any = compiled.cost_analysis() or {}
    flops = counted.flops
    if "flops" in analysis:
        # XLA counts the body of a loop once: one step of all members of a device, or of one of
        # them where they run in turn.
        flops = {kind: analysis["flops"] * (1 if inner == "vmap" else slots)}
    work = Traffic(share * counted.num_bytes, counted.kernels, flops)
    logging.info(
        "%s: %s in %.1f s, %.3g GB and %.0f kernels per step",
        stage.name, target.method, seconds, work.num_bytes / 1e9, work.kernels,
    )  # fmt: skip
    return Step(target.method, work, peak_bytes(compiled, share), seconds)


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
        return stage_programs(
            stage, devices, inner, runs_once=True, every_step=True
        ).train.compiled(
            devices.member_shapes(shapes.state(stage), per_shard),
            devices.member_shapes(shapes.train(stage, steps), per_shard),
            devices.table_shapes(shapes.shared(stage)),
        )
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None


def peak_bytes(compiled: jax.stages.Compiled, share: float = 1.0) -> int:
    """Returns the memory that a program needs on one device, by XLA's analysis.

    Args:
      compiled: the program.
      share: of its temporaries that count.
    """
    memory: Any = compiled.memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + round(share * memory.temp_size_in_bytes)
        + memory.generated_code_size_in_bytes
    )


def _products_kind(stage: Stage) -> str:
    """Returns the type of a network's products, as `Card.peak` names them."""
    dtype = getattr(stage.forward.network, "dtype", None) or jnp.result_type(float)
    if dtype != jnp.float32:
        return jnp.dtype(dtype).name
    set_for_all = jax.config.values["jax_default_matmul_precision"]
    precision = stage.forward.precision or set_for_all
    return "float32" if precision in ("float32", "high", "highest") else "tf32"


def _in_float32(stage: Stage) -> tuple[Stage, float]:
    """Returns a stage as a CPU computes it, and the share of its bytes that would be moved.

    A CPU has no units for bfloat16: its programs convert every activation there and back, and
    would count both.
    """
    dtype = getattr(stage.forward.network, "dtype", None)
    if dtype is None or jnp.dtype(dtype).itemsize >= 4:
        return stage, 1.0
    network = stage.forward.network.clone(dtype=None)
    forward = dataclasses.replace(stage.forward, network=network)
    return dataclasses.replace(stage, forward=forward), jnp.dtype(dtype).itemsize / 4
