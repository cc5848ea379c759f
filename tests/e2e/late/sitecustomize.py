"""A file system that shows files late: what is young in a folder is hidden from this process.

Python imports this at its start where the folder is on PYTHONPATH. `LATE_FOLDER` names the folder,
`LATE_SECONDS` how old a file must be to be seen, `LATE_LOG` a file for the names of what was looked
for in vain. A folder is hidden while it is young and has nothing old in it.
"""

import builtins
import errno
import io
import os
import time

FOLDER = os.environ.get("LATE_FOLDER", "")
SECONDS = float(os.environ.get("LATE_SECONDS", "0"))
lstat, scandir, open_file = os.lstat, os.scandir, io.open


def is_young(status):
    return time.time() - status.st_ctime < SECONDS


def is_hidden(path):
    try:
        path = os.path.abspath(os.fspath(path))
    except TypeError:  # a descriptor
        return False
    if not isinstance(path, str) or not path.startswith(FOLDER + os.sep):
        return False
    try:
        status = lstat(path)
        if not is_young(status):
            return False
        if os.path.stat.S_ISDIR(status.st_mode):
            with scandir(path) as entries:
                return all(is_young(lstat(entry.path)) for entry in entries)
    except OSError:
        return False
    with open_file(os.environ["LATE_LOG"], "a") as log:
        log.write(f"{path}\n")
    return True


def late(function):
    def looked(path, *arguments, **options):
        if is_hidden(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return function(path, *arguments, **options)

    return looked


if FOLDER:
    for name in ("stat", "lstat", "open"):
        setattr(os, name, late(getattr(os, name)))
    builtins.open = io.open = late(io.open)
