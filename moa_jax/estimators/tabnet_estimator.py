"""What the TabNet estimators share: parameters, tables, one member's training, explanations."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import flax.linen as nn
import jax
import numpy as np
import optax
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_is_fitted, validate_data

from moa_jax.estimators import (
    categories,
    checks,
    row_names,
    saved,
    tabnet_columns,
    tabnet_inputs,
)
from moa_jax.estimators.tabnet_columns import ColumnScale
from moa_jax.models import tabnet
from moa_jax.models.tabnet import TabNet
from moa_jax.training import conventions, optimizers, reuse, rules
from moa_jax.training import weights as weight_files
from moa_jax.training.layout import Settings
from moa_jax.training.loop import StageRun
from moa_jax.training.members import SMALLEST_BATCH, Member
from moa_jax.training.parallel import Devices
from moa_jax.training.precision import in_precision
from moa_jax.training.progress import MetricsLog
from moa_jax.training.stage import Forward, Stage, by_row
from moa_jax.training.trees import Loss, Variables

# Rows per device call of a prediction, of which one program is compiled.
_ROWS = 256
# What tables are kept in until their columns are scaled; others become the first.
_NUMBERS = (np.float64, np.float32)


class TabNetEstimator(BaseEstimator):
    """Base of `TabNetClassifier`, `TabNetRegressor` and `TabNetPretrainer`, which describe it."""

    # A network with an encoder, or the encoder itself.
    network_: Any
    columns_: ColumnScale

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
        self.virtual_batch_size = virtual_batch_size
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.learning_rate = learning_rate
        self.clip_value = clip_value
        self.weight_decay = weight_decay
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.random_state = random_state

    @property
    def best_epoch_(self) -> int:
        return self.weights_.epoch

    @property
    def constant_(self) -> dict[int, float]:
        return self.columns_.constant

    def explain(self, X) -> tuple[np.ndarray, np.ndarray]:
        """Returns how much each column counted in each row, and the steps' masks.

        Returns:
          The explanation [N, columns], not negative, and the masks [n_steps, N, columns], whose
          rows sum to 1. The columns of an embedding count for the column that it stands for.

        Raises:
          ValueError: X has other columns than in `fit`, or a cell is not what is expected.
        """
        check_is_fitted(self)
        return self._explained(self._checked(X))

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

    @property
    def _encoder(self) -> TabNet:
        return self.network_

    @property
    def _encoder_variables(self) -> Variables:
        return self.weights_.variables

    def _take_encoder(self, encoder: TabNet, stored: dict[str, Any]) -> None:
        """Has the network that was written, with what else `_described` has of it."""
        self.network_ = encoder

    def _described(self) -> dict[str, Any]:
        """Returns what an estimator of this class has learned beside all others, for JSON."""
        return {}

    def _restore(self, stored: dict[str, Any]) -> None:
        """Has again what `_described` returned."""

    def _first_rows(self, X, y: Any = "no_validation", **options) -> Any:
        """Returns X, and y if there is one, checked and in numbers; remembers what X is like."""
        tabnet_inputs.check_parameters(self)
        X = row_names.as_pandas(X)
        checks.check_cells(X)
        checks.check_there("y", y)
        own = categories.of_table(X)
        found = validate_data(
            self, categories.coded(X, own), y, dtype=_NUMBERS, ensure_min_samples=2, **options
        )
        names = getattr(self, "feature_names_in_", None)
        checks.check_size(found if isinstance(y, str) else found[0], names)
        self.categories_ = own
        return found

    def _checked(self, X) -> np.ndarray:
        """Returns rows like those that were fitted."""
        X = row_names.as_pandas(X)
        checks.check_cells(X)
        coded = categories.coded(X, self.categories_)
        X = validate_data(self, coded, dtype=_NUMBERS, reset=False)
        checks.check_size(X, getattr(self, "feature_names_in_", None))
        tabnet_inputs.check_codes(X, self._tables())
        return X

    def _new_encoder(self, X: np.ndarray, output_dim: int) -> TabNet:
        """Returns the network that the parameters describe, and checks that X and memory fit."""
        embedded = tabnet_inputs.embedding(self, self.categories_)
        network = tabnet.from_attributes(self, output_dim, **embedded)
        tabnet_inputs.check_codes(X, _tables(network))
        tabnet_inputs.check_memory(network, min(self.batch_size, len(X)), X.shape[1])
        return network

    def _tables(self) -> list[tabnet.Table]:
        return _tables(self._encoder)

    def _held_out(
        self, num_rows: int, stratify: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows to train on and those that decide, both of all strata if possible."""
        rows = np.arange(num_rows)
        size = min(round(self.validation_fraction * num_rows), num_rows - SMALLEST_BATCH)
        if size < 1:
            return rows, rows
        if stratify is not None and min(size, num_rows - size) < len(np.unique(stratify)):
            stratify = None
        return train_test_split(rows, test_size=size, stratify=stratify, random_state=self.seed_)

    def _train(
        self,
        forward: Forward,
        X: np.ndarray,
        targets: np.ndarray,
        parts: tuple[np.ndarray, np.ndarray],
        loss: Loss,
        valid_loss: Loss,
        start: Variables | None,
    ) -> None:
        """Fits one member and remembers its weights and losses.

        Args:
          forward: network and inputs.
          X, targets: all rows.
          parts: positions of the rows to train on and of those that decide.
          loss, valid_loss: see `Stage`.
          start: weights to begin with; None for new ones.
        """
        train, select = parts
        member, size = Member(0, 0, train, select, select), tabnet_inputs.rounded_up(len(X))
        stage = Stage(
            name="tabnet",
            forward=forward,
            members=(member,),
            shared=_padded(self.columns_(X), size),
            targets=_padded(targets, size),
            loss=loss,
            valid_loss=valid_loss,
            valid_weights=by_row,
            optimizer=functools.partial(
                _optimizer,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                clip_value=self.clip_value,
            ),
            epochs=self.max_epochs,
            batch_size=min(self.batch_size, tabnet_inputs.rounded_up(len(train))),
            start=None if start is None else lambda _: start,
            stop=rules.patience(self.patience),
        )
        with tempfile.TemporaryDirectory() as folder, conventions.usual():
            devices = Devices.available("vmap")
            settings = Settings(devices, base_seed=self.seed_, checkpoint_seconds=np.inf)
            log = MetricsLog(Path(folder), tensorboard=False)
            StageRun(stage, Path(folder), settings, log).fit()
            self.history_ = {
                name: [record[name] for record in log.read()]
                for name in ("train_loss", "valid_loss")
            }
            self.weights_ = weight_files.read(Path(folder) / "members" / f"{member.name}.npz")
        if start is None:
            tabnet_columns.place_absent(self._encoder_variables, self._tables(), X[train])

    def _learn_columns(self, X: np.ndarray, earlier: ColumnScale | None) -> None:
        """Learns the scale of the rows to train on, in the units of one that weights are for."""
        self.columns_ = ColumnScale.learned(X, [column for column, *_ in self._tables()])
        if earlier is not None:
            self.columns_ = self.columns_.in_units_of(earlier)

    def _layers(self, network: TabNet) -> dict[str, Any]:
        """Returns all that the weights of an encoder are made for, by what it is called."""
        names = getattr(self, "feature_names_in_", None)
        return {
            "number of columns": self.n_features_in_,
            "names of columns": None if names is None else names.tolist(),
            "categories": self.categories_,
            "embeddings": [tuple(table) for table in _tables(network)],
            **{
                name: getattr(network, name)
                for name in ("n_d", "n_a", "n_steps", "n_independent", "n_shared")
            },
        }

    def _measure_importances(self, X: np.ndarray) -> None:
        # Explanations of all rows, and their masks, may be many times the table.
        total = sum(found.sum(0, np.float64) for found, _ in self._apply(X, TabNet.explain))
        with conventions.usual():
            shares = tabnet.importances(np.asarray(total, np.float32)[None])
            self.feature_importances_ = np.nan_to_num(np.asarray(shares))

    def _explained(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        chunks = list(self._apply(X, TabNet.explain))
        explanation = np.concatenate([explanation for explanation, _ in chunks])
        return explanation, np.concatenate([np.stack(masks) for _, masks in chunks], axis=1)

    def _apply(
        self,
        X: np.ndarray,
        method: Callable | None = None,
        network: nn.Module | None = None,
        variables: Variables | None = None,
    ) -> Iterator[Any]:
        """Yields what a method of the encoder, or of another network, returns for chunks of rows.

        All chunks have one size, so that a row's answer does not depend on its company.
        """
        network = network or self._encoder
        with conventions.usual():
            variables = jax.device_put(dict(variables or self._encoder_variables))
        for start in range(0, len(X), _ROWS):
            chunk = self.columns_(X[start : start + _ROWS])
            count = len(chunk)
            padded = np.concatenate([chunk, np.repeat(chunk[:1], _ROWS - count, axis=0)])
            with conventions.usual(), in_precision(TabNet.matmul_precision):
                found = _program(network, method)(variables, padded)
                found = jax.tree.map(lambda a, n=count: np.asarray(a)[:n], found)
            yield found


# Each holds megabytes, and a search of hyperparameters has two of every network.
@functools.lru_cache(reuse.MOST_PROGRAMS)
def _program(network: nn.Module, method: Callable | None) -> Callable:
    """Returns the function of variables and rows, compiled when it is first called."""

    def evaluated(variables: Variables, x: np.ndarray) -> Any:
        found = network.apply(variables, x, method=method)
        # The loss of the masks is no row's own.
        return found if method is not None else found[0]

    return jax.jit(evaluated)


def _optimizer(
    total_steps, scale, member_data, learning_rate, weight_decay, clip_value
) -> optax.GradientTransformation:
    adam = optimizers.adam(scale * learning_rate, weight_decay=weight_decay)
    if clip_value is None:
        return adam
    return optax.chain(optimizers.clip_by_global_norm(clip_value), adam)


def _tables(network: TabNet) -> list[tabnet.Table]:
    return tabnet.embedding_tables(network.cat_idxs, network.cat_dims, network.cat_emb_dim)


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    """Rows that no batch has make programs of tables of about one size the same."""
    return np.concatenate([rows, np.zeros((size - len(rows), *rows.shape[1:]), rows.dtype)])
