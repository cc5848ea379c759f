"""A run: every group of rows in a process of its own, within the time that there is."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from benchmarks.row import Row

ROOT = Path(__file__).parents[1]
LEFT_OUT = "left out, the time was over"
# Of the time that is left, how many even shares one row may take, one of a group's first rows, and
# how much of all at most.
EVEN_SHARES, FIRST_SHARES, MOST = 10, 3, 2 / 3
# Processes that say how fast the machine is where time is short.
RATED = 4


def run(
    rows: Sequence[Row],
    size: str,
    seconds: float | None,
    module: str = "benchmarks.worker",
) -> tuple[list[dict[str, Any]], list[dict[str, float]]]:
    """Returns what was measured of every row, in their order, and the machine's rates.

    Where time is limited every group has its first row measured before any has its second, and a
    process that has more to do waits meanwhile. A group whose process ends leaves an error for its
    row, and another process has the others.

    Args:
      rows: what is measured.
      size: one of `SIZES`.
      seconds: no row begins after so many, and none goes on; None for as long as it takes. A row
        takes no other turn once it has had its even share of what is left, and has at most two
        thirds of it, or ten times its share; first rows share it among themselves and have three
        times that. A group that has not ended one by then has no others.
      module: what the processes run.
    """
    end = None if seconds is None else time.monotonic() + seconds
    found: dict[str, dict[str, Any]] = {}
    rates: list[dict[str, float]] = []
    order = list(_in_rounds(rows) if end is not None else rows)
    last = {row.group: row.name for row in order}
    num_first = 0 if end is None else len(last)
    processes: dict[str, _Process] = {}
    slow: set[str] = set()
    try:
        for number, row in enumerate(order):
            if row.group in slow:
                continue
            left = share = None if end is None else end - time.monotonic()
            if left is not None:
                if left <= 0:
                    break
                is_first = number < num_first
                count = (num_first if is_first else len(order)) - number
                share = left / count
                if number < len(order) - 1:
                    left *= min(MOST, (FIRST_SHARES if is_first else EVEN_SHARES) / count)
            start = time.monotonic()
            print(f"{row.name} ...", end=" ", file=sys.stderr, flush=True)
            if row.group not in processes:
                processes[row.group] = _Process(module, size)
            process = processes[row.group]
            answer = process.ask(row.name, left, share)
            if answer is None:
                slow.add(row.group)
            else:
                found[row.name] = answer
            print(f"{time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
            is_last = row.name == last[row.group]
            if is_last and process.is_running and (end is None or len(rates) < RATED):
                rates += process.rates(end)
            if is_last or answer is None or not process.is_running:
                processes.pop(row.group).end()
    finally:
        for process in processes.values():
            process.end()
    return [_described(row, found.get(row.name, {"left_out": LEFT_OUT})) for row in rows], rates


def _in_rounds(rows: Sequence[Row]) -> Iterator[Row]:
    """Yields every group's first row, then every group's second, and so on."""
    groups = [list(of) for _, of in itertools.groupby(rows, lambda row: row.group)]
    for turn in itertools.zip_longest(*groups):
        yield from (row for row in turn if row is not None)


def _described(row: Row, found: dict[str, Any]) -> dict[str, Any]:
    empty = {"name": row.name, "what": row.what, "unit": row.unit, "ours": None, "peers": {}}
    return empty | {"error": "", "left_out": ""} | found


class _Process:
    """A process that is asked for one row after another, and waits between them.

    It reads names line by line, seconds behind them where turns are to end by then, and answers
    each by a line of JSON; at the end of its input it says how fast the machine is.
    """

    def __init__(self, module: str, size: str):
        self._talk: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self._process: Any = subprocess.Popen(
            [sys.executable, "-m", module, f"--size={size}"],
            env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._talk,
            text=True, start_new_session=True,
        )  # fmt: skip

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def ask(
        self, name: str, seconds: float | None, share: float | None = None
    ) -> dict[str, Any] | None:
        """Returns what was measured of a row, an error where the process ended, None if too late.

        Args:
          name: of the row.
          seconds: how long it may take; None for as long as it does.
          share: after how long it takes no other turn; None for all of them.
        """
        asked = name if share is None else f"{name} {share:.3f}"
        with contextlib.suppress(BrokenPipeError):  # it has ended, and why is told below
            print(asked, file=self._process.stdin, flush=True)
        try:
            return self._line(seconds)
        except TimeoutError:
            return None
        except EOFError:
            status = self._process.wait()
            self._talk.seek(0)
            last = (self._talk.read().strip().splitlines() or [""])[-1]
            return {"error": f"its process ended with status {status}: {last}"[:300]}

    def rates(self, end: float | None) -> list[dict[str, float]]:
        """Returns what it says of the machine, if it does so in time."""
        self._process.stdin.close()
        try:
            return [self._line(None if end is None else end - time.monotonic())["rates"]]
        except (TimeoutError, EOFError):
            return []

    def _line(self, seconds: float | None) -> dict[str, Any]:
        """Returns the next line that it writes.

        Raises:
          TimeoutError: none came so soon.
          EOFError: it ended.
        """
        if not select.select([self._process.stdout], [], [], seconds and max(seconds, 0.0))[0]:
            raise TimeoutError
        line = self._process.stdout.readline()
        # A line that was being written when the process ended has no end.
        if not line.endswith("\n"):
            raise EOFError
        return json.loads(line)

    def end(self) -> None:
        """Ends it, with the processes that it has started."""
        _end_session(self._process.pid)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._talk):
            with contextlib.suppress(BrokenPipeError):  # a name that nobody has read
                stream.close()


def environment() -> dict[str, str]:
    """Returns the environment of the processes: this checkout's packages come first."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _end_session(first: int) -> None:
    """Ends what the first process of a session has started, and that one if it goes on."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # all have ended
        os.killpg(first, signal.SIGKILL)


def in_time(
    command: Sequence[str], env: dict[str, str], seconds: float | None
) -> subprocess.CompletedProcess[str] | None:
    """Runs a command to its end and returns what it said; None where it took longer.

    Then it is ended, with the processes that it has started.
    """
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as begun:  # fmt: skip
        try:
            said = begun.communicate(timeout=seconds)
        except BaseException as error:
            _end_session(begun.pid)
            if isinstance(error, subprocess.TimeoutExpired):
                return None
            raise
    return subprocess.CompletedProcess(command, begun.returncode, *said)


def process(*arguments: str, cache: Path | None = None, seconds: float | None = None) -> None:
    """Runs Python to its end; it ends with the process that has asked for it.

    Raises:
      RuntimeError: it failed; the last line that it said.
      subprocess.TimeoutExpired: it took longer than so many seconds, and was ended.
    """
    cached = {} if cache is None else {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    command, env = [sys.executable, *arguments], environment() | cached
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=seconds)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        raise RuntimeError(f"{' '.join(arguments)}: status {done.returncode}: {last}")
