"""Statistics of each row over a block of columns, in pandas' definitions."""

from __future__ import annotations

import numpy as np


def row_statistics(values: np.ndarray) -> np.ndarray:
    """Returns sum, mean, standard deviation, excess kurtosis and skewness of each row, [N, 5].

    Deviations are unbiased (ddof 1); kurtosis and skewness carry the usual corrections for the
    number of columns. What is not defined, with few columns or without variance, is 0.

    Args:
      values: [N, columns].
    """
    n = values.shape[1]
    total = values.sum(1)
    mean = total / n
    centered = values - mean[:, None]
    squares = np.square(centered)
    m2 = squares.sum(1)
    m3 = (squares * centered).sum(1)
    m4 = np.square(squares).sum(1)
    # Rows without variance have rounding only.
    varies = m2 > n * np.square(np.finfo(np.float64).eps * np.maximum(np.abs(mean), 1e-300))
    safe = np.where(varies, m2, 1.0)
    zero = np.zeros(len(values))
    std = np.sqrt(m2 / (n - 1)) if n > 1 else zero
    skew = n * np.sqrt(n - 1) / (n - 2) * m3 / safe**1.5 if n > 2 else zero
    if n > 3:
        scale = (n - 1) / ((n - 2) * (n - 3))
        kurtosis = scale * (n * (n + 1) * m4 / np.square(safe) - 3 * (n - 1))
    else:
        kurtosis = zero
    return np.stack([total, mean, std, kurtosis * varies, skew * varies], axis=1)
