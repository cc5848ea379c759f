"""Prepared folders: `columns.json` beside the files says how a run reads them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from moa_jax import schema
from moa_jax.config import LEVELS_OF_FILES, DataConfig, RunConfig, for_question
from moa_jax.errors import UserError
from moa_jax.store import files

NAME = "columns.json"
# Of what the file holds and how.
VERSION = 1
FIELDS = (
    "gene_prefixes", "cell_prefixes", "cp_times", "cp_doses", "missing_targets", "predict"
)  # fmt: skip
_PARTS = ("roles", "features", "missing", "labels", "treatment", "config")


def read(folder: str | Path) -> dict[str, Any] | None:
    """Returns what a folder's `columns.json` holds; None where there is none.

    Raises:
      UserError: it is damaged, or another version of the package made it.
    """
    path = Path(folder) / NAME
    if not os.path.lexists(path):
        return None
    found = files.read_json(path)
    version = found.get("version") if isinstance(found, dict) else None
    if version != VERSION:
        raise UserError(
            f"{path}: expected format version {VERSION}, found {version}; prepare the table again"
        )
    if missing := [name for name in _PARTS if not isinstance(found.get(name), Mapping)]:
        raise UserError(f"{path}: damaged, expected {missing[0]}")
    with files.parsing(path):
        _check_entries(found)
    return found


def _check_entries(found: Mapping[str, Any]) -> None:
    """Looks at what is read of the parts, wherever new rows are: raises as Python does."""
    for name in ("id", "control_column", "dose", "time", "cell_count"):
        found["roles"][name]
    for members in found["features"].values():
        for name in members:
            float(found["missing"]["values"][name])
    for one in found["treatment"].values():
        one["levels"][0]
    dict(found["ids"]), list(found["metadata"]), str.strip(found["label_separator"])


def applied(config: RunConfig, given: Collection[str]) -> RunConfig:
    """Returns a configuration that reads its data folder as the folder says.

    Args:
      config: the configuration; fields of `data` that are neither as they are by default nor left
        to the files stay.
      given: fields that flags set, by dotted name, which stay too.

    Raises:
      UserError: see `read`; a field in the file is not what is expected.
    """
    data = config.data
    described = read(data.folder) if data.source == "folder" and data.folder else None
    if described is None:
        return config
    default = DataConfig()
    stored = described["config"].get("data")
    if not isinstance(stored, Mapping) or not stored.keys() <= set(FIELDS):
        raise UserError(f"{Path(data.folder) / NAME}: damaged, expected config.data of {FIELDS}")
    checked = schema.build(DataConfig, dict(stored), f"{Path(data.folder) / NAME}: config.data")
    taken = {
        name: getattr(checked, name)
        for name in stored
        if f"data.{name}" not in given
        # An honest run keeps compounds whole unless somebody asks otherwise.
        and not (name == "predict" and config.honest)
        and getattr(data, name) in (getattr(default, name), LEVELS_OF_FILES.get(name))
    }
    data = dataclasses.replace(data, **taken)
    models = {name: for_question(model, data.predict) for name, model in config.models.items()}
    return dataclasses.replace(config, data=data, models=models)
