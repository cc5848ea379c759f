"""What stands in a work folder and should not: temporary files of killed runs, links out of it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from moa_jax.errors import UserError
from moa_jax.store import files, lock

# As `files.replacing` names them, and nothing else.
TEMPORARY = re.compile(r"\..+\.tmp-[1-9]\d*(\.[A-Za-z0-9]+)?")


def clean(folder: Path) -> None:
    """Removes the temporary files of runs that were killed; the lock must be held.

    A work folder within this one has a lock of its own and is left alone. Where there is no
    `config.json` a run has not come further than the folder itself, and files in its folders are
    somebody else's.

    Raises:
      UserError: a link leads out of the folder, or a file cannot be removed.
    """
    inside, is_bound = _target(folder), os.path.lexists(folder / "config.json")
    for entry in entries(folder):
        path = Path(entry.path)
        if entry.is_symlink():
            if os.path.commonpath([inside, _target(path)]) != inside:
                raise UserError(
                    f"{path}: expected no link that leads out of the work folder, found one to "
                    f"{os.readlink(path)}; remove it, or bring here what it leads to"
                )
        elif (
            TEMPORARY.fullmatch(entry.name)
            and (is_bound or path.parent == folder)
            and stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode)
        ):
            files.remove(path)


def _target(path: Path) -> str:
    try:
        return os.path.realpath(path)
    except OSError as error:  # a link on the way may be followed by its owner only
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yields everything in a work folder and its folders, without following links.

    Of a work folder within it the folder alone. Raises a UserError where one cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            inside = list(found)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}") from None
    for entry in inside:
        yield entry
        if entry.is_dir(follow_symlinks=False) and not os.path.lexists(
            os.path.join(entry.path, lock.NAME)
        ):
            yield from entries(Path(entry.path))
