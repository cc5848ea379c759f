"""A batch whose rows are spread over the devices of a mapped axis, each of which computes its part.

Without an axis (None) every function returns what it is given. Random numbers are drawn for the
whole batch, so that the number of devices changes none of them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from moa_jax.models.types import ArrayTree


def num_rows(rows: int, axis_name: str | None) -> int:
    """Returns the rows of all devices together, of which this one has `rows`."""
    return rows if axis_name is None else rows * jax.lax.axis_size(axis_name)


def part(tree: ArrayTree, axis_name: str | None) -> ArrayTree:
    """Returns this device's rows of arrays [rows, ...] that hold the whole batch.

    Parts are equally long: where the devices do not divide the rows, zeros are appended.
    """
    if axis_name is None:
        return tree
    count, index = jax.lax.axis_size(axis_name), jax.lax.axis_index(axis_name)

    def cut(array):
        length = -(-len(array) // count)
        padding = [(0, length * count - len(array)), *[(0, 0)] * (array.ndim - 1)]
        return jax.lax.dynamic_slice_in_dim(jnp.pad(array, padding), index * length, length)

    return jax.tree.map(cut, tree)


def whole(tree: ArrayTree, rows: int, axis_name: str | None) -> ArrayTree:
    """Returns the arrays [rows, ...] of the whole batch, on every device."""
    if axis_name is None:
        return tree
    return jax.tree.map(lambda a: jax.lax.all_gather(a, axis_name, tiled=True)[:rows], tree)


def total(array: jax.Array, axis_name: str | None) -> jax.Array:
    """Returns the sum over the devices."""
    return array if axis_name is None else jax.lax.psum(array, axis_name)


def mean(tree: ArrayTree, axis_name: str | None) -> ArrayTree:
    """Returns the mean over the devices, exchanged as one array: networks have hundreds."""
    if axis_name is None:
        return tree
    flat, restore = ravel_pytree(tree)
    return restore(jax.lax.pmean(flat, axis_name))
