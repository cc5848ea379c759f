"""Losses on logits, with a mask for padded rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax


def smoothed(targets: jax.Array, smoothing: float) -> jax.Array:
    """Moves binary targets towards one half: y (1 - smoothing) + smoothing / 2.

    For 0/1 targets this is the same as clipping them to [smoothing / 2, 1 - smoothing / 2].
    """
    return targets * (1 - smoothing) + 0.5 * smoothing


def binary_cross_entropy(logits: jax.Array, targets: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns the mean binary cross-entropy over real rows and targets, a scalar.

    Args:
      logits: [rows, targets].
      targets: [rows, targets] in [0, 1].
      mask: [rows], true for real rows.
    """
    rows = optax.sigmoid_binary_cross_entropy(logits, targets).mean(axis=-1)
    weight = mask.astype(rows.dtype)
    return jnp.sum(rows * weight) / jnp.maximum(weight.sum(), 1)
