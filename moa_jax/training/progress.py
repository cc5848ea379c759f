"""Progress of a run: metrics.jsonl, TensorBoard where installed, and lines for people."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from tqdm import tqdm

from moa_jax.errors import UserError
from moa_jax.store import files, processes
from moa_jax.training.members import Member, MemberId
from moa_jax.training.trees import EpochReport

SECONDS_BETWEEN_LINES = 30.0
# The fields of a record beside its stage.
_COUNTS = ("group", "epoch", "seed", "fold")
_LOSSES = ("train_loss", "valid_loss")
_LARGEST = 2**53  # whole numbers of a chart


class MetricsLog:
    """One JSON object per epoch and member in `metrics.jsonl`; TensorBoard scalars beside it."""

    def __init__(self, workdir: Path, tensorboard: bool = True):
        self._path = workdir / "metrics.jsonl"
        self._board: Any = None
        if tensorboard and processes.is_first() and importlib.util.find_spec("tensorboardX"):
            self._board = _Board(workdir / "tensorboard")

    def write(self, records: Sequence[dict[str, Any]]) -> None:
        """Appends the records of one epoch; of several processes the first one does."""
        if not processes.is_first():
            return
        lines = "".join(json.dumps(record) + "\n" for record in records)
        files.append(self._path, lines)
        if self._board:
            self._board.write(records)

    def read(self) -> list[dict[str, Any]]:
        """Returns all records in the order they were written; none where there is no file.

        A last line that is not whole is what a kill leaves, and is passed over.

        Raises:
          UserError: the file cannot be read, or another of its lines is no record.
        """
        return [record for record, _ in self._lines()]

    def cut_back(self, stage: str, group: int, epoch: int) -> None:
        """Drops what `stage` wrote at or after `epoch` (from 0) of `group`: it is done again.

        So it does a last line that is not whole. Raises what `read` raises.
        """
        # It is the first process's alone: others may not see yet what that has written.
        if not processes.said_by_first(os.path.lexists(self._path)):
            return
        kept = [
            line + "\n"
            for record, line in (self._lines() if processes.is_first() else ())
            if record["stage"] != stage or (record["group"], record["epoch"]) <= (group, epoch)
        ]
        files.write_text(self._path, "".join(kept))

    def _lines(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Yields every record and its line, without the line's end."""
        if not os.path.lexists(self._path):
            return
        try:
            lines = files.check_regular(self._path).read_bytes().splitlines()
        except OSError as error:
            raise UserError(f"{self._path}: cannot be read: {error.strerror}") from None
        for number, line in enumerate(lines, 1):
            try:
                text = line.decode()
                record = json.loads(text)
                is_record = _is_record(record)
            except (ValueError, RecursionError):
                is_record = False
            if is_record:
                yield record, text
            elif number < len(lines):
                raise UserError(
                    f"{self._path}: line {number}: damaged, expected a record of an epoch; delete "
                    "the file, which is a log of losses and decides nothing"
                )

    def close(self) -> None:
        if self._board:
            self._board.close()


def _is_record(value: Any) -> bool:
    """Tells whether a value is as one of `epoch_records`."""
    if not isinstance(value, dict) or not isinstance(value.get("stage"), str):
        return False
    counts, losses = ([value.get(name) for name in names] for names in (_COUNTS, _LOSSES))
    if not all(_is_count(count) for count in counts):
        return False
    if not all(isinstance(loss, float) or _is_count(loss) for loss in losses):
        return False
    # Training does not go on from another; that of a batch may overflow.
    return math.isfinite(value["valid_loss"])


def _is_count(value: Any) -> bool:
    """Tells whether a value is a whole number that a chart can place, 0 at least."""
    return isinstance(value, int) and 0 <= value <= _LARGEST


