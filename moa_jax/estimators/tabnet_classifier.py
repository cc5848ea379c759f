"""TabNetClassifier: TabNet in scikit-learn's manner, for two classes, many, or many labels."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import optax
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

from moa_jax.estimators import checks, saved, tabnet_inputs
from moa_jax.models import tabnet
from moa_jax.models.tabnet import TabNet
from moa_jax.training import losses, optimizers, rules
from moa_jax.training import weights as weight_files
from moa_jax.training.layout import Settings
from moa_jax.training.loop import StageRun
from moa_jax.training.members import SMALLEST_BATCH, Member
from moa_jax.training.parallel import Devices
from moa_jax.training.progress import MetricsLog
from moa_jax.training.stage import Forward, Stage, by_row

# Rows per device call of a prediction, of which one program is compiled.
_ROWS = 256


class TabNetClassifier(ClassifierMixin, BaseEstimator):
    """TabNet (Arik and Pfister, 2021) for classes, or for labels that exclude each other not.

    The shape of `y` decides: labels [N] of any type are classes, trained on with a softmax
    cross-entropy; a matrix [N, L] of 0 and 1 holds L labels, each with a sigmoid. A column, or a
    whole `y`, of a single value is allowed.

    Columns need no scaling: the running statistics of the first normalisation start at those of
    the training rows, where pytorch-tabnet's start at 0 and 1 and need hundreds of steps. A column
    that is constant in the training rows has no scale, and counts as that constant ever after:
    whatever it is later, nothing is known of what it does. Numbers are float32; the same seed
    gives the same network.

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
      random_state: seed, generator, or None for another one each time.

    Attributes:
      classes_: [K] the classes in ascending order; with L labels their numbers 0 ... L - 1.
      n_features_in_: number of columns of X.
      feature_importances_: [n_features_in_] share of each column in the explanation of the
        training rows; they sum to 1, or are all 0 if no row used any.
      history_: training and validation loss of every epoch, by name.
      best_epoch_: the epoch that was kept, from 1.
      multi_label_: whether it was fitted on a matrix of labels.
      seed_: the seed that was drawn from `random_state`.
      constant_: value of every column that is constant in the training rows, by its number.
      network_: the network as it was fitted; parameters that are set later wait for the next fit.
      weights_: the kept weights and how they were found.
    """

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
        random_state=0,
    ):
        self.n_d = n_d
        self.n_a = n_a
        self.n_steps = n_steps
        self.gamma = gamma
        self.cat_idxs = cat_idxs
        self.cat_dims = cat_dims
        self.cat_emb_dim = cat_emb_dim
        self.n_independent = n_independent
        self.n_shared = n_shared
        self.momentum = momentum
        self.mask_type = mask_type
        self.lambda_sparse = lambda_sparse
        self.virtual_batch_size = virtual_batch_size
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.learning_rate = learning_rate
        self.clip_value = clip_value
        self.class_weight = class_weight
        self.weight_decay = weight_decay
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @property
    def best_epoch_(self) -> int:
        return self.weights_.epoch

    def fit(self, X, y, eval_set=None, sample_weight=None) -> Self:
        """Trains the network and keeps the epoch of the lowest validation loss.

        Args:
          X: [N, columns] finite numbers.
          y: [N] classes, or [N, L] labels of 0 and 1.
          eval_set: a pair like X and y whose loss decides, in place of held-out rows. Of a list
            of pairs the last decides; the others are checked and not used. Its rows weigh alike.
          sample_weight: [N] factors of the rows' losses, at least 0, also of held-out rows; only
            their ratios matter. A row of weight 0 counts as absent. The statistics of batch
            normalisation do not weigh rows.

        Raises:
          ValueError: X, y, eval_set, sample_weight or a parameter is not what is expected.
          UserError: training diverged.
        """
        tabnet_inputs.check_parameters(self)
        checks.no_dates(X)
        X, y = validate_data(self, X, y, dtype=np.float32, multi_output=True, ensure_min_samples=2)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        self.multi_label_ = y.ndim == 2
        self.classes_ = tabnet_inputs.classes(y)
        self.network_ = tabnet_inputs.network(self)
        tabnet_inputs.check_codes(X, self._tables())
        tabnet_inputs.check_memory(self, X, len(self.classes_))
        targets = self._encoded(y)
        if sample_weight is not None:
            # A row of no weight is no row: it shall not enter statistics and batches either.
            kept, rows = tabnet_inputs.row_weights(sample_weight, X)
            X, targets = X[kept], targets[kept]
        else:
            rows = None
        weights = tabnet_inputs.loss_weights(
            self.class_weight, rows, targets, self.classes_, self.multi_label_
        )
        self.seed_ = tabnet_inputs.seed(self.random_state)
        if eval_set is None:
            train, select = self._held_out(targets)
        else:
            others, other_targets = self._evaluated_rows(eval_set)
            train, select = np.arange(len(X)), len(X) + np.arange(len(others))
            X, targets = np.concatenate([X, others]), np.concatenate([targets, other_targets])
            if weights is not None:
                equal = np.ones((len(others), weights.shape[1]))
                weights = np.concatenate([weights, equal])
        self.constant_ = tabnet_inputs.constant_columns(X[train])
        self._train(X, targets, train, select, weights)
        explanation, _ = self.explain(
            X[np.union1d(train, select)] if eval_set is None else X[train]
        )
        self.feature_importances_ = np.nan_to_num(np.asarray(tabnet.importances(explanation)))
        return self

    def predict_proba(self, X) -> np.ndarray:
        """Returns the probabilities of the classes [N, K], or of the labels [N, L], float64."""
        check_is_fitted(self)
        logits = np.concatenate([logits for logits, _ in self._apply(self._checked(X), None)])
        logits = logits.astype(np.float64)
        return expit(logits) if self.multi_label_ else softmax(logits, axis=1)

    def predict(self, X) -> np.ndarray:
        """Returns the likeliest class of each row [N], or 0 and 1 for each label [N, L]."""
        probabilities = self.predict_proba(X)
        if self.multi_label_:
            return (probabilities > 0.5).astype(np.int64)
        return self.classes_[probabilities.argmax(axis=1)]

    def explain(self, X) -> tuple[np.ndarray, np.ndarray]:
        """Returns how much each column counted in each row, and the steps' masks.

        Returns:
          The explanation [N, columns], not negative, and the masks [n_steps, N, columns], whose
          rows sum to 1. The columns of an embedding count for the column that it stands for.
        """
        check_is_fitted(self)
        chunks = list(self._apply(self._checked(X), TabNet.explain))
        explanation = np.concatenate([explanation for explanation, _ in chunks])
        return explanation, np.concatenate([np.stack(masks) for _, masks in chunks], axis=1)

    def save(self, path: str | Path) -> None:
        """Writes a folder: the weights as npz, everything else as JSON.

        Raises:
          UserError: the folder cannot be written.
        """
        check_is_fitted(self)
        saved.write(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Returns what `save` wrote; nothing in the folder is executed.

        Raises:
          UserError: a file is missing, damaged, or of another estimator or format.
        """
        return saved.read(cls, Path(path))

    def _checked(self, X) -> np.ndarray:
        checks.no_dates(X)
        X = validate_data(self, X, dtype=np.float32, reset=False)
        tabnet_inputs.check_codes(X, self._tables())
        return X

    def _encoded(self, y: np.ndarray) -> np.ndarray:
        return tabnet_inputs.encoded(y, self.classes_, self.multi_label_)

    def _evaluated_rows(self, eval_set) -> tuple[np.ndarray, np.ndarray]:
        """Returns rows and targets of the last pair; all of them are checked."""
        for X, y in tabnet_inputs.evaluation_pairs(eval_set):
            try:
                others = self._checked(X)
                targets = self._encoded(check_array(y, ensure_2d=False, dtype=None))
            except (TypeError, ValueError) as error:
                raise ValueError(f"eval_set: {error}") from None
            if len(others) != len(targets):
                raise ValueError(
                    f"eval_set: expected as many rows of X as of y, found {len(others)} and "
                    f"{len(targets)}"
                )
        return others, targets

    def _held_out(self, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows to train on and those that decide, all classes in both if possible."""
        rows = np.arange(len(targets))
        size = min(round(self.validation_fraction * len(rows)), len(rows) - SMALLEST_BATCH)
        if size < 1:
            return rows, rows
        smallest = 0 if self.multi_label_ else targets.sum(0).min()
        stratify = None
        if smallest > 1 and min(size, len(rows) - size) >= len(self.classes_):
            stratify = targets.argmax(1)
        return train_test_split(rows, test_size=size, stratify=stratify, random_state=self.seed_)

    def _tables(self) -> list[tabnet.Table]:
        network = self.network_
        return tabnet.embedding_tables(network.cat_idxs, network.cat_dims, network.cat_emb_dim)

    def _train(
        self,
        X: np.ndarray,
        targets: np.ndarray,
        train: np.ndarray,
        select: np.ndarray,
        weights: np.ndarray | None,
    ) -> None:
        member = Member(0, 0, train, select, select)
        of_logits = losses.binary_cross_entropy if self.multi_label_ else losses.cross_entropy
        if weights is not None:
            targets = np.concatenate([targets, _scaled(weights, train, select)], axis=1)
        loss = functools.partial(_loss, of_logits=of_logits, width=len(self.classes_))
        stage = Stage(
            name="tabnet",
            forward=Forward(self.network_, inner="auto"),
            members=(member,),
            shared=tabnet_inputs.held(X, self.constant_),
            targets=targets,
            loss=functools.partial(loss, lambda_sparse=self.lambda_sparse),
            valid_loss=functools.partial(loss, lambda_sparse=0.0),
            valid_weights=by_row,
            optimizer=self._optimizer,
            epochs=self.max_epochs,
            batch_size=min(self.batch_size, len(train)),
            start=lambda _: self._start(X[train]),
            stop=rules.patience(self.patience),
        )
        settings = Settings(
            Devices.available("vmap"), base_seed=self.seed_, checkpoint_seconds=np.inf
        )
        with tempfile.TemporaryDirectory() as folder:
            log = MetricsLog(Path(folder), tensorboard=False)
            StageRun(stage, Path(folder), settings, log).fit()
            self.history_ = {
                name: [record[name] for record in log.read()]
                for name in ("train_loss", "valid_loss")
            }
            self.weights_ = weight_files.read(Path(folder) / "members" / f"{member.name}.npz")

    def _start(self, x: np.ndarray) -> dict[str, Any]:
        """Returns the first running statistics; those of embeddings are 0 and 1 as usual."""
        mean, var = x.mean(0, dtype=np.float64), x.var(0, dtype=np.float64)
        for column, _, width in reversed(self._tables()):
            mean = np.r_[mean[:column], np.zeros(width), mean[column + 1 :]]
            var = np.r_[var[:column], np.ones(width), var[column + 1 :]]
        statistics = {"mean": mean.astype(np.float32), "var": var.astype(np.float32)}
        return {"batch_stats": {"initial_norm": statistics}}

    def _optimizer(self, total_steps, scale, member_data) -> optax.GradientTransformation:
        adam = optimizers.adam(scale * self.learning_rate, weight_decay=self.weight_decay)
        if self.clip_value is None:
            return adam
        return optax.chain(optimizers.clip_by_global_norm(self.clip_value), adam)

    def _apply(self, X: np.ndarray, method: Callable | None) -> Iterator[Any]:
        """Yields what a method of the network returns for chunks of rows.

        All chunks have one size, so that a row's answer does not depend on its company.
        """
        network, variables = self.network_, jax.device_put(dict(self.weights_.variables))
        X = tabnet_inputs.held(X, self.constant_)
        for start in range(0, len(X), _ROWS):
            chunk = X[start : start + _ROWS]
            count = len(chunk)
            padded = np.concatenate([chunk, np.repeat(chunk[:1], _ROWS - count, axis=0)])
            found = _evaluated(variables, padded, network=network, method=method)
            yield jax.tree.map(lambda a, n=count: np.asarray(a)[:n], found)


@functools.partial(jax.jit, static_argnames=("network", "method"))
def _evaluated(variables, x, network: TabNet, method: Callable | None):
    first, second = network.apply(variables, x, method=method)
    # The loss of the masks is no row's own.
    return (first, ()) if method is None else (first, second)


def _loss(outputs, targets, mask, of_logits, width: int, lambda_sparse: float) -> jax.Array:
    """The columns of `targets` behind the first `width` are factors of the losses."""
    logits, mask_loss = outputs
    weights = targets[:, width:] if targets.shape[1] > width else None
    loss = of_logits(logits, targets[:, :width], mask, weights)
    return loss - lambda_sparse * mask_loss if lambda_sparse else loss


def _scaled(weights: np.ndarray, *parts: np.ndarray) -> np.ndarray:
    """Weights [N, L] whose mean over each part of the rows is 1, so that only ratios matter."""
    scaled = np.ones(weights.shape, np.float32)
    for rows in parts:
        mean = weights[rows].mean()
        # Of a part without any weight all rows weigh alike.
        scaled[rows] = weights[rows] / mean if mean > 0 else 1.0
    return scaled
