"""TabNet: sequential attention over the columns of a table, as pytorch-tabnet 2.0.0 computes it."""

from __future__ import annotations

import functools
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from moa_jax.models.ghost import GhostBatchNorm, GhostParts, ghost_parts
from moa_jax.models.hyperparameters import TABNET, tabnet_field
from moa_jax.models.layers import BatchNorm, parameter_dtype
from moa_jax.models.sparse import entmax15, sparsemax
from moa_jax.models.types import Dtype

MASKS = {"sparsemax": sparsemax, "entmax": entmax15}
INITIAL_MOMENTUM = 0.01
# The library keeps the root of one half in float32, also in a float64 network.
RESIDUAL_SCALE = float(np.sqrt(np.float32(0.5)))
GATED_GAIN, PLAIN_GAIN = 2**0.5, 1.0


class Projection(nn.Module):
    """Linear layer without bias; its kernel is normal with deviation gain / inputs^(1/4).

    Attributes:
      features: width of the output.
      gain: sqrt(2) in front of a gate, else 1.
      dtype: compute dtype; None for that of input and variables.
    """

    features: int
    gain: float = PLAIN_GAIN
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.initializers.normal(self.gain * x.shape[-1] ** -0.25)
        kernel = self.param("kernel", init, (x.shape[-1], self.features), parameter_dtype(x))
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        return x @ kernel


class FeatureTransformer(nn.Module):
    """Gated linear layers: first those whose matrices all steps share, then the step's own.

    Every layer has batch normalisation of its own, also those with a shared matrix. All but the
    very first are residual.

    Attributes:
      shared: projections that belong to the caller.
      features: width of the output.
      n_independent: number of layers of its own.
      momentum: of the ghost batch normalisation.
      dtype: compute dtype.
    """

    shared: tuple[Projection, ...]
    features: int
    n_independent: int
    momentum: float
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array, parts: GhostParts | None = None) -> jax.Array:
        """Maps [slots, inputs] to [slots, features]; records `shared`, the value between both."""

        def gated(x: jax.Array, projection: Projection, name: str) -> jax.Array:
            norm = GhostBatchNorm(self.momentum, dtype=self.dtype, name=f"{name}_norm")
            linear, gate = jnp.split(norm(projection(x), parts), 2, axis=-1)
            return linear * nn.sigmoid(gate)

        for i, projection in enumerate(self.shared):
            update = gated(x, projection, f"shared_{i}")
            x = (x + update) * RESIDUAL_SCALE if i else update
        self.sow("intermediates", "shared", x)
        for i in range(self.n_independent):
            name = f"independent_{i}"
            projection = Projection(2 * self.features, GATED_GAIN, self.dtype, name=name)
            update = gated(x, projection, name)
            x = (x + update) * RESIDUAL_SCALE if i or self.shared else update
        return x


class AttentiveTransformer(nn.Module):
    """The columns a step looks at: a sparse probability over columns for every row.

    Attributes:
      mask_type: `sparsemax` or `entmax`.
      momentum: of the ghost batch normalisation.
      dtype: compute dtype of the projection; the mask itself is float32 or wider.
    """

    mask_type: str
    momentum: float
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, attention: jax.Array, prior: jax.Array, parts: GhostParts | None = None
    ) -> jax.Array:
        """Returns the mask [slots, columns] from [slots, n_a] and the prior [slots, columns]."""
        x = Projection(prior.shape[-1], dtype=self.dtype, name="projection")(attention)
        x = GhostBatchNorm(self.momentum, dtype=prior.dtype, name="norm")(x, parts)
        return MASKS[self.mask_type](x * prior)


class Table(NamedTuple):
    """The embedding of one categorical column."""

    column: int
    categories: int
    width: int


def embedding_tables(
    cat_idxs: tuple[int, ...], cat_dims: tuple[int, ...], cat_emb_dim: int | tuple[int, ...]
) -> list[Table]:
    """Returns the tables by column, whatever the order given; none if both tuples are empty.

    Raises:
      ValueError: the tuples differ in length or name a column twice.
    """
    if not cat_idxs and not cat_dims:
        return []
    widths = (cat_emb_dim,) * len(cat_idxs) if isinstance(cat_emb_dim, int) else cat_emb_dim
    if not len(set(cat_idxs)) == len(cat_idxs) == len(cat_dims) == len(widths):
        raise ValueError(
            "cat_idxs, cat_dims and cat_emb_dim: expected one entry per distinct column, "
            f"found {cat_idxs}, {cat_dims} and {cat_emb_dim}"
        )
    return sorted(map(Table, cat_idxs, cat_dims, widths))


