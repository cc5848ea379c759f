"""How cost grows: time and peak memory over rows, features, labels, members and devices.

Every point is a process of its own, at sizes of which one grows. Exponents are slopes of
least-squares lines through the logarithms: 1 is linear, 0 flat. What is above linear has a reason
in `REASONS`, or is to be looked at. Where time is limited all axes have their smallest points
before any has its largest.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import finished, machine, picture
from benchmarks.running import LEFT_OUT, environment, in_time
from moa_jax.errors import UserError
from moa_jax.schema import suggestion
from moa_jax.store import files, memory

Sizes = Mapping[str, int]
BASES: dict[str, Sizes] = {
    "quick": {"rows": 600, "features": 100, "labels": 10, "members": 2, "hidden": 64},
    "full": {"rows": 3_000, "features": 872, "labels": 206, "members": 5, "hidden": 512},
}
POINTS: dict[str, dict[str, tuple[int, ...]]] = {
    "quick": {
        "rows": (300, 1_200, 4_800),
        "features": (50, 100, 200),
        "labels": (5, 20, 80),
        "members": (1, 3, 9),
        "devices": (1, 2, 4),
        "inference": (1_000, 4_000, 16_000),
    },
    "full": {
        "rows": (3_000, 6_000, 12_000, 24_000, 96_000),
        "features": (200, 400, 900, 2_000, 5_000),
        "labels": (10, 30, 100, 300, 600),
        "members": (1, 2, 5, 10, 25, 50),
        "devices": (1, 2, 4, 8),
        "inference": (3_000, 10_000, 100_000, 1_000_000),
    },
}
# What a point has in the place of costs.
WORDS = ("error", "left_out")
# Of the axis of devices, which share them.
MEMBERS_OF_DEVICES = 8
# An exponent beyond this is above linear.
LINEAR = 1.1
REASONS = {
    ("features", "transforms"): "covariances of all columns, and factors of them",
    ("features", "memory"): "covariances of all columns",
    ("rows", "predict"): "caches hold the table of few rows alone",
    ("labels", "folds"): "the library counts all labels anew for each label",
}


def main(only: Sequence[str], size: str, out: Path, seconds: float | None = None) -> int:
    """Measures some axes, or all, prints the table and writes JSON and picture.

    Args:
      only: axes, none for all.
      size: one of `POINTS`.
      out: the JSON file.
      seconds: no point begins after so many, and none goes on; None for as long as it takes.

    Returns:
      The exit status: 1 if a point failed.

    Raises:
      UserError: there is no such axis.
    """
    known = POINTS[size]
    for name in only:
        if name not in known:
            axes = ", ".join(known)
            close = suggestion(name, known)
            raise UserError(f"--growth --only={name}: expected one of {axes}{close}")
    found: dict[str, Any] = {
        "size": size,
        "base": dict(BASES[size]),
        "machine": machine.described(),
        "versions": machine.versions(),
        "axes": measured(
            {axis: known[axis] for axis in known if not only or axis in only}, size, seconds
        ),
    }
    files.write_json(out, found)
    drawn = out.with_suffix(".svg")
    files.write_text(drawn, picture.svg({axis: measures(p) for axis, p in found["axes"].items()}))
    print(*lines(found), sep="\n")
    print(f"{out}: all points; {drawn}: their picture", file=sys.stderr)
    return int(any("error" in point for points in found["axes"].values() for point in points))


def measured(
    axes: Mapping[str, Sequence[int]], size: str, seconds: float | None
) -> dict[str, list[dict[str, Any]]]:
    """Returns the points of each axis: value, and seconds, bytes or what went wrong by measure."""
    end = None if seconds is None else time.monotonic() + seconds
    order = [(axis, value) for axis, values in axes.items() for value in values]
    if end is not None:
        turns = itertools.zip_longest(
            *([(axis, value) for value in values] for axis, values in axes.items())
        )
        order = [one for turn in turns for one in turn if one is not None]
    found: dict[str, list[dict[str, Any]]] = {axis: [] for axis in axes}
    for axis, value in order:
        costs: dict[str, Any] = {"left_out": LEFT_OUT}
        if end is None or time.monotonic() < end:
            print(f"{axis} {value}", file=sys.stderr, flush=True)
            costs = _point(axis, value, size, end)
        found[axis].append({"value": value, **costs})
    return found


def _point(axis: str, value: int, size: str, end: float | None) -> dict[str, Any]:
    """Returns the costs of a point, an `error`, or what has `left_out` those that take longer."""
    workdir = None
    if axis == "inference":
        try:
            workdir = finished.trained("quickstart", size, _left(end))
        except subprocess.TimeoutExpired:
            return {"left_out": LEFT_OUT}
        except RuntimeError as error:
            return {"error": str(error)}
    with tempfile.TemporaryDirectory() as folder:
        done = in_time(
            [sys.executable, "-m", "benchmarks.growth_point", *_flags(axis, value, size)]
            + ([f"--workdir={workdir}", f"--file={folder}/new.parquet"] if workdir else []),
            environment() | _devices(axis, value),
            _left(end),
        )
    if workdir:  # else the next point of the same content would find it done
        shutil.rmtree(workdir / "infer", ignore_errors=True)
    if done is None:
        return {"left_out": LEFT_OUT}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return {"error": f"status {done.returncode}: {last}"}
    return json.loads(done.stdout.splitlines()[-1])


def _left(end: float | None) -> float | None:
    return None if end is None else max(0.0, end - time.monotonic())


def _flags(axis: str, value: int, size: str) -> list[str]:
    sizes = dict(BASES[size])
    if axis == "devices":
        sizes["members"] = MEMBERS_OF_DEVICES
    else:
        sizes["rows" if axis == "inference" else axis] = value
    return [f"--{name}={number}" for name, number in sizes.items()]


def _devices(axis: str, value: int) -> dict[str, str]:
    return {"JAX_NUM_CPU_DEVICES": str(value if axis == "devices" else 1)}


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """Returns the slope of the line through the logarithms of points, each above 0.

    >>> round(exponent([(10, 3), (100, 300), (1000, 30000)]), 6)
    2.0
    """
    x, y = np.log(np.array(points, float)).T
    return float(np.polyfit(x, y, 1)[0])


def measures(points: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Returns the points of an axis that are above 0, by measure."""
    found: dict[str, list[tuple[float, float]]] = {}
    for point in points:
        for name, cost in point.items():
            if name not in ("value", *WORDS) and cost > 0:
                found.setdefault(name, []).append((point["value"], cost))
    return found


