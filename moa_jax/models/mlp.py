"""MLP: the dense network of the Simple NN and of the 3-stage NN."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from moa_jax.models.layers import BatchNorm, Dense, WeightNormDense

NEGATIVE_SLOPE = 0.01


class MLP(nn.Module):
    """Three dense layers, each behind batch normalisation and dropout; the outer two weight-normed.

    Attributes:
      hidden: width of both hidden layers.
      num_outputs: number of targets.
      dropout: rates after the three batch normalisations; 0 draws no random numbers.
      dtype: compute dtype; None for that of input and variables.
    """

    hidden: int = 2048
    num_outputs: int = 206
    dropout: tuple[float, float, float] = (0.0, 0.25, 0.25)
    dtype: Any = None

    @nn.compact
    def __call__(
        self, x: jax.Array, mask: jax.Array | None = None, train: bool = False
    ) -> jax.Array:
        """Returns logits [rows, num_outputs] of inputs [rows, features].

        Args:
          x: the inputs.
          mask: [rows], true for real rows; only training statistics look at it.
          train: normalise with batch statistics (collection `batch_stats` must be mutable) and
            drop out (rng `dropout`).
        """

        def prepare(x: jax.Array, layer: int) -> jax.Array:
            x = BatchNorm(dtype=self.dtype, name=f"batch_norm{layer}")(x, mask, train)
            return nn.Dropout(self.dropout[layer - 1], deterministic=not train)(x)

        x = WeightNormDense(self.hidden, self.dtype, name="dense1")(prepare(x, 1))
        x = nn.leaky_relu(x, NEGATIVE_SLOPE)
        x = Dense(self.hidden, self.dtype, name="dense2")(prepare(x, 2))
        x = nn.leaky_relu(x, NEGATIVE_SLOPE)
        return WeightNormDense(self.num_outputs, self.dtype, name="dense3")(prepare(x, 3))
