"""The lock of a work folder, which one run holds, and which tells the others who holds it."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from pathlib import Path
from typing import BinaryIO

from moa_jax.errors import UserError
from moa_jax.store import files
from moa_jax.store.posix import fcntl

NAME = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def hold(folder: Path) -> BinaryIO:
    """Returns the file of a lock that is held until it is closed or the process ends.

    The lock is the system's, of the open file; what the file says is for people alone, and is
    written when the lock is held, so that nothing is shown of a holder that has ended.

    Raises:
      UserError: another run holds it, the file cannot be written, or its file system has no locks.
    """
    path = folder / NAME
    with files.writing(path):
        lock = open(files.open_plain(path, os.O_RDWR | os.O_CREAT), "r+b", buffering=0)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = _holder(lock)
        lock.close()
        if error.errno in _NO_LOCKS:
            raise UserError(
                f"{folder}: expected a file system with locks (flock), found none; use a work "
                "folder on another one"
            ) from None
        raise UserError(f"{folder}: another run is using this work folder{holder}") from None
    said = {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }
    try:
        with files.writing(path):
            lock.truncate(0)
            files.write_all(lock.fileno(), (json.dumps(said) + "\n").encode())
    except UserError:
        lock.close()
        raise
    return lock


def _holder(lock: BinaryIO) -> str:
    """Returns who holds a lock, as far as its file says so already."""
    try:
        said = json.loads(os.pread(lock.fileno(), 4096, 0))
        host, process, since = str(said["host"]), int(said["process"]), str(said["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f": process {process} on {host}, since {since}".replace("\n", " ")
