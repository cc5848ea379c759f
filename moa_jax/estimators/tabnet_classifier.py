"""TabNetClassifier: TabNet in scikit-learn's manner, for two classes, many, or many labels."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterator
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import optax
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from moa_jax.config import number
from moa_jax.estimators import saved
from moa_jax.models import tabnet
from moa_jax.models.hyperparameters import TABNET
from moa_jax.models.tabnet import TabNet
from moa_jax.training import losses, optimizers, rules, weights
from moa_jax.training.layout import Settings
from moa_jax.training.loop import StageRun
from moa_jax.training.members import SMALLEST_BATCH, Member
from moa_jax.training.parallel import Devices
from moa_jax.training.progress import MetricsLog
from moa_jax.training.stage import Forward, Stage, by_row

# Rows per device call of a prediction, of which one program is compiled.
_ROWS = 256
# What training has beside the hyperparameters of `TabNet`, as its fields have them.
_TRAINING = {
    "batch_size": number(1024, 2),
    "max_epochs": number(100, 1),
    "patience": number(10, 0),
    "lambda_sparse": number(1e-3, 0.0),
    "learning_rate": number(2e-2, 1e-12),
    "weight_decay": number(0.0, 0.0),
    "validation_fraction": number(0.1, 0.0, 0.9),
}


class TabNetClassifier(ClassifierMixin, BaseEstimator):
    """TabNet (Arik and Pfister, 2021) for classes, or for labels that exclude each other not.

    The shape of `y` decides: labels [N] of any type are classes, trained on with a softmax
    cross-entropy; a matrix [N, L] of 0 and 1 holds L labels, each with a sigmoid. A column, or a
    whole `y`, of a single value is allowed.

    Columns need no scaling: the running statistics of the first normalisation start at those of
    the training rows, where pytorch-tabnet's start at 0 and 1 and need hundreds of steps. Numbers
    are float32; the same seed gives the same network.

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

    def fit(self, X, y, eval_set: tuple | None = None) -> Self:
        """Trains the network and keeps the epoch of the lowest validation loss.

        Args:
          X: [N, columns] finite numbers.
          y: [N] classes, or [N, L] labels of 0 and 1.
          eval_set: a pair like X and y whose loss decides, in place of held-out rows.

        Raises:
          ValueError: X, y, eval_set or a parameter is not what is expected.
          UserError: training diverged.
        """
        self._check_parameters()
        X, y = validate_data(self, X, y, dtype=np.float32, multi_output=True, ensure_min_samples=2)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.multi_label_ = y.ndim == 2
        self.classes_ = np.arange(y.shape[1]) if self.multi_label_ else np.unique(y)
        self._check_codes(X)
        targets = self._encoded(y)
        self.seed_ = _seed(self.random_state)
        if eval_set is None:
            train, select = self._held_out(targets)
        else:
            others, other_y = eval_set
            others = self._checked(others)
            other_targets = self._encoded(check_array(other_y, ensure_2d=False, dtype=None))
            if len(others) != len(other_targets):
                raise ValueError(
                    f"eval_set: expected as many rows of X as of y, found {len(others)} and "
                    f"{len(other_targets)}"
                )
            train, select = np.arange(len(X)), len(X) + np.arange(len(others))
            X, targets = np.concatenate([X, others]), np.concatenate([targets, other_targets])
        self._train(X, targets, train, select)
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

    def _check_parameters(self) -> None:
        for name, field in {**TABNET, **_TRAINING}.items():
            if "low" in field.metadata:
                _check_number(name, getattr(self, name), field)
        if self.clip_value is not None and not self.clip_value > 0:
            raise ValueError(f"clip_value: expected above 0 or None, found {self.clip_value!r}")
        if self.mask_type not in tabnet.MASKS:
            raise ValueError(
                f"mask_type: expected one of {sorted(tabnet.MASKS)}, found {self.mask_type!r}"
            )
        if self.n_independent + self.n_shared < 1:
            raise ValueError("n_independent and n_shared: expected one of them above 0")

    def _checked(self, X) -> np.ndarray:
        X = validate_data(self, X, dtype=np.float32, reset=False)
        self._check_codes(X)
        return X

    def _check_codes(self, X: np.ndarray) -> None:
        for column, categories, _ in self._tables():
            if not 0 <= column < X.shape[1]:
                raise ValueError(
                    f"cat_idxs: expected columns from 0 to {X.shape[1] - 1}, found {column}"
                )
            wrong = ~np.isin(X[:, column], np.arange(categories))
            if wrong.any():
                raise ValueError(
                    f"column {column}: expected codes 0 to {categories - 1}, found "
                    f"{X[wrong, column][0]:g}"
                )

    def _encoded(self, y: np.ndarray) -> np.ndarray:
        """Returns y as targets [N, K] of 0 and 1."""
        if not self.multi_label_:
            unknown = np.setdiff1d(y, self.classes_)
            if y.ndim > 1 or unknown.size:
                raise ValueError(f"y: expected classes {self.classes_}, found {unknown}")
            return (y[:, None] == self.classes_).astype(np.float32)
        if np.ndim(y) != 2 or y.shape[1] != len(self.classes_):
            raise ValueError(f"y: expected {len(self.classes_)} labels, found shape {y.shape}")
        if not np.isin(y, (0, 1)).all():
            raise ValueError(f"y: expected labels of 0 and 1, found {type_of_target(y)} values")
        return y.astype(np.float32)

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

    def _network(self) -> TabNet:
        width = self.cat_emb_dim
        return tabnet.from_attributes(
            self,
            len(self.classes_),
            cat_idxs=tuple(self.cat_idxs),
            cat_dims=tuple(self.cat_dims),
            cat_emb_dim=int(width) if isinstance(width, Integral) else tuple(width),
        )

    def _tables(self) -> list[tabnet.Table]:
        network = self._network()
        return tabnet.embedding_tables(network.cat_idxs, network.cat_dims, network.cat_emb_dim)

    def _train(
        self, X: np.ndarray, targets: np.ndarray, train: np.ndarray, select: np.ndarray
    ) -> None:
        member = Member(0, 0, train, select, select)
        of_logits = losses.binary_cross_entropy if self.multi_label_ else losses.cross_entropy
        stage = Stage(
            name="tabnet",
            forward=Forward(self._network(), inner="auto"),
            members=(member,),
            shared=X,
            targets=targets,
            loss=functools.partial(_loss, of_logits=of_logits, lambda_sparse=self.lambda_sparse),
            valid_loss=functools.partial(_loss, of_logits=of_logits, lambda_sparse=0.0),
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
            self.weights_ = weights.read(Path(folder) / "members" / f"{member.name}.npz")

    def _start(self, x: np.ndarray) -> dict[str, Any]:
        """Returns the first running statistics; those of embeddings are 0 and 1 as usual."""
        mean, var = x.mean(0, dtype=np.float64), x.var(0, dtype=np.float64)
        for column, _, width in reversed(self._tables()):
            mean = np.r_[mean[:column], np.zeros(width), mean[column + 1 :]]
            var = np.r_[var[:column], np.ones(width), var[column + 1 :]]
        statistics = {"mean": mean.astype(np.float32), "var": var.astype(np.float32)}
        return {"batch_stats": {"initial_norm": statistics}}

    def _optimizer(self, total_steps, scale) -> optax.GradientTransformation:
        adam = optimizers.adam(scale * self.learning_rate, weight_decay=self.weight_decay)
        if self.clip_value is None:
            return adam
        return optax.chain(optimizers.clip_by_global_norm(self.clip_value), adam)

    def _apply(self, X: np.ndarray, method: Callable | None) -> Iterator[Any]:
        """Yields what a method of the network returns for chunks of rows.

        All chunks have one size, so that a row's answer does not depend on its company.
        """
        network, variables = self._network(), jax.device_put(dict(self.weights_.variables))
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


def _loss(outputs, targets, mask, of_logits, lambda_sparse: float) -> jax.Array:
    logits, mask_loss = outputs
    loss = of_logits(logits, targets, mask)
    return loss - lambda_sparse * mask_loss if lambda_sparse else loss


def _seed(random_state) -> int:
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def _check_number(name: str, value: Any, field: dataclasses.Field) -> None:
    least, most = field.metadata["low"], field.metadata["high"]
    if isinstance(field.default, int):
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name}: expected an integer of at least {least}, found {value!r}")
        return
    most = np.inf if most is None else most
    if not isinstance(value, Real) or not least <= float(value) <= most:
        raise ValueError(f"{name}: expected {least} to {most}, found {value!r}")
