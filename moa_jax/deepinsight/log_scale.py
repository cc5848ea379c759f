"""Log scale: every column through a logarithm to [0, 1], all columns over one maximum."""

from __future__ import annotations

import numpy as np

from moa_jax.features.constant import smallest_scale


class LogScale:
    """Columns of ln(x + |minimum| + 1) over the largest such value of all columns, in [0, 1].

    This is "Norm-2" of DeepInsight (Sharma et al., 2019). It keeps the columns' relation to each
    other: only a column of the widest range reaches 1. A column's minimum enters as an absolute
    value, so that one above 0 shifts its column up and not down, as in the original.

    Attributes:
      minimum_: [columns] smallest fitted values.
      maximum_: largest logarithm of the fitted values; 0 if none is above 0, up to rounding.
    """

    def fit(self, values: np.ndarray) -> LogScale:
        """Learns the scale of [N, columns], N at least 1."""
        self.minimum_ = np.min(values, axis=0)
        maximum = float(self._logarithms(values).max())
        self.maximum_ = maximum if maximum > smallest_scale(np.ones(()), values.dtype) else 0.0
        return self

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Returns the scaled [N, columns], in [0, 1].

        Values below the fitted minimum count as the minimum, and what exceeds the fitted maximum
        as 1.
        """
        raised = np.maximum(values, self.minimum_)
        # Without a maximum all fitted values are at 0, and may stay there.
        return np.clip(self._logarithms(raised) / (self.maximum_ or 1.0), 0, 1)

    def parameters(self) -> dict[str, int]:
        return {}

    def state(self) -> dict[str, np.ndarray]:
        return {"minimum": self.minimum_, "maximum": np.array(self.maximum_)}

    @classmethod
    def restore(cls, parameters: dict[str, int], state: dict[str, np.ndarray]) -> LogScale:
        restored = cls(**parameters)
        restored.minimum_, restored.maximum_ = state["minimum"], float(state["maximum"])
        return restored

    def _logarithms(self, values: np.ndarray) -> np.ndarray:
        """Returns the logarithms of values that are nowhere below the minimum; none is below 0."""
        return np.log(values + np.abs(self.minimum_) + 1)
