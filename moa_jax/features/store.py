"""Fitted transforms on disk: arrays as npz, everything else as JSON. Loading executes nothing."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from moa_jax import files
from moa_jax.errors import UserError
from moa_jax.features.factors import ClusterOneHot, FactorScores
from moa_jax.features.rank_gauss import RankGauss

VERSION = 1
_CLASSES = {cls.__name__: cls for cls in (RankGauss, FactorScores, ClusterOneHot)}


class Transform(Protocol):
    """What the store asks of a transform, beside `fit` and `transform`."""

    def parameters(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""

    def state(self) -> dict[str, np.ndarray]:
        """Returns what `fit` learned."""

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Takes over what `state` returned."""


def exists(folder: Path) -> bool:
    """Tells whether `save` has finished in this folder."""
    return (folder / "transforms.json").exists()


def save(folder: Path, transforms: Mapping[str, Transform]) -> None:
    """Writes `transforms.npz` and, last, `transforms.json` with its checksum."""
    arrays = {
        f"{name}/{key}": array
        for name, transform in transforms.items()
        for key, array in transform.state().items()
    }
    with files.replacing(folder / "transforms.npz") as temporary:
        np.savez(temporary, **arrays)
    described = {
        name: {"class": type(transform).__name__, "parameters": transform.parameters()}
        for name, transform in transforms.items()
    }
    files.write_json(
        folder / "transforms.json",
        {
            "version": VERSION,
            "sha256": files.sha256(folder / "transforms.npz"),
            "transforms": described,
        },
    )


def load(folder: Path) -> dict[str, Transform]:
    """Reads what `save` wrote.

    Raises:
      UserError: a file is missing, damaged, or of another version.
    """
    described = files.read_json(folder / "transforms.json")
    path = folder / "transforms.npz"
    if not isinstance(described, dict) or described.get("version") != VERSION:
        raise UserError(f"{folder / 'transforms.json'}: expected format version {VERSION}")
    if not path.exists():
        raise UserError(f"{path}: not found")
    if files.sha256(path) != described.get("sha256"):
        raise UserError(f"{path}: damaged, its checksum is not the one in transforms.json")
    loaded = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name, entry in described["transforms"].items():
                transform = _CLASSES[entry["class"]](**entry["parameters"])
                own = [key for key in arrays.files if key.startswith(f"{name}/")]
                transform.restore({key[len(name) + 1 :]: arrays[key] for key in own})
                loaded[name] = transform
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"{folder / 'transforms.json'}: damaged: {error!r}") from None
    return loaded
