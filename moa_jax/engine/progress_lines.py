"""Lines about a run's progress for who calls it from Python, or none."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from absl import logging as absl_logging
from tqdm import tqdm

import moa_jax

_PACKAGE = Path(moa_jax.__file__).parent


class _Lines(logging.Handler):
    """Lines above the progress bar, where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            tqdm.write(self.format(record), file=sys.stderr)


@contextlib.contextmanager
def shown(verbose: bool) -> Iterator[None]:
    """Shows lines and bars on stderr within, or warnings alone, where the program has its log."""
    logger = logging.getLogger("absl")
    with _verbosity_restored(logger):
        if not verbose:
            absl_logging.set_verbosity(min(absl_logging.get_verbosity(), absl_logging.WARNING))
            yield
            return
        with _lines_of(logger):
            absl_logging.set_verbosity(absl_logging.INFO)
            yield


@contextlib.contextmanager
def _verbosity_restored(logger: logging.Logger) -> Iterator[None]:
    # Setting absl's verbosity sets its logger's level, too, which may have been the root's.
    before, level = absl_logging.get_verbosity(), logger.level
    try:
        yield
    finally:
        absl_logging.set_verbosity(before)
        logger.setLevel(level)


@contextlib.contextmanager
def _lines_of(logger: logging.Logger) -> Iterator[None]:
    handler, propagates = _Lines(), logger.propagate
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(_is_told)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = propagates
        logger.removeHandler(handler)


def _is_told(record: logging.LogRecord) -> bool:
    """Tells whether a line is for the reader: all of ours, and the warnings of libraries."""
    return record.levelno > logging.INFO or Path(record.pathname).is_relative_to(_PACKAGE)
