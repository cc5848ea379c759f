"""How a stage is run: settings, and how its members and steps are cut into groups and calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

from moa_jax.config import CheckpointConfig, ParallelConfig, RunConfig
from moa_jax.store.manifest import Manifest
from moa_jax.training import activations, shapes
from moa_jax.training.members import Member
from moa_jax.training.parallel import MEMORY_SHARE, Devices
from moa_jax.training.stage import Stage

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How stages are run, as opposed to what they compute.

    Attributes:
      devices: devices and strategy.
      base_seed: the run's seed, from which every key and permutation derives.
      members_at_once: members trained together; see `members_that_fit`.
      steps_per_call: at most this many optimiser steps per device call.
      checkpoint_seconds: time between checkpoints; 0 saves after every call.
      manifest: lists the weights of finished members; what is not as it lists is made again.
      run: the run that checkpoints are of; those of another are not gone on from.
    """

    devices: Devices
    base_seed: int = RunConfig.seed
    members_at_once: int = 1
    steps_per_call: int = ParallelConfig.steps_per_call
    checkpoint_seconds: float = CheckpointConfig.seconds
    manifest: Manifest | None = None
    run: str = ""


def members_that_fit(stage: Stage, num_shards: int, memory_bytes: int) -> int:
    """Returns how many members may train at once within a share of the devices' memory together.

    A member needs its state, its gradients, one more copy of the state, its own arrays and what it
    keeps of a batch. What all members read lies on every device. Members that run one after another
    on every platform train in waves of one per shard: a wave that has stopped costs nothing.
    """
    if stage.forward.inner == "loop":
        return min(num_shards, len(stage.members))
    state = shapes.state(stage)
    per_member = 2 * shapes.num_bytes(state) + shapes.num_bytes(state.params)
    per_member += shapes.num_bytes(shapes.own(stage)) + activations.num_bytes(stage)
    left = MEMORY_SHARE * memory_bytes - num_shards * shapes.num_bytes(shapes.shared(stage))
    count = max(int(left // per_member), num_shards)
    return min(count, len(stage.members))


def even_groups(members: Sequence[T], members_at_once: int) -> list[Sequence[T]]:
    """Cuts members into the fewest groups of at most `members_at_once`, as equal as can be.

    >>> even_groups("abcdefg", 3)
    ['abc', 'def', 'g']
    >>> even_groups("abcdefgh", 5)
    ['abcd', 'efgh']
    """
    num_groups = -(-len(members) // members_at_once)
    size = -(-len(members) // num_groups)
    return [members[i : i + size] for i in range(0, len(members), size)]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the members and steps of a stage are cut into groups, slots and device calls.

    Attributes:
      groups: the members that train together.
      slots_per_shard: members that one shard has of a group, padding included.
      calls_per_epoch, steps_per_call: device calls of an epoch, and optimiser steps of each.
    """

    groups: list[Sequence[Member]]
    slots_per_shard: int
    calls_per_epoch: int
    steps_per_call: int

    @classmethod
    def of(cls, stage: Stage, num_shards: int, members_at_once: int, steps_per_call: int) -> Layout:
        """Returns the layout with at most so many members and steps at once."""
        at_most = min(members_at_once, -(-len(stage.members) // stage.cohorts))
        groups = even_groups(stage.members, at_most)
        steps = max(stage.steps_per_epoch(member) for member in stage.members)
        calls_per_epoch = -(-steps // steps_per_call)
        return cls(
            groups, -(-len(groups[0]) // num_shards), calls_per_epoch, -(-steps // calls_per_epoch)
        )
