"""Shapes of what a stage's programs work on, known before anything is computed."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from moa_jax.training import initial, members
from moa_jax.training.stage import MemberState, Stage
from moa_jax.training.trees import Batches, Own, Shared, Training, Tree, Validation


def of(tree: Tree) -> Tree:
    """Returns a `ShapeDtypeStruct` in the place of each array."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(np.shape(a), a.dtype), tree)


def shared(stage: Stage) -> Shared:
    """Returns what all members of a stage read."""
    return of(Shared(stage.shared, stage.targets, stage.known))


def own(stage: Stage) -> Own:
    """Returns what is a member's own in every program, without a start."""
    data = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), stage.member_data)
    return Own(data, _number())


def state(stage: Stage) -> MemberState:
    """Returns the state of one member."""
    key_data = jax.ShapeDtypeStruct((2,), np.uint32)
    return jax.eval_shape(initial.initialise(stage), key_data, own(stage), shared(stage))[0]


def train(stage: Stage, steps: int) -> Training:
    """Returns what one member trains with in a device call of so many steps."""
    return Training(own(stage), Batches(_number(steps, stage.batch_size), _number(steps)))


def validation(stage: Stage) -> Validation:
    """Returns what one member is validated with."""
    steps = validation_steps(stage)
    batches = Batches(_number(steps, stage.batch_size), _number(steps))
    return Validation(own(stage), batches, _number())


def _number(*shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, np.int32)


def validation_steps(stage: Stage) -> int:
    """Returns the number of batches that the largest member is validated in."""
    most = max(len(member.select_rows) for member in stage.members)
    return members.num_batches(most, stage.batch_size)


def num_bytes(tree: Any) -> int:
    """Returns the memory of all arrays of a tree."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def num_parameters(member: MemberState) -> int:
    """Returns the number of trainable parameters in a member's state."""
    return sum(leaf.size for leaf in jax.tree.leaves(member.params))
