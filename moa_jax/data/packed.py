"""Packed files: the table in an archive, without what systems pack beside it."""

from __future__ import annotations

import contextlib
import gzip
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from moa_jax.errors import UserError

# What macOS and Windows pack beside the files: hidden ones, previews, settings and locks.
_LITTER = re.compile(
    r"(^|/)(__MACOSX/|\.[^/.]|~\$|(eh)?thumbs\.db$|desktop\.ini$|\$RECYCLE\.BIN/)", re.IGNORECASE
)
# Bytes of a file as they are unpacked, which can be looked at before they are read.
Opened = gzip.GzipFile | zipfile.ZipExtFile | io.BufferedReader


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
      packed: `gzip`, `zip`, or None for a file that is the table itself.

    Raises:
      UserError: a zip holds another number of files than one; what is raised for damage is the
        caller's to tell.
    """
    if packed == "gzip":
        with gzip.open(path) as unpacked:
            yield unpacked
    elif packed == "zip":
        names = members(path)
        if "xl/workbook.xml" in names:
            raise UserError(f"{path}: Excel file; save it as CSV")
        if len(names) != 1:
            several = f": {', '.join(names[:3])}{', ...' * (len(names) > 3)}" if names else ""
            raise UserError(f"{path}: expected one file within, found {len(names)}{several}")
        with zipfile.ZipFile(path) as archive:
            with archive.open(names[0]) as member:
                yield cast(zipfile.ZipExtFile, member)  # declared as less than it is
    else:
        with open(path, "rb") as plain:
            yield plain
