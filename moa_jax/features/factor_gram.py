"""Factor analysis of many rows from the products of their columns, which one pass collects."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

# scikit-learn's defaults.
TOLERANCE, MOST_ITERATIONS = 1e-2, 1000
POWER_ITERATIONS, OVERSAMPLES, SMALL = 3, 10, 1e-12
# Products square the scale of a column in units of its own noise: below this share of its variance
# they no longer have the digits.
LEAST_NOISE = 1e-4


class Factors(NamedTuple):
    """What was found.

    Attributes:
      components: [components, columns] loadings.
      mean: [columns].
      noise_variance: [columns].
    """

    components: np.ndarray
    mean: np.ndarray
    noise_variance: np.ndarray


def fit(values: np.ndarray, count: int, seed: int) -> Factors | None:
    """Returns what scikit-learn's `FactorAnalysis` finds, within 1e-9; None where it may not.

    The 1e-9 is of columns whose scale is about 1.

    The random numbers, subspaces and iterations are those of its randomised decomposition. Every
    product with the rows [N, columns] is one with their Gram matrix [columns, columns] here, so
    that an iteration costs the same for however many of them.

    It may be farther off where a column is nearly explained by others, so that little noise of its
    own is left, and it gives up after as many iterations as scikit-learn does.

    Args:
      values: [N, columns], more rows than columns, none of which is constant.
      count: number of factors.
      seed: of the random numbers.
    """
    from scipy import linalg

    rows, columns = values.shape
    mean = values.mean(0)
    centred = values - mean
    gram, variance = centred.T @ centred, centred.var(0)
    random, noise, before = np.random.RandomState(seed), np.ones(columns), -np.inf
    for _ in range(MOST_ITERATIONS):
        scale = np.sqrt(noise) + SMALL
        scaled = gram / (scale[:, None] * scale * rows)
        try:
            singular, right, left = _decomposed(scaled, count, random)
        except linalg.LinAlgError:
            return None
        unexplained = np.trace(scaled) - (singular**2).sum()
        squares = singular**2
        loadings = np.sqrt(np.maximum(squares - 1, 0))[:, None] * right * scale
        log_likelihood = columns * math.log(2 * math.pi) + count + np.log(squares).sum()
        log_likelihood += unexplained + np.log(noise).sum()
        log_likelihood *= -rows / 2
        if log_likelihood - before < TOLERANCE:
            # A factor's sign is such that the largest entry of its left vector is positive.
            entries = centred @ (left / scale[:, None])
            largest = np.take_along_axis(entries, np.abs(entries).argmax(0)[None], axis=0)[0]
            return Factors(loadings * np.sign(largest)[:, None], mean, noise)
        before = log_likelihood
        noise = np.maximum(variance - (loadings**2).sum(0), SMALL)
        if (noise < LEAST_NOISE * variance).any():
            return None
    return None


def _decomposed(
    gram: np.ndarray, count: int, random: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the largest singular values [count] and right vectors [count, columns] of rows.

    The third array [columns, count] makes the left vectors, when the rows are multiplied by it.
    They are those of Halko, Martinsson and Tropp (2011), https://arxiv.org/abs/0909.4061, algorithm
    4.4 with LU in the place of QR in between, by the rows' Gram matrix.
    """
    from scipy import linalg

    basis = random.normal(size=(len(gram), count + OVERSAMPLES))
    for _ in range(POWER_ITERATIONS):
        basis = linalg.lu(gram @ basis, permute_l=True, check_finite=False)[0]
    product = gram @ basis
    # Rows by basis are an orthonormal basis by this triangle.
    triangle = linalg.cholesky(basis.T @ product, check_finite=False)
    projected = linalg.solve_triangular(triangle, product.T, trans="T", check_finite=False)
    turn, singular, right = linalg.svd(projected, full_matrices=False, check_finite=False)
    left = basis @ linalg.solve_triangular(triangle, turn[:, :count], check_finite=False)
    return singular[:count], right[:count], left
