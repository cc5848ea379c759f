"""TabNetRegressor: TabNet in scikit-learn's manner, for one number of each row or several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin

from moa_jax.errors import UserError
from moa_jax.estimators import pytorch_tabnet, refit
from moa_jax.estimators.tabnet_columns import ColumnScale
from moa_jax.estimators.tabnet_supervised import TabNetSupervised
from moa_jax.training import losses


class TabNetRegressor(RegressorMixin, TabNetSupervised):
    """TabNet (Arik and Pfister, 2021) for numbers: one for each row, or several.

    The loss is the mean squared error of standardised targets: the mean and the deviation of each
    target in the training rows are 0 and 1 for the network, whose last layer has no bias. So
    targets need no scaling, and several of them count alike. A target that is constant in the
    training rows is predicted as that constant.

    >>> table = np.random.default_rng(0).normal(size=(64, 3))
    >>> small = {"n_steps": 1, "n_shared": 1, "n_independent": 0, "momentum": 0.3}
    >>> regressor = TabNetRegressor(max_epochs=20, learning_rate=0.1, **small)
    >>> regressor = regressor.fit(table, 1000 + table[:, 0])
    >>> regressor.predict(table).shape, int(regressor.feature_importances_.argmax())
    ((64,), 0)

    Args:
      **parameters: those of `TabNetClassifier`, but for class_weight.

    Attributes:
      n_features_in_, feature_importances_, categories_, history_, best_epoch_, seed_, columns_,
        constant_, network_, weights_: see `TabNetClassifier`; losses are those of standardised
        targets.
      target_mean_, target_scale_: [M] mean and deviation of each target in the training rows; a
        deviation of 0 counts as 1.
      n_targets_: M.
      single_target_: whether y was [N], as predictions are then.
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
        momentum=0.02,
        mask_type="sparsemax",
        lambda_sparse=1e-3,
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
        self.lambda_sparse = lambda_sparse

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @pytorch_tabnet.told
    @refit.all_or_nothing
    def fit(self, X, y, eval_set=None, sample_weight=None, from_unsupervised=None) -> Self:
        """Trains the network and keeps the epoch of the lowest validation loss.

        Args:
          X: [N, columns] finite numbers, or a data frame whose columns are numbers or categories.
          y: [N] or [N, M] finite numbers.
          eval_set, sample_weight, from_unsupervised: see `TabNetClassifier.fit`.

        Raises:
          ValueError: X, y, eval_set, sample_weight, from_unsupervised or a parameter is not what
            is expected.
          UserError: training diverged.
        """
        return self._fit(X, y, eval_set, sample_weight, from_unsupervised, y_numeric=True)

    def predict(self, X) -> np.ndarray:
        """Returns the targets of each row, [N] or [N, M] as they were fitted, float64.

        Raises:
          ValueError: X has other columns than in `fit`, or a cell is not what is expected.
        """
        found = self._outputs(X) * self.target_scale_ + self.target_mean_
        return found[:, 0] if self.single_target_ else found

    @classmethod
    def from_pytorch_tabnet(cls, path: str | Path) -> TabNetRegressor:
        """Returns the regressor that `save_model` of pytorch-tabnet 2.0 to 4.1 wrote.

        It predicts [N, M], as there, and explains as it did; see `TabNetClassifier` for the rest.

        Raises:
          UserError: the file is missing, damaged, or of another kind of model.
        """
        model = pytorch_tabnet.read(path)
        if model.is_regressor is False:
            raise UserError(
                f"{path}: expected a regressor, found a classifier: see TabNetClassifier"
            )
        estimator = cls(**model.parameters)
        count = model.network.output_dim
        estimator.target_mean_, estimator.target_scale_ = np.zeros(count), np.ones(count)
        estimator.single_target_, estimator.n_targets_ = False, count
        estimator._take_over(model)
        return estimator

    def _learn_targets(self, y: np.ndarray) -> None:
        self.single_target_, self.n_targets_ = y.ndim == 1, y[:1].size

    def _encoded(self, y: np.ndarray) -> np.ndarray:
        if y.dtype.kind in "mM":
            raise ValueError(
                f"y: expected numbers, found {y.dtype}; make them numbers, such as days since the "
                "first"
            )
        try:
            numbers = np.asarray(y, np.float64).reshape(len(y), -1)
        except (TypeError, ValueError) as error:
            raise ValueError(f"y: expected numbers: {error}") from None
        if numbers.shape[1] != self._output_dim():
            raise ValueError(f"y: expected {self._output_dim()} targets, found {numbers.shape[1]}")
        return numbers

    def _meaning(self) -> dict[str, Any]:
        return {"number of targets": self._output_dim()}

    def _output_dim(self) -> int:
        return self.n_targets_

    def _loss_weights(self, rows: np.ndarray | None, targets: np.ndarray) -> np.ndarray | None:
        return None if rows is None else rows[:, None]

    def _of_outputs(self) -> Callable:
        return losses.mean_squared_error

    def _learn_scale(self, targets: np.ndarray) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            found = ColumnScale.learned(targets, ())
        if not np.isfinite([found.mean, found.deviation]).all():
            raise ValueError("y: expected numbers that can be summed, found larger ones")
        self.target_mean_, self.target_scale_ = found.mean, found.deviation

    def _in_units(self, targets: np.ndarray) -> np.ndarray:
        return (targets - self.target_mean_) / self.target_scale_

    def _described(self) -> dict[str, Any]:
        return {
            "target_mean": self.target_mean_.tolist(),
            "target_scale": self.target_scale_.tolist(),
            "single_target": self.single_target_,
        }

    def _restore(self, stored: dict[str, Any]) -> None:
        self.target_mean_ = np.array(stored["target_mean"], np.float64)
        self.target_scale_ = np.array(stored["target_scale"], np.float64)
        self.single_target_, self.n_targets_ = stored["single_target"], len(self.target_mean_)
