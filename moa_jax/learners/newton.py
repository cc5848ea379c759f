"""Newton's method for logistic regressions of one table, several labels side by side.

What fits imports this file before it limits threads: scipy brings a BLAS of its own.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack
from scipy.special import expit

# Columns of a product of matrices: gradients of several labels read the rows once. There are as
# many whatever labels are fitted beside each other, and so a label's bits are the same.
SIDE_BY_SIDE = 8
# Bytes of the Hessians of labels that are fitted together, at most, unless it is one label.
MOST_BYTES = 2**28
# Rows that are weighed at a time, so that they stay in a cache.
ROWS = 1024
# A minimum is found when the next step is as short as this by the norm of the Hessian; half of the
# square is what the step would still take from the loss.
TOLERANCE = 1e-9
# A Hessian, which costs as much as a dozen steps, serves while each step is shorter by this.
SHORTER = 0.25
# Up to here (exp(u) - u - 1) / u^2 is below 1.
SAFE = 1.79
# Steps at most; some ten lead to a minimum.
MOST_STEPS = 200
# Share that is added to a Hessian's diagonal, lest rounding make it indefinite.
JITTER = 1e-13


def labels_together(columns: int) -> int:
    """Returns how many labels of a table with so many columns are fitted together.

    >>> labels_together(107), labels_together(5_000)
    (8, 1)
    """
    return max(1, min(SIDE_BY_SIDE, MOST_BYTES // (8 * columns**2)))


def minimum(
    x: np.ndarray, y: np.ndarray, c: float, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the coefficients of the lowest loss: log loss and a penalty.

    The loss is the log loss, summed over rows, plus half the squared norm of all coefficients but
    the last, divided by c: that of scikit-learn's LogisticRegression, up to a factor.

    No length of a step is tried out. Let a step s move the log odds of no row by more than m; then
    the loss after t s is at most loss + t g's + (exp(t m) - t m - 1) / m^2 s'Hs, g being gradient
    and H Hessian before it (Bach, proposition 1). Where the lowest point of the parabola, the loss
    to second order, is below the loss by that bound, t leads there; else to the lowest bound. So
    every step leads downhill, from any start, and whatever earlier Hessian it was made by.

    Args:
      x: [N, F] rows, whose last column is all ones.
      y: [N, L] 0 or 1, of at most `SIDE_BY_SIDE` labels.
      c: factor of the log loss beside the penalty.
      start: [F, L] coefficients to begin with.

    Returns:
      The coefficients [F, L], and whether each label's minimum was found [L].

    Raises:
      LinAlgError: a Hessian is not positive definite, as of rows that are no numbers.

    References:
      S. Boyd and L. Vandenberghe, Convex Optimization, 2004, section 9.5.
      F. Bach, Self-concordant analysis for logistic regression, Electronic Journal of Statistics 4,
      2010.
    """
    labels = y.shape[1]
    # Columns without a label have sign 0, and so a gradient of 0.
    signs, w = np.zeros((len(x), SIDE_BY_SIDE)), np.zeros((x.shape[1], SIDE_BY_SIDE))
    signs[:, :labels], w[:, :labels] = np.where(y == 1, 1.0, -1.0), start
    ridge = np.full((x.shape[1], 1), 1 / c)
    ridge[-1] = 0
    odds = x @ w
    factors: list[np.ndarray | None] = [None] * labels
    # Squared lengths of the last steps, by the norm of the Hessian that made them.
    squares, found = np.zeros(labels), np.zeros(labels, bool)
    for _ in range(MOST_STEPS):
        # The probability of what a row is not keeps its digits where it is next to nothing.
        wrong = expit(-signs * odds)
        weights = wrong * (1 - wrong)
        downhill = x.T @ (signs * wrong) - ridge * w
        step = np.zeros_like(w)
        for label in np.flatnonzero(~found):
            own, factor, square = downhill[:, label], factors[label], np.inf
            if factor is not None:
                step[:, label], square = _step(factor, own)
            if square > max(SHORTER**2 * squares[label], TOLERANCE**2):
                factors[label] = factor = _factored(x, weights[:, label], ridge)
                step[:, label], square = _step(factor, own)
            squares[label] = square
        move = x @ step
        gain, bend = (downhill * step).sum(0), (weights * move**2).sum(0)
        bend += (ridge * step**2).sum(0)
        newton = np.divide(gain, bend, out=np.zeros_like(gain), where=bend > 0)
        far = np.maximum(np.abs(move).max(0) * newton, np.finfo(float).tiny)
        length = np.where(far < SAFE, newton, newton * np.log1p(far) / far)
        w += length * step
        odds += length * move
        found |= squares <= TOLERANCE**2
        if found.all():
            break
    return w[:, :labels], found


def _step(factor: np.ndarray, downhill: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns Newton's step [F] by a factored Hessian, and its squared length by that."""
    step, _ = lapack.dpotrs(factor, downhill)
    return step, float(downhill @ step)


def _factored(x: np.ndarray, weights: np.ndarray, ridge: np.ndarray) -> np.ndarray:
    """Returns the upper Cholesky factor [F, F] of a label's Hessian, for rows of weights [N]."""
    roots, hessian = np.sqrt(weights), np.diag(ridge[:, 0])
    for start in range(0, len(x), ROWS):
        rows = slice(start, start + ROWS)
        weighed = x[rows] * roots[rows, None]
        hessian += weighed.T @ weighed
    hessian.flat[:: len(hessian) + 1] *= 1 + JITTER
    factor, failed = lapack.dpotrf(hessian.T, overwrite_a=True)
    if failed or not factor[-1, -1] > 0:  # LAPACK passes over what is no number
        raise np.linalg.LinAlgError(f"a Hessian of {len(x)} rows is not positive definite")
    return factor