class _Board:
    """Scalars of epochs as TensorBoard reads them, in a file of this run.

    They are written here and now: the thread of tensorboardX's own writer would end unheard on a
    full disk, and what is handed to it afterwards would wait for ever.
    """

    def __init__(self, folder: Path):
        from tensorboardX.event_file_writer import EventsWriter

        self._folder = folder
        with files.writing(folder):
            folder.mkdir(exist_ok=True)
            self._events = EventsWriter(str(folder / "events"), f".{os.getpid()}")
            self._events.flush()

    def write(self, records: Sequence[dict[str, Any]]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        with files.writing(self._folder):
            for record in records:
                tag = _tag(record)
                for name in ("train_loss", "valid_loss"):
                    summary = scalar(f"{tag}/{name}", record[name])
                    event = Event(wall_time=time.time(), step=record["epoch"], summary=summary)
                    self._events.write_event(event)
            self._events.flush()

    def close(self) -> None:
        with files.writing(self._folder):
            self._events.close()


def _tag(record: dict[str, Any]) -> str:
    """Returns stage and member of a record, as the member's file is called."""
    blocks = tuple(record.get("blocks", ()))
    return f"{record['stage']}/{MemberId(record['seed'], record['fold'], blocks).name}"


def epoch_records(
    stage: str, group: int, epoch: int, members: Sequence[Member], report: EpochReport
) -> list[dict[str, Any]]:
    """Returns for `MetricsLog` what was found of the members that trained in an epoch.

    Those of a nested stage have the `blocks` that they leave out; their `fold` is but a number.

    Args:
      stage, group, epoch: where members are; epochs count from 0, in records from 1.
      members: the members.
      report: what validation tells of them, [members].

    Raises:
      UserError: a validation loss is not finite.
    """
    records = []
    for index, member in enumerate(members):
        if not report.active[index]:
            continue
        loss = report.valid_loss[index]
        nested = {"blocks": list(member.blocks)} if member.blocks[1:] else {}
        if not np.isfinite(loss):
            place = member.id.place if nested else f"fold {member.fold}"
            raise UserError(
                f"{stage}: training diverged: validation loss {loss} of seed {member.seed}, "
                f"{place} in epoch {epoch + 1}; a lower learning rate may help"
            )
        records.append(
            {
                "stage": stage,
                "group": group,
                "epoch": epoch + 1,
                "seed": member.seed,
                "fold": member.fold,
                **nested,
                "train_loss": float(report.train_loss[index]),
                "valid_loss": float(loss),
                "best_loss": float(report.best_loss[index]),
            }
        )
    return records


class StageProgress:
    """Tells a person how far a stage is: a line per epoch or half minute, a bar on a terminal.

    Both are of the log's level INFO. Rates and the time left are of training without compilation,
    which is over after the first epoch.
    """

    def __init__(
        self, stage: str, total_calls: int, compile_seconds: Callable[[], float] = lambda: 0.0
    ):
        """Begins a stage.

        Args:
          stage: its name.
          total_calls: device calls that it takes.
          compile_seconds: returns the time that compiling its programs has taken so far.
        """
        self._stage, self._total, self._compile_seconds = stage, total_calls, compile_seconds
        self._last_line = time.monotonic()
        self._start = self._last_line - compile_seconds()
        self._calls_here = 0
        self._rows_here = 0
        self._bar = tqdm(
            total=total_calls,
            desc=stage,
            unit="call",
            # Who asked for no lines wants no bar.
            disable=not (logging.level_info() and _is_terminal() and processes.is_first()),
        )

    def skip(self, calls: int) -> None:
        """Counts calls that an earlier run, or members that stopped early, have spared."""
        self._bar.update(calls)
        self._total -= calls

    def call(self, rows: int, epoch: int, epochs: int) -> None:
        self._calls_here += 1
        self._rows_here += rows
        self._bar.update(1)
        if time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._line(f"epoch {epoch + 1}/{epochs} under way")

    def epoch(self, epoch: int, epochs: int, group: str, losses: np.ndarray, active: int) -> None:
        """Reports a finished epoch: `losses` are the validation losses of its members."""
        self._line(
            f"epoch {epoch}/{epochs}{group}: validation loss mean {losses.mean():.5f}, "
            f"best {losses.min():.5f}; {active} members active"
        )

    def _line(self, text: str) -> None:
        self._last_line = time.monotonic()
        seconds = self._last_line - self._start - self._compile_seconds()
        left = seconds / max(self._calls_here, 1) * (self._total - self._calls_here)
        logging.info(
            "%s: %s; %.0f rows/s, %.0f s left",
            self._stage,
            text,
            self._rows_here / max(seconds, 1e-9),
            left,
        )

    def close(self) -> None:
        self._bar.close()


def _is_terminal() -> bool:
    # A program of windows has no stderr.
    return sys.stderr is not None and sys.stderr.isatty()
