"""Columns that are constant, up to rounding: their spread is no scale to divide by."""

from __future__ import annotations

import numpy as np

# Multiples of the precision that sums and conversions leave in numbers that should be equal.
ROUNDING = 16


def is_constant(values: np.ndarray) -> np.ndarray:
    """Tells which columns of [N, columns] differ by rounding alone, [columns].

    Columns are expected to be of order one or more, as expression and viability are: a spread that
    is rounding beside 1 is rounding in a smaller number too.

    >>> is_constant(np.array([[0.3, 1e-17, 2.0], [0.1 + 0.2, 0.0, 2.0], [0.3, 0.0, 2.1]])).tolist()
    [True, True, False]
    """
    return are_equal(values.min(axis=0), values.max(axis=0))


def are_equal(lowest: np.ndarray, highest: np.ndarray) -> np.ndarray:
    """Tells where the lowest and the highest number of a column differ by rounding alone."""
    magnitude = np.maximum(np.abs(lowest), np.abs(highest))
    return highest - lowest <= smallest_scale(magnitude, lowest.dtype)


def smallest_scale(magnitude: np.ndarray, dtype: np.typing.DTypeLike) -> np.ndarray:
    """Returns the scales at and below which numbers of this magnitude differ by rounding alone."""
    precision = np.finfo(dtype if np.issubdtype(dtype, np.floating) else np.float64).eps
    return ROUNDING * precision * np.maximum(magnitude, 1.0)
