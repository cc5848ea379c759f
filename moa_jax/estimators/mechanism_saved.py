"""The folder of a fitted MechanismClassifier: a work folder, and what scikit-learn asks for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
from sklearn.base import BaseEstimator

from moa_jax import config as configuration
from moa_jax.engine.finished_run import FinishedRun
from moa_jax.errors import UserError
from moa_jax.estimators import mechanism_targets, stored_classes
from moa_jax.store import arrays, files
from moa_jax.store.workdir import Workdir

FORMAT = 1
DESCRIPTION = "estimator.json"
ROWS = "estimator.npz"
_KIND = "predictions of training rows"
_REMEDY = "save it again, or fit it anew"


def write(estimator: BaseEstimator, folder: Path) -> None:
    """Writes a fitted estimator: its work folder, and two files about it and its training rows.

    Raises:
      UserError: there is something else in the folder, or it cannot be written.
    """
    run = estimator._run
    if folder.exists() and folder.samefile(run.folder):
        _describe(estimator, folder)
        return
    earlier = _check_free(folder)
    temporary, replaced = (
        folder.absolute().with_name(f".{folder.absolute().name}.{word}-{os.getpid()}")
        for word in ("tmp", "old")
    )
    try:
        with files.writing(folder):
            temporary.parent.mkdir(parents=True, exist_ok=True)
        run.copy(temporary)
        _describe(estimator, temporary)
        with files.writing(folder):
            if earlier:
                os.replace(folder, replaced)
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(replaced, ignore_errors=True)


def read(cls: type[BaseEstimator], folder: Path) -> BaseEstimator:
    """Returns the estimator that was written; nothing in the folder is executed.

    Raises:
      UserError: a file is missing, damaged, or of another estimator or format.
    """
    path = folder / DESCRIPTION
    if not os.path.lexists(path):
        raise UserError(f"{path}: expected a saved {cls.__name__}, found none")
    stored = files.read_sealed(path, _REMEDY)
    expected = {"class": cls.__name__, "format": FORMAT}
    found = {name: stored.get(name) for name in expected}
    if found != expected:
        raise UserError(f"{path}: expected {expected}, found {found}")
    if os.path.lexists(folder / ROWS) and files.sha256(folder / ROWS) != stored.get("rows"):
        raise UserError(f"{folder / ROWS}: damaged, or not of {DESCRIPTION} beside it; {_REMEDY}")
    rows, _ = arrays.read(folder / ROWS, _KIND)
    try:
        estimator = cls(**{n: _parameter(n, value) for n, value in stored["parameters"].items()})
        estimator.mechanisms_ = np.array(stored["mechanisms"], object)
        estimator.classes_ = mechanism_targets.label_classes(len(stored["mechanisms"]))
        if stored["classes"] is not None:
            estimator.classes_ = stored_classes.restored(stored)
        estimator.n_features_in_ = stored["num_features"]
        if (names := stored["feature_names"]) is not None:
            estimator.feature_names_in_ = np.array(names, object)
        estimator.oof_, estimator._group_name = rows["oof"], stored["groups"]
        run = stored["run"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged: {error}; {_REMEDY}") from None
    if (there := Workdir(folder).read()["hash"]) != run:
        raise UserError(f"{path}: expected the run {run} beside it, found {there}; {_REMEDY}")
    estimator._run = FinishedRun(folder)
    estimator._run.load()
    return estimator


def _describe(estimator: BaseEstimator, folder: Path) -> None:
    arrays.write(folder / ROWS, _KIND, {"oof": estimator.oof_}, {})
    classes: dict[str, Any] = {"classes": None, "classes_dtype": None}
    if estimator.classes_.ndim == 1:
        classes = stored_classes.described(estimator.classes_)
    names = getattr(estimator, "feature_names_in_", None)
    entries = {path.name for path in folder.iterdir()} | {DESCRIPTION}
    files.write_sealed(
        folder / DESCRIPTION,
        {
            "class": type(estimator).__name__,
            "format": FORMAT,
            "parameters": {n: _plain(value) for n, value in estimator.get_params().items()},
            "mechanisms": estimator.mechanisms_.tolist(),
            **classes,
            "groups": estimator._group_name,
            "num_features": estimator.n_features_in_,
            "feature_names": None if names is None else names.tolist(),
            "run": Workdir(folder).read()["hash"],
            "rows": files.sha256(folder / ROWS),
            "entries": sorted(entries),
        },
    )


def _check_free(folder: Path) -> bool:
    """Checks that a folder can be written, and tells whether an earlier one is replaced."""
    found = files.kind(folder)
    if found == "a folder":
        names = {path.name for path in folder.iterdir()}
        if not names:
            return True
        if DESCRIPTION in names:
            entries = files.read_sealed(folder / DESCRIPTION, _REMEDY).get("entries", ())
            if names <= {*entries}:
                return True
        found = "one with other files"
    if found != "none":
        raise UserError(f"{folder}: expected a new, an empty or a saved folder, found {found}")
    return False


def _plain(value: Any) -> Any:
    """Returns a parameter as JSON has it."""
    if isinstance(value, ml_collections.ConfigDict):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in configuration.plain(value).items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _parameter(name: str, value: Any) -> Any:
    """Returns what `_plain` was given, with tuples in place of lists and arrays."""

    def tuples(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: tuples(inner) for name, inner in value.items()}
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    value = tuples(value)
    is_nested = name == "config" and isinstance(value, dict)
    return ml_collections.ConfigDict(value) if is_nested else value
