"""TabNet's encoder with a decoder that fills in hidden columns, for pretraining without labels."""

from __future__ import annotations

import functools
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from moa_jax.models.ghost import GhostParts, ghost_parts
from moa_jax.models.layers import parameter_dtype
from moa_jax.models.tabnet import GATED_GAIN, FeatureTransformer, Projection, TabNet


class Reconstruction(NamedTuple):
    """What `TabNetAutoencoder` returns; columns are those of X with embeddings in their place.

    Attributes:
      columns: [rows, columns] what the decoder makes of the columns that are not hidden.
      targets: [rows, columns] the columns as they are, normalised; without a gradient.
      hidden: [rows, columns] 1 where the encoder did not see them, else 0.
    """

    columns: jax.Array
    targets: jax.Array
    hidden: jax.Array


class TabNetDecoder(nn.Module):
    """Reconstructs columns from the decisions of the steps (Arik and Pfister, 2021, figure 1).

    Every step has a feature transformer of its own and a linear layer behind it; the outputs of
    all steps are summed. As in the encoder, some of the transformers' matrices are shared.

    Attributes:
      num_columns: number of columns.
      n_shared, n_independent: gated layers of each feature transformer.
      momentum: of the ghost batch normalisation.
    """

    num_columns: int
    n_shared: int
    n_independent: int
    momentum: float

    @nn.compact
    def __call__(self, decisions: list[jax.Array], parts: GhostParts | None = None) -> jax.Array:
        """Maps decisions, each [slots, n_d], to columns [slots, columns]."""
        width = decisions[0].shape[-1]
        shared = tuple(
            Projection(2 * width, GATED_GAIN, name=f"shared_{i}") for i in range(self.n_shared)
        )
        outputs = []
        for step, decision in enumerate(decisions):
            transformer = FeatureTransformer(
                shared, width, self.n_independent, self.momentum, name=f"transformer_{step}"
            )
            linear = Projection(self.num_columns, name=f"columns_{step}")
            outputs.append(linear(transformer(decision, parts)))
        return functools.reduce(jnp.add, outputs)


class TabNetAutoencoder(nn.Module):
    """TabNet, pretrained by what it makes of columns that it does not see.

    A hidden column is 0 behind the first normalisation, its mean, and the first step's prior is 0
    there: no mask looks at it before others. pytorch-tabnet hides columns in front of the
    normalisation, where 0 may lie far outside of what a column ever is.

    Attributes:
      encoder: the network whose weights are wanted; its last layer is not used.
      n_shared_decoder, n_independent_decoder: see `TabNetDecoder`.

    References:
      Arik and Pfister (2021), TabNet: Attentive interpretable tabular learning,
      https://arxiv.org/abs/1908.07442, section "Tabular self-supervised learning".
    """

    encoder: TabNet
    n_shared_decoder: int = 1
    n_independent_decoder: int = 1

    matmul_precision: ClassVar[str] = TabNet.matmul_precision

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        hidden: jax.Array,
        mask: jax.Array | None = None,
        train: bool = False,
    ) -> Reconstruction:
        """Returns what becomes of inputs [rows, inputs], of which some are hidden.

        Args:
          x: the inputs.
          hidden: [rows, inputs] 1 for what the encoder does not see, else 0.
          mask: [rows], true for real rows, which come first.
          train: normalise with the statistics of the batch.
        """
        encoder = self.encoder
        parts = ghost_parts(len(x), encoder.virtual_batch_size, mask) if train else None
        if parts:
            x, hidden = parts.cut(x), parts.cut(hidden)
        columns = encoder.normalised(x, parts)
        unseen = encoder.embedder.spread(hidden).astype(parameter_dtype(columns))
        seen = 1 - unseen
        _, decisions = encoder.steps(columns * seen.astype(columns.dtype), seen, parts)
        decoder = TabNetDecoder(
            columns.shape[-1],
            self.n_shared_decoder,
            self.n_independent_decoder,
            encoder.momentum,
            name="decoder",
        )
        found = Reconstruction(decoder(decisions, parts), jax.lax.stop_gradient(columns), unseen)
        return Reconstruction(*map(parts.join, found)) if parts else found

    def reconstruct(self, x: jax.Array) -> jax.Array:
        """Returns the normalised columns [rows, columns] of inputs [rows, inputs], none hidden."""
        return self(x, jnp.zeros_like(x)).columns
