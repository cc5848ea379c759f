"""Losses on logits, with a mask for padded rows or for cells; `LOSSES` finds them by name."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from moa_jax.training.trees import Loss


def smoothed(targets: jax.Array, smoothing: float) -> jax.Array:
    """Moves binary targets towards one half: y (1 - smoothing) + smoothing / 2.

    For 0/1 targets this is the same as clipping them to [smoothing / 2, 1 - smoothing / 2].

    >>> smoothed(jnp.array([0.0, 1.0]), 0.5).tolist()
    [0.25, 0.75]
    """
    return targets * (1 - smoothing) + 0.5 * smoothing


def binary_cross_entropy(
    logits: jax.Array, targets: jax.Array, mask: jax.Array, weights: jax.Array | None = None
) -> jax.Array:
    """Returns the mean binary cross-entropy over real rows and targets, a scalar.

    Args:
      logits: [rows, targets].
      targets: [rows, targets] in [0, 1].
      mask: [rows], true for real rows; or [rows, targets], true for the cells that the mean is of.
      weights: [rows, targets] or [rows, 1] factors of the losses that the mean is of.

    >>> logits, targets = jnp.zeros((2, 3)), jnp.ones((2, 3))
    >>> round(float(binary_cross_entropy(logits, targets, jnp.array([True, False]))), 4)
    0.6931
    """
    return _mean(optax.sigmoid_binary_cross_entropy(logits, targets), mask, weights)


def cross_entropy(
    logits: jax.Array, targets: jax.Array, mask: jax.Array, weights: jax.Array | None = None
) -> jax.Array:
    """Returns the mean softmax cross-entropy over real rows, a scalar.

    Args:
      logits: [rows, classes].
      targets: [rows, classes] probabilities, or 1 for the class and 0 elsewhere.
      mask: [rows], true for real rows.
      weights: [rows, 1] factors of the losses that the mean is of.
    """
    return _mean(optax.softmax_cross_entropy(logits, targets)[:, None], mask, weights)


def log_loss_epsilon(
    logits: jax.Array, targets: jax.Array, mask: jax.Array, epsilon: float = 1e-15
) -> jax.Array:
    """Returns the mean binary cross-entropy with epsilon inside the logarithms, a scalar.

    With targets clipped to [0.0005, 0.9995] this is the loss of the TabNet stage. Unlike
    `binary_cross_entropy` it goes by the probabilities: in float32 one of exactly 1 (a logit above
    17) costs a zero target 34.5 and gets no gradient.

    Args:
      logits: [rows, targets].
      targets: [rows, targets] in [0, 1].
      mask: as for `binary_cross_entropy`.
    """
    p = jax.nn.sigmoid(logits)
    # A compiler may turn 1 - p + epsilon into (1 + epsilon) - p, which is 0 where p is 1.
    rest = jnp.where(p < 1, 1 - p + epsilon, epsilon)
    losses = targets * jnp.log(p + epsilon) + (1 - targets) * jnp.log(rest)
    return _mean(-losses, mask)


def _mean(losses: jax.Array, mask: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    losses = losses if weights is None else losses * weights
    if mask.ndim == 2:
        return jnp.sum(jnp.where(mask, losses, 0)) / jnp.maximum(mask.sum(), 1)
    rows = losses.mean(axis=-1)
    weight = mask.astype(rows.dtype)
    return jnp.sum(rows * weight) / jnp.maximum(weight.sum(), 1)


LOSSES: dict[str, Loss] = {
    "binary_cross_entropy": binary_cross_entropy,
    "log_loss_epsilon": log_loss_epsilon,
}
