"""One-hot columns with fixed levels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def one_hot(values: np.ndarray, levels: Sequence) -> np.ndarray:
    """Returns one column per level, [N, levels]; a level that no row has is a column of zeros.

    >>> one_hot(np.array([24, 72, 24]), (24, 48, 72)).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    return (np.asarray(values)[:, None] == np.asarray(levels)).astype(np.float64)
