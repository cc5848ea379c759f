"""Ctrl-C, SIGTERM and SIGUSR1: the run ends in one line, and in training with a checkpoint.

Outside of training an exception leaves the block that is under way, and whatever is half-written is
removed. Training looks at `received` between its device calls, saves a checkpoint and ends by
itself. What takes longer than `GRACE_SECONDS` is not waited for: all files appear whole or not at
all, so that nothing is lost but what came after the last checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

# SIGUSR1 is what Slurm sends some time before its limit when it is told to.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
# What a run may take from the signal to its end, before it is ended; Slurm kills after so long.
GRACE_SECONDS = 30.0


class Interrupted(KeyboardInterrupt):
    """A signal has come. Libraries let it through as they do Ctrl-C.

    Attributes:
      number: the signal's.
      where: what a repetition of the command begins with.
    """

    def __init__(self, number: int, where: str = "what is finished"):
        super().__init__(number, where)
        self.number, self.where = number, where

    @property
    def line(self) -> str:
        name = signal.Signals(self.number).name
        return f"moa-jax: interrupted by {name}; the same command goes on from {self.where}"

    @property
    def status(self) -> int:
        return 128 + self.number


class _Signals:
    """What has come, and what is to be done about it; there is one in a process.

    Attributes:
      received: number of the first signal, 0 without one.
      watched: training is under way, which looks at `received` itself.
      saving: a checkpoint is being written, which is waited for.
      raised: the signal raised an exception, which a library may have made another one of.
      told: the line has been written.
    """

    def __init__(self) -> None:
        self.received = 0
        self.watched = self.saving = self.raised = self.told = False

    def receive(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            if number == signal.SIGINT:
                self.end_at_once()
            return  # SIGTERM comes twice where a launcher sends it to a process and to its group
        self.received = number
        threading.Thread(target=self._end_in_time, daemon=True).start()
        if not self.watched:
            self.raised = True
            raise Interrupted(number)

    def _end_in_time(self) -> None:
        wait = threading.Event()
        wait.wait(GRACE_SECONDS)
        while self.saving:
            wait.wait(1)
        self.end_at_once()

    def end_at_once(self) -> NoReturn:
        ended = Interrupted(self.received)
        if not self.told:
            with contextlib.suppress(OSError):
                os.write(2, f"{ended.line}\n".encode())
        os._exit(ended.status)


_STATE = _Signals()


def received() -> int:
    """Returns the number of the signal that has come, 0 without one."""
    return _STATE.received


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Within, signals raise nothing: who enters looks at `received` and ends by `Interrupted`."""
    if _STATE.watched:
        yield
        return
    _STATE.watched = True
    try:
        yield
    finally:
        _STATE.watched = False
    # It came after the last look.
    if _STATE.received:
        raise Interrupted(_STATE.received)


@contextlib.contextmanager
def saving() -> Iterator[None]:
    """Within, an interrupted run is given the time that a checkpoint takes."""
    _STATE.saving = True
    try:
        yield
    finally:
        _STATE.saving = False


def handle() -> None:
    """Takes the signals over from here on; ones that the caller has ignored (nohup) stay so."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _STATE.receive)


def raised() -> bool:
    """Tells whether a signal raised `Interrupted`, which a library may make another error of."""
    return _STATE.raised


def tell(line: str) -> None:
    """Writes the line that the command ends with, after which signals add none."""
    _STATE.told = True
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def end_at_once() -> NoReturn:
    """Ends the process with the line and the status of the signal that has come."""
    _STATE.end_at_once()
