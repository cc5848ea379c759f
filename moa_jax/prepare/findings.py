"""Findings: what a prepared table holds, for its page, the log and whoever trusts neither."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from moa_jax.data.names import alike, is_nearly, level_key
from moa_jax.prepare import suspicions
from moa_jax.prepare.labels import Labels
from moa_jax.prepare.roles import few
from moa_jax.prepare.survey import Survey
from moa_jax.prepare.wells import Wells

# What a spreadsheet makes of names such as MARCH1 and SEPT2, and of long numbers.
_EXCEL = re.compile(
    r"\d{1,2}-(?:mon)|(?:mon)-\d{1,2}|\d(?:\.\d+)?e\+\d+".replace(
        "mon", "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
    ),
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class ScreenFindings:
    """Counts and warnings about a table.

    Attributes:
      counts: rows by what they are.
      labels: for each label, most frequent first: its name, compounds (None where they are not
        known), training wells, and whether it is kept.
      wells_per_compound: how many compounds have so many wells.
      plates: for each plate: its name, wells, controls, compounds and labels.
      groups: how many features each group has.
      median_within, median_between: median correlation of wells of a compound and of unlike ones;
        None where no compound has two wells.
      replicating: share of compounds whose wells are more alike than 95 % of unlike pairs.
      warnings: what may make scores better than they are, or models worse than they could be.
      question: what is to be predicted, in a sentence; empty where nothing tells.
    """

    counts: dict[str, int]
    labels: list[tuple[str, int | None, int, bool]]
    wells_per_compound: dict[int, int]
    plates: list[tuple[str, int, int, int, int]]
    groups: dict[str, int]
    median_within: float | None
    median_between: float | None
    replicating: float | None
    warnings: list[str]
    question: str


def find(
    wells: Wells,
    labels: Labels,
    training: np.ndarray,
    test: np.ndarray,
    used: Survey,
    described: Mapping[str, Any],
    question: str,
    answers: Sequence[str],
) -> ScreenFindings:
    """Returns the findings.

    Args:
      wells, labels: the N rows.
      training, test: [N] bool, the rows of either.
      used: statistics of the features.
      described: what `columns.json` is to hold.
      question: what is to be predicted, in a sentence.
      answers: the features that are an answer.
    """
    treated = training & ~wells.is_control
    kept = described["labels"]["kept"]
    dropped = described["labels"]["dropped"]
    compounds = wells.compound
    unit = described["labels"]["counted"]
    counted = {**kept, **{name: one[unit] for name, one in dropped.items()}}
    table = [
        (name, counted[name] if compounds is not None else None,
         int(((labels.values[:, i] == 1) & treated).sum()), name in kept)
        for i, name in enumerate(labels.names)
    ]  # fmt: skip
    sizes = collections.Counter(_of(compounds, treated))
    counts = {
        "training wells": int(training.sum()),
        "treated": int(treated.sum()),
        "controls": int((training & wells.is_control).sum()),
        "wells to predict": int(test.sum()),
        "compounds": len(sizes),
        "labels kept": len(kept),
        "labels dropped": len(dropped),
        "features": sum(map(len, described["features"].values())),
        "rows left out": int(wells.left_out.sum()),
    }
    within = float(np.median(used.within)) if len(used.within) else None
    between = float(np.median(used.between)) if len(used.between) else None
    replicating = None
    if within is not None and between is not None:
        replicating = float((used.within > np.quantile(used.between, 0.95)).mean())
    return ScreenFindings(
        counts,
        sorted(table, key=lambda one: -one[2]),
        dict(sorted(collections.Counter(sizes.values()).items())),
        _plates(wells, labels, training),
        {group: len(names) for group, names in described["features"].items()},
        within,
        between,
        replicating,
        [
            *_of_names(wells, described, answers),
            *suspicions.told(
                sorted({*_of(compounds, ~wells.is_control & ~wells.left_out)}),
                described["labels"]["kept"],
                [name for names in described["features"].values() for name in names],
                _ignored(wells, labels, training),
            ),
            *_warnings(wells, labels, treated, test, used, described),
        ],
        question,
    )


def lines(found: ScreenFindings, described: Mapping[str, Any]) -> list[str]:
    """Returns the findings as a few lines for the log."""
    counts = found.counts
    left_out = described["left_out"]
    told = [
        ", ".join(f"{count:,} {name}" for name, count in counts.items() if count),
        "features: " + ", ".join(f"{size:,} {group}" for group, size in found.groups.items())
        + f"; left out: {len(left_out['missing'])} with missing numbers, "
        f"{len(left_out['constant'])} of one value",
    ]  # fmt: skip
    if found.median_within is not None and found.median_between is not None:
        told.append(
            f"correlation of wells: median {found.median_within:.2f} within compounds, "
            f"{found.median_between:.2f} between; {found.replicating:.0%} of compounds replicate"
        )
    if found.question:
        told.append(found.question)
    return told


def _of(values: np.ndarray | None, rows: np.ndarray) -> list[str]:
    """Returns what stands in some rows of a column, once for each row that has something."""
    return [] if values is None else [one for one in values[rows] if one is not None]


def _ignored(wells: Wells, labels: Labels, training: np.ndarray) -> dict[str, int]:
    """Returns how many controls have a label that treated wells have too, by compound."""
    having = labels.values == 1
    shared = having[training & ~wells.is_control].any(0)
    rows = np.flatnonzero(wells.is_control & ~wells.left_out & having[:, shared].any(1))
    names = ["no compound"] * len(rows) if wells.compound is None else wells.compound[rows]
    return dict(collections.Counter(name or "no compound" for name in names))


def _plates(
    wells: Wells, labels: Labels, training: np.ndarray
) -> list[tuple[str, int, int, int, int]]:
    found = []
    for plate, rows in _rows_by(wells.plate, training).items():
        treated = rows[~wells.is_control[rows]]
        compounds = 0 if wells.compound is None else len({*_of(wells.compound, treated)})
        having = int((labels.values[treated] == 1).any(0).sum())
        found.append((plate, len(rows), len(rows) - len(treated), compounds, having))
    return sorted(found)


def _rows_by(names: np.ndarray | None, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the rows of each name, of some of all rows."""
    found: dict[str, list[int]] = {}
    for row in np.flatnonzero(rows) if names is not None else ():
        if names is not None and names[row] is not None:
            found.setdefault(names[row], []).append(int(row))
    return {name: np.array(mine) for name, mine in found.items()}


