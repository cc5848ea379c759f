"""One column for levels that are numbers: their logarithms, standardised."""

from __future__ import annotations

import numpy as np


def log10_column(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Returns log10 of values in units of the standard deviation of the levels' log10, [N, 1].

    0 is the levels' mean. Where one of the levels is 0, half of the smallest one above it is added
    to all. Where they are all the same, nothing can be learned about others: the column is 0. So it
    is of what is no number.

    Args:
      values: [N], at least 0; NaN where there is no number.
      levels: those that the column is standardised by, once each, at least 0; NaN counts for none.

    >>> log10_column(np.array([1.0, 100.0, 10.0, np.nan]), np.array([1.0, 100.0]))[:, 0].tolist()
    [-1.0, 1.0, 0.0, 0.0]
    >>> log10_column(np.array([0.0, 1.0]), np.array([0.0, 1.0]))[:, 0].tolist()
    [-1.0, 1.0]
    """
    known = levels[~np.isnan(levels)]
    above = known[known > 0]
    added = above.min() / 2 if len(above) < len(known) and len(above) else 0.0
    if not len(above) or np.ptp(known) == 0:
        return np.zeros((len(values), 1))
    logarithms = np.log10(known + added)
    # A new 0 beside levels that have none is as if it were half of the smallest.
    least = known.min() / 2 if known.min() else 0.0
    column = np.log10(np.maximum(values, least) + added)
    scaled = (column - logarithms.mean()) / logarithms.std()
    return np.where(np.isnan(scaled), 0.0, scaled)[:, None]
