"""Units: doses and times that are written with one, as numbers in the unit that counts."""

from __future__ import annotations

import collections
import re
from collections.abc import Mapping

import numpy as np

from moa_jax.data import cells
from moa_jax.data.names import NUMBER, level_key

_MEASURE = re.compile(rf"(?P<number>(?a:{NUMBER.pattern}))\s*(?P<unit>[^\W\d_]\S*)")
HOUR = "h"
# How many of the common unit one of each is, which are micromoles per litre, and hours.
MOLAR = {"m": 1e6, "mm": 1e3, "um": 1.0, "nm": 1e-3, "pm": 1e-6, "fm": 1e-9}
HOURS = {
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours", "hpi", "hpt"), 1.0),
    **dict.fromkeys(("d", "day", "days"), 24.0),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 1 / 60),
    **dict.fromkeys(("wk", "wks", "week", "weeks"), 168.0),
}


def bare(texts: np.ndarray, factors: Mapping[str, float], wanted: str | None) -> np.ndarray:
    """Returns cells without marks of missing ones, and numbers without their unit.

    Cells stay as they are unless all that are not 0 have a unit, and one that can be had in the
    wanted one: then texts are levels of their own, or what they are is told where they are read.

    Args:
      texts: [N] cells, None for one that is missing.
      factors: how many of the common unit one of each is, of units in lower case.
      wanted: the unit, as `of` returns it; None for that of the cells themselves, see there.

    >>> bare(np.array(["24 h", "6 H", "2 days", "-666"], object), HOURS, HOUR).tolist()
    ['24', '6', '48', None]
    """
    found = np.array([None if cells.is_missing(cell) else cell for cell in texts], object)
    wanted = of(texts, factors) if wanted is None else wanted
    if not wanted:
        return found
    numbers = []
    for cell in found:
        match = _match(cell)
        if cell is None or (match is None and level_key(cell) == 0):
            numbers.append(cell)
        elif match is None or (number := _in_unit(match, factors, wanted)) is None:
            return found
        else:
            numbers.append(number)
    return np.array(numbers, object)


def of(texts: np.ndarray, factors: Mapping[str, float]) -> str:
    """Returns the unit of cells, in lower case: the most frequent one; empty where there is none.

    Of several units, each must be one of `factors`.

    >>> of(np.array(["10 \u00b5M", "10 uM", "5 nM"], object), MOLAR)
    'um'
    >>> of(np.array(["10 mg/ml", "5 nM"], object), MOLAR), of(np.array(["10"], object), MOLAR)
    ('', '')
    """
    counts = collections.Counter(_unit(match) for cell in texts if (match := _match(cell)))
    if not counts or (len(counts) > 1 and not counts.keys() <= factors.keys()):
        return ""
    return max(counts, key=counts.__getitem__)


def _match(cell: str | None) -> re.Match[str] | None:
    return None if cell is None else _MEASURE.fullmatch(cell)


def _unit(match: re.Match[str]) -> str:
    # The micro sign, the Greek letter and the letter u stand for each other.
    return re.sub("[\u00b5\u03bc]", "u", match["unit"]).lower()


def _in_unit(match: re.Match[str], factors: Mapping[str, float], wanted: str) -> str | None:
    """Returns the number in the wanted unit, as it is written where that is its own."""
    unit = _unit(match)
    if unit == wanted or factors.get(unit) == factors.get(wanted, np.nan):
        return match["number"]
    if unit not in factors or wanted not in factors:
        return None
    return f"{float(match['number']) * factors[unit] / factors[wanted]:.9g}"
