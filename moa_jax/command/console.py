"""What a run keeps beside its results: log lines at the terminal and in a file, programs."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import warnings
from pathlib import Path

from absl import logging as absl_logging

from moa_jax.engine.progress_lines import Line, Terminal, is_ours, is_told
from moa_jax.errors import UserError
from moa_jax.store import cache, disk, files, processes

# Bytes of compiled programs that are kept at the start of a run.
MOST_KEPT = 2**30
_CACHE_WARNING = re.compile(
    r"Error (reading|writing) persistent compilation cache entry for .*?: \w+: (.*)", re.DOTALL
)


class _File(logging.Handler):
    """Lines at the end of a file, each at once.

    Raises from `logging.info` and the like, in the main thread:
      UserError: the disk is full or the file cannot be written.
    """

    def __init__(self, path: Path):
        super().__init__()
        self._path, self._descriptor = path, files.open_append(path)
        self._told = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            with files.writing(self._path):
                files.write_all(self._descriptor, f"{self.format(record)}\n".encode())
        except UserError:
            # Once, for lines about the end of the run may follow.
            is_main = threading.current_thread() is threading.main_thread()
            if is_main and not self._told and is_ours(record):
                self._told = True
                raise

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        super().close()


class _Once(logging.Filter):
    """Warnings, each once: a file that every model reads has one line about it."""

    def __init__(self):
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        line = record.getMessage()
        is_new = line not in self._seen
        self._seen.add(line)
        return is_new


def start_log(path: Path) -> None:
    """Sends log lines to the terminal and to a file; of several processes those of the first."""
    handlers: list[logging.Handler] = [Terminal()]
    if processes.is_first():
        handlers.append(_File(path))
    else:
        handlers[0].setLevel(logging.WARNING)
    root = logging.getLogger()
    root.handlers.clear()
    for handler in handlers:
        handler.setFormatter(Line())
        handler.addFilter(is_told)
        handler.addFilter(_Once())
        root.addHandler(handler)
    absl_logging.set_verbosity(absl_logging.INFO)


def use_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX was told another place.

    All are kept, those too that compile in less than JAX's threshold of a second, unless the
    environment says otherwise. Of our own folder no more than `MOST_KEPT` bytes stay, those that
    were used last; one that JAX was told of is bounded by JAX's own settings. A folder that cannot
    be written or read stops nothing and has one line in the log.
    """
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is None:
        if (ours := cache.folder()) is None:
            absl_logging.warning(
                "compiled programs cannot be kept: no home folder is known; set XDG_CACHE_HOME"
            )
            return
        own = ours / "xla"
        jax.config.update("jax_compilation_cache_dir", str(own))
        remove_oldest(own, MOST_KEPT)
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    folder, show = jax.config.values["jax_compilation_cache_dir"], warnings.showwarning
    told = set()

    def show_once(message, category, filename, lineno, file=None, line=None):
        # JAX warns of every program, under the program's name.
        found = _CACHE_WARNING.match(str(message))
        if not found:
            show(message, category, filename, lineno, file, line)
        elif found[1] not in told:
            told.add(found[1])
            what, reason = "read", found[2]
            if found[1] == "writing":
                what, reason = "kept", f"{reason}; {disk.free(folder)}"
            logging.getLogger("absl").warning(
                "%s: compiled programs cannot be %s: %s", folder, what, " ".join(reason.split())
            )

    warnings.showwarning = show_once


def remove_oldest(folder: Path, most: int) -> None:
    """Removes the compiled programs that were not used for longest, until `most` bytes are left.

    JAX's own bound is not for a folder that holds programs from before it was set, and needs a lock
    of all processes for each program. What cannot be removed stays.
    """
    kept = []
    with contextlib.suppress(OSError):  # there is no folder, or it is none
        for entry in os.scandir(folder):
            with contextlib.suppress(OSError):  # such as that another process removes as well
                if entry.name.endswith("-cache"):
                    status = entry.stat()
                    # Reading sets the first of them, once a day at least.
                    used = max(status.st_atime, status.st_mtime)
                    kept.append((used, entry.path, status.st_size))
    size = sum(one for *_, one in kept)
    for _, path, one in sorted(kept):
        if size <= most:
            break
        with contextlib.suppress(OSError):
            os.remove(path)
        size -= one
