"""TwoHeads: the two-input network whose blocks are joined by concatenation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from moa_jax.models.layers import BatchNorm, Dense
from moa_jax.models.types import Dtype, Variables

HEAD = "head"
# Keras's defaults, as weight of the new batch and with its biased running variance.
MOMENTUM, EPSILON = 0.01, 1e-3
# Width of the last layer before the head: the number of scored targets, whatever the head predicts.
LAST_WIDTH = 206


class Block(nn.Module):
    """Dense layers, each behind batch normalisation, on inputs laid side by side.

    Attributes:
      layers: width and activation of each dense layer.
      dropout: rate after the first batch normalisation; 0 draws no random numbers.
      kernel_init: initialiser of the kernels; Keras's default is Glorot's uniform one.
      frozen_norms: how many of the normalisations a frozen trunk freezes. Nothing up to the last
        of them learns then.
      dtype: compute dtype; None for that of input and variables.
    """

    layers: tuple[tuple[int, Callable[[jax.Array], jax.Array]], ...]
    dropout: float = 0.0
    kernel_init: nn.initializers.Initializer = nn.initializers.glorot_uniform()
    frozen_norms: int = 0
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self,
        inputs: Sequence[jax.Array],
        mask: jax.Array | None,
        train: bool,
        frozen: jax.Array | None,
    ) -> jax.Array:
        x = jnp.concatenate(inputs, axis=-1)
        for index, (width, activation) in enumerate(self.layers):
            norm = BatchNorm(MOMENTUM, EPSILON, False, self.dtype, name=f"bn{index}")
            x = norm(x, mask, train, frozen if index < self.frozen_norms else None)
            if frozen is not None and index == self.frozen_norms - 1:
                x = jnp.where(frozen, jax.lax.stop_gradient(x), x)
            if index == 0:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
            dense = Dense(
                width, self.dtype, self.kernel_init, nn.initializers.zeros, name=f"dense{index}"
            )
            x = activation(dense(x))
        return x


class TwoHeads(nn.Module):
    """The 2-heads network: six blocks and a head.

    The second input enters three joins as it is. All blocks but the last are the trunk, which
    training moves from one set of targets to the next; the last one is named `head`.

    Attributes:
      num_outputs: number of targets.
      dtype: compute dtype; None for that of input and variables.
      dropout: rates in the first two blocks; 0 draws no random numbers.
      hidden: width of the wide layers; the others but the last two have half of it.
    """

    num_outputs: int
    dtype: Dtype | None = None
    dropout: tuple[float, float] = (0.2, 0.3)
    hidden: int = 512

    @nn.compact
    def __call__(
        self,
        input1: jax.Array,
        input2: jax.Array,
        mask: jax.Array | None = None,
        train: bool = False,
        frozen: jax.Array | None = None,
    ) -> jax.Array:
        """Returns logits [rows, num_outputs].

        Args:
          input1: [rows, features] the scaled table and its principal components.
          input2: [rows, predictors] the chosen columns; there may be none.
          mask: [rows], true for real rows; only training statistics look at it.
          train: normalise with batch statistics (collection `batch_stats` must be mutable) and
            drop out (rng `dropout`).
          frozen: scalar, true where training moves nothing before the last dense layer but one of
            `answer4`, which Keras's network calls `last_frozen`: what comes before it gets no
            gradients and keeps its statistics, and normalises with them. Dropout stays on.
        """

        def block(name: str, inputs: Sequence[jax.Array], *layers, **options) -> jax.Array:
            options = {"frozen_norms": len(layers), "dtype": self.dtype, **options}
            return Block(layers, name=name, **options)(inputs, mask, train, frozen)

        elu, relu, selu = nn.elu, nn.relu, nn.selu
        wide, half = self.hidden, self.hidden // 2
        output1 = block("output1", [input1], (wide, elu), (half, elu), dropout=self.dropout[0])
        answer1 = block("answer1", [output1, input2], (wide, relu), dropout=self.dropout[1])
        answer2 = block("answer2", [output1, input2, answer1], (wide, elu), (half, relu))
        answer3 = block("answer3", [answer1, answer2], (half, elu))
        answer3b = block("answer3b", [answer1, answer2, answer3], (half, relu))
        answer4 = block(
            "answer4",
            [output1, answer2, answer3, answer3b],
            (half, selu),
            (LAST_WIDTH, selu),
            kernel_init=nn.initializers.lecun_normal(),
            frozen_norms=1,
        )
        return block(HEAD, [answer4], (self.num_outputs, lambda logits: logits), frozen_norms=0)


def trunk(variables: Variables) -> Variables:
    """Returns the variables of a `TwoHeads` without its head."""
    return {
        collection: {name: block for name, block in blocks.items() if name != HEAD}
        for collection, blocks in variables.items()
    }
