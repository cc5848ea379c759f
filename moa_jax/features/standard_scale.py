"""Standard scale: every column less its mean, over its standard deviation."""

from __future__ import annotations

import numpy as np

from moa_jax.features.constant import is_constant


class StandardScale:
    """Columns of mean 0 and standard deviation 1; constant columns become 0, up to rounding.

    Attributes:
      mean_: [columns].
      scale_: [columns] standard deviations of the population (ddof 0), 1 for constant columns.
    """

    def fit(self, values: np.ndarray) -> StandardScale:
        """Learns the scale of finite [N, columns]; the bits are those of scikit-learn."""
        rows = len(values)
        self.mean_ = values.sum(0, dtype=np.float64) / rows
        away = values - self.mean_
        # What rounding left in the mean, which is taken off the squares.
        rest = away.sum(0)
        away **= 2
        variance = (away.sum(0) - rest**2 / rows) / rows
        # A variance up to this may be rounding in the mean of so many rows.
        precision = rows * np.finfo(np.float64).eps
        unsure = variance <= precision * variance + (precision * self.mean_) ** 2
        self.scale_ = np.where(unsure | is_constant(values), 1.0, np.sqrt(variance))
        return self

    def width(self, shape: tuple[int, int]) -> int:
        """Returns the number of columns after a fit to [N, columns] of this shape."""
        return shape[1]

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Returns the scaled [N, columns]."""
        scaled = values - self.mean_
        scaled /= self.scale_
        return scaled

    def parameters(self) -> dict[str, int]:
        return {}

    def state(self) -> dict[str, np.ndarray]:
        return {"mean": self.mean_, "scale": self.scale_}

    @classmethod
    def restore(cls, parameters: dict[str, int], state: dict[str, np.ndarray]) -> StandardScale:
        restored = cls(**parameters)
        restored.mean_, restored.scale_ = state["mean"], state["scale"]
        return restored
