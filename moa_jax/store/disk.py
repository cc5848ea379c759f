"""What a full, unwritable or unreadable disk raises, wherever, and the one line about it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from moa_jax.errors import first_line
from moa_jax.store import memory

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNWRITABLE = (*_FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
# What stands there is not what was written. Whatever else the system says, it may be sound.
_OTHER = ("ENOENT", "ENOTDIR", "EISDIR", "ELOOP", "EINVAL", "ENXIO", "ENODEV", "ENAMETOOLONG")
_UNREADABLE = tuple(number for number, name in errno.errorcode.items() if name not in _OTHER)


def is_full(error: BaseException) -> bool:
    """Tells whether a full disk, a quota or a limit on the size of files is behind an error."""
    return _reason(error, _FULL) is not None


def is_unwritable(error: BaseException) -> bool:
    """Tells whether what could not be written is behind an error, for want of room or of rights."""
    return _reason(error, _UNWRITABLE) is not None


def unreadable(path: str | Path, error: BaseException, what: str = "") -> str | None:
    """Returns the line about what could not be read, though it may be sound.

    Want of rights, of descriptors or of memory, a failing disk or connection: reading may succeed
    when that is mended. None where the error is of what was read, or of nothing being there.

    Args:
      path, what: as in `line`.
      error: what was raised.
    """
    found = _reason(error, _UNREADABLE)
    if found is None:
        return None
    return f"{path}: {what + ' ' if what else ''}cannot be read: {os.strerror(found)}"


def line(path: str | Path, error: BaseException, what: str = "") -> str:
    """Returns the line about what could not be written.

    Args:
      path: the file or folder; of a full disk the free space of its file system is told.
      error: what was raised.
      what: of `path`, where it stands for more, such as `checkpoint`.
    """
    found = _reason(error, _UNWRITABLE)
    text = os.strerror(found) if found else getattr(error, "strerror", None) or first_line(error)
    said = f"{path}: {what + ' ' if what else ''}cannot be written: {text}"
    if found not in _FULL:
        return said
    mend = "raise the limit on the size of files" if found == errno.EFBIG else "make room"
    return f"{said}; {free(path)}; {mend} and start again"


def free(path: str | Path) -> str:
    """Returns in words how much room is left where a path lies or would lie."""
    folder = Path(path).absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        found = os.statvfs(folder)
    except OSError:
        return "its free space is unknown"
    files = " and no more files" if found.f_files and not found.f_favail else ""
    room = memory.size(found.f_bavail * found.f_frsize)
    return f"{room}{files} free on its file system"


def _reason(error: BaseException, numbers: tuple[int, ...]) -> int | None:
    """Returns which of the numbers is behind an error.

    Libraries that are not Python's have errors of their own, with the system's words in the text.
    """
    for one in _chain(error):
        number = getattr(one, "errno", None)
        if isinstance(one, OSError) and number is not None:
            if number in numbers:
                return number
            continue
        text = str(one)
        for number in numbers:
            if os.strerror(number) in text or re.search(rf"\b{errno.errorcode[number]}\b", text):
                return number
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [e for e in (one.__context__, one.__cause__) if e is not None]
