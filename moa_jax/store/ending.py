"""The end of a command: one line and an exit status, whatever ends it but a mistake of ours."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn

from moa_jax.errors import UserError
from moa_jax.store import disk, signals
from moa_jax.store.signals import Interrupted


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Ends the process as a command ends: a user's mistake, a full disk or a signal is one line.

    The status is 1, or 128 and the signal's number. Other errors keep their traceback.
    """
    _hook()
    try:
        signals.handle()
        yield
    except Interrupted as error:
        _end(error.line, error.status)
    except Exception as error:
        if signals.raised():
            ended = Interrupted(signals.received())
            _end(ended.line, ended.status)
        if isinstance(error, UserError):
            _end(f"moa-jax: {error}", 1)
        if not disk.is_full(error):
            raise
        path = getattr(error, "filename", None) or os.getcwd()
        _end(f"moa-jax: {disk.line(path, error)}", 1)


def _end(line: str, status: int) -> NoReturn:
    signals.tell(line)
    sys.exit(status)


def _hook() -> None:
    """Keeps what the one line is about from being printed wherever else it comes up."""
    unraisable, in_thread = sys.unraisablehook, threading.excepthook

    def on_unraisable(found: sys.UnraisableHookArgs) -> None:
        if isinstance(found.exc_value, Interrupted):  # nobody else would hear of it
            signals.end_at_once()
        if not (found.exc_value and _is_told(found.exc_value)):
            unraisable(found)

    def on_thread(found: threading.ExceptHookArgs) -> None:
        if not (found.exc_value and _is_told(found.exc_value)):
            in_thread(found)

    sys.unraisablehook, threading.excepthook = on_unraisable, on_thread


def _is_told(error: BaseException) -> bool:
    # When one of orbax's writes fails, it closes the event loop that its other ones report to, and
    # tensorstore prints that for each of them.
    closed = isinstance(error, RuntimeError) and "Event loop is closed" in str(error)
    return closed or bool(signals.received()) or disk.is_full(error)
