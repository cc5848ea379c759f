"""Ghost batches: a batch cut into equal parts, each normalised by its own statistics."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from moa_jax.models.layers import parameter_dtype
from moa_jax.models.types import Dtype


class GhostParts(NamedTuple):
    """A batch laid out in slots, part after part, all parts of one width.

    The rows are moved once, before the first layer, and moved back once, behind the last: in
    between a ghost batch is a plain slice, whatever the number of real rows.

    Attributes:
      rows: [slots] row that stands in each slot.
      mask: [parts, width], true for slots with a real row; the other slots hold zeros.
      slots: [batch] slot of each row; a padded row points to some slot.
    """

    rows: jax.Array
    mask: jax.Array
    slots: jax.Array

    def cut(self, x: jax.Array) -> jax.Array:
        """Moves rows [batch, features] to slots [slots, features]."""
        return jnp.where(self.mask.reshape(-1, 1), jnp.asarray(x)[self.rows], 0)

    def join(self, x: jax.Array) -> jax.Array:
        """Moves slots [slots, features] to rows [batch, features]."""
        return jnp.asarray(x)[self.slots]


def ghost_parts(batch: int, virtual_batch_size: int, mask: jax.Array | None = None) -> GhostParts:
    """Cuts a batch into equal parts as `torch.chunk` does: 300 rows give 100 + 100 + 100.

    The n real rows make k = ceil(n / virtual_batch_size) parts of ceil(n / k) rows, the last one
    shorter. There are always k such parts. A part has a single row, which PyTorch refuses and
    which here has variance 0, only if n is 1, or if n = 1 modulo the virtual size V and
    n > V (V - 1): with V = 128, never in a batch of 2 to 16256 rows.

    Args:
      batch: number of rows, padded ones included.
      virtual_batch_size: largest number of rows of a part.
      mask: [batch], true for real rows, which come first; may be traced. None: all are real.
    """
    num_parts = -(-batch // virtual_batch_size)
    count: int | jax.Array
    if mask is None:
        count, width = batch, -(-batch // num_parts)
    else:
        count, width = jnp.sum(mask, dtype=jnp.int32), min(virtual_batch_size, batch)
    used = jnp.maximum(-(-count // virtual_batch_size), 1)
    size = jnp.maximum(-(-count // used), 1)
    offset = np.arange(width)
    row = np.arange(num_parts)[:, None] * size + offset
    real = (offset < size) & (row < count)
    every = np.arange(batch)
    slots = every // size * width + every % size
    return GhostParts(
        rows=jnp.minimum(row, batch - 1).reshape(-1),
        mask=jnp.asarray(real),
        slots=jnp.minimum(slots, num_parts * width - 1),
    )


class GhostBatchNorm(nn.Module):
    """Batch normalisation of every part of a batch by itself (Hoffer et al., 2017).

    One set of weights and running statistics serves all parts; the running statistics take the
    parts' means and unbiased variances one after the other.

    Attributes:
      momentum: weight of one new part in the running statistics.
      epsilon: added to the variance.
      dtype: dtype of the result; None for that of the input.

    References:
      Hoffer, Hubara and Soudry (2017), Train longer, generalize better,
      https://arxiv.org/abs/1705.08741.
    """

    momentum: float = 0.02
    epsilon: float = 1e-5
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array, parts: GhostParts | None = None) -> jax.Array:
        """Normalises [slots, features].

        Args:
          x: the input.
          parts: the layout of a training batch; None to use the running statistics.
        """
        shape, dtype = x.shape[-1:], parameter_dtype(x)
        scale = self.param("scale", nn.initializers.ones, shape, dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, dtype)
        result_dtype, slots = self.dtype or x.dtype, x.shape
        x = x.astype(scale.dtype)
        if parts is None:
            mean, var = running_mean.value, running_var.value
        else:
            x = x.reshape(*parts.mask.shape, -1)
            weight = parts.mask[..., None].astype(x.dtype)
            real = jnp.sum(weight, 1, keepdims=True)
            count = jnp.maximum(real, 1)
            mean = jnp.sum(x * weight, 1, keepdims=True) / count
            var = jnp.sum(jnp.square(x - mean) * weight, 1, keepdims=True) / count
            if not self.is_initializing():
                # What is left of part j after the later parts, in closed form.
                used, keep = jnp.sum(real > 0, dtype=x.dtype), 1 - self.momentum
                later = used - 1 - jnp.arange(len(real), dtype=x.dtype)[:, None, None]
                share = jnp.where(real > 0, self.momentum * keep**later, 0)
                recorded = var * count / jnp.maximum(count - 1, 1)
                kept = keep**used
                running_mean.value = kept * running_mean.value + jnp.sum(share * mean, (0, 1))
                running_var.value = kept * running_var.value + jnp.sum(share * recorded, (0, 1))
        normalised = (x - mean) * (scale * jax.lax.rsqrt(var + self.epsilon)) + bias
        if parts is not None:
            # A part without rows has variance 0: its padding would grow by a factor of 300 from
            # layer to layer, up to infinity.
            normalised = jnp.where(weight > 0, normalised, 0)
        return normalised.reshape(slots).astype(result_dtype)
