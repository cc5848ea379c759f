"""Lines about a run's progress: what they are, and those of who calls it from Python, or none."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from absl import logging as absl_logging
from tqdm import tqdm

import moa_jax
from moa_jax.errors import one_line

_PACKAGE = Path(moa_jax.__file__).parent


class Line(logging.Formatter):
    """The time and a message of one line; a traceback that follows keeps its own lines."""

    def __init__(self, form: str = "%(asctime)s %(message)s"):
        super().__init__(form, "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        return one_line(super().formatMessage(record))


class Terminal(logging.Handler):
    """Lines on stderr, above the progress bar where there is one.

    Nobody may read them any longer, they may go to a file on a full disk, or a program of windows
    may have no stderr: that stops nothing.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stderr is None:
            return
        with contextlib.suppress(OSError):
            tqdm.write(self.format(record), file=sys.stderr)


def is_ours(record: logging.LogRecord) -> bool:
    """Tells whether a line comes from this package."""
    return Path(record.pathname).is_relative_to(_PACKAGE)


def is_told(record: logging.LogRecord) -> bool:
    """Tells whether a line is for the reader: all of ours, and the warnings of libraries.

    What fails in orbax's threads is raised where a checkpoint is waited for, and told there.
    """
    if is_ours(record):
        return True
    raised_too = record.levelno >= logging.ERROR and (
        "orbax" in Path(record.pathname).parts or record.name == "asyncio"
    )
    return record.levelno > logging.INFO and not raised_too


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
    handler, propagates = Terminal(), logger.propagate
    handler.setFormatter(Line())
    handler.addFilter(is_told)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = propagates
        logger.removeHandler(handler)
