"""The dense network of a population: every member drops out and smooths at rates of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from moa_jax.models import random_bits
from moa_jax.models.layers import Dense

EPSILON = 1e-5


class DrawnOutputs(NamedTuple):
    """What the network returns.

    Attributes:
      logits: [rows, num_outputs].
      smoothing: [rows, 1] the member's label smoothing, for the loss.
    """

    logits: jax.Array
    smoothing: jax.Array


class DrawnMLP(nn.Module):
    """Dense layers, each with layer normalisation, SiLU and dropout, and a dense output.

    Without hidden layers it is a logistic regression, which nothing disturbs in training.

    Rates are inputs and no attributes, so that networks of different rates are one program. The
    normalisation has no parameters: the next layer's weights would repeat them. A variable that
    is not trained, `exclusive` among `batch_stats`, says whether labels exclude each other: 1 where
    exactly one of a row's is true, else 0. Then the logits are log odds of a softmax.

    Attributes:
      hidden: width of each hidden layer.
      num_outputs: number of targets.
    """

    hidden: tuple[int, ...]
    num_outputs: int

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        draws: Mapping[str, jax.Array],
        mask: jax.Array | None = None,
        train: bool = False,
    ) -> DrawnOutputs:
        """Returns the outputs of inputs [rows, features].

        Args:
          x: the inputs.
          draws: scalars: `input_noise`, the standard deviation of what is added to inputs in
            training; `input_dropout` and `dropout`, the shares of inputs and of hidden values that
            are set to zero then; `label_smoothing`.
          mask: [rows], true for real rows, which no row's outputs depend on.
          train: disturb and drop out (rng `dropout`).
        """
        if train and self.hidden:
            noise = jax.random.normal(self._key(), x.shape, x.dtype)
            x = self._dropped(
                x + draws["input_noise"].astype(x.dtype) * noise, draws["input_dropout"]
            )
        for number, width in enumerate(self.hidden, start=1):
            x = _dense(width, 2.0, f"dense{number}")(x)
            x = nn.silu(_normalised(x))
            if train:
                x = self._dropped(x, draws["dropout"])
        # Small weights: the first predictions are those of the bias, which starts at the prior.
        logits = _dense(self.num_outputs, 0.02, "output")(x)
        exclusive = self.variable("batch_stats", "exclusive", jnp.zeros, (), x.dtype).value
        logits = jnp.where(exclusive > 0, against_others(logits), logits)
        smoothing = jnp.broadcast_to(draws["label_smoothing"].astype(x.dtype), (len(x), 1))
        return DrawnOutputs(logits, smoothing)

    def _dropped(self, x: jax.Array, rate: jax.Array) -> jax.Array:
        rate = rate.astype(x.dtype)
        kept = jax.random.bernoulli(self._key(), 1 - rate, x.shape)
        return jnp.where(kept, x / (1 - rate), 0)

    def _key(self) -> jax.Array:
        return random_bits.unrolled(self.make_rng("dropout"))


def against_others(logits: jax.Array) -> jax.Array:
    """Returns the log odds of each label by a softmax of logits [rows, labels]."""
    shifted = logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True))
    weights = jnp.exp(shifted)
    # By a difference of sums the others of the largest one would be lost to rounding.
    largest = jax.nn.one_hot(logits.argmax(-1), logits.shape[-1], dtype=bool)
    of_the_rest = jnp.where(largest, 0, weights).sum(-1, keepdims=True)
    others = jnp.where(largest, of_the_rest, weights.sum(-1, keepdims=True) - weights)
    return shifted - jnp.log(jnp.maximum(others, jnp.finfo(others.dtype).tiny))


def _dense(width: int, variance: float, name: str) -> Dense:
    kernel = nn.initializers.variance_scaling(variance, "fan_in", "normal")
    return Dense(width, None, kernel, nn.initializers.zeros, name=name)


def _normalised(x: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + EPSILON)
