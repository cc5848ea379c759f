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
    logger, before = logging.getLogger("absl"), absl_logging.get_verbosity()
    if not verbose:
        absl_logging.set_verbosity(min(before, absl_logging.WARNING))
        try:
            yield
        finally:
            absl_logging.set_verbosity(before)
        return
    handler, propagates = _Lines(), logger.propagate
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(_is_told)
    logger.addHandler(handler)
    logger.propagate = False
    absl_logging.set_verbosity(absl_logging.INFO)
    try:
        yield
    finally:
        absl_logging.set_verbosity(before)
        logger.propagate = propagates
        logger.removeHandler(handler)


def _is_told(record: logging.LogRecord) -> bool:
    """Tells whether a line is for the reader: all of ours, and the warnings of libraries."""
    return record.levelno > logging.INFO or Path(record.pathname).is_relative_to(_PACKAGE)
