"""Selection of columns by their variance."""

from __future__ import annotations

import numpy as np
from absl import logging


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
        variances = values.var(0) * (np.ptp(values, axis=0) > 0)
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
