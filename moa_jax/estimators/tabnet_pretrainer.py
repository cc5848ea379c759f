"""TabNetPretrainer: TabNet's encoder, trained without labels to fill in hidden columns."""

from __future__ import annotations

import functools
from typing import Any, Self

import jax
import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from moa_jax.estimators import checks, pytorch_tabnet, refit, tabnet_inputs
from moa_jax.estimators.tabnet_estimator import TabNetEstimator
from moa_jax.models.layers import BatchNorm
from moa_jax.models.tabnet import TabNet
from moa_jax.models.tabnet_autoencoder import Reconstruction, TabNetAutoencoder
from moa_jax.training import losses
from moa_jax.training.stage import Forward
from moa_jax.training.trees import MemberArrays, Variables

_ENCODER = "encoder"


class TabNetPretrainer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, TabNetEstimator):
    """TabNet's self-supervised pretraining (Arik and Pfister, 2021): hidden columns are filled in.

    In every batch each column of each row is hidden with a probability of `pretraining_ratio`; a
    decoder, see `TabNetAutoencoder`, reconstructs it from the decisions of the encoder's steps.
    The loss is the paper's: squared errors of hidden columns over the spread of the column in the
    batch, summed over columns, for which rows need no labels. Held-out rows, of which always the
    same columns are hidden, decide which epoch is kept.

    `TabNetClassifier.fit(X, y, from_unsupervised=pretrainer)`, or a regressor's, begins with the
    encoder. As a transformer it says what the steps decide of a row.

    >>> table = np.random.default_rng(0).normal(size=(64, 2)).repeat(2, axis=1)
    >>> small = {"n_steps": 1, "n_shared": 1, "n_independent": 0, "momentum": 0.3}
    >>> pretrainer = TabNetPretrainer(max_epochs=3, n_d=4, **small).fit(table)
    >>> pretrainer.transform(table).shape
    (64, 4)

    Args:
      pretraining_ratio: share of the columns that is hidden.
      n_shared_decoder, n_independent_decoder: gated layers of each of the decoder's feature
        transformers, with matrices that all of them share, and with their own.
      **parameters: those of `TabNetClassifier`, but for lambda_sparse and class_weight.

    Attributes:
      n_features_in_, feature_importances_, categories_, history_, best_epoch_, seed_, columns_,
        constant_, weights_: see `TabNetClassifier`.
      network_: encoder and decoder as they were fitted.

    References:
      Arik and Pfister (2021), TabNet: Attentive interpretable tabular learning,
      https://arxiv.org/abs/1908.07442, section "Tabular self-supervised learning".
    """

    @pytorch_tabnet.told
    def __init__(
        self,
        *,
        n_d=8,
        n_a=8,
        n_steps=3,
        gamma=1.3,
        cat_idxs=(),
        cat_dims=(),
        cat_emb_dim=1,
        n_independent=2,
        n_shared=2,
        n_independent_decoder=1,
        n_shared_decoder=1,
        momentum=0.02,
        mask_type="sparsemax",
        pretraining_ratio=0.5,
        virtual_batch_size=128,
        batch_size=1024,
        max_epochs=100,
        patience=10,
        learning_rate=2e-2,
        clip_value=1.0,
        weight_decay=0.0,
        validation_fraction=0.1,
        warm_start=False,
        random_state=0,
    ):
        super().__init__(
            n_d=n_d,
            n_a=n_a,
            n_steps=n_steps,
            gamma=gamma,
            cat_idxs=cat_idxs,
            cat_dims=cat_dims,
            cat_emb_dim=cat_emb_dim,
            n_independent=n_independent,
            n_shared=n_shared,
            momentum=momentum,
            mask_type=mask_type,
            virtual_batch_size=virtual_batch_size,
            batch_size=batch_size,
            max_epochs=max_epochs,
            patience=patience,
            learning_rate=learning_rate,
            clip_value=clip_value,
            weight_decay=weight_decay,
            validation_fraction=validation_fraction,
            warm_start=warm_start,
            random_state=random_state,
        )
        self.n_independent_decoder = n_independent_decoder
        self.n_shared_decoder = n_shared_decoder
        self.pretraining_ratio = pretraining_ratio

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    @pytorch_tabnet.told
    @refit.all_or_nothing
    def fit(self, X, y=None, eval_set=None) -> Self:
        """Trains encoder and decoder and keeps the epoch of the lowest validation loss.

        Args:
          X: [N, columns] finite numbers, or a data frame whose columns are numbers or categories.
          y: ignored.
          eval_set: a table like X whose loss decides, in place of held-out rows. Of a list of
            tables the last decides; the others are checked and not used.

        Raises:
          ValueError: X, eval_set or a parameter is not what is expected.
          UserError: training diverged.
        """
        before = None
        if self.warm_start and hasattr(self, "weights_"):
            layers = self._layers(self._encoder)
            before = layers, self.network_, self.weights_.variables, self.columns_
        X = self._first_rows(X)
        encoder = self._new_encoder(X, 1)
        self._take_encoder(encoder, self.get_params(deep=False))
        start = units = None
        if before is not None:
            tabnet_inputs.check_same(self._layers(encoder), before[0], "warm_start")
            tabnet_inputs.check_same(_decoder(self.network_), _decoder(before[1]), "warm_start")
            start, units = before[2:]
        self.seed_ = checks.seed(self.random_state)
        if eval_set is None:
            parts = self._held_out(len(X))
            rows = X
            self._learn_columns(X[parts[0]], units)
        else:
            self._learn_columns(X, units)  # as precise as they are, whatever joins them
            others = self._evaluated_rows(eval_set)
            parts = np.arange(len(X)), len(X) + np.arange(len(others))
            rows = np.concatenate([X, others])
        self._train(
            Forward(
                self.network_,
                functools.partial(_hidden_at_random, share=self.pretraining_ratio),
                inner="auto",
            ),
            rows,
            # There is nothing to learn but X.
            np.zeros((len(rows), 0), np.float32),
            parts,
            _loss,
            _loss,
            start,
        )
        self._measure_importances(X)
        return self

    def transform(self, X) -> np.ndarray:
        """Returns what the encoder's steps decide of each row, [N, n_d] float32."""
        check_is_fitted(self)
        return np.concatenate(list(self._apply(self._checked(X), TabNet.decide)))

    def reconstruct(self, X) -> np.ndarray:
        """Returns what the decoder makes of rows of which nothing is hidden, [N, columns] float64.

        Columns are in the units of X; the columns of an embedding stand in the place of theirs.
        """
        check_is_fitted(self)
        X = self._checked(X)
        found = self._apply(
            X, TabNetAutoencoder.reconstruct, self.network_, self.weights_.variables
        )
        norm, columns = "initial_norm", np.concatenate(list(found)).astype(np.float64)
        scale, bias = (self._encoder_variables["params"][norm][name] for name in ("scale", "bias"))
        statistics = self._encoder_variables["batch_stats"][norm]
        deviation = np.sqrt(np.asarray(statistics["var"], np.float64) + BatchNorm.epsilon)
        normalised = (columns - bias) / np.where(scale == 0, 1, scale)
        scaled = normalised * deviation + statistics["mean"]
        return self.columns_.undone(scaled, self._tables())

    @property
    def _n_features_out(self) -> int:
        return self._encoder.n_d

    @property
    def _encoder(self) -> TabNet:
        return self.network_.encoder

    @property
    def _encoder_variables(self) -> Variables:
        """Of what the encoder has in the whole network."""
        return {kind: tree[_ENCODER] for kind, tree in self.weights_.variables.items()}

    def _evaluated_rows(self, eval_set) -> np.ndarray:
        """Returns the rows of the last table; all of them are checked."""
        several = isinstance(eval_set, list | tuple) and tabnet_inputs.depth(eval_set) > 2
        for X in eval_set if several else [eval_set]:
            try:
                others = self._checked(X)
            except (TypeError, ValueError) as error:
                raise ValueError(f"eval_set: {error}") from None
        return others

    def _take_encoder(self, encoder: TabNet, stored: dict[str, Any]) -> None:
        self.network_ = TabNetAutoencoder(
            encoder, stored["n_shared_decoder"], stored["n_independent_decoder"]
        )

    def _described(self) -> dict[str, Any]:
        return _decoder(self.network_)


def _decoder(network: TabNetAutoencoder) -> dict[str, Any]:
    names = ("n_shared_decoder", "n_independent_decoder")
    return {name: int(getattr(network, name)) for name in names}


def _hidden_at_random(
    shared: jax.Array,
    member_data: MemberArrays,
    rows: jax.Array,
    key: jax.Array,
    train: bool,
    share: float,
) -> tuple[jax.Array, jax.Array]:
    """Returns rows and which of their columns are hidden.

    In validation the key is always the same, so that epochs can be compared; batches differ.
    """
    if not train:
        key = jax.random.fold_in(key, rows[0])
    x = shared[rows]
    return x, jax.random.bernoulli(key, share, x.shape).astype(x.dtype)


def _loss(outputs: Reconstruction, targets, mask) -> jax.Array:
    return losses.reconstruction_error(outputs.columns, outputs.targets, outputs.hidden, mask)
