"""Leaks: columns of features that are an answer, such as a copy of a label or a code of classes."""

from __future__ import annotations

import math

import numpy as np

from moa_jax.data.dataset import Dataset

# Few rows may agree by chance, as those may of which few have a label; of many, these are enough.
LEAST, LEAST_OF_LABEL, MOST = 20, 5, 2000
# How many ways to place a label's rows there are for each pair of a column and a label.
PLACES = 1000


def telling(dataset: Dataset) -> list[str]:
    """Returns the features of training rows that are an answer, see `are_answers`."""
    rows = some(np.flatnonzero(~dataset.is_control))
    found = are_answers(dataset.features[rows], dataset.targets.values[rows] == 1)
    return np.array(dataset.genes + dataset.cells, object)[found].tolist()


def some(rows: np.ndarray) -> np.ndarray:
    """Returns at most `MOST` of some rows, which lie evenly between the first and the last."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST)).astype(int)]


def are_answers(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns which columns tell labels so that nothing is left to learn.

    Such a column has two values, one where rows have a label and one where they have not; or a
    value for every combination of labels, and no other.

    Args:
      values: [N, F] features.
      labels: [N, L] bool.

    Returns:
      [F] bool.

    >>> rows = np.arange(40)
    >>> labels = rows[:, None] % 4 == np.arange(4)
    >>> values = np.stack([labels[:, 1] * 7, rows % 4, rows // 10, rows % 3, rows], axis=1)
    >>> are_answers(values, labels).tolist()
    [True, True, False, False, False]
    """
    count, width = values.shape
    found = np.zeros(width, bool)
    if count < LEAST:
        return found
    _, kinds, sizes = np.unique(labels, axis=0, return_inverse=True, return_counts=True)
    kinds, several = kinds.reshape(-1), len(sizes)
    most = several if several * LEAST_OF_LABEL <= count else 2
    # What is measured has another value in nearly every row.
    first = np.sort(values[: max(64, 4 * most)], axis=0)
    (coded,) = np.nonzero((np.diff(first, axis=0) != 0).sum(0) < most)
    positive = labels.sum(0)
    rarer = np.minimum(positive, count - positive)
    pairs = len(coded) * labels.shape[1]
    meant = [few for few in {*rarer.tolist()} if _is_no_chance(few, count, pairs)]
    labels = labels[:, np.isin(rarer, meant)]
    are_placed = _is_no_chance(count - int(sizes.max()), count, len(coded))
    for column in coded:
        there, codes = np.unique(values[:, column], return_inverse=True)
        if len(there) == 2:
            same = (codes[:, None] == labels).sum(0)
            found[column] = bool(((same == 0) | (same == count)).any())
        if are_placed and len(there) == several > 1:
            found[column] |= len(np.unique(codes * several + kinds)) == several
    return found


def _is_no_chance(few: int, count: int, pairs: int) -> bool:
    """Tells whether values of `few` of `count` rows hardly fall on them in any of some pairs."""
    return few >= LEAST_OF_LABEL and math.comb(count, few) >= PLACES * pairs
