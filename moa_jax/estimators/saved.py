"""The folder of a fitted estimator: its weights as arrays, everything else as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator

from moa_jax.errors import UserError
from moa_jax.estimators import tabnet_inputs
from moa_jax.estimators.tabnet_columns import ColumnScale
from moa_jax.models import tabnet
from moa_jax.models.hyperparameters import TABNET
from moa_jax.models.tabnet import TabNet
from moa_jax.store import files
from moa_jax.training import weights

FORMAT = 1
_DESCRIPTION, _WEIGHTS = "estimator.json", "weights.npz"
# What makes the network, whatever the parameters are now.
_NETWORK = ("output_dim", *TABNET, "cat_idxs", "cat_dims", "cat_emb_dim")
_KEYS, _VALUES = "keys", "values"


def write(estimator: BaseEstimator, folder: Path) -> None:
    """Writes a fitted estimator.

    Raises:
      UserError: the folder cannot be written.
    """
    weights.write(folder / _WEIGHTS, estimator.weights_)
    parameters = {name: _plain(value) for name, value in estimator.get_params().items()}
    if not isinstance(estimator.random_state, Integral | None):
        parameters["random_state"] = estimator.seed_
    names = getattr(estimator, "feature_names_in_", None)
    files.write_json(
        folder / _DESCRIPTION,
        {
            "class": type(estimator).__name__,
            "format": FORMAT,
            "parameters": parameters,
            "network": {name: _plain(getattr(estimator._encoder, name)) for name in _NETWORK},
            **estimator._described(),
            "num_features": estimator.n_features_in_,
            "feature_names": None if names is None else names.tolist(),
            "feature_importances": _numbers(estimator.feature_importances_),
            "categories": {str(column): names for column, names in estimator.categories_.items()},
            "history": estimator.history_,
            "seed": estimator.seed_,
            **estimator.columns_.described(),
            "weights": files.sha256(folder / _WEIGHTS),
        },
    )


def read(cls: type[BaseEstimator], folder: Path) -> BaseEstimator:
    """Returns the estimator that was written; nothing in the folder is executed.

    Raises:
      UserError: a file is missing, damaged, or of another estimator or format.
    """
    stored = files.read_json(folder / _DESCRIPTION)
    expected = {"class": cls.__name__, "format": FORMAT}
    found = {name: stored.get(name) for name in expected} if isinstance(stored, dict) else None
    if found != expected:
        raise UserError(f"{folder / _DESCRIPTION}: expected {expected}, found {found}")
    try:
        estimator = cls(**{k: _parameter(v) for k, v in stored["parameters"].items()})
        estimator._restore(stored)
        # Earlier versions held the parameters alone, and no categories.
        categories = stored.get("categories", {})
        estimator.categories_ = {int(column): names for column, names in categories.items()}
        network = stored.get("network")
        estimator._take_encoder(
            tabnet.from_attributes(
                estimator, len(stored["classes"]), **tabnet_inputs.embedding(estimator)
            )
            if network is None
            else TabNet(**{name: _parameter(value) for name, value in network.items()}),
            stored,
        )
        estimator.n_features_in_ = stored["num_features"]
        if stored["feature_names"] is not None:
            estimator.feature_names_in_ = np.array(stored["feature_names"], object)
        estimator.feature_importances_ = np.array(stored["feature_importances"], np.float32)
        estimator.history_, estimator.seed_ = stored["history"], stored["seed"]
        estimator.columns_ = ColumnScale.restored(stored)
        checksum = stored["weights"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / _DESCRIPTION}: damaged: {error}") from None
    path = folder / _WEIGHTS
    if path.exists() and files.sha256(path) != checksum:
        raise UserError(f"{path}: damaged, or not of {_DESCRIPTION} beside it")
    estimator.weights_ = weights.read(path)
    return estimator


def _numbers(values: np.ndarray) -> list[float | None]:
    """Returns numbers as JSON has them, None for NaN."""
    return [None if np.isnan(value) else value for value in values.tolist()]


def _plain(value):
    """Returns a parameter as JSON has it; keys of a mapping keep their type."""
    if isinstance(value, Mapping):
        return {_KEYS: _plain(list(value)), _VALUES: _plain(list(value.values()))}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value if value is None or isinstance(value, str) else np.asarray(value).tolist()


def _parameter(value):
    """Returns what `_plain` was given, with tuples in place of lists and arrays."""
    if isinstance(value, dict):
        return dict(zip(value[_KEYS], value[_VALUES], strict=True))
    return tuple(map(_parameter, value)) if isinstance(value, list) else value
