"""Lanes: parts of a CPU's members that run side by side, each of them called by a thread.

A CPU runs members one after another, and the products of a small network fill one core. Lanes are
as many as fill all cores. Each is a call of one compiled program, so that a member's bits are those
that it has in any number of lanes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeGuard

import jax
import numpy as np

from moa_jax.store import cores
from moa_jax.training import conventions
from moa_jax.training.trees import Array, Tree

# Of a lane with one member XLA would leave out the loop, and round otherwise.
FEWEST_MEMBERS = 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Lanes:
    """An array [lanes, members per lane, ...], of which each lane has its part.

    Attributes:
      parts: arrays [1, members per lane, ...].
    """

    parts: tuple[Array, ...]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Returns the whole, on the host."""
        return np.concatenate([np.asarray(part, dtype) for part in self.parts])


def is_cut(value: Any) -> TypeGuard[Lanes]:
    """Tells whether an array lies in lanes."""
    return isinstance(value, Lanes)


def number_for(num_members: int) -> int:
    """Returns how many lanes are of use to so many members, with as few idle places as can be."""
    per_lane = max(FEWEST_MEMBERS, -(-num_members // cores.available()))
    return -(-num_members // per_lane)


def cut(tree: Tree, put: Callable[[Array], Array]) -> Any:
    """Returns arrays [lanes, ...] in lanes, each part of them put where it is used."""

    def in_lanes(array: Any) -> Lanes:
        if is_cut(array):
            return array
        return Lanes(tuple(put(array[lane : lane + 1]) for lane in range(len(array))))

    return jax.tree.map(in_lanes, tree, is_leaf=is_cut)


def each(tree: Any, number: int) -> list[Any]:
    """Returns for each of so many lanes the tree of its parts."""
    return [
        jax.tree.map(lambda array, own=lane: array.parts[own], tree, is_leaf=is_cut)
        for lane in range(number)
    ]


def side_by_side(function: Callable[..., Any], arguments: Sequence[tuple]) -> Any:
    """Calls a function for every lane at once; returns what it returns, in lanes.

    What this thread has asked of JAX, such as to stop at NaN, holds for all lanes.
    """
    here = conventions.of_this_thread()

    def call(own: tuple) -> Any:
        with here():
            return function(*own)

    with ThreadPoolExecutor(len(arguments)) as pool:
        found = [*pool.map(call, arguments)]
    return jax.tree.map(lambda *parts: Lanes(parts), *found)
