"""Logistic regression of each label, by scikit-learn."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from moa_jax.features.factors import warnings_logged
from moa_jax.learners.learner import is_known, share


@dataclasses.dataclass(frozen=True)
class LogisticModel:
    """Coefficients.

    Attributes:
      kernel: [F, L].
      bias: [L].
    """

    kernel: np.ndarray
    bias: np.ndarray

    @property
    def num_parameters(self) -> int:
        return self.kernel.size + self.bias.size

    def arrays(self) -> dict[str, np.ndarray]:
        return {"kernel": self.kernel, "bias": self.bias}

    def predict(self, x: np.ndarray) -> np.ndarray:
        from scipy.special import expit

        return expit(x @ self.kernel + self.bias)


@dataclasses.dataclass(frozen=True)
class Logistic:
    """Logistic regression with an L2 penalty, all labels at one strength.

    Attributes:
      strengths: C, the factor of the log loss beside the penalty, in ascending order.
    """

    strengths: tuple[float, ...]

    name = "logistic regression"
    strength = "C"

    def fits(
        self, x: np.ndarray, y: np.ndarray, strengths: Sequence[float]
    ) -> Iterator[LogisticModel]:
        """Yields the models; each starts from the one before. See `Learner`.

        A label without both classes gets its share, whatever the row.
        """
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        rows = [np.flatnonzero(is_known(own)) for own in y.T]
        fitted = {
            label: LogisticRegression(solver="newton-cholesky", tol=1e-6, warm_start=True)
            for label, own in enumerate(y.T)
            if len(np.unique(own[rows[label]])) == 2
        }
        shares = [share(own) for own in y.T]
        for c in strengths:
            kernel = np.zeros((x.shape[1], y.shape[1]))
            bias = np.array([math.log(p / (1 - p)) for p in shares])
            # Threads would wait for each other longer than so small a problem takes.
            with threadpool_limits(1), warnings_logged("logistic regression"):
                for label, model in fitted.items():
                    model.C = c
                    model.fit(x[rows[label]], y[rows[label], label])
                    kernel[:, label], bias[label] = model.coef_[0], model.intercept_[0]
            yield LogisticModel(kernel, bias)

    def restored(self, arrays: Mapping[str, Any]) -> LogisticModel:
        return LogisticModel(arrays["kernel"], arrays["bias"])
