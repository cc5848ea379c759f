"""Ranks of values among a column's landmarks: the compiled loop, and what it looks up.

Only transforms of many values import this file, because numba takes a second. Nothing is compiled
with `fastmath`: the bits are those of numpy's `interp` in both directions, see `is_alike`.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Self

import numba
import numpy as np
from scipy import special

from moa_jax.features import inverse_normal
from moa_jax.store import cores

# Values this near to the ends count as beyond them, as in scikit-learn.
SNAP = 1e-7
# Parts of equal width that a column's range is cut into, each of which knows its first landmark.
BUCKETS = 1024
# Columns and rows of a tile; as many columns are one line of a cache.
BLOCK, TILE = 8, 64


class Search(NamedTuple):
    """Landmarks of columns, ready to be searched.

    Attributes:
      knots: [columns, Q + 1] landmarks, in ascending order, and infinity.
      slopes: [columns, Q - 1] ranks per unit between them; not finite between equal ones.
      references: [Q] their ranks.
      starts: [columns, BUCKETS] a landmark near the lower end of each part of the range.
      scales: [columns] parts per unit; 0 for a column without a range.
    """

    knots: np.ndarray
    slopes: np.ndarray
    references: np.ndarray
    starts: np.ndarray
    scales: np.ndarray

    @classmethod
    def of(cls, quantiles: np.ndarray, references: np.ndarray) -> Self | None:
        """Returns what is looked up for landmarks [Q, columns] and their ranks [Q].

        None for those that the loop is not made for: fewer than two, many, in another precision, or
        so close that a slope between them overflows. None too where its bits are not numpy's.
        """
        count = len(references)
        if not 2 <= count < 2**15 or quantiles.dtype != np.float64 or not is_alike():
            return None
        knots = np.ascontiguousarray(quantiles.T)
        gaps = np.diff(knots, axis=1)
        with np.errstate(all="ignore"):
            slopes = np.diff(references) / gaps
            scales = BUCKETS / (knots[:, -1] - knots[:, 0])
        if not np.isfinite(knots).all() or not np.isfinite(slopes[gaps > 0]).all():
            return None
        scales[~np.isfinite(scales)] = 0
        starts = first_knots(knots, BUCKETS)
        knots = np.pad(knots, ((0, 0), (0, 1)), constant_values=np.inf)
        return cls(knots, slopes, references, starts, scales)

    def normal_scores(self, values: np.ndarray) -> np.ndarray:
        """Returns finite values [N, columns] float64 through their ranks to a standard normal."""
        out, is_alike = np.empty(values.shape), inverse_normal.is_alike()
        end = SNAP - np.spacing(1)
        lowest, highest = special.ndtri(end), special.ndtri(1 - end)

        def fill(first: int, last: int) -> None:
            part = slice(first, last)
            own = out[:, part]
            write_scores(
                values[:, part], self.knots[part], self.slopes[part], self.references,
                self.starts[part], self.scales[part], SNAP, is_alike, lowest, highest, own,
            )  # fmt: skip
            if not is_alike:
                special.ndtri(own, out=own)
                np.clip(own, lowest, highest, out=own)

        columns = values.shape[1]
        workers = max(1, min(cores.available(), columns // BLOCK))
        edges = np.linspace(0, columns, workers + 1).astype(int).tolist()
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(fill, edges[:-1], edges[1:]))
        return out


@functools.cache
def is_alike() -> bool:
    """Tells whether ranks by the loop have the bits of numpy's `interp` here, of 2,000 values.

    Numpy's compiler may round a product and a sum once, as on ARM, where the loop rounds twice.
    """
    generator = np.random.default_rng(0)
    references, knots = np.linspace(0, 1, 100), np.sort(generator.normal(size=100))
    values = generator.uniform(knots[0] + SNAP, knots[-1] - SNAP, 2000)
    upward = np.interp(values, knots, references)
    downward = np.interp(-values, -knots[::-1], -references[::-1])
    slopes, starts = np.diff(references) / np.diff(knots), first_knots(knots[None], BUCKETS)[0]
    scale = BUCKETS / (knots[-1] - knots[0])
    find_ranks(values, np.append(knots, np.inf), slopes, references, starts, scale, SNAP)
    return values.tobytes() == (0.5 * (upward - downward)).tobytes()


@numba.njit(nogil=True)
def first_knots(knots, buckets):
    """Returns the last landmark at or below the lower end of each part, [columns, buckets]."""
    columns, count = knots.shape
    starts = np.zeros((columns, buckets), np.int16)
    for column in range(columns):
        low = knots[column, 0]
        width = (knots[column, count - 1] - low) / buckets
        at = 0
        for bucket in range(buckets):
            while at + 1 < count and knots[column, at + 1] <= low + bucket * width:
                at += 1
            starts[column, bucket] = at
    return starts


@numba.njit(nogil=True)
def write_scores(
    values, knots, slopes, references, starts, scales, snap, with_scores, lowest, highest, out
):
    """Writes ranks in [0, 1], or with them their normal scores within two ends, [N, columns].

    A tile of some rows and columns at a time is copied, worked on in the nearest cache and written:
    the rows of a table are far from each other in memory.
    """
    rows, columns = values.shape
    tile = np.empty((BLOCK, TILE))
    room = inverse_normal.room(BLOCK * TILE)
    for begin in range(0, columns, BLOCK):
        width = min(BLOCK, columns - begin)
        for top in range(0, rows, TILE):
            height = min(TILE, rows - top)
            for i in range(height):
                for c in range(width):
                    tile[c, i] = values[top + i, begin + c]
            for c in range(width):
                own = begin + c
                find_ranks(
                    tile[c, :height], knots[own], slopes[own], references, starts[own],
                    scales[own], snap,
                )  # fmt: skip
                if with_scores:
                    inverse_normal.replace(tile[c, :height], room)
            for i in range(height):
                for c in range(width):
                    score = tile[c, i]
                    if with_scores:
                        score = min(max(score, lowest), highest)
                    out[top + i, begin + c] = score


@numba.njit(nogil=True)
def find_ranks(values, knots, slopes, references, starts, scale, snap):
    """Replaces one column's values [N] by the mean of upward and of downward interpolation."""
    last = len(knots) - 2
    first, most = knots[0], np.int32(len(starts) - 1)
    for i in range(len(values)):
        x = values[i]
        if x - snap < first:
            values[i] = 0.0
            continue
        if x + snap > knots[last]:
            values[i] = 1.0
            continue
        # The part that is computed may be a neighbour of the right one.
        at = np.int64(starts[min(np.int32((x - first) * scale), most)])
        while knots[at] > x:
            at -= 1
        # Most are at most two landmarks off; to ask is slower than to add.
        at += np.int64(knots[at + 1] <= x)
        at += np.int64(knots[at + 1] <= x)
        while knots[at + 1] <= x:
            at += 1
        below = knots[at]
        if below == x:
            lowest = at
            while lowest > 0 and knots[lowest - 1] == x:
                lowest -= 1
            values[i] = 0.5 * (references[at] + references[lowest])
        else:
            slope = slopes[at]
            upward = slope * (x - below) + references[at]
            downward = slope * (knots[at + 1] - x) - references[at + 1]
            values[i] = 0.5 * (upward - downward)
