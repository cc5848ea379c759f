"""Means over predictions: of their probabilities, or of their log odds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from moa_jax.training.log_odds import log_odds, of_log_odds


class Mean(NamedTuple):
    """What a mean is of.

    Members that a label's evidence divides are heard by a mean of probabilities, which one that is
    sure cannot pull to 0 or 1; where all agree a mean of log odds is as sure as they are.

    Attributes:
      name: as configurations and files have it.
      of: from probabilities to what is summed.
      back: from a mean of these to probabilities.
    """

    name: str
    of: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray], np.ndarray]

    def of_several(self, number: int) -> Mean:
        """Returns the mean over so many predictions: over a single one what leaves it as it is."""
        return self if number > 1 else PROBABILITIES

    def over(self, every: Iterable[tuple[float, np.ndarray]]) -> np.ndarray:
        """Returns the mean over pairs of a weight, of any sum, and probabilities [N, L].

        >>> sure, unsure = np.array([[0.999]]), np.array([[0.5]])
        >>> [mean.over([(1, sure), (1, unsure)]).round(3).item() for mean in MEANS.values()]
        [0.75, 0.969]
        """
        total: Any = 0
        weights: float = 0
        for weight, probabilities in every:
            total = total + weight * self.of(probabilities)
            weights += weight
        return np.asarray(self.back(total / weights))


PROBABILITIES = Mean("probabilities", np.asarray, np.asarray)
LOG_ODDS = Mean("log_odds", log_odds, of_log_odds)
MEANS = {mean.name: mean for mean in (PROBABILITIES, LOG_ODDS)}
