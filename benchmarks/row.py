"""Rows of the table: what is timed, beside which peers, and what work it is."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

# How much is done: enough to run, to compare in minutes, or at the size of the competition.
SIZES = ("tiny", "quick", "full")
# Turns of each side.
REPEATS = {"tiny": 1, "quick": 3, "full": 7}
# What a number of seconds is multiplied by; other units are numbers per second.
SCALES = {"s": 1.0, "ms": 1e3}


class Work(NamedTuple):
    """What a run cannot do without, for the bound.

    Attributes:
      flops: floating-point operations of matrix products and convolutions.
      moved: bytes that are read or written.
      dtype: what is multiplied.
    """

    flops: float = 0.0
    moved: float = 0.0
    dtype: str = "float32"


class Side(NamedTuple):
    """One side of a row, made and ready to run.

    Attributes:
      run: does it once.
      count: how many units (steps, rows, networks) that is.
      work: what it has to do, None where nothing is known.
    """

    run: Callable[[], Any]
    count: float = 1.0
    work: Work | None = None


@dataclasses.dataclass(frozen=True)
class Peer:
    """The other side.

    Attributes:
      side: makes it at a size of `SIZES`.
      modules: what must be importable for that.
      install: what pip installs them by.
    """

    side: Callable[[str], Side]
    modules: tuple[str, ...] = ()
    install: str = ""

    @property
    def missing(self) -> str:
        """What to do before this peer can run; empty where it can."""
        if all(importlib.util.find_spec(name) for name in self.modules):
            return ""
        return f"not installed: pip install {self.install or ' '.join(self.modules)}"


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table for each peer, or one where there is none.

    Attributes:
      name: `GROUP.NAME`; the rows of a group share a process.
      what: what is timed, for a reader.
      unit: `s` or `ms` for one of the sides' `count`, or `NAME/s` for so many a second.
      ours: makes our side at a size of `SIZES`.
      peers: the others, by name.
      most: most repeats, for what takes long.
      warms: whether a first run, which compiles and fills caches, is left out.
      settles: whether each turn runs twice and counts the second: the first pays for memory that
        the other sides have left to the system.
      quick: whether the quick table has it.
      beside: whether ours alone, without any peer, says nothing.
    """

    name: str
    what: str
    unit: str
    ours: Callable[[str], Side]
    peers: Mapping[str, Peer] = dataclasses.field(default_factory=dict)
    most: int | None = None
    warms: bool = True
    settles: bool = False
    quick: bool = True
    beside: bool = False

    @property
    def group(self) -> str:
        return self.name.partition(".")[0]

    def repeats(self, size: str) -> int:
        return min(REPEATS[size], self.most or REPEATS[size])


def in_unit(seconds: float, count: float, unit: str) -> float:
    """Returns what a run of so many units says in the row's unit.

    >>> in_unit(0.5, 10, "ms"), in_unit(0.5, 10, "rows/s")
    (50.0, 20.0)
    """
    return seconds / count * SCALES[unit] if unit in SCALES else count / seconds
