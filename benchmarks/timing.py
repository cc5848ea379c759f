"""Times of sides that run in turns: the only clock of the benchmarks."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.row import Row, Side

Clocks = Mapping[str, Callable[[], float]]
OURS = "ours"


def processor() -> float:
    """Returns seconds that the processors worked for this process and those that it ended.

    Where others use the cores too it is the steadier clock; it also counts threads that spin while
    they wait.
    """
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in found)


CLOCKS: Clocks = {"wall": time.perf_counter, "processor": processor}


def in_turns(
    runs: Mapping[str, Callable[[], Any]],
    repeats: int,
    warms: bool = True,
    settles: bool = False,
    clocks: Clocks = CLOCKS,
    until: float | None = None,
) -> dict[str, dict[str, list[float]]]:
    """Returns the seconds of every run by side and clock, as many as repeats.

    The sides take turns, so that other load meets all of them: the pairs of one turn compare.

    Args:
      runs: what each side does.
      repeats: turns of each.
      warms, settles: see `Row`.
      clocks: by name, what tells the time.
      until: when by the wall's clock no other turn should end, of which there is always one; None
        for all of them.
    """
    if warms:
        for run in runs.values():
            run()
    found: dict[str, dict[str, list[float]]] = {
        name: {clock: [] for clock in clocks} for name in runs
    }
    for _ in range(repeats):
        begun = clocks["wall"]()
        for name, run in runs.items():
            if settles:
                run()
            starts = {clock: tell() for clock, tell in clocks.items()}
            run()
            for clock, tell in clocks.items():
                found[name][clock].append(tell() - starts[clock])
        ended = clocks["wall"]()
        if until is not None and ended + (ended - begun) > until:
            break
    return found


def measured(
    row: Row, size: str, clocks: Clocks = CLOCKS, seconds: float | None = None
) -> dict[str, Any]:
    """Returns a row's times as JSON has them: `ours`, `peers` and what went wrong.

    A peer that is not installed, or fails, has a text in place of times; where our side fails the
    row has an `error` and no times at all. After so many seconds, in which the sides are made too,
    it takes no other turn.
    """
    until = None if seconds is None else clocks["wall"]() + seconds
    described = {"name": row.name, "what": row.what, "unit": row.unit}
    missing = {name: {"missing": peer.missing} for name, peer in row.peers.items() if peer.missing}
    if row.beside and missing.keys() == row.peers.keys():
        return {**described, "ours": None, "peers": missing, "error": ""}
    try:
        sides, peers = _made(row, size)
        runs = {name: side.run for name, side in sides.items()}
        try:
            times = in_turns(runs, row.repeats(size), row.warms, row.settles, clocks, until)
        except Exception:
            # Which side it was: ours alone fails again, a peer's failure leaves ours its times.
            runs = {OURS: sides[OURS].run} | {
                name: run for name, run in runs.items() if name != OURS and _runs(name, run, peers)
            }
            times = in_turns(runs, row.repeats(size), row.warms, row.settles, clocks, until)
    except Exception as error:
        return {**described, "ours": None, "peers": {}, "error": told(error)}
    records = {name: {**times[name], "count": sides[name].count} for name in times}
    own, work = records.pop(OURS), sides[OURS].work
    return {
        **described,
        "ours": own,
        "work": None if work is None else work._asdict(),
        "peers": {name: peers.get(name) or records[name] for name in row.peers},
        "error": "; ".join(
            f"{name}: {one['error']}" for name, one in peers.items() if "error" in one
        ),
    }


def _made(row: Row, size: str) -> tuple[dict[str, Side], dict[str, dict[str, str]]]:
    """Returns the sides that can run, and of the other peers why they cannot."""
    gc.collect()
    sides, peers = {OURS: row.ours(size)}, {}
    for name, peer in row.peers.items():
        if peer.missing:
            peers[name] = {"missing": peer.missing}
            continue
        try:
            sides[name] = peer.side(size)
        except Exception as error:
            peers[name] = {"error": told(error)}
    return sides, peers


def _runs(name: str, run: Callable[[], Any], peers: dict[str, dict[str, str]]) -> bool:
    """Tells whether a peer runs; notes its error where it does not."""
    try:
        run()
    except Exception as error:
        peers[name] = {"error": told(error)}
    return name not in peers


def told(error: BaseException) -> str:
    """Returns an error as one short line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:300]
