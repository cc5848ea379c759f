"""Waiting: lines of the log about work of the host that shows nothing by itself."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from absl import logging

SECONDS_BETWEEN_LINES = 15.0


@contextlib.contextmanager
def told(name: str) -> Iterator[Callable[[str], None]]:
    """Says what is under way whenever a quarter of a minute has passed, until the block ends.

    Yields a function that takes what is under way from now on, such as `set 2 of 5`; of work that
    is quick there is no line.

    Args:
      name: what the lines begin with.
    """
    start, now, over = time.monotonic(), "", threading.Event()

    def begin(what: str) -> None:
        nonlocal now
        now = what

    def tell() -> None:
        while not over.wait(SECONDS_BETWEEN_LINES):
            logging.info("%s: %s, %.0f s so far", name, now, time.monotonic() - start)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield begin
    finally:
        over.set()
        teller.join()
