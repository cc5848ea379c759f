"""Log odds of probabilities, and their spread over the members that predict the same rows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

# Probabilities nearer to 0 or 1 count as this near: beyond, log odds say nothing of who predicts.
NEAREST = 1e-7


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """Returns log(p / (1 - p)), p within `NEAREST` of 0 and 1.

    >>> log_odds(np.array([0.5, 0.0])).round(3).tolist()
    [0.0, -16.118]
    """
    p = np.array(probabilities, np.float64)
    np.clip(p, NEAREST, 1 - NEAREST, out=p)
    odds = np.log(p)
    # In place: of a million rows each array has gigabytes.
    np.log1p(np.negative(p, out=p), out=p)
    odds -= p
    return odds


def of_log_odds(odds: np.ndarray) -> np.ndarray:
    """Returns 1 / (1 + exp(-odds)).

    >>> of_log_odds(np.array([0.0, -800.0])).tolist()
    [0.5, 0.0]
    """
    # By exp(-|odds|), which does not overflow.
    small = np.exp(-np.abs(odds))
    return np.where(odds >= 0, 1.0, small) / (1 + small)


class MemberSpread:
    """Standard deviation of members' log odds, which members are added to one after another.

    Held are three arrays of the shape of one member's predictions, however many members there are.

    >>> found = MemberSpread()
    >>> found.add(log_odds(np.array([[[0.5]], [[0.9]]])), np.array([1.0, 1.0]))
    >>> found.values().round(4).tolist()
    [[1.5537]]
    """

    def __init__(self) -> None:
        self._weight = self._squared_weight = 0.0
        # Mean and weighted sum of squared deviations, which do not cancel as squares would.
        self._mean: np.ndarray | float = 0.0
        self._squares: np.ndarray | float = 0.0

    def add(self, odds: Iterable[np.ndarray], weights: np.ndarray) -> None:
        """Adds members.

        Args:
          odds: [N, L] of each, log odds that it predicts of the same rows.
          weights: [members] their weights in the mean that they are part of, 0 for none.

        References:
          West, "Updating mean and variance estimates", Communications of the ACM 22 (1979)
        """
        for own, weight in zip(odds, weights.tolist(), strict=True):
            if not weight:
                continue
            self._weight += weight
            self._squared_weight += weight**2
            change = own - self._mean
            self._mean = self._mean + change * (weight / self._weight)
            self._squares = self._squares + weight * change * (own - self._mean)

    def values(self) -> np.ndarray:
        """Returns [N, L] unbiased for members of unlike weights too; NaN where there is but one.

        With weights w it is the square root of sum(w d^2) / (sum(w) - sum(w^2) / sum(w)), which
        for equal ones divides by their number less 1; d are deviations from the weighted mean.
        """
        freedom = self._weight - self._squared_weight / self._weight if self._weight else 0.0
        alone = freedom <= 1e-9 * self._weight
        return np.sqrt(np.asarray(self._squares) / (np.nan if alone else freedom))
