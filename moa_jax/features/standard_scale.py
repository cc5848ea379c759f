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
        """Learns the scale of [N, columns]."""
        from sklearn.preprocessing import StandardScaler

        fitted = StandardScaler().fit(values)
        self.mean_ = fitted.mean_
        self.scale_ = np.where(is_constant(values), 1.0, fitted.scale_)
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
