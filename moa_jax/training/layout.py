"""How a stage is run: settings, and how its members and steps are cut into groups and calls."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from moa_jax.config import CheckpointConfig, ParallelConfig, RunConfig
from moa_jax.store.manifest import Manifest
from moa_jax.training import activations, shapes
from moa_jax.training.members import Member
from moa_jax.training.parallel import MEMORY_SHARE, Devices, choose_per_member
from moa_jax.training.slots import Slots
from moa_jax.training.stage import Forward, Stage

T = TypeVar("T")

# Share of the devices' memory that copies of the tables may fill before devices share the rows:
# half of what members may.
TABLES_SHARE = MEMORY_SHARE / 2
# Share of the time of a member's step that stays when devices share its batch: starting its
# thousands of kernels, exchanging gradients, moving all weights. Assumed; more where devices are
# joined slowly.
FIXED_SHARE = 0.1
# What compiling a stage's programs for another number of devices each takes, of the training of a
# member. Assumed: two minutes of twenty.
COMPILATION = 0.1


class Wave(NamedTuple):
    """Members that train together, `devices_each` of the devices sharing the batches of each."""

    members: int
    devices_each: int


@dataclasses.dataclass(frozen=True)
class Settings:
    """How stages are run, as opposed to what they compute.

    Attributes:
      devices: devices and strategy.
      base_seed: the run's seed, from which every key and permutation derives.
      members_at_once: members trained together; see `members_that_fit`.
      waves: groups of their own sizes, in the place of those; see `wave_sizes`.
      steps_per_call: at most this many optimiser steps per device call.
      checkpoint_seconds: time between checkpoints; 0 saves after every call.
      manifest: lists the weights of finished members; what is not as it lists is made again.
      run: the run that checkpoints are of; those of another are not gone on from.
    """

    devices: Devices
    base_seed: int = RunConfig.seed
    members_at_once: int = 1
    waves: tuple[Wave, ...] = ()
    steps_per_call: int = ParallelConfig.steps_per_call
    checkpoint_seconds: float = CheckpointConfig.seconds
    manifest: Manifest | None = None
    run: str = ""

    @property
    def cut(self) -> str:
        """The fields that decide whose state a checkpoint has, and how its calls are counted."""
        at_once = [wave.members for wave in self.waves] or self.members_at_once
        return (
            f"config.parallel.members_at_once={at_once} and "
            f"config.parallel.steps_per_call={self.steps_per_call}"
        )


def members_that_fit(
    stage: Stage, num_shards: int, memory_bytes: int, shares_rows: bool = False
) -> int:
    """Returns how many members may train at once within a share of the devices' memory together.

    A member needs its state, its gradients, one more copy of the state, its own arrays and what it
    keeps of a batch. What all members read lies on every device, or once on all that share its
    rows. Members that run one after another on every platform train in waves of one per shard: a
    wave that has stopped costs nothing.
    """
    if stage.forward.inner == "loop":
        return min(num_shards, len(stage.members))
    state = shapes.state(stage)
    per_member = 2 * shapes.num_bytes(state) + shapes.num_bytes(state.params)
    per_member += shapes.num_bytes(shapes.own(stage)) + activations.num_bytes(stage)
    copies = 1 if shares_rows else num_shards
    left = MEMORY_SHARE * memory_bytes - copies * shapes.num_bytes(shapes.shared(stage))
    count = max(int(left // per_member), num_shards)
    return min(count, len(stage.members))


def wave_sizes(num_members: int, num_devices: int, batch_size: int) -> list[int]:
    """Returns how many members train in each wave, so that the last one ends soonest.

    In a wave as many devices share the batches of each member as leave a place for all of it. A
    member that has d devices takes, of its time on one, `FIXED_SHARE` and the rest in proportion
    to the rows that a device has of a batch, ceil(batch_size / d). Waves come one after another,
    those of fewer devices each first, and `COMPILATION` before each that has more than the one
    before it. Members are taken to train equally long.

    Args:
      num_members: members of a stage, one per place.
      num_devices: devices that there are.
      batch_size: rows of a batch.

    >>> wave_sizes(10, 8, 48)  # 1 + 0.1 + 0.325 of a member's time, in the place of 2
    [8, 2]
    """
    shares = [d for d in range(1, num_devices + 1) if num_devices % d == 0]

    def seconds(devices: int) -> float:
        rows = -(-batch_size // devices)
        return FIXED_SHARE + (1 - FIXED_SHARE) * rows / batch_size

    # For members that are left and devices that each had before: the time that these take, and
    # the waves that take it.
    best: dict[tuple[int, int], tuple[float, list[int]]] = {(0, d): (0.0, []) for d in shares}
    for left in range(1, num_members + 1):
        for before in shares:
            options = []
            for devices in (d for d in shares if d >= before):
                size = min(left, num_devices // devices)
                after, waves = best[left - size, devices]
                change = COMPILATION if devices > before else 0.0
                options.append((seconds(devices) + change + after, -size, waves))
            total, size, waves = min(options)
            best[left, before] = total, [-size, *waves]
    return min(best[num_members, d] for d in shares)[1]


def devices_each(
    forward: Forward, num_members: int, num_devices: int, parallel: ParallelConfig
) -> int:
    """Returns how many devices share the batches of each member, where so many train at once."""
    return choose_per_member(
        parallel.devices_per_member,
        parallel.strategy,
        forward.shares_batches,
        num_devices,
        num_members,
    )


def may_share_rows(stage: Stage, num_devices: int, parallel: ParallelConfig) -> bool:
    """Returns whether devices can hold a part each of the rows that members read.

    Those that may share the batches of a member have all rows each.

    Args:
      stage: the stage, or its outline.
      num_devices: devices that there are.
      parallel: how members are spread, as configured.
    """
    may = num_devices > 1 and parallel.strategy in ("auto", "shard_map")
    return may and not stage.forward.shares_batches


def shares_rows(
    stage: Stage, num_devices: int, memory_bytes: int, parallel: ParallelConfig
) -> bool:
    """Returns whether each device holds a part of the rows that members read, and not all of them.

    Args:
      stage: the stage, or its outline.
      num_devices, memory_bytes: devices that there are, and the memory of all of them.
      parallel: how members are spread, as configured.
    """
    if not may_share_rows(stage, num_devices, parallel) or parallel.rows == "replicated":
        return False
    replicas = num_devices * shapes.num_bytes(shapes.shared(stage))
    return parallel.rows == "sharded" or replicas > TABLES_SHARE * memory_bytes


def members_at_once(
    stage: Stage, num_devices: int, memory_bytes: int, parallel: ParallelConfig
) -> int | list[int]:
    """Returns how many members of a stage train at once, or in each wave where these differ.

    Args:
      stage: the stage, or its outline.
      num_devices, memory_bytes: devices that there are, and the memory of all of them.
      parallel: how members are spread, as configured.
    """
    total = len(stage.members)
    is_free = not (parallel.members_at_once or parallel.devices_per_member)
    if is_free and devices_each(stage.forward, 1, num_devices, parallel) > 1:
        sizes = wave_sizes(total, num_devices, stage.batch_size)
        even = [len(group) for group in even_groups(stage.members, sizes[0])]
        each = {devices_each(stage.forward, size, num_devices, parallel) for size in sizes}
        return sizes[0] if sizes == even and len(each) == 1 else sizes
    shards = num_devices // devices_each(stage.forward, total, num_devices, parallel)
    spread = shares_rows(stage, num_devices, memory_bytes, parallel)
    return parallel.members_at_once or members_that_fit(stage, shards, memory_bytes, spread)


def waves(
    stage: Stage, at_once: int | list[int], num_devices: int, parallel: ParallelConfig
) -> tuple[Wave, ...]:
    """Returns the waves of `members_at_once`, none where all groups are alike."""
    if isinstance(at_once, int):
        return ()
    return tuple(Wave(n, devices_each(stage.forward, n, num_devices, parallel)) for n in at_once)


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
      slots_per_shard: members that one shard has of a group, padding included; of its first wave.
      calls_per_epoch, steps_per_call: device calls of an epoch, and optimiser steps of each.
      waves: what each group is where they differ, else none.
    """

    groups: list[Sequence[Member]]
    slots_per_shard: int
    calls_per_epoch: int
    steps_per_call: int
    waves: tuple[Wave, ...] = ()

    @classmethod
    def of(
        cls,
        stage: Stage,
        num_shards: int,
        at_once: int | tuple[Wave, ...],
        steps_per_call: int,
    ) -> Layout:
        """Returns the layout with at most so many members, or these waves, and steps at once."""
        waves: tuple[Wave, ...] = ()
        if isinstance(at_once, int):
            at_most = min(at_once, -(-len(stage.members) // stage.cohorts))
            groups = even_groups(stage.members, at_most)
        else:
            left = iter(stage.members)
            waves, groups = at_once, [[*itertools.islice(left, w.members)] for w in at_once]
        steps = stage.longest_epoch
        calls_per_epoch = -(-steps // steps_per_call)
        return cls(
            groups,
            -(-len(groups[0]) // num_shards),
            calls_per_epoch,
            -(-steps // calls_per_epoch),
            waves,
        )

    def devices(self, number: int, devices: Devices) -> Devices:
        """Returns the devices as a group uses them."""
        return devices.sharing_batches(self.waves[number].devices_each) if self.waves else devices

    def slots(self, number: int, devices: Devices) -> Slots:
        """Returns the places of a group's members on `devices`, as the group uses them."""
        count = len(self.groups[number])
        each = -(-count // devices.num_shards) if self.waves else self.slots_per_shard
        return devices.slots(count, each)