class Embedder(nn.Module):
    """Puts the embedding of each categorical column in that column's place."""

    tables: tuple[Table, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [rows, inputs] to [rows, columns]; codes are the inputs cut to integers.

        A code without an entry in its table gives NaN, since no error can be raised on a device.
        """
        pieces, start = [], 0
        for i, (column, categories, width) in enumerate(self.tables):
            init, dtype = nn.initializers.normal(1.0), parameter_dtype(x)
            table = self.param(f"table_{i}", init, (categories, width), dtype)
            code = x[:, column].astype(jnp.int32)
            # A product instead of a lookup: the gradient of a lookup adds rows in no fixed order
            # on a GPU.
            chosen = jax.nn.one_hot(code, categories, dtype=dtype)
            row = jnp.matmul(chosen, table, precision="highest")
            known = (code >= 0) & (code < categories)
            pieces += [x[:, start:column], jnp.where(known[:, None], row, jnp.nan)]
            start = column + 1
        return jnp.concatenate([*pieces, x[:, start:]], axis=1)

    def spread(self, inputs: jax.Array) -> jax.Array:
        """Maps values of inputs [rows, inputs] to their columns [rows, columns]."""
        widths = {column: width for column, _, width in self.tables}
        repeats = [widths.get(column, 1) for column in range(inputs.shape[1])]
        return jnp.repeat(inputs, np.array(repeats), axis=1, total_repeat_length=sum(repeats))

    def merge(self, columns: jax.Array) -> jax.Array:
        """Maps weights of columns [rows, columns] to weights of inputs [rows, inputs]."""
        pieces, start, shift = [], 0, 0
        for column, _, width in self.tables:
            end = column + shift
            embedded = jnp.sum(columns[:, end : end + width], axis=1, keepdims=True)
            pieces += [columns[:, start:end], embedded]
            start, shift = end + width, shift + width - 1
        return jnp.concatenate([*pieces, columns[:, start:]], axis=1)


class TabNet(nn.Module):
    """TabNet (Arik and Pfister, 2021) with the arithmetic of pytorch-tabnet 2.0.0.

    This is where its hyperparameters are described; the range or the options of
    those that others have too are in `hyperparameters.TABNET`.

    Attributes:
      output_dim: number of targets.
      n_d, n_a: widths of a step's decision and of its attention.
      n_steps: number of decision steps.
      gamma: how often a column may be used again; 1 lets only one step have it.
      n_independent, n_shared: gated layers of each feature transformer.
      cat_idxs, cat_dims, cat_emb_dim: columns that hold codes, their numbers of categories, and
        the widths of their embeddings (one for all, or one each).
      virtual_batch_size: largest ghost batch, see `ghost_parts`.
      momentum: weight of a ghost batch in the running statistics. The first normalisation sees
        the whole batch, with a momentum of 0.01.
      epsilon: added to the masks inside the logarithm of their entropy.
      mask_type: `sparsemax` or `entmax` (1.5).
      dtype: compute dtype; None for that of input and variables. Masks stay float32.

    References:
      Arik and Pfister (2021), TabNet: Attentive interpretable tabular learning,
      https://arxiv.org/abs/1908.07442.
    """

    output_dim: int = 206
    n_d: int = tabnet_field("n_d")
    n_a: int = tabnet_field("n_a")
    n_steps: int = tabnet_field("n_steps")
    gamma: float = tabnet_field("gamma")
    n_independent: int = tabnet_field("n_independent")
    n_shared: int = tabnet_field("n_shared")
    cat_idxs: tuple[int, ...] = ()
    cat_dims: tuple[int, ...] = ()
    cat_emb_dim: int | tuple[int, ...] = 1
    virtual_batch_size: int = tabnet_field("virtual_batch_size")
    momentum: float = tabnet_field("momentum")
    epsilon: float = 1e-15
    mask_type: str = tabnet_field("mask_type")
    dtype: Dtype | None = None

    # Which columns a mask leaves out hangs on small differences of scores, and with that which way
    # gradients go: rounded as accelerators do by default they are another network's.
    matmul_precision: ClassVar[str] = "highest"

    def setup(self):
        if self.n_steps < 1:
            raise ValueError(f"n_steps: expected at least 1, found {self.n_steps}")
        if self.n_independent + self.n_shared < 1:
            raise ValueError("n_independent and n_shared: expected one of them above 0")
        if self.mask_type not in MASKS:
            raise ValueError(f"mask_type: expected one of {sorted(MASKS)}, found {self.mask_type}")
        tables = embedding_tables(self.cat_idxs, self.cat_dims, self.cat_emb_dim)
        self.embedder = Embedder(tuple(tables))
        self.initial_norm = BatchNorm(INITIAL_MOMENTUM, dtype=self.dtype)
        features, steps = self.n_d + self.n_a, range(self.n_steps)
        self.shared = [
            Projection(2 * features, GATED_GAIN, self.dtype) for _ in range(self.n_shared)
        ]
        transformer = functools.partial(
            FeatureTransformer,
            tuple(self.shared),
            features,
            self.n_independent,
            self.momentum,
            self.dtype,
        )
        self.splitter = transformer()
        self.transformer = [transformer() for _ in steps]
        self.attention = [
            AttentiveTransformer(self.mask_type, self.momentum, self.dtype) for _ in steps
        ]
        self.final = Projection(self.output_dim, dtype=self.dtype)

    def __call__(
        self, x: jax.Array, mask: jax.Array | None = None, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the logits [rows, output_dim] of inputs [rows, inputs], and the mask loss.

        The mask loss is the mean over real rows and steps of sum(M log(M + epsilon)), the
        negative entropy of the masks, a scalar; training subtracts a multiple of it.

        Args:
          x: the inputs.
          mask: [rows], true for real rows, which come first. A padded batch gives the numbers of
            the batch of its real rows; the logits of padded rows mean nothing.
          train: normalise with the statistics of the batch (collection `batch_stats` must be
            mutable). Submodules then see the rows in the order of `GhostParts`.
        """
        parts = ghost_parts(len(x), self.virtual_batch_size, mask) if train else None
        if parts:
            x, mask = parts.cut(x), parts.mask.reshape(-1)
        masks, decisions = self._steps(x, parts)
        entropies = functools.reduce(
            jnp.add, [jnp.sum(m * jnp.log(m + self.epsilon), axis=-1) for m in masks]
        )
        weight = jnp.ones_like(entropies) if mask is None else mask.astype(entropies.dtype)
        mask_loss = jnp.sum(entropies * weight) / jnp.maximum(weight.sum(), 1) / self.n_steps
        decision = functools.reduce(jnp.add, decisions)
        return self.final(parts.join(decision) if parts else decision), mask_loss

    def explain(self, x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """Returns how much each input counted [rows, inputs], and the steps' masks of that shape.

        A step counts with the sum of its decision. The columns of an embedding are summed.
        """
        masks, decisions = self._steps(x, None)
        merged = tuple(map(self.embedder.merge, masks))
        weights = [jnp.sum(d, axis=-1, keepdims=True) for d in decisions]
        return functools.reduce(jnp.add, map(jnp.multiply, merged, weights)), merged

    def decide(self, x: jax.Array) -> jax.Array:
        """Returns what the steps decide together [rows, n_d], of which the targets are made."""
        return functools.reduce(jnp.add, self._steps(x, None)[1])

    def normalised(self, x: jax.Array, parts: GhostParts | None) -> jax.Array:
        """Returns inputs [slots, inputs] as columns [slots, columns]: embedded and normalised."""
        mask = parts.mask.reshape(-1) if parts else None
        return self.initial_norm(self.embedder(x), mask, parts is not None)

    def _steps(
        self, x: jax.Array, parts: GhostParts | None
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        columns = self.normalised(x, parts)
        return self.steps(columns, jnp.ones(columns.shape, parameter_dtype(columns)), parts)

    def steps(
        self, x: jax.Array, prior: jax.Array, parts: GhostParts | None
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        """Returns each step's mask [slots, columns] and decision [slots, n_d].

        Args:
          x: [slots, columns] what `normalised` returns.
          prior: [slots, columns] how much the first step may look at each column, usually 1.
          parts: the layout of a training batch; None to use the running statistics.
        """
        attention = self.splitter(x, parts)[:, self.n_d :]
        masks, decisions = [], []
        for attend, transform in zip(self.attention, self.transformer, strict=True):
            chosen = attend(attention, prior, parts)
            prior = (self.gamma - chosen) * prior
            output = transform(chosen.astype(x.dtype) * x, parts)
            attention = output[:, self.n_d :]
            masks.append(chosen)
            decisions.append(nn.relu(output[:, : self.n_d]))
        return masks, decisions


def from_attributes(source: Any, output_dim: int, **fields: Any) -> TabNet:
    """Returns the network with the hyperparameters that `source` has as attributes.

    >>> import types
    >>> from_attributes(types.SimpleNamespace(n_d=32, patience=5), 206).n_d
    32

    Args:
      source: a configuration or an estimator; what it lacks keeps TabNet's default.
      output_dim: number of targets.
      **fields: other fields of the network.
    """
    found = {name: getattr(source, name) for name in TABNET if hasattr(source, name)}
    return TabNet(output_dim, **found, **fields)


def importances(explanation: jax.Array | np.ndarray) -> jax.Array:
    """Returns the share [inputs] of each input in an explanation [rows, inputs]; they sum to 1."""
    total = jnp.sum(explanation, axis=0)
    return total / jnp.sum(total)
