"""TabNetClassifier: TabNet in scikit-learn's manner, for two classes, many, or many labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d

from moa_jax.errors import UserError
from moa_jax.estimators import pytorch_tabnet, refit, stored_classes, tabnet_targets
from moa_jax.estimators.tabnet_supervised import TabNetSupervised
from moa_jax.training import losses


class TabNetClassifier(ClassifierMixin, TabNetSupervised):
    """TabNet (Arik and Pfister, 2021) for classes, or for labels that exclude each other not.

    The shape of `y` decides: labels [N] of any type are classes, trained on with a softmax
    cross-entropy; a matrix [N, L] of 0 and 1 holds L labels, each with a sigmoid. A column, or a
    whole `y`, of a single value is allowed.

    Columns need no scaling: they are standardised by mean and deviation of the training rows, in
    float64, before they become the network's float32. The running statistics of the first
    normalisation, which in pytorch-tabnet need hundreds of steps, fit from the start. A column
    that is constant in the training rows has no scale, and counts as that constant ever after:
    whatever it is later, nothing is known of what it does. A category that no training row has
    counts as the mean of those that some have. The same seed gives the same network. A fit that
    fails, or is interrupted, leaves the estimator as it was.

    >>> table = np.random.default_rng(0).normal(size=(64, 3))
    >>> labels = np.where(table[:, 0] > 0, "high", "low")
    >>> small = {"n_steps": 1, "n_shared": 1, "n_independent": 0, "momentum": 0.3}
    >>> classifier = TabNetClassifier(max_epochs=20, learning_rate=0.1, **small)
    >>> classifier = classifier.fit(table, labels)
    >>> classifier.classes_.tolist(), classifier.predict_proba(table).shape
    (['high', 'low'], (64, 2))
    >>> int(classifier.feature_importances_.argmax())
    0

    Args:
      n_d, n_a, n_steps, gamma, n_independent, n_shared, momentum, mask_type, virtual_batch_size:
        see `moa_jax.models.tabnet.TabNet`.
      cat_idxs, cat_dims, cat_emb_dim: see there too; of X they are columns of codes 0, 1, ...
        Columns of a data frame that are of pandas' dtype `category` join them by themselves.
      lambda_sparse: factor on the entropy of the masks, which the loss adds.
      batch_size: rows per step.
      max_epochs: longest training.
      patience: epochs without a lower validation loss after which training ends; 0 for never.
      learning_rate, weight_decay: of Adam, with coupled L2 on every parameter.
      clip_value: largest norm of all gradients together; None for no limit.
      class_weight: factors of the losses by class, as in scikit-learn: `balanced`, a mapping, or
        None for 1. Of labels, the classes of each are 0 and 1: `balanced` makes both weigh alike
        in every label, a mapping {0: ..., 1: ...} holds for all, a list has one for each.
      validation_fraction: share of the rows that is held out, unless `fit` gets an `eval_set`, to
        decide which epoch's weights are kept. With 0 the training rows themselves decide.
      warm_start: begin with the weights of the fit before, on data of the same columns and
        classes; the state of Adam is new.
      random_state: seed, generator, or None for another one each time.

    Attributes:
      classes_: [K] the classes in ascending order; with L labels their numbers 0 ... L - 1.
      n_features_in_: number of columns of X.
      feature_importances_: [n_features_in_] share of each column in the explanation of the
        training rows; they sum to 1, or are all 0 if no row used any.
      categories_: categories of the columns that have them, in the order of their codes, by the
        numbers of the columns.
      history_: training and validation loss of every epoch, by name.
      best_epoch_: the epoch that was kept, from 1.
      multi_label_: whether it was fitted on a matrix of labels.
      seed_: the seed that was drawn from `random_state`.
      columns_: how columns of X are scaled, a `ColumnScale`.
      constant_: value of every column that is constant in the training rows, by its number.
      network_: the network as it was fitted; parameters that are set later wait for the next fit.
      weights_: the kept weights and how they were found.
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
        class_weight=None,
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
        self.lambda_sparse, self.class_weight = lambda_sparse, class_weight

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @pytorch_tabnet.told
    @refit.all_or_nothing
    def fit(self, X, y, eval_set=None, sample_weight=None, from_unsupervised=None) -> Self:
        """Trains the network and keeps the epoch of the lowest validation loss.

        Args:
          X: [N, columns] finite numbers, or a data frame whose columns are numbers or categories.
          y: [N] classes, or [N, L] labels of 0 and 1.
          eval_set: a pair like X and y whose loss decides, in place of held-out rows. Of a list
            of pairs the last decides; the others are checked and not used. Its rows weigh alike.
          sample_weight: [N] factors of the rows' losses, at least 0, also of held-out rows; only
            their ratios matter. A row of weight 0 counts as absent. The statistics of batch
            normalisation do not weigh rows.
          from_unsupervised: a fitted `TabNetPretrainer` of the same layers and columns, whose
            encoder the network begins with.

        Raises:
          ValueError: X, y, eval_set, sample_weight, from_unsupervised or a parameter is not what
            is expected.
          UserError: training diverged.
        """
        return self._fit(X, tabnet_targets.column(y), eval_set, sample_weight, from_unsupervised)

    def predict_proba(self, X) -> np.ndarray:
        """Returns the probabilities of the classes [N, K], or of the labels [N, L], float64.

        Raises:
          ValueError: X has other columns than in `fit`, or a cell is not what is expected.
        """
        logits = self._outputs(X)
        return expit(logits) if self.multi_label_ else softmax(logits, axis=1)

    def predict(self, X) -> np.ndarray:
        """Returns the likeliest class of each row [N], or 0 and 1 for each label [N, L].

        A label is 1 where its probability is above 0.5; raises what `predict_proba` raises.
        """
        probabilities = self.predict_proba(X)
        if self.multi_label_:
            return (probabilities > 0.5).astype(np.int64)
        return self.classes_[probabilities.argmax(axis=1)]

    @classmethod
    def from_pytorch_tabnet(
        cls, path: str | Path, classes: Sequence[Any] | None = None
    ) -> TabNetClassifier:
        """Returns the classifier that `save_model` of pytorch-tabnet 2.0 to 4.1 wrote.

        It predicts and explains as it did; `fit` begins anew unless `warm_start` is set. What the
        file does not tell is unknown: `feature_importances_` are NaN, `history_` is empty, and
        `best_epoch_` is 0.

        Args:
          path: the zip file; reading it needs PyTorch, and nothing in it is executed.
          classes: the classes in ascending order, for files before 3.0, which do not tell them;
            None for what the file tells, or else the numbers 0 ... K - 1.

        Raises:
          UserError: the file is missing, damaged, or of another kind of model.
        """
        model = pytorch_tabnet.read(path)
        if model.is_regressor:
            raise UserError(
                f"{path}: expected a classifier, found a regressor: see TabNetRegressor"
            )
        found = model.classes if classes is None else list(classes)
        if found is None:
            found = list(range(model.network.output_dim))
        if len(found) != model.network.output_dim:
            raise UserError(
                f"{path}: expected {model.network.output_dim} classes, found {len(found)}"
            )
        estimator = cls(**model.parameters)
        estimator.classes_, estimator.multi_label_ = np.array(found), False
        estimator._take_over(model)
        return estimator

    def _learn_targets(self, y: np.ndarray) -> None:
        self.multi_label_ = y.ndim == 2 and y.shape[1] != 1
        if not self.multi_label_:
            y = column_or_1d(y, warn=True)
        self.classes_ = tabnet_targets.classes(y)

    def _encoded(self, y: np.ndarray) -> np.ndarray:
        return tabnet_targets.encoded(y, self.classes_, self.multi_label_)

    def _meaning(self) -> dict[str, Any]:
        kind = "labels" if self.multi_label_ else "classes"
        return {"kind of targets": kind, kind: self.classes_.tolist()}

    def _output_dim(self) -> int:
        return len(self.classes_)

    def _loss_weights(self, rows: np.ndarray | None, targets: np.ndarray) -> np.ndarray | None:
        return tabnet_targets.loss_weights(
            self.class_weight, rows, targets, self.classes_, self.multi_label_
        )

    def _of_outputs(self) -> Callable:
        return losses.binary_cross_entropy if self.multi_label_ else losses.cross_entropy

    def _strata(self, targets: np.ndarray) -> np.ndarray | None:
        return None if self.multi_label_ or targets.sum(0).min() < 2 else targets.argmax(1)

    def _described(self) -> dict[str, Any]:
        return {"multi_label": self.multi_label_, **stored_classes.described(self.classes_)}

    def _restore(self, stored: dict[str, Any]) -> None:
        self.multi_label_ = stored["multi_label"]
        self.classes_ = stored_classes.restored(stored)
