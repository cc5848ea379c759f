"""Units: doses and times that are written with one, as numbers in the unit that counts."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Mapping

import numpy as np

from moa_jax.data import cells
from moa_jax.data.names import NUMBER, level_key

_MEASURE = re.compile(rf"(?P<number>(?a:{NUMBER.pattern}))\s*(?P<unit>[^\W\d_]\S*)")
HOUR = "h"
# How many of the common unit one of each is, which are micromoles per litre, and hours.
MOLAR = {
    name: factor
    for prefix, factor in {"": 1e6, "m": 1e3, "u": 1.0, "n": 1e-3, "p": 1e-6, "f": 1e-9}.items()
    for name in (f"{prefix}m", f"{prefix}mol/l", f"{prefix}molar")
}
HOURS = {
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours", "hpi", "hpt"), 1.0),
    **dict.fromkeys(("d", "day", "days"), 24.0),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 1 / 60),
    **dict.fromkeys(("wk", "wks", "week", "weeks"), 168.0),
}


def bare(texts: np.ndarray, factors: Mapping[str, float], wanted: str) -> np.ndarray:
    """Returns cells without marks of missing ones, and numbers without their unit.

    A cell without a unit stays as it is, as does one with a unit that cannot be had in the wanted
    one.

    Args:
      texts: [N] cells, None for one that is missing.
      factors: how many of the common unit one of each is, of units in lower case.
      wanted: the unit, as `of` returns it.

    >>> bare(np.array(["24 h", "6 H", "2 days", "-666", "3 m"], object), HOURS, HOUR).tolist()
    ['24', '6', '48', None, '3 m']
    """
    found = np.array([None if cells.is_missing(cell) else cell for cell in texts], object)
    for row, cell in enumerate(found):
        if cell is not None and (match := _MEASURE.fullmatch(cell)):
            number = _in_unit(match, factors, wanted)
            found[row] = cell if number is None else number
    return found


def joined(texts: np.ndarray, units: np.ndarray | None) -> np.ndarray:
    """Returns cells with their unit, of numbers without one that which stands in another column.

    What is no unit, such as %, is left out where all rows have it: numbers stay numbers.

    >>> joined(np.array(["10", "5 nM", "low"], object), np.array(["uM"] * 3, object)).tolist()
    ['10 uM', '5 nM', 'low']
    """
    if units is None:
        return texts
    different = [unit for unit in {*units} if not cells.is_missing(unit)]
    if len(different) == 1 and not _MEASURE.fullmatch(f"1 {different[0]}"):
        return texts
    pairs = zip(texts, units, strict=True)
    return np.array(
        [
            f"{cell} {unit}"
            if cell is not None and NUMBER.fullmatch(cell) and not cells.is_missing(unit)
            and not cells.is_missing(cell)
            else cell
            for cell, unit in pairs
        ],
        object,
    )  # fmt: skip


def of(texts: Iterable[str | None], factors: Mapping[str, float]) -> str:
    """Returns the unit of cells, in lower case: the most frequent one; empty where there is none.

    All that are not 0 must have one, and of several, each must be one of `factors`.

    >>> of(["10 \u00b5M", "10 uM", "5 nM", "0"], MOLAR)
    'um'
    >>> of(["10 mg/ml", "5 nM"], MOLAR), of(["10"], MOLAR), of(["10 uM", "low"], MOLAR)
    ('', '', '')
    """
    counts: collections.Counter[str] = collections.Counter()
    for cell in texts:
        if cell is None or cells.is_missing(cell):
            continue
        if match := _MEASURE.fullmatch(cell):
            counts[_unit(match)] += 1
        elif level_key(cell) != 0:
            return ""
    if not counts or (len(counts) > 1 and not counts.keys() <= factors.keys()):
        return ""
    return max(counts, key=counts.__getitem__)


def _unit(match: re.Match[str]) -> str:
    # The micro sign, the Greek letter and the letter u stand for each other.
    return re.sub("[\u00b5\u03bc]", "u", match["unit"]).lower().rstrip(".")


def _in_unit(match: re.Match[str], factors: Mapping[str, float], wanted: str) -> str | None:
    """Returns the number in the wanted unit, as it is written where that is its own."""
    unit = _unit(match)
    if unit == wanted or factors.get(unit) == factors.get(wanted, np.nan):
        return match["number"]
    if unit not in factors or wanted not in factors:
        return None
    return f"{float(match['number']) * factors[unit] / factors[wanted]:.9g}"
