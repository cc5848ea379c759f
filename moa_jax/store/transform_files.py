"""Fitted transforms on disk: arrays as npz, everything else as JSON. Loading executes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from moa_jax.deepinsight.feature_map import FeatureMap
from moa_jax.deepinsight.log_scale import LogScale
from moa_jax.errors import UserError
from moa_jax.features.factors import ClusterOneHot, FactorScores, PrincipalComponents
from moa_jax.features.rank_gauss import RankGauss
from moa_jax.features.selection import ChosenColumns, VarianceSelection
from moa_jax.features.standard_scale import StandardScale
from moa_jax.features.umap import UmapEmbedding
from moa_jax.store import files

VERSION = 1
_CLASSES = {
    cls.__name__: cls
    for cls in (
        ChosenColumns,
        ClusterOneHot,
        FactorScores,
        FeatureMap,
        LogScale,
        PrincipalComponents,
        RankGauss,
        StandardScale,
        UmapEmbedding,
        VarianceSelection,
    )
}


class Transform(Protocol):
    """What the store asks of a transform, beside `fit`."""

    def parameters(self) -> dict[str, Any]:
        """Returns the constructor's arguments, as JSON has them."""

    def state(self) -> dict[str, np.ndarray]:
        """Returns what `fit` learned."""

    @classmethod
    def restore(cls, parameters: dict[str, Any], state: dict[str, np.ndarray]) -> Self:
        """Returns the transform that `parameters` and `state` came from."""


def exists(folder: Path) -> bool:
    """Tells whether `save` has finished in this folder."""
    return (folder / "transforms.json").exists()


def save(folder: Path, transforms: Mapping[str, Transform]) -> None:
    """Writes `transforms.npz` and `transforms.json`, which has its checksum.

    Equal transforms give equal bytes. Both files are complete before either takes its name; the
    description comes last and says that the arrays are there.

    Raises:
      UserError: the folder cannot be written.
    """
    arrays = {
        f"{name}/{key}": array
        for name, transform in transforms.items()
        for key, array in transform.state().items()
    }
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"{name}: an array of objects cannot be stored without pickle")
    with (
        files.replacing(folder / "transforms.json") as description,
        files.replacing(folder / "transforms.npz") as archive,
    ):
        np.savez(archive, **arrays)
        described = {
            "version": VERSION,
            "sha256": files.sha256(archive),
            "transforms": {
                name: {"class": type(transform).__name__, "parameters": transform.parameters()}
                for name, transform in transforms.items()
            },
        }
        description.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")


def load(folder: Path) -> dict[str, Transform]:
    """Reads what `save` wrote.

    Raises:
      UserError: a file is missing, damaged, of another version or names an unknown class.
    """
    description, archive = folder / "transforms.json", folder / "transforms.npz"
    described = files.read_json(description)
    version = described.get("version") if isinstance(described, dict) else None
    if version != VERSION:
        raise UserError(f"{description}: expected format version {VERSION}, found {version!r}")
    if not archive.exists():
        raise UserError(f"{archive}: not found")
    if files.sha256(archive) != described.get("sha256"):
        raise UserError(f"{archive}: damaged, its checksum is not the one in {description.name}")
    try:
        states = {name: {} for name in described["transforms"]}
        with np.load(archive, allow_pickle=False) as arrays:
            for stored in arrays.files:
                name, _, key = stored.rpartition("/")
                states[name][key] = arrays[stored]
        loaded = {}
        for name, entry in described["transforms"].items():
            if entry["class"] not in _CLASSES:
                raise ValueError(
                    f"{name} is of class {entry['class']!r}, expected {' or '.join(_CLASSES)}"
                )
            loaded[name] = _CLASSES[entry["class"]].restore(entry["parameters"], states[name])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{description}: damaged: {error!r}") from error
    return loaded
