"""Slots: the places of members on devices, and how their arrays come there and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils

from moa_jax.store import processes
from moa_jax.training.lanes import is_cut
from moa_jax.training.trees import Array, Tree


@dataclasses.dataclass(frozen=True)
class Slots:
    """Places for members on devices: `num_shards` times `per_shard`, at least one per member.

    Members are dealt to the shards in turn: neighbours, which may be sorted by their length, then
    train side by side. Padding repeats member 0, a real member, so that no special values arise.
    Slots exist on devices only; files and results hold the real members.
    """

    num_members: int
    num_shards: int
    per_shard: int

    @property
    def num_slots(self) -> int:
        return self.num_shards * self.per_shard

    def pad(self, tree: Tree) -> Tree:
        """Arrays [members, ...] -> arrays [shards, members per shard, ...], on the host."""
        index = np.where(self.taken, self._numbers, 0)
        return jax.tree.map(lambda array: np.asarray(array)[index], tree)

    @property
    def taken(self) -> np.ndarray:
        """Which places have a member, [shards, members per shard]; the others are padding."""
        return self._numbers < self.num_members

    @property
    def _numbers(self) -> np.ndarray:
        return np.arange(self.num_slots).reshape(self.per_shard, self.num_shards).T

    def unpad(self, tree: Tree) -> Tree:
        """Arrays [shards, members per shard, ...] -> arrays [members, ...], on every host."""
        return jax.tree.map(self._unpadded, tree, is_leaf=is_cut)

    def unpad_for_first(self, tree: Tree) -> Tree:
        """Does the same for the first process alone, which writes.

        All must call it. The others, of which a machine may have eight, hold one array at a time
        and get zeros in its place, which take no memory.
        """

        def for_first(array):
            found = self._unpadded(array)
            if processes.is_first():
                return found
            return np.broadcast_to(np.zeros((), found.dtype), found.shape)

        return jax.tree.map(for_first, tree, is_leaf=is_cut)

    def to_save(self, tree: Tree) -> Tree:
        """Returns what `Checkpoints.save` takes, of arrays [shards, members per shard, ...].

        The members, [members, ...] on the host; of several processes, each of which saves what it
        holds, the arrays as they lie.
        """
        return tree if processes.are_several() else self.unpad(tree)

    def _unpadded(self, array: Array) -> np.ndarray:
        return members_of(_download(array), self.num_members)


def members_of(array: np.ndarray, num_members: int) -> np.ndarray:
    """An array [shards, members per shard, ...] -> the array [members, ...] that was dealt."""
    return array.swapaxes(0, 1).reshape(-1, *array.shape[2:])[:num_members]


def stack(trees: Sequence[Tree]) -> Tree:
    """Stacks the trees of several members along a new first axis, on the host."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _download(array: Array) -> np.ndarray:
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)
