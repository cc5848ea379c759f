"""Sparsemax and 1.5-entmax: maps of scores to probabilities with exact zeros."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def _above_threshold(y: jax.Array, step: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Returns max(y - tau, 0) [..., columns] of scores whose largest is 0.

    The sum that tau has to bring to 1 is convex and falls with tau, so Newton's method from the
    left climbs towards tau and never passes it by more than rounding. It ends after a handful of
    passes over the row, where sorting takes forty times as long on a CPU. A row at its threshold
    stays as it is while others climb: no row's result depends on its neighbours.
    """

    def above(tau: jax.Array) -> jax.Array:
        return jnp.maximum(y - tau, 0)

    def climb(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        tau, _ = carry
        higher = tau + step(above(tau))
        return jnp.maximum(tau, higher), jnp.any(higher > tau)

    # The largest score alone sums to 1 at tau = -1.
    start = jnp.full_like(y[..., :1], -1)
    tau, _ = jax.lax.while_loop(lambda carry: carry[1], climb, (start, jnp.array(True)))
    return above(tau)


@jax.custom_jvp
def sparsemax(z: jax.Array) -> jax.Array:
    """Returns the probabilities [..., columns] nearest to the scores z along the last axis.

    p = max(z - tau, 0) with tau such that the sum is 1 (Martins and Astudillo, 2016). Where a
    column is about to enter or leave the support, the derivative is that of the columns inside.

    >>> sparsemax(jnp.array([1.0, 0.5, -1.0])).tolist()
    [0.75, 0.25, 0.0]

    References:
      Martins and Astudillo (2016), From softmax to sparsemax, https://arxiv.org/abs/1602.02068.
    """

    def step(above: jax.Array) -> jax.Array:
        count = jnp.sum(above > 0, -1, keepdims=True, dtype=above.dtype)
        return (jnp.sum(above, -1, keepdims=True) - 1) / count

    return _above_threshold(z - jnp.max(z, -1, keepdims=True), step)


@sparsemax.defjvp
def _sparsemax_jvp(primals, tangents):
    p = sparsemax(*primals)
    support = (p > 0).astype(p.dtype)
    dz = support * tangents[0]
    mean = jnp.sum(dz, -1, keepdims=True) / jnp.sum(support, -1, keepdims=True)
    return p, dz - support * mean


@jax.custom_jvp
def entmax15(z: jax.Array) -> jax.Array:
    """Returns the 1.5-entmax probabilities [..., columns] of the scores z along the last axis.

    p = max(z / 2 - tau, 0)^2 with tau such that the sum is 1 (Peters, Niculae and Martins, 2019).

    >>> entmax15(jnp.array([2.0, 2.0, -1.0])).round(4).tolist()
    [0.5, 0.5, 0.0]

    References:
      Peters, Niculae and Martins (2019), Sparse sequence-to-sequence models,
      https://arxiv.org/abs/1905.05702.
    """

    def step(above: jax.Array) -> jax.Array:
        excess = jnp.sum(jnp.square(above), -1, keepdims=True) - 1
        return excess / (2 * jnp.sum(above, -1, keepdims=True))

    y = (z - jnp.max(z, -1, keepdims=True)) / 2
    return jnp.square(_above_threshold(y, step))


@entmax15.defjvp
def _entmax15_jvp(primals, tangents):
    p = entmax15(*primals)
    root = jnp.sqrt(p)
    dz = root * tangents[0]
    mean = jnp.sum(dz, -1, keepdims=True) / jnp.sum(root, -1, keepdims=True)
    return p, dz - root * mean
