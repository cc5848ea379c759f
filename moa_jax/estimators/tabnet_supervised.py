"""What the TabNet classifier and regressor share: targets, weights, evaluation rows and starts."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable
from typing import Any, Self

import jax
import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from moa_jax.estimators import checks, pytorch_tabnet, tabnet_inputs
from moa_jax.estimators.tabnet_columns import ColumnScale
from moa_jax.estimators.tabnet_estimator import TabNetEstimator
from moa_jax.estimators.tabnet_pretrainer import TabNetPretrainer
from moa_jax.models.tabnet import TabNet
from moa_jax.training import weights as weight_files
from moa_jax.training.stage import Forward
from moa_jax.training.trees import Variables


class TabNetSupervised(TabNetEstimator, abc.ABC):
    """Base of the estimators that learn targets."""

    lambda_sparse: float

    @abc.abstractmethod
    def _learn_targets(self, y: np.ndarray) -> None:
        """Learns what y holds: classes, labels, or how many numbers a row has."""

    @abc.abstractmethod
    def _encoded(self, y: np.ndarray) -> np.ndarray:
        """Returns targets [N, K] of y, which is like the one that was fitted.

        Raises:
          ValueError: it is not.
        """

    @abc.abstractmethod
    def _meaning(self) -> dict[str, Any]:
        """Returns what the network's outputs stand for, by what it is called."""

    @abc.abstractmethod
    def _output_dim(self) -> int:
        """Returns the number of the network's outputs."""

    @abc.abstractmethod
    def _loss_weights(self, rows: np.ndarray | None, targets: np.ndarray) -> np.ndarray | None:
        """Returns the factors of the losses, [N, 1] or [N, K]; None for all 1."""

    @abc.abstractmethod
    def _of_outputs(self) -> Callable:
        """Returns the loss: `loss(outputs, targets, mask, weights)`."""

    def _strata(self, targets: np.ndarray) -> np.ndarray | None:
        """Returns what of rows, [N], the held-out ones shall have as often as the others."""
        return None

    def _learn_scale(self, targets: np.ndarray) -> None:
        """Learns in which units the network says targets, of those to train on [N, K]."""

    def _in_units(self, targets: np.ndarray) -> np.ndarray:
        """Returns targets [N, K] in the units of the network."""
        return targets

    def _fit(self, X, y, eval_set, sample_weight, from_unsupervised, **options) -> Self:
        """What `fit` does; `options` are `validate_data`'s."""
        before = None
        if self.warm_start and hasattr(self, "weights_"):
            layers = self._layers(self.network_) | self._meaning()
            before = layers, self.weights_.variables, self.columns_
        X, y = self._first_rows(X, checks.plain(y), multi_output=True, **options)
        self._learn_targets(y)
        network = self._new_encoder(X, self._output_dim())
        goes_on = before is not None and from_unsupervised is None
        start = units = None
        if from_unsupervised is not None:
            start = self._pretrained(network, from_unsupervised)
            units = from_unsupervised.columns_
        elif before is not None:
            start, units = before[1:]
            tabnet_inputs.check_same(
                self._layers(network) | self._meaning(), before[0], "warm_start"
            )
        self.network_, targets, rows = network, self._encoded(y), None
        if sample_weight is not None:
            # A row of no weight is no row: it shall not enter statistics and batches either.
            kept, rows = tabnet_inputs.row_weights(sample_weight, X)
            X, targets = X[kept], targets[kept]
        weights = self._loss_weights(rows, targets)
        self.seed_ = checks.seed(self.random_state)
        if eval_set is None:
            train, select = self._held_out(len(X), self._strata(targets))
            self._learn_columns(X[train], units)
        else:
            self._learn_columns(X, units)  # as precise as they are, whatever joins them
            others, other_targets = self._evaluated_rows(eval_set)
            train, select = np.arange(len(X)), len(X) + np.arange(len(others))
            X, targets = np.concatenate([X, others]), np.concatenate([targets, other_targets])
            if weights is not None:
                equal = np.ones((len(others), weights.shape[1]))
                weights = np.concatenate([weights, equal])
        if not goes_on:
            self._learn_scale(targets[train])
        targets = self._in_units(targets).astype(np.float32)
        loss = functools.partial(_loss, of_outputs=self._of_outputs(), width=targets.shape[1])
        if weights is not None:
            targets = np.concatenate([targets, _scaled(weights, train, select)], axis=1)
        self._train(
            Forward(network, inner="auto"),
            X,
            targets,
            (train, select),
            functools.partial(loss, lambda_sparse=self.lambda_sparse),
            functools.partial(loss, lambda_sparse=0.0),
            start,
        )
        self._measure_importances(X[np.union1d(train, select)] if eval_set is None else X[train])
        return self

    def _outputs(self, X) -> np.ndarray:
        """Returns what the network says of rows, [N, K] float64."""
        check_is_fitted(self)
        return np.concatenate(list(self._apply(self._checked(X)))).astype(np.float64)

    def _evaluated_rows(self, eval_set) -> tuple[np.ndarray, np.ndarray]:
        """Returns rows and targets of the last pair; all of them are checked."""
        for X, y in tabnet_inputs.evaluation_pairs(eval_set):
            try:
                others = self._checked(X)
                targets = self._encoded(check_array(checks.plain(y), ensure_2d=False, dtype=None))
            except (TypeError, ValueError) as error:
                raise ValueError(f"eval_set: {error}") from None
            if len(others) != len(targets):
                raise ValueError(
                    f"eval_set: expected as many rows of X as of y, found {len(others)} and "
                    f"{len(targets)}"
                )
        return others, targets

    def _pretrained(self, network: TabNet, pretrainer: Any) -> Variables:
        """Returns the weights of a pretrained encoder.

        Raises:
          ValueError: it is none, is not fitted, or has other layers or columns.
        """
        if not isinstance(pretrainer, TabNetPretrainer):
            raise ValueError(
                "from_unsupervised: expected a fitted TabNetPretrainer, found "
                f"{type(pretrainer).__name__}"
            )
        check_is_fitted(pretrainer)
        found = self._layers(network)
        tabnet_inputs.check_same(
            found, pretrainer._layers(pretrainer._encoder), "from_unsupervised"
        )
        return pretrainer._encoder_variables

    def _take_over(self, model: pytorch_tabnet.SavedModel) -> None:
        """Becomes what pytorch-tabnet saved; the file says nothing of how it was fitted."""
        self.network_, self.n_features_in_ = model.network, model.num_columns
        self.weights_ = weight_files.MemberWeights(model.variables, 0, 0, np.nan)
        self.categories_, self.columns_ = {}, ColumnScale.none(model.num_columns)
        self.history_: dict[str, list[float]] = {"train_loss": [], "valid_loss": []}
        self.seed_ = checks.seed(self.random_state)
        self.feature_importances_ = np.full(model.num_columns, np.nan, np.float32)


def _loss(outputs, targets, mask, of_outputs, width: int, lambda_sparse: float) -> jax.Array:
    """The columns of `targets` behind the first `width` are factors of the losses."""
    found, mask_loss = outputs
    weights = targets[:, width:] if targets.shape[1] > width else None
    loss = of_outputs(found, targets[:, :width], mask, weights)
    return loss - lambda_sparse * mask_loss if lambda_sparse else loss


def _scaled(weights: np.ndarray, *parts: np.ndarray) -> np.ndarray:
    """Weights [N, L] whose mean over each part of the rows is 1, so that only ratios matter."""
    scaled = np.ones(weights.shape, np.float32)
    for rows in parts:
        mean = weights[rows].mean()
        # Of a part without any weight all rows weigh alike.
        scaled[rows] = weights[rows] / mean if mean > 0 else 1.0
    return scaled
