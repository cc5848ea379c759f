"""Logistic regression of each label."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from moa_jax.learners.learner import is_known, share
from moa_jax.store import cores

# Parts that are fitted side by side, at most: where labels are unknown each has rows of its own.
MOST_WORKERS = 8


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


class _Labels(NamedTuple):
    """Labels that are fitted together, and the rows that they are known of; None for all."""

    labels: np.ndarray
    rows: np.ndarray | None


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
        """Yields the models; each starts where the two before it lead. See `Learner`.

        A label without both classes gets its share, whatever the row. A label's coefficients are
        the same whatever labels are fitted beside it.
        """
        from threadpoolctl import ThreadpoolController

        from moa_jax.learners import newton

        found = np.zeros((x.shape[1] + 1, y.shape[1]))
        found[-1] = [math.log(p / (1 - p)) for p in map(share, y.T)]
        with_ones = np.column_stack([x, np.ones(len(x))])
        parts = _parts(y, newton.labels_together(with_ones.shape[1]))
        workers = max(1, min(MOST_WORKERS, cores.available(), len(parts)))
        threads = ThreadpoolController()

        def fitted(part: _Labels, c: float, start: np.ndarray) -> int:
            """Moves a part's coefficients to the minimum; returns the number that are not there."""
            labels, rows = part
            own = slice(None) if rows is None else rows
            found[:, labels], is_there = newton.minimum(
                with_ones[own], y[own][:, labels], c, start[:, labels]
            )
            return int((~is_there).sum())

        last: list[tuple[float, np.ndarray]] = []
        for c in strengths:
            start = found.copy()
            if len(last) == 2:
                (one, before), (two, after) = last
                # Further than twice as far a line would lead anywhere.
                start += (after - before) * min(2.0, math.log(c / two) / math.log(two / one))
            # Threads would wait for each other longer than so small a product takes.
            with threads.limit(limits=1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
                missed = sum(pool.map(fitted, parts, repeat(c), repeat(start)))
            if missed:
                logging.info(
                    "logistic regression: C %g: %d labels are not at the minimum after %d steps",
                    c, missed, newton.MOST_STEPS,
                )  # fmt: skip
            last = [*last[-1:], (c, found.copy())]
            yield LogisticModel(found[:-1].copy(), found[-1].copy())

    def restored(self, arrays: Mapping[str, Any]) -> LogisticModel:
        return LogisticModel(arrays["kernel"], arrays["bias"])


def _parts(y: np.ndarray, most: int) -> list[_Labels]:
    """Returns parts of at most so many labels [N, L], of those that have both classes."""
    known = is_known(y)
    both = np.flatnonzero(((y == 1).any(0)) & ((y == 0).any(0)))
    by_rows: dict[bytes, list[int]] = {}
    for label in both.tolist():
        by_rows.setdefault(np.packbits(known[:, label]).tobytes(), []).append(label)
    parts = []
    for labels in by_rows.values():
        own = known[:, labels[0]]
        rows = None if own.all() else np.flatnonzero(own)
        parts += [
            _Labels(np.array(labels[i : i + most]), rows) for i in range(0, len(labels), most)
        ]
    return parts
