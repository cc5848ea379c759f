"""Whole files or none: everything is written to a temporary name and renamed.

Of several processes the first one writes, and the others go on when the file is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from moa_jax.errors import UserError
from moa_jax.store import disk, processes


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turns what a full disk or an unwritable folder raises into one line naming `path`.

    Of a full disk, which libraries' own errors may tell as well, the line has the free space.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) or disk.is_full(error):
            raise UserError(disk.line(path, error)) from error
        raise


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, renamed onto it when the block succeeds.

    A reader sees the previous file or the new one, never a part of either, also when the process
    is killed. The data reach the disk before the rename. Of several processes all must come here;
    the first one's file is kept.

    Raises:
      UserError: the folder cannot be written or the disk is full; an earlier `path` stays whole.
    """
    path = Path(path)
    if not processes.is_first():
        with tempfile.TemporaryDirectory() as elsewhere:
            yield Path(elsewhere) / path.name
        processes.wait(f"{path}: before")
        processes.wait(f"{path}: after")
        return
    # The suffix stays last, so that writers which look at it (numpy, pandas) behave as for `path`.
    temporary = path.with_name(f".{path.stem}.tmp-{os.getpid()}{path.suffix}")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # A link of that name, whoever made it, would be written through.
            temporary.unlink(missing_ok=True)
            yield temporary
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            # Until here the others may still look at what was there before.
            processes.wait(f"{path}: before")
            os.replace(temporary, path)
        processes.wait(f"{path}: after")
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def open_plain(path: str | Path, flags: int) -> int:
    """Returns the descriptor of a file that is one: no link, no folder, no pipe and no device.

    Args:
      path: the file.
      flags: of `os.open`.

    Raises:
      OSError: as `os.open` does.
      UserError: something else stands there.
    """
    if os.path.islink(path):
        raise UserError(
            f"{path}: expected a file, found a link to {os.readlink(path)}; remove the link"
        )
    # Without waiting, for a pipe waits for who reads it.
    opened = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise UserError(f"{path}: expected a file, found a folder, a pipe or a device; remove it")
    return opened


def open_append(path: str | Path) -> int:
    """Returns the descriptor of a file, made where there is none, that is written at its end.

    Raises:
      UserError: it cannot be written, or something else stands there.
    """
    with writing(path):
        return open_plain(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def append(path: str | Path, text: str) -> None:
    """Writes at the end of a file, made where there is none; raises what `open_append` raises."""
    opened = open_append(path)
    try:
        with writing(path):
            write_all(opened, text.encode())
    finally:
        os.close(opened)


def write_all(descriptor: int, data: bytes) -> None:
    """Writes all of `data`, where the system may take a part of it at a time."""
    while data:
        data = data[os.write(descriptor, data) :]


def write_text(path: str | Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Returns the parsed file.

    Raises:
      UserError: the file is missing or is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: damaged, expected JSON: {error}") from None


def remove(*paths: Path) -> None:
    """Removes the files that are there.

    Raises:
      UserError: one cannot be removed.
    """
    for path in paths:
        with writing(path):
            path.unlink(missing_ok=True)


def sha256(path: str | Path) -> str:
    """Returns the file's SHA-256 as hexadecimal digits."""
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
