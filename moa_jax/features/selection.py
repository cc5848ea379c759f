"""Selection of columns: by their variance, by a t-test against targets, or from a list."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from absl import logging

from moa_jax.features.constant import is_constant

# Of a column's p-values over the targets, the one that it is judged by.
P_VALUE_QUANTILE = 0.25


class VarianceSelection:
    """Columns whose population variance is above a threshold, [N, kept].

    Attributes:
      kept_: [kept] indices of the columns, ascending; never empty.
    """

    def __init__(self, threshold: float):
        self.threshold = threshold

    def fit(self, values: np.ndarray) -> VarianceSelection:
        """Chooses among [N, columns] those strictly above the threshold.

        Where none is, the one of the largest variance is kept, the first of equals: a network
        needs an input, and this is the last column that a falling threshold would leave out.
        """
        # The computed variance of equal values may be a rounding error.
        variances = values.var(0) * ~is_constant(values)
        self.kept_ = np.flatnonzero(variances > self.threshold)
        if not self.kept_.size:
            self.kept_ = np.array([variances.argmax()])
            logging.info(
                "variances: column %d of %d kept, though its %.3g is not above %g",
                self.kept_[0],
                len(variances),
                variances.max(),
                self.threshold,
            )
        return self

    def width(self, shape: tuple[int, int]) -> int:
        """Returns the most columns that may be kept of [N, columns]; the values decide."""
        return shape[1]

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Returns the kept columns, [N, kept]."""
        return values[:, self.kept_]

    def parameters(self) -> dict[str, float]:
        return {"threshold": self.threshold}

    def state(self) -> dict[str, np.ndarray]:
        return {"kept": self.kept_}

    @classmethod
    def restore(
        cls, parameters: dict[str, float], state: dict[str, np.ndarray]
    ) -> VarianceSelection:
        restored = cls(**parameters)
        restored.kept_ = state["kept"]
        return restored


class ChosenColumns:
    """Columns chosen beforehand, [N, kept].

    Attributes:
      kept_: [kept] indices of the columns.
    """

    def __init__(self, kept: Sequence[int]):
        self.kept_ = np.asarray(kept, np.int32)

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Returns the chosen columns, [N, kept]."""
        return values[:, self.kept_]

    def parameters(self) -> dict[str, list[int]]:
        return {"kept": self.kept_.tolist()}

    def state(self) -> dict[str, np.ndarray]:
        return {}

    @classmethod
    def restore(cls, parameters: dict[str, list[int]], state: dict[str, np.ndarray]):
        return cls(**parameters)


def t_test_columns(
    values: np.ndarray, targets: np.ndarray, count: int, known: np.ndarray | None = None
) -> np.ndarray:
    """Returns the columns that tell rows with a target from rows without best, [count] ascending.

    Student's t-test with equal variances compares the means of a column over the rows with and
    without a target. A column is judged by the lower quartile of its p-values over the targets,
    so that it has to matter for a quarter of them; of equals the first is taken. Targets that
    no row or every row has are left out.

    Args:
      values: [N, columns].
      targets: [N, L], 0 or 1.
      count: number of columns to choose, at most all.
      known: [N, L] bool, of which rows each target is known, which its test is of; None for all.
    """
    if known is None:
        p_values = t_test_p_values(values, targets)
    else:
        p_values = np.concatenate(
            [
                t_test_p_values(values[own], column[own, None])
                for own, column in zip(known.T, targets.T, strict=True)
                if own.any()
            ]
        )
    judged_by = np.ones(values.shape[1])
    if len(p_values):
        judged_by = np.quantile(p_values, P_VALUE_QUANTILE, axis=0)
    return np.sort(np.argsort(judged_by, kind="stable")[:count])


def t_test_p_values(values: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns the two-sided p-value of every testable target and column, [targets, columns].

    A column without any variance, up to rounding, has p = 1.
    """
    from scipy import stats

    rows = len(values)
    # Three rows are the fewest that leave a degree of freedom.
    positive = targets.sum(0)
    testable = (positive > 0) & (positive < rows) & (rows > 2)
    labels = targets[:, testable].T.astype(np.float64)
    # Centred columns of unit scale keep the digits of their squares.
    deviation = values.std(0)
    constant = is_constant(values)
    scaled = (values - values.mean(0)) / np.where(constant, 1, deviation)
    ones = labels.sum(1, keepdims=True)
    zeros = rows - ones
    sums = labels @ scaled
    # The scaled column has mean 0 and N as its sum of squares.
    between = sums**2 * (1 / ones + 1 / zeros)
    within = np.maximum(np.where(constant, 0, rows) - between, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.sqrt(between * (rows - 2) / within)
    p_values = 2 * stats.t.sf(t, max(rows - 2, 1))
    return np.where(constant, 1.0, p_values)
