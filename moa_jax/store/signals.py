"""Ctrl-C, SIGTERM and SIGUSR1: the run ends in one line, and in training with a checkpoint.

Outside of training an exception leaves the block that is under way, and whatever is half-written is
removed. Training looks at `received` between its device calls, saves a checkpoint and ends by
itself. What takes longer than `GRACE_SECONDS` is not waited for: all files appear whole or not at
all, so that nothing is lost but what came after the last checkpoint. A thread looks after that, for
the main one hears of no signal while a program is compiled or a device call is under way.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

from moa_jax.store.posix import SIGUSR1

# SIGUSR1 is what Slurm sends some time before its limit when it is told to.
SIGNALS = (signal.SIGINT, signal.SIGTERM, SIGUSR1)
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
      received: number of the first signal that the main thread has heard of, 0 without one.
      watched: training is under way, which looks at `received` itself.
      saving: a checkpoint is being written, which is waited for.
      raised: the signal raised an exception, which a library may have made another one of.
      is_over: the command has ended; the process may be at its end too, or another's.
    """

    def __init__(self) -> None:
        self.received = 0
        self.watched = self.saving = self.raised = self.is_over = False
        self._before: dict[int, Any] = {}  # handlers that were replaced
        self._wakeup, self._pipe = -1, (-1, -1)
        self._line = threading.Lock()  # taken by who writes the line, and kept
        self._listeners: list[Callable[[str, int], None]] = []

    @property
    def is_command(self) -> bool:
        """A command is under way, or the process ends with it."""
        return not self.is_over or not threading.main_thread().is_alive()

    def take_over(self) -> None:
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        # The system's own handler writes there at once, whatever the main thread is about.
        self._wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        for number in SIGNALS:
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, self.receive)
        threading.Thread(target=self._look_after, args=self._pipe[:1], daemon=True).start()

    def give_back(self) -> None:
        if self._pipe[1] < 0:
            return
        for number, before in self._before.items():
            signal.signal(number, before or signal.SIG_DFL)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._pipe[1])  # which ends the thread
        self._wakeup, self._pipe = -1, (-1, -1)

    def receive(self, number: int, frame: FrameType | None) -> None:
        if not self.is_command:
            self.give_back()
            os.kill(os.getpid(), number)
            return
        # SIGTERM comes twice where a launcher sends it to a process and to its group. When the
        # line is written already, nothing is left to be interrupted.
        if self.received or self._line.locked():
            return
        self.received = number
        if not self.watched:
            self.raised = True
            raise Interrupted(number)

    def _look_after(self, pipe: int) -> None:
        """Ends the process when time is up, or for a second Ctrl-C."""
        first, end = 0, 0.0
        while True:
            left = max(end - time.monotonic(), 0.2) if first else None
            if select.select([pipe], [], [], left)[0]:
                found = os.read(pipe, 1)
                if not found:
                    os.close(pipe)
                    return
                if found[0] not in self._before:
                    continue
                if not first:
                    first, end = found[0], time.monotonic() + GRACE_SECONDS
                elif found[0] == signal.SIGINT and self.is_command:
                    self.end_at_once(first)
            elif time.monotonic() >= end and not self.saving and self.is_command:
                self.end_at_once(first)

    def tells(self) -> bool:
        """Tells whether the line is still to be written, which who asks does then."""
        return self._line.acquire(blocking=False)

    def end_at_once(self, number: int) -> NoReturn:
        ended = Interrupted(number)
        if self.tells():
            with contextlib.suppress(OSError):
                os.write(2, f"{ended.line}\n".encode())
        for listener in self._listeners:
            listener(ended.line, ended.status)
        os._exit(ended.status)


_STATE = _Signals()
# A child is its parent's to end, and does not speak for it.
os.register_at_fork(after_in_child=lambda: _STATE.give_back())


def received() -> int:
    """Returns the number of the signal that has come to the command under way, 0 without one."""
    return _STATE.received if _STATE.is_command else 0


def is_command() -> bool:
    """Tells whether a command is under way, or the process is at the end that it came to."""
    return _STATE.is_command


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Takes the signals over within; ones that the caller has ignored (nohup) stay so.

    Afterwards they are the caller's again. When one has come, that is put off to the next one,
    which is passed over where the process is ending meanwhile.
    """
    global _STATE
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _STATE.give_back()
    _STATE = _Signals()
    _STATE.take_over()
    try:
        yield
    finally:
        _STATE.is_over = True
        if not _STATE.received:
            _STATE.give_back()


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
    if received():
        raise Interrupted(received())


@contextlib.contextmanager
def saving() -> Iterator[None]:
    """Within, an interrupted run is given the time that a checkpoint takes."""
    _STATE.saving = True
    try:
        yield
    finally:
        _STATE.saving = False


def raised() -> bool:
    """Tells whether a signal raised `Interrupted`, which a library may make another error of."""
    return _STATE.raised


def tells() -> bool:
    """Tells whether the line is still to be written, which who asks must do then."""
    return _STATE.tells()


def before_ending(listener: Callable[[str, int], None]) -> None:
    """Has a function called with line and status where the command under way ends at once."""
    _STATE._listeners.append(listener)


def tell(line: str) -> None:
    """Writes the line that the command ends with, after which signals add none."""
    if _STATE.tells():
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)


def end_at_once(number: int) -> NoReturn:
    """Ends the process with the line, unless one was written, and the status of a signal."""
    _STATE.end_at_once(number)
