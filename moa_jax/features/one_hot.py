"""One-hot columns with fixed levels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def one_hot(values: np.ndarray, levels: Sequence) -> np.ndarray:
    """Returns one column per level, [N, levels]; a level that no row has is a column of zeros."""
    return (np.asarray(values)[:, None] == np.asarray(levels)).astype(np.float64)
