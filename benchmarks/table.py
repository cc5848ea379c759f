"""The table: what workers measured, as JSON has it and as people read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.machine import bound
from benchmarks.row import SCALES, in_unit

HEAD = ("row", "unit", "ours", "peer", "theirs", "ratio", "CPU ratio", "bound")
NOTE = (
    "Medians, ± half the distance of the quartiles. A ratio is the median over pairs of theirs "
    "over ours in time, by the wall and in processor seconds: more than 1 where we are faster. The "
    "bound is the share of our best time that the work takes at the peaks of this machine, and "
    "which of them holds."
)


def record(
    rows: Sequence[Mapping[str, Any]],
    rates: Sequence[Mapping[str, float]],
    machine: Mapping[str, Any],
    versions: Mapping[str, str],
    size: str,
) -> dict[str, Any]:
    """Returns all that a run found, as JSON has it: times, and what is made of them."""
    peaks = {name: max(one[name] for one in rates) for one in rates[:1] for name in one}
    return {
        "size": size,
        "machine": dict(machine),
        "versions": dict(versions),
        "peaks": peaks,
        "rows": [_summed(row, peaks) for row in rows],
    }


def _summed(row: Mapping[str, Any], peaks: Mapping[str, float]) -> dict[str, Any]:
    ours = row.get("ours")
    if not ours:
        return dict(row)
    found = {**row, "ours": ours | _middle(ours, row["unit"]), "peers": {}}
    for name, theirs in row["peers"].items():
        if "wall" in theirs:
            ratios = {
                clock: float(np.median(_each(theirs, clock) / _each(ours, clock)))
                for clock in ("wall", "processor")
                if min(ours[clock]) > 0
            }
            theirs = theirs | _middle(theirs, row["unit"]) | {"ratio": ratios}
        found["peers"][name] = theirs
    if row.get("work") and peaks:
        seconds, by = bound(row["work"], peaks)
        found["bound"] = {"seconds": seconds, "by": by, "share": seconds / min(ours["wall"])}
    return found


def _each(side: Mapping[str, Any], clock: str) -> np.ndarray:
    return np.array(side[clock]) / side["count"]


def _middle(side: Mapping[str, Any], unit: str) -> dict[str, float]:
    """Returns median and spread of a side in the row's unit."""
    values = [in_unit(seconds, side["count"], unit) for seconds in side["wall"]]
    low, middle, high = np.percentile(values, (25, 50, 75))
    return {"median": float(middle), "spread": float((high - low) / 2)}


def is_whole(found: Mapping[str, Any]) -> bool:
    """Tells whether no row has an error."""
    return not any(row.get("error") for row in found["rows"])


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yields the table in Markdown, then what it was made on."""
    yield "| " + " | ".join(HEAD) + " |"
    yield "| " + " | ".join("---" for _ in HEAD) + " |"
    for row in found["rows"]:
        for cells in _cells(row):
            yield "| " + " | ".join(cells) + " |"
    yield ""
    for row in found["rows"]:
        if row.get("error"):
            yield f"{row['name']}: {row['error']}"
    yield NOTE
    machine, peaks = found["machine"], found["peaks"]
    if peaks:
        yield (
            f"Peaks: {peaks['float32'] / 1e9:.0f} GFLOP/s of matrix products in float32, "
            f"{peaks['float64'] / 1e9:.0f} in float64; {peaks['copy'] / 1e9:.0f} GB/s copied."
        )
    shared = ", which others use too" if machine["load"] > 0.5 else ""
    yield (
        f"{machine['date']}, size {found['size']}; {machine['processor']}, {machine['cores']} "
        f"cores, {machine['memory']}, {machine['system']}; load {machine['load']}{shared}."
    )
    yield ", ".join(f"{name} {version}" for name, version in found["versions"].items())


def _cells(row: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yields the cells of a row's lines, one line for each peer."""
    name = f"`{row['name']}` {row['what']}"
    if not row.get("ours"):
        said = row.get("left_out") or ("failed, see below" if row.get("error") else "")
        for peer, theirs in (row["peers"] or {"": {}}).items():
            yield (name, row["unit"], said, peer, theirs.get("missing", ""), "", "", "")
        return
    ours, limit = _said(row["ours"], row["unit"]), row.get("bound")
    share = f"{limit['share']:.0%} {limit['by']}" if limit else ""
    if not row["peers"]:
        yield (name, row["unit"], ours, "", "", "", "", share)
    for peer, theirs in row["peers"].items():
        if "wall" in theirs:
            ratios = [theirs["ratio"].get(clock) for clock in ("wall", "processor")]
            shown = [_said(theirs, row["unit"]), *("" if r is None else f"{r:.2f}" for r in ratios)]
        else:
            shown = [theirs.get("missing") or "failed, see below", "", ""]
        yield (name, row["unit"], ours, peer, *shown, share)
        name, ours, share = "", "", ""


def _said(side: Mapping[str, Any], unit: str) -> str:
    digits = 3 if side["median"] < 1 and unit in SCALES else 1
    digits = 0 if side["median"] >= 1000 else digits
    return f"{side['median']:.{digits}f} ± {side['spread']:.{digits}f}"
