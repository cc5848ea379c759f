"""A run: every group of rows in a process of its own, within the time that there is."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.row import Row

ROOT = Path(__file__).parents[1]
LEFT_OUT = "left out, the time was over"


def run(
    rows: Sequence[Row],
    size: str,
    seconds: float | None,
    module: str = "benchmarks.worker",
) -> tuple[list[dict[str, Any]], list[dict[str, float]]]:
    """Returns what was measured of every row, in their order, and the machine's rates.

    A group whose process ends leaves an error for its rows, not for those of other groups.

    Args:
      rows: what is measured.
      size: one of `SIZES`.
      seconds: no row begins after so many, and none goes on; None for as long as it takes. A
        group has twice its even share of what is left.
      module: what the processes run.
    """
    end = None if seconds is None else time.monotonic() + seconds
    found: dict[str, dict[str, Any]] = {}
    rates = []
    groups = [(name, [*of]) for name, of in itertools.groupby(rows, lambda row: row.group)]
    for number, (group, members) in enumerate(groups):
        names = [row.name for row in members]
        # Twice the even share of what is left: one slow group does not take all the time.
        share = min(1.0, 2 / (len(groups) - number))
        until = None if end is None else time.monotonic() + share * (end - time.monotonic())
        print(f"{group}: {', '.join(names)}", file=sys.stderr, flush=True)
        while names:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                break
            said, error = _group(names, size, left, module)
            rates += [one["rates"] for one in said if "rates" in one]
            found |= {one["name"]: one for one in said if "name" in one}
            names = [name for name in names if name not in found]
            if not error:
                break
            if names:  # the row at which the process ended; the others get another one
                found[names.pop(0)] = {"error": error}
    return [_described(row, found.get(row.name, {"left_out": LEFT_OUT})) for row in rows], rates


def _described(row: Row, found: dict[str, Any]) -> dict[str, Any]:
    empty = {"name": row.name, "what": row.what, "unit": row.unit, "ours": None, "peers": {}}
    return empty | {"error": "", "left_out": ""} | found


def _group(
    names: Sequence[str], size: str, seconds: float | None, module: str
) -> tuple[list[dict[str, Any]], str]:
    """Returns the lines of a group's process, and how it ended if that was not its own doing."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "lines"
        command = [
            sys.executable, "-m", module, f"--rows={','.join(names)}", f"--size={size}",
            f"--out={out}", *([f"--seconds={seconds:.1f}"] if seconds else []),
        ]  # fmt: skip
        error = ""
        with subprocess.Popen(
            command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                _, talk = process.communicate(timeout=seconds)
                if process.returncode:
                    last = (talk.strip().splitlines() or [""])[-1]
                    error = f"its process ended with status {process.returncode}: {last}"[:300]
            except subprocess.TimeoutExpired:
                pass
            finally:
                if process.poll() is None:  # with the processes that it has started
                    os.killpg(process.pid, signal.SIGKILL)
        text = out.read_text(encoding="utf-8") if out.exists() else ""
        # A line that was being written when the process ended has no end.
        return [json.loads(line) for line in text.splitlines(True) if line.endswith("\n")], error


def environment() -> dict[str, str]:
    """Returns the environment of the processes: this checkout's packages come first."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
