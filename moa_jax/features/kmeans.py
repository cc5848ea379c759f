"""K-means of many rows: scikit-learn's starts and steps, with distances of those rows in doubt."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

# scikit-learn's defaults.
TOLERANCE, MOST_STEPS = 1e-4, 300


def centers(values: np.ndarray, count: int, starts: int, seed: int) -> np.ndarray | None:
    """Returns the centers [count, columns] of the best of some starts; None if a cluster empties.

    They are those of scikit-learn's `KMeans` but for rounding errors: its k-means++ starts, Lloyd's
    steps, and its ends. A row is measured anew only where centers have moved so far that another
    may be nearest, as bounds on its distances tell (Hamerly 2010, Making k-means even faster), and
    then in single precision unless two centers are too close to tell apart by it.

    Args:
      values: [N, columns] float64.
      count: number of clusters.
      starts: how many.
      seed: of the starts.
    """
    from sklearn.cluster import kmeans_plusplus
    from threadpoolctl import threadpool_limits

    mean = values.mean(0)
    rows = values - mean
    norms = np.einsum("ij,ij->i", rows, rows)
    tolerance = values.var(0).mean() * TOLERANCE
    search, random = _Search(rows, norms), np.random.RandomState(seed)
    begun = [
        kmeans_plusplus(rows, count, x_squared_norms=norms, random_state=random)[0]
        for _ in range(starts)
    ]
    workers = max(1, min(os.cpu_count() or 1, starts))
    # Starts side by side wait for nothing, as threads of one product do for each other.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(workers) as pool:
        ended = list(pool.map(lambda start: search.descend(start, tolerance), begun))
    best: _End | None = None
    for found in ended:
        if found is None:
            return None
        if best is None or (found.inertia < best.inertia and not found.is_like(best)):
            best = found
    return None if best is None else best.centers + mean


class _End(NamedTuple):
    """Where a start has led."""

    centers: np.ndarray
    labels: np.ndarray
    inertia: float

    def is_like(self, other: _End) -> bool:
        """Tells whether the clusters are the same but for their order; rounding then decides."""
        count = len(self.centers)
        return len(np.unique(self.labels * count + other.labels)) == count


class _Search:
    """Rows, measured against centers."""

    def __init__(self, rows: np.ndarray, norms: np.ndarray):
        self._rows, self._norms = rows, norms
        self._single = rows.astype(np.float32)
        # Bounds the rounding errors of a squared distance, per |c| (|x| + |c|).
        self._error = (rows.shape[1] + 8) * float(np.finfo(np.float32).eps)

    def descend(self, start: np.ndarray, tolerance: float) -> _End | None:
        """Returns where a start leads; None if a cluster empties on the way."""
        rows, centers = self._rows, start
        labels, nearest, others = self._measured(np.arange(len(rows)), centers)
        sums = np.zeros_like(centers)
        np.add.at(sums, labels, rows)
        counts = np.bincount(labels, minlength=len(centers))
        for _ in range(MOST_STEPS):
            if not counts.all():
                return None
            moved = sums / counts[:, None]
            shifts = np.linalg.norm(moved - centers, axis=1)
            centers = moved
            is_near = (shifts**2).sum() <= tolerance
            nearest += shifts[labels]
            others -= _largest_but(shifts)[labels]
            doubtful = np.flatnonzero(nearest >= others)
            found, nearest[doubtful], others[doubtful] = self._measured(doubtful, centers)
            old = labels[doubtful]
            changed = found != old
            if is_near or not changed.any():
                labels[doubtful] = found
                break
            of, old, new = doubtful[changed], old[changed], found[changed]
            labels[of] = new
            np.add.at(sums, new, rows[of])
            np.subtract.at(sums, old, rows[of])
            counts += np.bincount(new, minlength=len(centers))
            counts -= np.bincount(old, minlength=len(centers))
        away = rows - centers[labels]
        return _End(centers, labels, float(np.einsum("ij,ij->", away, away)))

    def _measured(
        self, which: np.ndarray, centers: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns of some rows the nearest center, at most how far it and at least the next is."""
        lengths, squares = np.einsum("ij,ij->i", centers, centers), self._norms[which]
        rows = self._single if len(which) == len(self._single) else self._single[which]
        # Less the row's own length, which is the same for all centers.
        squared = rows @ centers.astype(np.float32).T
        squared *= -2
        squared += lengths.astype(np.float32)
        each, labels = np.arange(len(which)), squared.argmin(1)
        first = squared[each, labels].astype(np.float64)
        squared[each, labels] = np.inf
        second = squared.min(1).astype(np.float64)
        longest = np.sqrt(lengths.max())
        error = self._error * longest * (np.sqrt(squares) + longest)
        unsure = np.flatnonzero(second - first <= 2 * error)
        labels[unsure] = (lengths - 2 * (self._rows[which[unsure]] @ centers.T)).argmin(1)
        first[unsure] = np.inf  # of another center, perhaps: they are measured at every step
        nearest = np.sqrt(np.maximum(first + squares + error, 0))
        return labels, nearest, np.sqrt(np.maximum(second + squares - error, 0))


def _largest_but(shifts: np.ndarray) -> np.ndarray:
    """Returns the largest shift of the other centers, for each."""
    order = np.argsort(shifts)
    largest = np.full(len(shifts), shifts[order[-1]])
    largest[order[-1]] = shifts[order[-2]] if len(shifts) > 1 else 0
    return largest
