"""Calibration: probabilities that come true as often as they say, chosen by cross-fitted loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from moa_jax.answers.mechanism_scores import row_losses
from moa_jax.training.log_odds import log_odds, of_log_odds

METHODS = ("none", "temperature", "isotonic")
# Parts of the compounds that a method is judged on, each by what the other parts taught.
PARTS = 5
# Cells are counted in bins of log odds this wide, which cover all that `log_odds` returns.
BIN = 1 / 128
_LOWEST, _BINS = -16.25, 4160
# Temperatures that are looked for lie between 1 / this and this.
HOTTEST = 20.0


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A monotone function of probabilities, the same for all mechanisms.

    Attributes:
      method: `none`, `temperature` (log odds divided by one number) or `isotonic` (a rising line
        through `values` at `knots`).
      temperature: the divisor.
      knots, values: log odds, in order, and the calibrated probability at each.
    """

    method: str = "none"
    temperature: float = 1.0
    knots: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns calibrated probabilities, of any shape; `none` returns them as they are."""
        probabilities = np.asarray(probabilities, np.float64)
        if self.method == "none":
            return probabilities
        odds = log_odds(probabilities)
        if self.method == "temperature":
            return of_log_odds(odds / self.temperature)
        return np.interp(odds, self.knots, self.values)

    def record(self) -> dict[str, Any]:
        """Returns what `restore` reads, of numbers, texts and lists."""
        return dataclasses.asdict(self) | {"knots": [*self.knots], "values": [*self.values]}

    @classmethod
    def restore(cls, record: Mapping[str, Any]) -> Calibration:
        """Returns the calibration of a record; raises a ValueError if it is none."""
        found = cls(
            record["method"],
            float(record["temperature"]),
            tuple(map(float, record["knots"])),
            tuple(map(float, record["values"])),
        )
        is_line = len(found.knots) == len(found.values) and len(found.knots) > 0
        if found.method not in METHODS or (found.method == "isotonic" and not is_line):
            raise ValueError(f"expected a calibration by one of {METHODS}")
        return found


def fit(
    method: str,
    probabilities: np.ndarray,
    labels: np.ndarray,
    known: np.ndarray | None = None,
) -> Calibration:
    """Returns the calibration that fits out-of-fold predictions best.

    Both learn from one positive cell more below all others and one negative cell more above them,
    so that they are never sure of what they have not seen: where few cells are told apart without
    a mistake, no temperature would be too low.

    Args:
      method: one of `METHODS`.
      probabilities: [N, L] out-of-fold predictions.
      labels: [N, L] labels, 0 or 1.
      known: [N, L] bool, the cells whose label is known; None for all.

    References:
      C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger (2017), On Calibration of Modern Neural
      Networks, ICML. B. Zadrozny and C. Elkan (2002), Transforming Classifier Scores into Accurate
      Multiclass Probability Estimates, KDD.
    """
    if method == "none":
        return Calibration()
    counts, positives, odds = _binned(probabilities, labels, known)
    if not len(counts):
        return Calibration()
    return _FITS[method](counts, positives, odds)


def choose(
    probabilities: np.ndarray,
    labels: np.ndarray,
    units: np.ndarray,
    seed: int = 0,
    known: np.ndarray | None = None,
    methods: tuple[str, ...] = METHODS,
) -> tuple[Calibration, dict[str, float], np.ndarray]:
    """Returns the calibration whose cross-fitted log loss is lowest, `none` where that is no worse.

    The units are dealt into parts; what is judged of a part was learned from the others.

    Args:
      probabilities: [N, L] out-of-fold predictions.
      labels: [N, L] labels, 0 or 1.
      units: [N] number of the compound, or of what else no part divides, of each row.
      seed: seed of the parts.
      known: [N, L] bool, the cells whose label is known; None for all.
      methods: those that are tried.

    Returns:
      The calibration, fitted to all rows; the cross-fitted log loss of each method; and [N, L] the
      cross-fitted probabilities of the chosen one.
    """
    rng = np.random.default_rng(seed)
    num_units = int(units.max(initial=-1)) + 1
    parts = (rng.permutation(num_units) % PARTS)[units]
    cells = np.ones(labels.shape, bool) if known is None else known
    crossed = {method: np.array(probabilities, np.float64) for method in methods}
    for method in methods if num_units > 1 else ():
        for part in np.unique(parts) if method != "none" else ():
            mine, others = parts == part, parts != part
            learned = fit(
                method,
                probabilities[others],
                labels[others],
                None if known is None else cells[others],
            )
            crossed[method][mine] = learned.apply(probabilities[mine])
    losses = {method: _loss(labels, crossed[method], cells) for method in methods}
    chosen = min(methods, key=lambda method: (losses[method], METHODS.index(method)))
    if num_units < 2:
        chosen = methods[0]
    return fit(chosen, probabilities, labels, known), losses, crossed[chosen]


def _loss(labels: np.ndarray, probabilities: np.ndarray, cells: np.ndarray) -> float:
    """Returns the mean log loss over known cells, as a run is scored."""
    return float(row_losses(labels, probabilities, cells).sum() / max(int(cells.sum()), 1))


def _binned(
    probabilities: np.ndarray, labels: np.ndarray, known: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns cells, positive cells and mean log odds of the bins that have cells."""
    odds, positive = log_odds(probabilities), np.asarray(labels) != 0
    odds, positive = (
        (odds.ravel(), positive.ravel()) if known is None else (odds[known], positive[known])
    )
    bins = np.clip(((odds - _LOWEST) / BIN).astype(np.int64), 0, _BINS - 1)
    counts, sums, positives = (
        np.bincount(bins, weights, _BINS) for weights in (None, odds, positive.astype(np.float64))
    )
    filled = counts > 0
    return counts[filled].astype(np.float64), positives[filled], sums[filled] / counts[filled]


def _with_ends(
    counts: np.ndarray, positives: np.ndarray, odds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns bins with one positive cell more below them, and one negative cell above."""
    return (
        np.concatenate([[1.0], counts, [1.0]]),
        np.concatenate([[1.0], positives, [0.0]]),
        np.concatenate([[odds[0] - 1], odds, [odds[-1] + 1]]),
    )


def _temperature(counts: np.ndarray, positives: np.ndarray, odds: np.ndarray) -> Calibration:
    from scipy import optimize

    counts, positives, odds = _with_ends(counts, positives, odds)

    def loss(logarithm: float) -> float:
        scaled = odds / np.exp(logarithm)
        # log(1 + exp(x)) less x for a positive cell.
        return float((counts * np.logaddexp(0, scaled) - positives * scaled).sum())

    bound = np.log(HOTTEST)
    found = optimize.minimize_scalar(
        loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-6}
    )
    return Calibration("temperature", float(np.exp(found.x)))


def _isotonic(counts: np.ndarray, positives: np.ndarray, odds: np.ndarray) -> Calibration:
    from sklearn.isotonic import IsotonicRegression

    counts, positives, odds = _with_ends(counts, positives, odds)
    values = IsotonicRegression().fit_transform(odds, positives / counts, sample_weight=counts)
    # Ends of level parts are enough to draw the line by.
    inner = (values[1:-1] == values[:-2]) & (values[1:-1] == values[2:])
    kept = np.concatenate([[True], ~inner, [True]])
    return Calibration("isotonic", 1.0, tuple(odds[kept].tolist()), tuple(values[kept].tolist()))


_FITS = {"temperature": _temperature, "isotonic": _isotonic}