def _of_names(wells: Wells, described: Mapping[str, Any], answers: Sequence[str]) -> list[str]:
    """Returns what is wrong with columns and names, whatever rows hold."""
    told = []
    labels = [*described["labels"]["kept"], *described["labels"]["dropped"]]
    if answers:
        told.append(
            "Columns of features that are an answer, from which nothing is learned about wells "
            f"without one: {len(answers):,}, such as {few(answers)}. Leave them out by --features."
        )
    compounds = _of(wells.compound, ~wells.left_out & ~wells.is_control)
    for what, names in (("Compounds", compounds), ("Labels", labels)):
        if several := alike(names):
            told.append(
                f"{what} whose names differ by case or spaces alone, which count as several: "
                f"{len(several):,}, such as {few(several)}."
            )
    for what, names in (
        ("features", [name for members in described["features"].values() for name in members]),
        ("labels", labels),
        ("compounds", sorted({*_of(wells.compound, ~wells.left_out)})),
    ):
        if made := [name for name in names if _EXCEL.fullmatch(name)]:
            told.append(
                f"Names of {what} that a spreadsheet made dates of, or numbers whose last digits "
                f"are gone, so that several may be one: {len(made):,}, such as {few(made)}."
            )
    return told


def _warnings(
    wells: Wells,
    labels: Labels,
    treated: np.ndarray,
    test: np.ndarray,
    used: Survey,
    described: Mapping[str, Any],
) -> list[str]:
    told = []
    kept = np.array([name in described["labels"]["kept"] for name in labels.names], bool)
    values = labels.values[:, kept] == 1
    names = [name for name, is_kept in zip(labels.names, kept, strict=True) if is_kept]
    annotated = treated & values.any(1)
    by_plate = _rows_by(wells.plate, annotated)
    if len(by_plate) > 1 and len(names) > 1:
        single = {
            plate: names[int(np.argmax(values[rows[0]]))]
            for plate, rows in by_plate.items()
            if len(rows) > 1 and values[rows].any(0).sum() == 1
        }
        if single:
            shown = few([f"{plate} ({label})" for plate, label in single.items()])
            told.append(
                f"Plates with one label only: {len(single):,}, such as {shown}. What is predicted "
                "may be the plate: --config.data.groups=FOLDER/plate.csv keeps plates whole in the "
                "folds."
            )
        plates_of = np.stack([values[rows].any(0) for rows in by_plate.values()])
        alone = [n for n, count in zip(names, plates_of.sum(0), strict=True) if count == 1]
        if alone:
            told.append(f"Labels on one plate only: {len(alone):,}, such as {few(alone)}.")
    if wells.compound is None:
        told.append(
            "No column tells compounds, so that no folds can keep them whole: scores are those of "
            "further wells of known compounds."
        )
    else:
        if unlike := _conflicts(wells.compound, values, treated):
            told.append(
                f"Compounds whose wells have different labels: {len(unlike):,}, such as "
                f"{few(unlike)}."
            )
        known = {*_of(wells.compound, treated)}
        again = sorted({*_of(wells.compound, test & ~wells.is_control)} & known)
        if again:
            told.append(
                "Compounds of the wells to predict that have training wells too: "
                f"{len(again):,}, such as {few(again)}."
            )
        if lacking := int(sum(name is None for name in wells.compound[treated])):
            told.append(
                f"Training wells without a compound, each of which counts as its own: {lacking:,}."
            )
        if lacking := int(sum(name is None for name in wells.compound[test & ~wells.is_control])):
            told.append(f"Wells to predict without a compound, which may be empty: {lacking:,}.")
    if unmeasured := int((labels.values[treated][:, kept] < 0).sum()):
        told.append(f"Labels that were not measured, whose cells are left empty: {unmeasured:,}.")
    if used.repeated:
        told.append(f"Rows that repeat the numbers of an earlier one: {used.repeated:,}.")
    without = int((treated & ~values.any(1)).sum())
    if without:
        told.append(
            "Training wells with none of the labels that are kept, which counts as 0 of each: "
            f"{without:,}."
        )
    for name, one in described["treatment"].items():
        numbers = [n for n in map(level_key, one["levels"]) if isinstance(n, float)]
        if near := [pair for pair in itertools.pairwise(numbers) if is_nearly(*pair)]:
            told.append(
                f"Levels of {one['column']} that are nearly one number, as in another precision, "
                f"and count as two: {near[0][0]!r} and {near[0][1]!r}. Round them."
            )
        if len(one["levels"]) > 20:
            told.append(
                f"{one['column']} has {len(one['levels'])} levels, each an input of its own: "
                f"name a coarser column by --{name[3:]}, or none by --{name[3:]}="
            )
    if not wells.is_control.any():
        told.append("No row is a control.")
    return told


def _conflicts(compound: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> list[str]:
    """Returns compounds of some rows whose wells do not all have the same labels."""
    first: dict[str, bytes] = {}
    found: dict[str, None] = {}
    for row in np.flatnonzero(rows):
        name, having = compound[row], labels[row].tobytes()
        if name is not None and first.setdefault(name, having) != having:
            found[name] = None
    return list(found)
