"""Shapes of what a stage's programs work on, known before anything is computed."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from moa_jax.training import members, programs
from moa_jax.training.stage import MemberState, Stage

Tree = Any


def of(tree: Tree) -> Tree:
    """Returns a `ShapeDtypeStruct` in the place of each array."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(np.shape(a), a.dtype), tree)


def shared(stage: Stage) -> Tree:
    """Returns what all members of a stage read."""
    return of({"inputs": stage.shared, "targets": stage.targets})


def own(stage: Stage) -> Tree:
    """Returns what one member reads in every program."""
    data = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), stage.member_data)
    return {"data": data, "total_steps": jax.ShapeDtypeStruct((), np.int32)}


def state(stage: Stage) -> MemberState:
    """Returns the state of one member."""
    key_data = jax.ShapeDtypeStruct((2,), np.uint32)
    return jax.eval_shape(programs.initialise(stage), key_data, own(stage), shared(stage))[0]


def train(stage: Stage, steps: int) -> Tree:
    """Returns what one member reads in `programs.train` of so many steps."""
    return {**own(stage), **_batches(stage, steps)}


def validate(stage: Stage, steps: int) -> Tree:
    """Returns what one member reads in `programs.validate` of so many steps."""
    number = jax.ShapeDtypeStruct((), np.int32)
    return {**own(stage), **_batches(stage, steps), "epoch_steps": number}


def _batches(stage: Stage, steps: int) -> Tree:
    return {
        "rows": jax.ShapeDtypeStruct((steps, stage.batch_size), np.int32),
        "counts": jax.ShapeDtypeStruct((steps,), np.int32),
    }


def validation_steps(stage: Stage) -> int:
    """Returns the number of batches that the largest member is validated in."""
    most = max(len(member.select_rows) for member in stage.members)
    return members.num_batches(most, stage.batch_size)


def num_bytes(tree: Tree) -> int:
    """Returns the memory of all arrays of a tree."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def num_parameters(member: MemberState) -> int:
    """Returns the number of trainable parameters in a member's state."""
    return sum(leaf.size for leaf in jax.tree.leaves(member.params))