def per_row(points: Sequence[Mapping[str, Any]]) -> float | None:
    """Returns the bytes that a row more takes, the slope of a line; None of less than two points.

    >>> per_row([{"value": n, "memory": 10**8 + 700 * n} for n in (10, 100, 1000)])
    700.0
    """
    costs = measures(points).get("memory", [])
    if len(costs) < 2:
        return None
    rows, held = np.array(costs, float).T
    return round(float(np.polyfit(rows, held, 1)[0]), 1) + 0.0  # no -0


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yields the table of exponents in Markdown, memory per row, and what it was made on."""
    yield "| over | of | smallest | largest | exponent | above linear |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for axis, points in found["axes"].items():
        for name, costs in measures(points).items():
            if len(costs) < 2:
                continue
            slope = exponent(costs)
            why = REASONS.get((axis, name), "not explained") if slope > LINEAR else ""
            ends = [f"{value:,}: {_said(name, cost)}" for value, cost in (costs[0], costs[-1])]
            yield f"| {axis} | {name} | {' | '.join(ends)} | {slope:.2f} | {why} |"
    yield ""
    for axis, points in found["axes"].items():
        for point in points:
            for name in WORDS:
                if name in point:
                    yield f"{axis} {point['value']:,}: {point[name]}"
    for axis, what in (("rows", "training"), ("inference", "inference")):
        slope = per_row(found["axes"].get(axis, ()))
        if slope is not None:
            yield f"Memory of {what}: {slope:,.0f} bytes for each row more."
    base = ", ".join(f"{name} {number:,}" for name, number in found["base"].items())
    about = found["machine"]
    yield f"Each from {base}; devices share {MEMBERS_OF_DEVICES} members."
    yield f"{about['date']}; {about['processor']}, {about['cores']} cores; load {about['load']}."


def _said(name: str, cost: float) -> str:
    return memory.size(cost) if name == "memory" else f"{cost:.3g} s"
