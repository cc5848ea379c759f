"""Losses on logits, with a mask for padded rows or for cells; `LOSSES` finds them by name."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from moa_jax.training.trees import Loss

# Share of a column's squares up to which its deviations are none, far above float32's rounding.
_FLAT = 1e-10


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

    Raises:
      ValueError: the mask is one of cells, of which a softmax over all classes knows nothing.
    """
    if mask.ndim != 1:
        raise ValueError(f"mask: expected one of rows, found the shape {mask.shape}")
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


def mean_squared_error(
    outputs: jax.Array, targets: jax.Array, mask: jax.Array, weights: jax.Array | None = None
) -> jax.Array:
    """Returns the mean squared error over real rows and targets, a scalar.

    Args:
      outputs: [rows, targets].
      targets: [rows, targets].
      mask: [rows], true for real rows.
      weights: [rows, 1] factors of the errors that the mean is of.
    """
    return _mean(jnp.square(outputs - targets), mask, weights)


def reconstruction_error(
    columns: jax.Array, targets: jax.Array, hidden: jax.Array, mask: jax.Array
) -> jax.Array:
    """Returns the loss of TabNet's self-supervised pretraining, a scalar.

    It is the sum over real rows and hidden columns of the squared errors, each over the sum of
    the column's squared deviations from its mean in the batch: the scale of a column does not
    count, and what always says the mean gets about the number of columns hidden in a row. A column
    without deviations in the batch has them of 1 on average.

    Args:
      columns: [rows, columns] what was reconstructed.
      targets: [rows, columns] what the columns are.
      hidden: [rows, columns] 1 where the network did not see it, else 0.
      mask: [rows], true for real rows.

    References:
      Arik and Pfister (2021), TabNet: Attentive interpretable tabular learning,
      https://arxiv.org/abs/1908.07442, section "Tabular self-supervised learning".
    """
    weight = mask[:, None].astype(targets.dtype)
    count = jnp.maximum(weight.sum(), 1)
    mean = jnp.sum(targets * weight, 0) / count
    deviations = jnp.sum(jnp.square(targets - mean) * weight, 0)
    # Rounding makes deviations of a column that has none.
    flat = deviations <= _FLAT * jnp.sum(jnp.square(targets) * weight, 0)
    errors = jnp.sum(jnp.square((columns - targets) * hidden) * weight, 0)
    return jnp.sum(errors / jnp.where(flat, count, deviations))


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
