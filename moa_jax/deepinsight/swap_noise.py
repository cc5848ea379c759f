"""Swap noise: some rows of a batch take some of their values from other rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def swap_noise(
    values: jax.Array,
    donors: jax.Array,
    key: jax.Array,
    treatment_columns: int = 3,
    probability: float = 0.1,
    portion: float = 0.15,
) -> jax.Array:
    """Returns rows [B, F], some of which have a share of their values from a donor.

    It stands in for augmentation where pixels have no geometry; the defaults are those of the
    DeepInsight networks of the winning solution. The donor's labels play no part. Works under
    `jit` and `vmap`.

    Args:
      values: [B, F] rows.
      donors: [B, F] one donor for each row, drawn by the caller from the rows to train on.
      key: decides which rows change, and in which columns.
      treatment_columns: leading columns that never change.
      probability: of a row to change.
      portion: share of the F columns that change in such a row, rounded down; all that are not
        treatment columns if it is more than those.
    """
    rows, columns = values.shape
    changed = swapped(key, (rows, columns), treatment_columns, probability, portion)
    return jnp.where(changed, donors, values)


def swapped(
    key: jax.Array,
    shape: tuple[int, int],
    treatment_columns: int,
    probability: float,
    portion: float,
) -> jax.Array:
    """Returns which values [B, F] change; the arguments are those of `swap_noise`."""
    rows, columns = shape
    free = max(columns - treatment_columns, 0)
    row_key, column_key = jax.random.split(key)
    changes = jax.random.bernoulli(row_key, probability, (rows, 1))
    # Ranks of random bits, all different, so that the number of columns is exact.
    order = jnp.argsort(jax.random.bits(column_key, (rows, free)), axis=1)
    chosen = jnp.argsort(order, axis=1) < int(columns * portion)
    return jnp.pad(changes & chosen, ((0, 0), (columns - free, 0)))
