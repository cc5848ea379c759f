"""Arrival: what one process has written or removed is waited for until another one sees it.

File systems that hosts share show things late: NFS believes for up to a minute that a name is not
there, or still is, once it has looked. Nothing that depends on a file is decided before all see it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from moa_jax.errors import UserError

LONGEST_SECONDS = 120.0
# Texts of a work folder are replaced by others of their size; larger files are told by that.
MOST_HASHED = 2**20


class Content(NamedTuple):
    """What a file holds.

    Attributes:
      name: its path below the folder that it is told of; empty for the file itself.
      size: bytes.
      sha256: hexadecimal digits; empty where the size says enough.
    """

    name: str
    size: int
    sha256: str


def content(path: Path, name: str = "", most_hashed: float = float("inf")) -> Content:
    """Returns what a file holds now, of a file of more than `most_hashed` bytes without a hash.

    Raises:
      OSError: it cannot be read.
    """
    # To open a file is to ask the server for it, which to look at its size is not.
    with open(path, "rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        digest = hashlib.file_digest(opened, "sha256").hexdigest() if size <= most_hashed else ""
    return Content(name, size, digest)


def contents(folder: Path, paths: Iterable[Path]) -> list[Content]:
    """Returns what the files of a folder hold that can be read, large ones without a hash."""
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            found.append(content(path, path.relative_to(folder).as_posix(), MOST_HASHED))
    return found


def wait_for(path: Path, expected: Content) -> None:
    """Waits until a file holds what another process says that it has written.

    Raises:
      UserError: it does not in two minutes.
    """

    def is_there() -> bool:
        try:
            with open(path, "rb") as opened:
                size = os.fstat(opened.fileno()).st_size
                begin = opened.read(expected.size) if expected.sha256 else b""
        except OSError:
            return False
        # What somebody's log, which lies in the folder, has got since then does not count.
        return size >= expected.size and (
            not expected.sha256 or hashlib.sha256(begin).hexdigest() == expected.sha256
        )

    _wait(path, is_there, "the file as the first process wrote it", "it")


def wait_for_removal(path: Path) -> None:
    """Waits until nothing stands where another process has removed what there was.

    Raises:
      UserError: it still does after two minutes.
    """
    gone = "nothing, as the first process removed it"
    _wait(path, lambda: not os.path.lexists(path), gone, "its removal")


def _wait(path: Path, is_so: Callable[[], bool], expected: str, what: str) -> None:
    start, pause = time.monotonic(), 0.02
    while not is_so():
        if (waited := time.monotonic() - start) >= LONGEST_SECONDS:
            raise UserError(
                f"{path}: expected {expected}, found that this process does not see {what} after "
                f"{waited:.0f} s; the work folder must be one that all hosts share"
            )
        time.sleep(pause)
        pause = min(2 * pause, 1.0)
        # What is known of a folder's names is asked for again by who lists it.
        with contextlib.suppress(OSError):
            os.listdir(path.parent)
