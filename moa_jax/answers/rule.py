"""A rule of answers: how scores of wells or compounds become probabilities and calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from moa_jax.answers import calibration, confidence
from moa_jax.answers.calibration import Calibration


@dataclasses.dataclass(frozen=True)
class AnswerRule:
    """What out-of-fold predictions taught about those of new wells or compounds.

    Attributes:
      calibration: from scores, which are blended probabilities, to calibrated ones.
      thresholds: [L] the score from which on each mechanism is called; infinity for never.
      losses: cross-fitted log loss of each method of calibration that was tried.
      calls, false_calls, share: out-of-fold calls at the thresholds, of compounds, how many of them
        were false, and the estimated share of false ones, see `confidence.estimated_share`.
    """

    calibration: Calibration
    thresholds: np.ndarray
    losses: Mapping[str, float] = dataclasses.field(default_factory=dict)
    calls: float = 0.0
    false_calls: float = 0.0
    share: float = 1.0

    @classmethod
    def none(cls, num_mechanisms: int) -> AnswerRule:
        """Returns the rule where nothing is known: probabilities as they are, and no calls."""
        return cls(Calibration(), np.full(num_mechanisms, np.inf))

    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        """Returns [M, L] calibrated probabilities of scores [M, L]."""
        return self.calibration.apply(scores)

    def confident(self, scores: np.ndarray) -> np.ndarray:
        """Returns [M, L] bool, the cells that are called."""
        return np.asarray(scores) >= self.thresholds

    def record(self) -> dict[str, Any]:
        """Returns what `restore` reads, of numbers, texts and lists."""
        finite = np.isfinite(self.thresholds)
        pairs = zip(self.thresholds.tolist(), finite.tolist(), strict=True)
        return {
            "calibration": self.calibration.record(),
            "thresholds": [value if is_finite else None for value, is_finite in pairs],
            "losses": dict(self.losses),
            "calls": self.calls,
            "false_calls": self.false_calls,
            "share": self.share,
        }

    @classmethod
    def restore(cls, record: Mapping[str, Any]) -> AnswerRule:
        """Returns the rule of a record; raises KeyError, TypeError or ValueError if it is none."""
        found = [np.inf if value is None else float(value) for value in record["thresholds"]]
        return cls(
            Calibration.restore(record["calibration"]),
            np.array(found, np.float64),
            record["losses"],
            float(record["calls"]),
            float(record["false_calls"]),
            float(record["share"]),
        )


def learn(
    scores: np.ndarray,
    labels: np.ndarray,
    units: np.ndarray,
    rate: float = confidence.RATE,
    methods: tuple[str, ...] = calibration.METHODS,
    seed: int = 0,
    known: np.ndarray | None = None,
) -> tuple[AnswerRule, np.ndarray]:
    """Returns the rule that out-of-fold predictions teach, and [N, L] these, cross-calibrated.

    What is called has a calibrated probability of at least `confidence.LEAST`.

    Args:
      scores: [N, L] out-of-fold predictions of compounds, or of wells.
      labels: [N, L] labels, 0 or 1.
      units: [N] number of each row's compound; rows of one count together as one.
      rate: accepted share of false calls.
      methods: methods of calibration that are tried.
      seed: seed of the parts of the cross-fit.
      known: [N, L] bool, the cells whose label is known; None for all.
    """
    chosen, losses, crossed = calibration.choose(scores, labels, units, seed, known, methods)
    weights = 1 / np.bincount(units)[units]
    least = scores[chosen.apply(scores) >= confidence.LEAST].min(initial=np.inf)
    found = confidence.thresholds(scores, labels, rate, weights, known, least)
    counts = confidence.estimated_share(scores, labels, found, weights, known)
    return AnswerRule(chosen, found, losses, *counts), crossed
