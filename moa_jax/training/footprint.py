"""Footprint: the memory that training a stage takes at least, known before anything is compiled."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.extend.core
import numpy as np

from moa_jax.training import shapes
from moa_jax.training.parallel import Devices
from moa_jax.training.stage import MemberState, Stage

# Bytes of a batch from which on its forward pass is traced.
LARGE_BATCH = 2**28


class Footprint(NamedTuple):
    """Bytes, each a lower bound.

    Attributes:
      networks: states, gradients and one more copy of the states of the members that train at once.
      tables: what members read, and the targets.
      batches: positions of the rows of a device call, and the inputs and the largest layer of a
        batch.
      predictions: of all rows by all members, by those of every nested part, and of every seed
        where these are kept.
    """

    networks: int
    tables: int
    batches: int
    predictions: int

    @property
    def total(self) -> int:
        return sum(self)


def of_stage(
    stage: Stage,
    devices: Devices,
    members_at_once: int,
    steps_per_call: int,
    by_seed: bool = False,
    parts: int = 1,
) -> Footprint:
    """Returns what a stage takes.

    Args:
      stage: the stage, or its outline.
      devices: where it is trained.
      members_at_once: members that train together.
      steps_per_call: most optimiser steps of a device call.
      by_seed: whether the predictions of each seed are kept.
      parts: in how many parts, one after another, the host makes what all members read.
    """
    state = shapes.state(stage)
    at_once = min(members_at_once, len(stage.members))
    # Members that run one after another have one batch at a time, in every lane.
    inner = stage.forward.inner
    side_by_side = devices.num_shards * devices.in_lanes(inner, at_once).lanes
    batches = min(at_once, side_by_side) if devices.inner(inner) == "loop" else at_once
    steps = min(steps_per_call, stage.longest_epoch)
    held = shapes.of((stage.member_data, stage.targets, stage.known))
    return Footprint(
        networks=at_once * (2 * shapes.num_bytes(state) + shapes.num_bytes(state.params)),
        tables=shapes.num_bytes(held) + shapes.num_bytes(shapes.of(stage.shared)) // parts,
        batches=at_once * 4 * steps * stage.batch_size + batches * _batch_bytes(stage, state),
        predictions=_predictions_bytes(stage, by_seed),
    )


def _predictions_bytes(stage: Stage, by_seed: bool) -> int:
    """Returns what `predict.out_of_fold` holds at its end: sums in float64, seeds as networks'."""
    nested = {
        blocks
        for member in stage.members
        if len(member.blocks) > 1
        for blocks in itertools.combinations(member.blocks, len(member.blocks) - 1)
    }
    each = stage.targets.size * (1 + len(nested))
    seeds = len({member.seed for member in stage.members}) if by_seed else 0
    return each * (8 + stage.targets.dtype.itemsize * seeds)


def _batch_bytes(stage: Stage, state: MemberState) -> int:
    """Returns the memory of one member's batch: the network's inputs and its widest layer.

    Of large batches the forward pass is traced: an image's layers are larger than their weights
    tell.
    """
    rows = jax.ShapeDtypeStruct((stage.batch_size,), np.int32)

    def inputs(shared: Any, data: Any, rows: jax.Array) -> tuple:
        return stage.forward.inputs(shared, data, rows, jax.random.key(0), True)

    arrays = shapes.of(stage.shared), shapes.own(stage).data, rows
    of_batch = jax.eval_shape(inputs, *arrays)
    widest = max((leaf.shape[-1] for leaf in jax.tree.leaves(state.params) if leaf.ndim), default=1)
    found = shapes.num_bytes(of_batch) + stage.batch_size * widest * 4
    if found < LARGE_BATCH:
        return found
    network = stage.forward.network
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    layers = jax.make_jaxpr(lambda v, x: network.apply(v, *x))(variables, of_batch)
    # The largest one is there together with its gradient.
    return shapes.num_bytes(of_batch) + 2 * max(_outputs(layers.jaxpr), default=0)


def _outputs(program: Any) -> Iterator[int]:
    """Yields the bytes of everything that a traced program computes."""
    for equation in program.eqns:
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from _outputs(inner)
        for output in equation.outvars:
            yield math.prod(output.aval.shape) * output.aval.dtype.itemsize
