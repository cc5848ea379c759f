"""The end of a command: one line and an exit status, whatever ends it but a mistake of ours."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn

from moa_jax.errors import UserError, first_line
from moa_jax.store import disk, peers, signals, streams
from moa_jax.store.signals import Interrupted


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Ends the process as a command ends: a user's mistake, a full disk or a signal is one line.

    The status is 1, or 128 and the signal's number. Other errors keep their traceback. Who catches
    the end and goes on has the signals, and what is printed, as before. Of several processes all
    end, with the line and the status of the one that did.
    """
    streams.open_closed()
    _hook()
    with signals.handled():
        try:
            try:
                yield
            except Exception as error:
                peers.leave_to_others()
                if signals.raised():
                    raise Interrupted(signals.received()) from error
                line = _line(error)
                if line is None and peers.are_watched():
                    sys.excepthook(type(error), error, error.__traceback__)
                    line = f"moa-jax: ended by an error of the program: {first_line(error)}"
                if line is None:
                    raise
                _end(line, 1)
        except KeyboardInterrupt as error:
            if isinstance(error, Interrupted):
                _end(error.line, error.status)
            if not signals.raised():
                raise
            ended = Interrupted(signals.received())
            _end(ended.line, ended.status)


def _line(error: Exception) -> str | None:
    """Returns the line about an error that is no mistake of ours."""
    if isinstance(error, UserError):
        return f"moa-jax: {error}"
    if not disk.is_full(error):
        return None
    path = getattr(error, "filename", None) or os.getcwd()
    return f"moa-jax: {disk.line(path, error)}"


def _end(line: str, status: int) -> NoReturn:
    signals.tell(line)
    peers.end_with(line, status)
    sys.exit(status)


def _hook() -> None:
    """Keeps what the one line is about from being printed wherever else it comes up."""
    unraisable, in_thread = sys.unraisablehook, threading.excepthook
    if getattr(unraisable, "__module__", None) == __name__:
        return

    def on_unraisable(found: sys.UnraisableHookArgs) -> None:
        error = found.exc_value
        if isinstance(error, KeyboardInterrupt) and signals.is_command():
            # Nobody else would hear of it.
            signals.end_at_once(getattr(error, "number", signal.SIGINT))
        if not (error and _is_told(error)):
            unraisable(found)

    def on_thread(found: threading.ExceptHookArgs) -> None:
        if not (found.exc_value and _is_told(found.exc_value)):
            in_thread(found)

    sys.unraisablehook, threading.excepthook = on_unraisable, on_thread


def _is_told(error: BaseException) -> bool:
    if not signals.is_command():
        return False
    # When one of orbax's writes fails, it closes the event loop that its other ones report to, and
    # tensorstore prints that for each of them.
    closed = isinstance(error, RuntimeError) and "Event loop is closed" in str(error)
    return closed or bool(signals.received()) or disk.is_full(error)
