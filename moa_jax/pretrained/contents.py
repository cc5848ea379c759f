"""What a file is by its first bytes, and what the unpickler may make beside tensors."""

from __future__ import annotations

import argparse
import datetime
import pathlib
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

SAFETENSORS, PICKLED = "safetensors", "PyTorch"
_SIGNATURES = {
    b"version https://git-lfs": "a pointer of git-lfs: fetch the file itself by git lfs pull",
    b"\x1f\x8b": "a gzip archive: unpack it",
    b"BZh": "a bzip2 archive: unpack it",
    b"\xfd7zXZ": "an xz archive: unpack it",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
    b"Rar!": "a rar archive: unpack it",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"\x89HDF": "an HDF5 file, as Keras writes",
    b"\x93NUMPY": "an array of numpy",
    b"PAR1": "a Parquet file",
    b"GGUF": "a GGUF file",
}
_FIRST = 64


def of_file(path: Path) -> str | None:
    """Returns `SAFETENSORS`, `PICKLED`, in words what else a file is, or None if that is open."""
    with open(path, "rb") as file:
        first = file.read(_FIRST)
    for signature, description in _SIGNATURES.items():
        if first.startswith(signature):
            return description
    if first[8:9] == b"{" and int.from_bytes(first[:8], "little") < 2**40:
        return SAFETENSORS
    if first.startswith(b"PK\x03\x04"):
        return _of_archive(path)
    if first.startswith(b"\x80"):
        return PICKLED
    text = first.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page: what its address gave was not the file"
    return "JSON text" if text.startswith((b"{", b"[")) else None


def _of_archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        # PyTorch tells what is wrong with it.
        return PICKLED
    if any(name.rpartition("/")[2] in ("data.pkl", "constants.pkl") for name in names):
        return PICKLED
    if names and all(name.endswith(".npy") for name in names):
        return "an npz file of numpy"
    return f"a zip archive of {', '.join(sorted(names)[:3]) or 'nothing'}: unpack it"


def harmless() -> list[Any]:
    """Returns what trainers write beside the weights; making one executes nothing."""
    kinds = [np.dtype(code) for code in (*"?bhilqBHILQefdO", "U1", "S1", "M8[s]", "m8[s]")]
    scalar, rebuild = np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0]
    paths = (pathlib.PurePosixPath, pathlib.PosixPath, pathlib.PureWindowsPath)
    return [
        argparse.Namespace,
        types.SimpleNamespace,
        # The unpickler fills no subclass of a mapping but its own.
        (_mapping, "collections.defaultdict"),
        *(list, dict, set, frozenset, tuple, int, float, str),
        *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone),
        *paths,
        # Of another system or Python no path is made.
        (pathlib.PurePosixPath, "pathlib._local.PosixPath"),
        (pathlib.PurePosixPath, "pathlib._local.PurePosixPath"),
        (pathlib.PureWindowsPath, "pathlib.WindowsPath"),
        (pathlib.PureWindowsPath, "pathlib._local.WindowsPath"),
        (pathlib.PureWindowsPath, "pathlib._local.PureWindowsPath"),
        *(scalar, rebuild, np.ndarray, np.dtype),
        *{type(kind) for kind in kinds},
        # Before version 2 of numpy.
        (scalar, "numpy.core.multiarray.scalar"),
        (rebuild, "numpy.core.multiarray._reconstruct"),
    ]


def _mapping(*_: Any) -> dict:
    return {}
