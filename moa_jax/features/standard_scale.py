"""Standard scale: every column less its mean, over its standard deviation."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from moa_jax.features.column_sums import ColumnSums, column_means
from moa_jax.features.constant import are_equal


class StandardScale:
    """Columns of mean 0 and standard deviation 1; constant columns become 0, up to rounding.

    Attributes:
      mean_: [columns].
      scale_: [columns] standard deviations of the population (ddof 0), 1 for constant columns.
    """

    def fit(self, values: np.ndarray) -> StandardScale:
        """Learns the scale of finite [N, columns]; the bits are those of scikit-learn."""
        return self.fit_parts(lambda: [values], len(values))

    def fit_parts(self, parts: Callable[[], Iterable[np.ndarray]], rows: int) -> StandardScale:
        """Learns the scale of rows that are never together in memory, to the same bits.

        Args:
          parts: gives all rows whenever it is called, [n, columns] below one another.
          rows: how many they are.
        """
        self.mean_ = column_means(parts())
        lowest, highest = [], []
        # What rounding left in the mean, which is taken off the squares.
        rests, squares = ColumnSums(), ColumnSums()
        for part in parts():
            lowest.append(part.min(0))
            highest.append(part.max(0))
            away = part - self.mean_
            rests.add(away)
            away **= 2
            squares.add(away)
        variance = (squares.totals - rests.totals**2 / rows) / rows
        # A variance up to this may be rounding in the mean of so many rows.
        precision = rows * np.finfo(np.float64).eps
        unsure = variance <= precision * variance + (precision * self.mean_) ** 2
        unsure |= are_equal(np.min(lowest, axis=0), np.max(highest, axis=0))
        self.scale_ = np.where(unsure, 1.0, np.sqrt(variance))
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
