"""Leaks: columns of features that are an answer, such as a copy of a label or a code of classes."""

from __future__ import annotations

import numpy as np

from moa_jax.data.dataset import Dataset

# Few rows may agree by chance, as those may of which few have a label; of many, these are enough.
LEAST, LEAST_OF_LABEL, MOST = 20, 5, 2000


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
    _, kinds = np.unique(labels, axis=0, return_inverse=True)
    several = int(kinds.max()) + 1
    positive = labels.sum(0)
    labels = labels[:, np.minimum(positive, count - positive) >= LEAST_OF_LABEL]
    most = several if several * LEAST_OF_LABEL <= count else 2
    # What is measured has another value in nearly every row.
    first = np.sort(values[: max(64, 4 * most)], axis=0)
    is_coded = (np.diff(first, axis=0) != 0).sum(0) < most
    for column in np.flatnonzero(is_coded):
        there, codes = np.unique(values[:, column], return_inverse=True)
        if len(there) == 2:
            same = (codes[:, None] == labels).sum(0)
            found[column] = bool(((same == 0) | (same == count)).any())
        if len(there) == several > 1:
            found[column] |= len(np.unique(codes * several + kinds)) == several
    return found
