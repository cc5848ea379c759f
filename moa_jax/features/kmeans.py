"""K-means of many rows: scikit-learn's starts and steps, all starts of one seed together.

A start's seeds are drawn with the same random numbers, so that the candidates of all starts are
measured by one product with the rows. Then each start takes Lloyd's steps in a thread of its own.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from moa_jax.store import cores

# scikit-learn's defaults.
TOLERANCE, MOST_STEPS = 1e-4, 300
# Rows whose distances from their centers are in memory at a time, of each start.
AT_ONCE = 4096


def fit(values: np.ndarray, count: int, starts: int, seed: int) -> np.ndarray | None:
    """Returns the centers [count, columns] of the best of some starts.

    They are those of scikit-learn's `KMeans` but for rounding errors. None if a cluster is left
    without rows on the way, which it is rarely, and which is scikit-learn's to mend.

    Args:
      values: [N, columns] float64, more rows than clusters.
      count: number of clusters.
      starts: how many.
      seed: of the starts.
    """
    from threadpoolctl import threadpool_limits

    mean = values.mean(0)
    rows = CentredRows.of(values - mean)
    tolerance = rows.squares.sum() / values.size * TOLERANCE  # of the mean variance
    seeds = _seeds(rows, count, starts, np.random.RandomState(seed))
    workers = max(1, min(cores.available(), starts))
    # Starts side by side wait for nothing, as threads of one product do for each other.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(workers) as pool:
        ended = list(pool.map(lambda own: _descend(rows, rows.values[own], tolerance), seeds))
    best: _End | None = None
    for found in ended:
        if found is None:
            return None
        if best is None or (found.inertia < best.inertia and not found.is_like(best)):
            best = found
    return None if best is None else best.centers + mean


class CentredRows(NamedTuple):
    """Rows that are clustered.

    Attributes:
      values: [N, columns] float64, of mean 0.
      single: the same in single precision.
      squares: [N] their squared lengths.
    """

    values: np.ndarray
    single: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> CentredRows:
        return cls(values, values.astype(np.float32), np.einsum("ij,ij->i", values, values))


def _seeds(rows: CentredRows, count: int, starts: int, random: np.random.RandomState) -> np.ndarray:
    """Returns the rows that each start begins with, [starts, count], by greedy k-means++.

    Of some candidates, which are drawn with probabilities as their squared distances from the seeds
    so far, the one is taken that leaves the smallest sum of these distances.

    References:
      Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA (2007)
    """
    number, tries = len(rows.values), 2 + int(np.log(count))
    # As drawn by one start after another: its first row, then the draws of its candidates.
    even, draws = np.full(number, 1.0) / number, np.empty((starts, count - 1, tries))
    chosen = np.empty((starts, count), np.int64)
    for start in range(starts):
        chosen[start, 0] = random.choice(number, p=even)
        draws[start] = random.uniform(size=(count - 1, tries))
    nearest = _squared_distances(rows, chosen[:, 0])
    for step in range(1, count):
        candidates = np.empty((starts, tries), np.int64)
        for start, own in enumerate(nearest):
            drawn = draws[start, step - 1] * own.sum()
            candidates[start] = np.minimum(np.searchsorted(own.cumsum(), drawn), number - 1)
        found = _squared_distances(rows, candidates.ravel()).reshape(starts, tries, number)
        np.minimum(found, nearest[:, None], out=found)
        best = found.sum(2).argmin(1)
        each = np.arange(starts)
        nearest, chosen[:, step] = found[each, best], candidates[each, best]
    return chosen


def _squared_distances(rows: CentredRows, which: np.ndarray) -> np.ndarray:
    """Returns the squared distances of some rows from all, [some, N]."""
    found = -2.0 * rows.values[which] @ rows.values.T
    found += rows.squares[which, None]
    found += rows.squares
    found[np.arange(len(which)), which] = 0
    return np.maximum(found, 0, out=found)


class _End(NamedTuple):
    """Where a start has led."""

    centers: np.ndarray
    labels: np.ndarray
    inertia: float

    def is_like(self, other: _End) -> bool:
        """Tells whether the clusters are the same but for their order; rounding then decides."""
        count = len(self.centers)
        return len(np.unique(self.labels * count + other.labels)) == count


def _descend(rows: CentredRows, centers: np.ndarray, tolerance: float) -> _End | None:
    """Returns where Lloyd's steps lead from the first centers; None if a cluster empties."""
    labels, count = _labels(rows, centers), len(centers)
    everywhere = np.arange(len(labels))
    sums, counts = _added(rows, everywhere, labels, count)
    for _ in range(MOST_STEPS):
        if not counts.all():
            return None
        moved = sums / counts[:, None]
        shift, centers = ((moved - centers) ** 2).sum(), moved
        before, labels = labels, _labels(rows, centers)
        if shift <= tolerance:
            break
        changed = np.flatnonzero(labels != before)
        if not len(changed):
            break
        for sign, own in ((1, labels), (-1, before)):
            more, number = _added(rows, changed, own[changed], count)
            sums, counts = sums + sign * more, counts + sign * number
    return _End(centers, labels, _inertia(rows, centers, labels))


def _inertia(rows: CentredRows, centers: np.ndarray, labels: np.ndarray) -> float:
    """Returns the sum of all rows' squared distances from their centers."""
    total = 0.0
    for start in range(0, len(labels), AT_ONCE):
        own = slice(start, start + AT_ONCE)
        away = rows.values[own] - centers[labels[own]]
        total += float(np.einsum("ij,ij->", away, away))
    return total


def _labels(rows: CentredRows, centers: np.ndarray) -> np.ndarray:
    """Returns the nearest center of each row, [N].

    Single precision tells it of most; a row is measured in double precision where two centers are
    too close to tell apart by it.
    """
    squares = np.einsum("ij,ij->i", centers, centers)
    # Squared distances less the row's own square, which is the same for all centers.
    found = rows.single @ (-2.0 * centers.T).astype(np.float32)
    found += squares.astype(np.float32)
    labels = found.argmin(1)
    first = np.take_along_axis(found, labels[:, None], axis=1)[:, 0]
    np.put_along_axis(found, labels[:, None], np.inf, axis=1)
    longest = np.sqrt(squares.max())
    bound = (centers.shape[1] + 8) * float(np.finfo(np.float32).eps) * longest
    bound = bound * (2 * np.sqrt(rows.squares) + longest)
    # What overflowed is told by no comparison.
    unsure = np.flatnonzero(~(found.min(1) - first > 2 * bound))
    labels[unsure] = (squares - 2.0 * rows.values[unsure] @ centers.T).argmin(1)
    return labels


def _added(
    rows: CentredRows, which: np.ndarray, labels: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns sum [count, columns] and number [count] of some rows by their labels."""
    from scipy import sparse

    shape = count, len(rows.values)
    members = sparse.coo_array((np.ones(len(which)), (labels, which)), shape).tocsr()
    return members @ rows.values, np.bincount(labels, minlength=count)
