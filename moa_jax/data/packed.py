"""Packed files: the table in an archive, without what systems pack beside it."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import cast

import pyarrow as pa

from moa_jax.errors import UserError

# What macOS and Windows pack beside the files: hidden ones, previews, settings and locks.
_LITTER = re.compile(
    r"(^|/)(__MACOSX/|\.[^/.]|~\$|(eh)?thumbs\.db$|desktop\.ini$|\$RECYCLE\.BIN/)", re.IGNORECASE
)
# Bytes of a file as they are unpacked, which can be looked at before they are read.
Opened = gzip.GzipFile | zipfile.ZipExtFile | io.BufferedReader | bz2.BZ2File | lzma.LZMAFile


def members(path: Path) -> list[str]:
    """Returns the names of the files in a zip, without what macOS and Windows pack beside them."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    return [name for name in names if not _LITTER.search(name)]


@contextlib.contextmanager
def unpacked(path: Path, packed: str | None) -> Iterator[Opened]:
    """Gives the bytes of a table.

    Args:
      path: its file.
      packed: one of `OPENERS`, or None for a file that is the table itself.

    Raises:
      UserError: a zip holds another number of files than one; what is raised for damage is the
        caller's to tell.
    """
    if packed is None:
        with open(path, "rb") as plain:
            yield plain
    else:
        with OPENERS[packed](path) as opened:
            yield opened


@contextlib.contextmanager
def _of_zip(path: Path) -> Iterator[Opened]:
    names = members(path)
    if "xl/workbook.xml" in names:
        raise UserError(f"{path}: Excel file; save it as CSV")
    if len(names) != 1:
        several = f": {', '.join(names[:3])}{', ...' * (len(names) > 3)}" if names else ""
        raise UserError(f"{path}: expected one file within, found {len(names)}{several}")
    with zipfile.ZipFile(path) as archive, archive.open(names[0]) as member:
        yield cast(zipfile.ZipExtFile, member)  # declared as less than it is


@contextlib.contextmanager
def _of_zstd(path: Path) -> Iterator[Opened]:
    with pa.input_stream(str(path), compression="zstd") as stream:
        yield io.BufferedReader(cast(io.RawIOBase, stream))


# What opens a packed file, by what `signatures.of_bytes` calls it; and how its name ends.
OPENERS: Mapping[str, Callable[[Path], contextlib.AbstractContextManager[Opened]]] = {
    "gzip": gzip.GzipFile,
    "zip": _of_zip,
    "bzip2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
    "zstd": _of_zstd,
}
ENDINGS = {".gz": "gzip", ".zip": "zip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
