"""Shared rows: tables of which every device holds a part, and the exchange of a batch's rows.

The batches of a member are of rows that lie anywhere. All devices tell each other which rows they
want, each answers with those it holds and zeros for the others, and the answers are added up as
whole numbers, bit by bit, so that a row arrives as it was. All of it is in the compiled program.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from moa_jax.training.made_rows import MadeRows
from moa_jax.training.trees import Array, Tree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SharedRows:
    """A table [N, ...] whose rows are spread over the devices of a mapped axis, in their order.

    In a program that is mapped over the axis `rows[index]` is what `table[index]` would be. Every
    device must come to it, each with an index of its own and all of one shape.

    Attributes:
      part: [devices * P, ...], P = ceil(N / devices), zeros at the end; within a program the
        device's own part of it, [P, ...].
      axis: name of the axis.
    """

    part: Array
    axis: str = dataclasses.field(metadata={"static": True})

    def __getitem__(self, index: Any) -> jax.Array:
        """Returns rows, or cells of rows, as an array of them does for whole numbers from 0 on.

        Args:
          index: positions of rows, [...], or a tuple of these and of places along further axes.
        """
        index = jnp.broadcast_arrays(*(index if isinstance(index, tuple) else (index,)))
        wanted, *places = (jax.lax.all_gather(one, self.axis) for one in index)
        own = wanted - jax.lax.axis_index(self.axis) * len(self.part)
        is_here = (own >= 0) & (own < len(self.part))
        found = self.part[(jnp.where(is_here, own, 0), *places)]
        bits = _bits(found)
        is_here = is_here.reshape(is_here.shape + (1,) * (bits.ndim - is_here.ndim))
        answers = jnp.where(is_here, bits, jnp.zeros((), bits.dtype))
        return _values(jax.lax.psum_scatter(answers, self.axis), found.dtype)

    def sum(self, axis: int) -> SharedRows:
        """Returns the sums over an axis other than the rows', of the rows where they lie."""
        return dataclasses.replace(self, part=self.part.sum(axis))


def spread(table: np.ndarray | MadeRows, sharding: NamedSharding, num_parts: int) -> SharedRows:
    """Uploads a table, each device its own part of the rows, one part after another.

    Of rows that are made where they are asked for there is one part at a time on the host.

    Args:
      table: [N, ...] on the host.
      sharding: of the first axis, over one axis of a mesh.
      num_parts: how many parts that makes.
    """
    size = -(-len(table) // num_parts)
    shape = (num_parts * size, *table.shape[1:])
    (axis,) = sharding.spec
    parts = [
        jax.block_until_ready(jax.device_put(_part(table, index[0].start or 0, size), device))
        for device, index in sharding.addressable_devices_indices_map(shape).items()
        if index is not None
    ]
    return SharedRows(jax.make_array_from_single_device_arrays(shape, sharding, parts), axis)


def _part(table: np.ndarray | MadeRows, start: int, size: int) -> np.ndarray:
    """Returns so many rows [size, ...] from a position on, those after the last one zero."""
    count = min(max(len(table) - start, 0), size)
    if count == size:
        return np.asarray(table[start : start + size])
    rows = np.zeros((size, *table.shape[1:]), table.dtype)
    if isinstance(table, MadeRows):
        table.write(start, rows[:count])
    else:
        rows[:count] = table[start : start + count]
    return rows


def outline(table: jax.ShapeDtypeStruct, sharding: NamedSharding, num_parts: int) -> SharedRows:
    """Returns the shape of what `spread` makes of a table."""
    shape = (num_parts * -(-table.shape[0] // num_parts), *table.shape[1:])
    (axis,) = sharding.spec
    return SharedRows(jax.ShapeDtypeStruct(shape, table.dtype, sharding=sharding), axis)


def is_spread(tree: Any) -> TypeGuard[SharedRows]:
    """Tells whether a tree is a table whose rows are spread."""
    return isinstance(tree, SharedRows)


def specs(tree: Tree) -> Any:
    """Returns how the arrays of a tree lie on the devices, for `jax.shard_map`."""
    return jax.tree.map(
        lambda one: PartitionSpec(one.axis) if is_spread(one) else PartitionSpec(),
        tree,
        is_leaf=is_spread,
    )


def are_in(tree: Any) -> bool:
    """Tells whether rows of any of a tree's tables are spread."""
    return any(map(is_spread, jax.tree.leaves(tree, is_leaf=is_spread)))


def most(steps: Any, tree: Any) -> Any:
    """Returns how many steps all devices come to, where each has a number of its own.

    It is the most of these where they exchange a tree's rows in every step, else their own.
    """
    axes = {one.axis for one in jax.tree.leaves(tree, is_leaf=is_spread) if is_spread(one)}
    return jax.lax.pmax(steps, tuple(axes)) if axes and not isinstance(steps, int) else steps


def taken_if(own: jax.Array, take: Callable[[Tree], Tree], tree: Tree, state: Tree) -> Tree:
    """Returns the state after a step among so many as `most` says.

    The devices exchange the rows that their steps read, all of them. Then a branch has each one
    take its own steps only. A selection in its place would round differently: XLA fuses it.

    Args:
      own: [] bool, whether the step is one of the device's own, as it is where rows are not spread.
      take: from the tree to the state after the step. It is called twice, and must read the same
        rows in the same order.
      tree: with tables whose rows may be spread.
      state: the state before the step.
    """
    if not are_in(tree):
        return take(tree)
    answers: list[jax.Array] = []
    # What else is computed here nobody reads, and XLA leaves it out.
    take(_replaced(tree, lambda rows: _Asked(rows, answers)))
    given = iter(answers)
    here = _replaced(tree, lambda rows: _Given(given))
    return jax.lax.cond(own, lambda: take(here), lambda: state)


@dataclasses.dataclass
class _Asked:
    """Rows that keep what is asked of them."""

    rows: SharedRows
    answers: list[jax.Array]

    def __getitem__(self, index: Any) -> jax.Array:
        self.answers.append(self.rows[index])
        return self.answers[-1]


@dataclasses.dataclass
class _Given:
    """Rows that were asked before, of all tables in their order."""

    answers: Iterator[jax.Array]

    def __getitem__(self, index: Any) -> jax.Array:
        return next(self.answers)


def _replaced(tree: Tree, by: Callable[[SharedRows], Any]) -> Tree:
    return jax.tree.map(lambda one: by(one) if is_spread(one) else one, tree, is_leaf=is_spread)


def _bits(values: jax.Array) -> jax.Array:
    """Returns values as whole numbers, of a size that collectives of all platforms can add."""
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    size = values.dtype.itemsize
    bits = jax.lax.bitcast_convert_type(values, np.dtype(f"uint{8 * size}"))
    return bits.astype(np.uint32) if size == 2 else bits


def _values(bits: jax.Array, dtype: Any) -> jax.Array:
    """Returns the values that `_bits` was given."""
    if dtype.kind == "b":
        return bits.astype(bool)
    return jax.lax.bitcast_convert_type(bits.astype(f"uint{8 * dtype.itemsize}"), dtype)
