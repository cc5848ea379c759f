"""Fitted transforms on disk: what they learned as arrays, everything else as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from moa_jax.errors import UserError
from moa_jax.store import arrays, files

VERSION = 2
_KIND = "transforms"


class Transform(Protocol):
    """What the store asks of a transform, beside `fit`."""

    def parameters(self) -> dict[str, Any]:
        """Returns the constructor's arguments, as JSON has them."""

    def state(self) -> dict[str, np.ndarray]:
        """Returns what `fit` learned."""

    @classmethod
    def restore(cls, parameters: dict[str, Any], state: dict[str, np.ndarray]) -> Self:
        """Returns the transform that `parameters` and `state` came from."""


# Fitted transforms by name; which classes they are of is known to who fitted them.
Transforms = Mapping[str, Any]


def paths(folder: Path) -> tuple[Path, Path]:
    """Returns the files of a folder: the description and the arrays."""
    return folder / "transforms.json", folder / "transforms.npz"


def exists(folder: Path) -> bool:
    """Tells whether `save` has finished in this folder."""
    return paths(folder)[0].exists()


def save(folder: Path, transforms: Mapping[str, Transform]) -> None:
    """Writes `transforms.npz` and `transforms.json`, which has its checksum.

    The description, which is sealed, ties both files together and names each transform's class and
    parameters. Equal transforms give equal bytes. Both files are complete before either takes its
    name; the description comes last and says that the arrays are there.

    Raises:
      UserError: the folder cannot be written.
    """
    states = {name: transform.state() for name, transform in transforms.items()}
    last, first = paths(folder)
    with files.replacing(last) as description, files.replacing(first) as archive:
        arrays.pack(archive, _KIND, states, {})
        described = {
            "version": VERSION,
            "arrays": files.sha256(archive),
            "transforms": {
                name: {"class": type(transform).__name__, "parameters": transform.parameters()}
                for name, transform in transforms.items()
            },
        }
        description.write_text(files.sealed_text(described), encoding="utf-8")


def load(folder: Path, classes: Sequence[type[Transform]]) -> dict[str, Transform]:
    """Reads what `save` wrote; nothing in either file is executed.

    Args:
      folder: where they lie.
      classes: those that may be there; a file names one of them and never a place to import from.

    Raises:
      UserError: a file is missing, damaged, of another version or names another class.
    """
    description, archive = paths(folder)
    described = _described(description)
    if not _is_described(archive, described):
        raise UserError(f"{archive}: damaged, its checksum is not the one in {description.name}")
    states, _ = arrays.read(archive, _KIND)
    known = {cls.__name__: cls for cls in classes}
    loaded = {}
    try:
        for name, entry in described["transforms"].items():
            if entry["class"] not in known:
                raise ValueError(
                    f"{name} is of class {entry['class']!r}, expected {' or '.join(known)}"
                )
            cls = known[entry["class"]]
            loaded[name] = cls.restore(entry["parameters"], states.pop(name, {}))
        if states:
            raise ValueError(f"it lacks {' and '.join(states)}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{description}: damaged: {error!r}") from error
    return loaded


def _described(description: Path) -> dict[str, Any]:
    """Returns what the description says, if it is of this version and as it was written."""
    stored = files.read_json(description)
    version = stored.get("version") if isinstance(stored, dict) else None
    if version != VERSION:
        raise UserError(f"{description}: expected format version {VERSION}, found {version!r}")
    return files.unsealed(description, stored, "delete its folder and train again")


def _is_described(archive: Path, described: Mapping[str, Any]) -> bool:
    return files.sha256(files.check_regular(archive)) == described.get("arrays")
