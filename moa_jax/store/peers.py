"""Peers: the end of one of several processes is told to the others, which end with it.

A process that ends by a mistake, a signal or an error says so where all of them look, in the store
of JAX's coordinator, and a thread of each looks there once a second: the others may be waiting for
the first in an exchange that never comes, which nothing else would wake. Without this JAX ends
them, minutes later and in its own words.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from typing import Any, NamedTuple, NoReturn

from moa_jax.store import signals

# Where they look, and how often.
_PLACE, _SECONDS_BETWEEN_LOOKS = "moa_jax/ended/", 1.0
# Who ends waits so long for the others to have heard of it. One that holds Python's lock hears
# nothing, and is ended by JAX.
_LONGEST_SECONDS = 15.0
# The store goes with the first process, which lets the others end before it.
_SECONDS_OF_THE_FIRST = 0.5


class _Ending(NamedTuple):
    """How a run ends.

    Attributes:
      origin: the process with which it began to.
      line, status: what that one says, and the exit status of all.
    """

    origin: int
    line: str
    status: int


class _Peers:
    """The processes of a run, as one of them sees the others.

    Attributes:
      own, number: which process this is, and how many there are.
      follows: another one has ended, and this one is about to.
    """

    def __init__(self, store: Any, own: int, number: int):
        self._store, self.own, self.number, self.follows = store, own, number, False

    def say(self, end: _Ending) -> None:
        """Says once that this process ends, and how."""
        with contextlib.suppress(Exception):  # it was said, or nobody is there to hear it
            self._store.key_value_set(f"{_PLACE}{self.own}", json.dumps(end))

    def ends(self) -> list[_Ending]:
        """Returns what every process says that ends, this one too."""
        return [_Ending(*json.loads(text)) for _, text in self._store.key_value_dir_get(_PLACE)]

    def look(self) -> None:
        """Ends this process when another has ended; runs in a thread until there is no store."""
        while True:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            try:
                found = self.ends()
            except Exception:  # training is over, and the store is closed
                return
            if found:
                break
        if not signals.tells():
            return  # this one ends as well, and has its own line
        self.follows = True
        end = min(found)
        _write_last(f"moa-jax: process {end.origin}: {end.line.removeprefix('moa-jax: ')}\n")
        self.end(end)

    def end(self, end: _Ending) -> NoReturn:
        """Ends this process when all others have heard of it, or when time is up."""
        self.say(end)
        until = time.monotonic() + _LONGEST_SECONDS
        with contextlib.suppress(Exception):  # the first process has gone, and the store with it
            while len(self.ends()) < self.number and time.monotonic() < until:
                time.sleep(0.1)
        if self.own == 0:
            time.sleep(_SECONDS_OF_THE_FIRST)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        # At its usual end JAX would wait for the others to come to theirs.
        os._exit(end.status)


def _write_last(text: str) -> None:
    """Writes on standard error, and lets nothing else be written there from now on.

    Until the process has ended, the main thread and what is not Python's would go on with lines of
    their own. A name that is no text is written as a traceback would write it.
    """
    with contextlib.suppress(OSError):
        own, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.write(own, text.encode(errors="backslashreplace"))


_PEERS: list[_Peers] = []


def watch() -> None:
    """Looks out for the end of the others from now on; JAX has joined them already."""
    try:
        # No public name leads to the store.
        from jax._src import distributed

        state = distributed.global_state
        store = state.client
    except (ImportError, AttributeError):  # JAX will end the others in its own way
        return
    # Asked of the store, as JAX would start the devices to count processes.
    if state.num_processes in (None, 1) or not hasattr(store, "key_value_dir_get"):
        return
    found = _Peers(store, state.process_id, state.num_processes)
    _PEERS[:] = [found]
    signals.before_ending(lambda line, status: found.say(_Ending(found.own, line, status)))
    threading.Thread(target=found.look, daemon=True).start()


def are_watched() -> bool:
    """Tells whether there are others that hear of the end of this process."""
    return bool(_PEERS)


def leave_to_others() -> None:
    """Waits for the end where it has come from another process.

    What fails here then, such as an exchange with that one, is not worth a word.
    """
    if any(found.follows for found in _PEERS):
        time.sleep(2 * _LONGEST_SECONDS)


def end_with(line: str, status: int) -> None:
    """Ends this process and the others, where there are some; returns where there are none.

    Args:
      line: what was written about the end, which the others write as well.
      status: the exit status of all of them.
    """
    for found in _PEERS:
        _write_last("")
        found.end(_Ending(found.own, line, status))
