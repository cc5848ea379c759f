"""The dense networks: of the Simple NN and the 3-stage NN, and of the first stage before TabNet."""

from __future__ import annotations

import flax.linen as nn
import jax

from moa_jax.models.layers import BatchNorm, Dense, WeightNormDense
from moa_jax.models.types import Dtype

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
    dropout: tuple[float, ...] = (0.0, 0.25, 0.25)
    dtype: Dtype | None = None

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
            return _prepare(x, mask, train, layer, self.dropout[layer - 1], self.dtype)

        x = WeightNormDense(self.hidden, self.dtype, name="dense1")(prepare(x, 1))
        x = nn.leaky_relu(x, NEGATIVE_SLOPE)
        x = Dense(self.hidden, self.dtype, name="dense2")(prepare(x, 2))
        x = nn.leaky_relu(x, NEGATIVE_SLOPE)
        return WeightNormDense(self.num_outputs, self.dtype, name="dense3")(prepare(x, 3))


class TwoLayerMLP(nn.Module):
    """Two weight-normed dense layers, each behind batch normalisation and dropout.

    The layers are numbered 1 and 3, as in the original, which left its second one out.

    Attributes:
      hidden: width of the hidden layer.
      num_outputs: number of targets.
      dropout: rates after the two batch normalisations; 0 draws no random numbers.
      dtype: compute dtype; None for that of input and variables.
    """

    hidden: int = 2048
    num_outputs: int = 331
    dropout: tuple[float, ...] = (0.2, 0.25)
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, x: jax.Array, mask: jax.Array | None = None, train: bool = False
    ) -> jax.Array:
        """Returns logits [rows, num_outputs]; arguments as for `MLP`."""
        first, last = self.dropout
        x = _prepare(x, mask, train, 1, first, self.dtype)
        x = nn.relu(WeightNormDense(self.hidden, self.dtype, name="dense1")(x))
        x = _prepare(x, mask, train, 3, last, self.dtype)
        return WeightNormDense(self.num_outputs, self.dtype, name="dense3")(x)


def _prepare(
    x: jax.Array,
    mask: jax.Array | None,
    train: bool,
    layer: int,
    dropout: float,
    dtype: Dtype | None,
) -> jax.Array:
    """What stands before dense layer number `layer` of the module that calls."""
    x = BatchNorm(dtype=dtype, name=f"batch_norm{layer}")(x, mask, train)
    return nn.Dropout(dropout, deterministic=not train)(x)
