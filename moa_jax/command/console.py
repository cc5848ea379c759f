"""What a run keeps beside its results: log lines at the terminal and in a file, programs."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from absl import logging as absl_logging
from tqdm import tqdm

from moa_jax.store import files, processes


class _Console(logging.Handler):
    """Lines above the progress bar, where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


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
    handlers: list[logging.Handler] = [_Console()]
    if processes.is_first():
        with files.writing(path):
            handlers.append(logging.FileHandler(path, encoding="utf-8"))
    else:
        handlers[0].setLevel(logging.WARNING)
    # A full disk must end in the one line that names the file, not in the logger's own trouble.
    logging.raiseExceptions = False
    root = logging.getLogger()
    root.handlers.clear()
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        # orbax and JAX tell their every step; only their warnings are for the reader.
        handler.addFilter(lambda r: r.levelno > logging.INFO or "moa_jax" in r.pathname)
        handler.addFilter(_Once())
        root.addHandler(handler)
    absl_logging.set_verbosity(absl_logging.INFO)


def use_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX was told another place."""
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is None:
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(caches) / "moa_jax" / "xla"))
