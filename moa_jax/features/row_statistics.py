"""Statistics of each row over a block of columns, in pandas' definitions."""

from __future__ import annotations

import numpy as np

STATISTICS = ("sum", "mean", "deviation", "kurtosis", "skewness")


def row_statistics(values: np.ndarray) -> np.ndarray:
    """Returns sum, mean, standard deviation, excess kurtosis and skewness of each row, [N, 5].

    Deviations are unbiased (ddof 1); kurtosis and skewness carry the usual corrections for the
    number of columns. What is not defined is 0: the deviation of one column, the skewness of
    fewer than three, the kurtosis of fewer than four, both of a row of equal values.

    Args:
      values: [N, columns].

    >>> row_statistics(np.array([[1.0, 2.0, 3.0, 6.0]])).round(3).tolist()
    [[12.0, 3.0, 2.16, 1.5, 1.19]]
    """
    n = values.shape[1]
    total = values.sum(1)
    mean = total / n
    # The computed mean of equal values may miss them by a rounding error, which is no variance.
    varies = np.ptp(values, axis=1) > 0
    z = (values - mean[:, None]) * varies[:, None]
    std = np.sqrt(np.einsum("ij,ij->i", z, z) / max(n - 1, 1))
    z /= np.where(std > 0, std, 1)[:, None]
    squares = np.square(z)
    skew = kurtosis = np.zeros(len(values))
    if n > 2:
        skew = n / ((n - 1) * (n - 2)) * np.einsum("ij,ij->i", squares, z)
    if n > 3:
        fourth = n * (n + 1) / (n - 1) * np.einsum("ij,ij->i", squares, squares)
        kurtosis = (std > 0) * (fourth - 3 * (n - 1) ** 2) / ((n - 2) * (n - 3))
    return np.stack([total, mean, std, kurtosis, skew], axis=1)
