"""Survey: what the features of a table are, in one pass over its rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from moa_jax.data import leaks
from moa_jax.prepare.sources import Screen

# Bytes of rows that are kept for medians and for correlations of replicates.
SAMPLE_BYTES = 1 << 27
# Compounds whose wells are compared, wells of each, and pairs of unlike compounds.
COMPOUNDS, REPLICATES, PAIRS = 500, 8, 2000


@dataclasses.dataclass(frozen=True)
class Survey:
    """Statistics of F features.

    Attributes:
      missing: [F] shares of training rows without a value.
      constant: [F] bool, whether all training rows that have one have the same value.
      largest: [F] the greatest distance of a training row's value from 0.
      median: [F] medians over `sampled` training rows, the middle of the range where none of these
        has a value, 0 for a feature without values.
      sampled: that number of rows, which lie evenly between the first and the last.
      repeated: rows whose features are those of an earlier row to the last digit.
      telling: [F] bool, which are an answer, see `leaks.are_answers`.
      within, between: Pearson correlations of profiles, standardised by column: the median over
        pairs of wells of a compound, for each compound, and of pairs of unlike compounds.
    """

    missing: np.ndarray
    constant: np.ndarray
    largest: np.ndarray
    median: np.ndarray
    sampled: int
    repeated: int
    telling: np.ndarray
    within: np.ndarray
    between: np.ndarray


def survey(
    source: Screen,
    names: Sequence[str],
    training: np.ndarray,
    compound: np.ndarray | None,
    labels: np.ndarray | None = None,
    treated: np.ndarray | None = None,
) -> Survey:
    """Returns the statistics of a source's features.

    Args:
      source: the table of N rows.
      names: F features.
      training: [N] bool, the rows that statistics are of.
      compound: [N] compounds of treated training rows, None for others; None without compounds.
      labels: [N, L] bool, which of them each row has; None where features are not compared.
      treated: [N] bool, rows that may have labels; None for all.
    """
    width = len(names)
    room = max(2, SAMPLE_BYTES // (8 * width))
    rows = np.flatnonzero(training)
    sampled = rows[np.linspace(0, len(rows) - 1, min(len(rows), room)).astype(int)]
    replicates = _replicates(compound, room // 2)
    kept = np.union1d(sampled, replicates)
    sample = np.empty((len(kept), width))
    missing = np.zeros(width, int)
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    seen: set[int] = set()
    start = repeated = 0
    for block in source.values(names):
        stop = start + len(block)
        mine = block[training[start:stop]]
        unread = np.isnan(mine)
        missing += unread.sum(0)
        np.minimum(low, np.where(unread, np.inf, mine).min(0, initial=np.inf), out=low)
        np.maximum(high, np.where(unread, -np.inf, mine).max(0, initial=-np.inf), out=high)
        hashes = [hash(row.tobytes()) for row in block]
        before = len(seen)
        seen.update(hashes)
        repeated += len(hashes) - (len(seen) - before)
        first, last = np.searchsorted(kept, (start, stop))
        sample[first:last] = block[kept[first:last] - start]
        start = stop
    of_training = sample[np.searchsorted(kept, sampled)]
    telling = np.zeros(width, bool)
    if labels is not None:
        rows_of = np.arange(len(sampled)) if treated is None else np.flatnonzero(treated[sampled])
        rows_of = leaks.some(rows_of)
        telling = leaks.are_answers(of_training[rows_of], labels[sampled[rows_of]])
    empty = missing == len(rows)
    median = np.zeros(width)
    for index in np.flatnonzero(~empty):
        values = of_training[:, index]
        values = values[~np.isnan(values)]
        median[index] = np.median(values) if len(values) else (low[index] + high[index]) / 2
    within, between = _correlations(sample[np.searchsorted(kept, replicates)], replicates, compound)
    return Survey(
        missing / len(rows), ~empty & (low == high),
        np.where(empty, 0, np.maximum(np.abs(low), np.abs(high))), median, len(sampled), repeated,
        telling, within, between,
    )  # fmt: skip


def _replicates(compound: np.ndarray | None, most: int) -> np.ndarray:
    """Returns rows of compounds of several wells, sorted."""
    if compound is None:
        return np.array([], int)
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(compound):
        if name is not None:
            rows.setdefault(name, []).append(row)
    several = [found for found in rows.values() if len(found) > 1]
    places = np.linspace(0, len(several) - 1, min(len(several), COMPOUNDS, most // REPLICATES))
    chosen = [several[place][:REPLICATES] for place in places.astype(int)]
    return np.array(sorted(row for found in chosen for row in found), int)


def _correlations(
    values: np.ndarray, rows: np.ndarray, compound: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    if compound is None or not len(rows):
        return np.array([]), np.array([])
    filled = np.nan_to_num(values - _mean(values))  # a missing value is the column's mean
    deviation = filled.std(0)
    if not deviation.any():
        return np.array([]), np.array([])
    scaled = filled[:, deviation > 0] / deviation[deviation > 0]
    scaled -= scaled.mean(1, keepdims=True)
    norm = np.linalg.norm(scaled, axis=1, keepdims=True)
    unit = scaled / np.where(norm > 0, norm, 1)
    names = compound[rows]
    within = []
    for name in dict.fromkeys(names):
        mine = unit[names == name]
        above = np.triu_indices(len(mine), 1)
        within.append(float(np.median((mine @ mine.T)[above])))
    generator = np.random.default_rng(0)
    one, other = generator.integers(len(rows), size=(2, 4 * PAIRS))
    unlike = np.flatnonzero(names[one] != names[other])[:PAIRS]
    between = (unit[one[unlike]] * unit[other[unlike]]).sum(1)
    return np.array(within), between


def _mean(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    return np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1)
