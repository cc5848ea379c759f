"""Arrays in a file: an npz archive with a JSON record, which numpy reads and this verifies."""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from moa_jax.errors import UserError, first_line
from moa_jax.store import files

VERSION = 1
# The entry that says what the archive holds: a text, which numpy reads as well.
DESCRIPTION = "description"
SEPARATOR = "/"
# Booleans, numbers and text: what numpy writes without pickle and reads as the same type.
_KINDS = "biufcSU"

# Arrays by name, or mappings of such, to any depth.
Tree = Mapping[str, Any]


def write(path: str | Path, kind: str, arrays: Tree, record: Mapping[str, Any]) -> None:
    """Writes arrays under their path, such as `params/dense1/bias`, and a record of plain values.

    Equal arrays, of equal layout in memory, and equal records give equal bytes. Mappings without
    an array leave no trace.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "weights.npz"
    >>> write(path, "weights", {"params": {"bias": np.arange(2.0)}}, {"epoch": 3})
    >>> read(path, "weights")
    ({'params': {'bias': array([0., 1.])}}, {'epoch': 3})
    >>> np.load(path)["params/bias"]
    array([0., 1.])

    Args:
      path: the file; numpy's own reader wants its name to end in `.npz`.
      kind: what the file is called in messages; `read` asks for the same.
      arrays: names have no slash.
      record: values as JSON has them.

    Raises:
      TypeError: an array of objects, or of another type that numpy cannot read back.
      UserError: the folder cannot be written; an earlier file stays whole.
    """
    with files.replacing(path) as temporary:
        pack(temporary, kind, arrays, record)


def pack(path: Path, kind: str, arrays: Tree, record: Mapping[str, Any]) -> None:
    """Does what `write` does, in place: for who replaces several files together."""
    flat = dict(_flat(arrays))
    if DESCRIPTION in flat:
        raise ValueError(f"{DESCRIPTION}: expected another name for an array")
    described = {"kind": kind, "version": VERSION, "arrays": list(flat), "record": dict(record)}
    text = np.array(json.dumps(described, ensure_ascii=False))
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in {DESCRIPTION: text, **flat}.items():
            # Opened by name an entry has a constant date. Its size is not known beforehand.
            with archive.open(_entry(name), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def read(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the arrays and the record that `write` was given; nothing in the file is executed.

    Raises:
      UserError: the file is missing, damaged in any of its bytes, of another kind or version.
    """
    with _opened(path, kind) as (archive, described):
        names = described["arrays"]
        if archive.namelist() != [_entry(name) for name in (DESCRIPTION, *names)]:
            raise ValueError("its entries are not those that it tells of")
        arrays: dict[str, Any] = {}
        for name in names:
            *path_to, last = name.split(SEPARATOR)
            inner = arrays
            for key in path_to:
                inner = inner.setdefault(key, {})
            inner[last] = _read_entry(archive, name)
        return arrays, described["record"]


def read_record(path: str | Path, kind: str) -> dict[str, Any]:
    """Returns the record alone, without reading the arrays; raises what `read` raises."""
    with _opened(path, kind) as (_, described):
        return described["record"]


def read_names(path: str | Path, kind: str) -> list[str]:
    """Returns the paths of the arrays alone; raises what `read` raises."""
    with _opened(path, kind) as (_, described):
        return described["arrays"]


def read_array(path: str | Path, kind: str, name: str) -> np.ndarray:
    """Returns one array, by its path, without reading the others; raises what `read` raises."""
    with _opened(path, kind) as (archive, _):
        return _read_entry(archive, name)


def num_bytes(path: str | Path) -> int:
    """Returns how large the file is, which is about the memory that its arrays take.

    Raises:
      UserError: the file is missing.
    """
    return files.check_regular(path).stat().st_size


def _entry(name: str) -> str:
    return f"{name}.npy"


def _flat(tree: Tree, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Yields every array with its path, in the order of the mappings."""
    for name, value in tree.items():
        if SEPARATOR in name:
            raise ValueError(f"{prefix}{name}: expected a name without a slash")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}{SEPARATOR}")
            continue
        array = np.asarray(value)
        if array.dtype.kind not in _KINDS:
            what = "objects" if array.dtype.hasobject else str(array.dtype)
            raise TypeError(f"{prefix}{name}: an array of {what} cannot be stored without pickle")
        yield f"{prefix}{name}", array


@contextlib.contextmanager
def _opened(path: str | Path, kind: str) -> Iterator[tuple[zipfile.ZipFile, dict[str, Any]]]:
    """Yields the archive and its description; whatever fails within is damage of the file."""
    files.check_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if _entry(DESCRIPTION) not in archive.namelist():
                raise _other(path, kind, "an archive of another format")
            described = json.loads(_read_entry(archive, DESCRIPTION).item())
            if (described["kind"], described["version"]) != (kind, VERSION):
                raise _other(path, kind, "{kind}, format version {version}".format(**described))
            yield archive, described
    except UserError:
        raise
    except Exception as error:  # zipfile and numpy fail in as many ways as files can be damaged
        raise UserError(f"{path}: damaged, expected {kind}: {first_line(error)}") from None


def _other(path: str | Path, kind: str, found: str) -> UserError:
    return UserError(f"{path}: expected {kind}, format version {VERSION}, found {found}")


def _read_entry(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(_entry(name)) as entry:
        array = np.lib.format.read_array(entry, allow_pickle=False)
        # The checksum is that of the whole entry. A damaged shape or type may ask for less of it.
        if entry.read(1):
            raise ValueError(f"{name}: longer than its shape tells")
    return array
