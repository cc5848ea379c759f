"""Scores of mechanisms: losses, ranking, enrichment, reliability, with intervals over compounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from moa_jax.training.metrics import EPSILON

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 200
# Resamples whose numbers are held together, as bytes of float64 columns.
BLOCK = 1 << 26
# Share of all resamples that an interval spans.
LEVEL = 0.95
# The share of the rows that counts as the top hits.
TOP = 0.01
# Half decades: with one positive in 300 cells, bins of equal width would hold nearly all in one.
EDGES = np.concatenate([[0], np.logspace(-5, 0, 11)])
SCORES = ("log_loss", "roc_auc", "average_precision", "enrichment")


@dataclasses.dataclass(frozen=True)
class Resamples:
    """Compounds drawn with replacement, as often as there are; the first column is each once.

    Attributes:
      units: [N] number of the compound of each row, or of what else is drawn whole.
      times: [U, 1 + B] uint8, how often each is in a resample; that one of more than 255 compounds
        is in it more often than 255 times will not happen.
    """

    units: np.ndarray
    times: np.ndarray

    @classmethod
    def draw(cls, units: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Resamples:
        """Draws them; the same seed and number of compounds give the same."""
        count = int(units.max(initial=-1)) + 1
        rng, shares = np.random.default_rng(seed), np.full(count, 1 / max(count, 1))
        times = np.ones((count, 1 + resamples), np.uint8, order="F")
        for some in _blocks(resamples, count):
            drawn = times[:, 1:][:, some]
            drawn[:] = rng.multinomial(count, shares, size=drawn.shape[1]).T
        return cls(np.asarray(units), times)

    def once(self) -> Resamples:
        """Returns every compound once, without resamples."""
        return Resamples(self.units, self.times[:, :1])

    def parts(self, height: int = 0) -> Iterator[np.ndarray]:
        """Yields `times` as float64, some columns at a time: all of them where there are few rows.

        Args:
          height: rows of what is made of a part, where these are more than the compounds.
        """
        for some in _blocks(self.times.shape[1], max(height, len(self.times))):
            yield self.times[:, some].astype(np.float64)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Returns [1 + B, ...] the sums over the rows of each resample.

        Args:
          values: [N, ...] numbers of the rows.
        """
        by_unit = np.zeros((len(self.times), *values.shape[1:]))
        np.add.at(by_unit, self.units, values)
        return np.concatenate([np.tensordot(p.T, by_unit, axes=1) for p in self.parts()])


def interval(estimates: np.ndarray) -> tuple[float, float, float]:
    """Returns the first of [1 + B] estimates, and the ends of the interval of the others.

    Resamples in which a score is not defined (NaN) are left out; without any the ends are NaN.

    >>> interval(np.array([2.0, 1.0, 2.0, 3.0, np.nan]))
    (2.0, 1.05, 2.95)
    """
    others = estimates[1:][~np.isnan(estimates[1:])]
    if not len(others):
        return float(estimates[0]), np.nan, np.nan
    low, high = np.quantile(others, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(estimates[0]), round(float(low), 12), round(float(high), 12)


def row_losses(
    labels: np.ndarray, probabilities: np.ndarray, known: np.ndarray | None = None
) -> np.ndarray:
    """Returns [N, L] log losses of the cells, clipped as the score is; 0 where unknown."""
    p = np.clip(np.asarray(probabilities, np.float64), EPSILON, 1 - EPSILON)
    losses = -np.where(np.asarray(labels) != 0, np.log(p), np.log(1 - p))
    return losses if known is None else np.where(known, losses, 0.0)


def loss_estimates(
    labels: np.ndarray,
    probabilities: np.ndarray,
    resamples: Resamples,
    known: np.ndarray | None = None,
) -> np.ndarray:
    """Returns [1 + B, L] the mean log loss of each mechanism in each resample."""
    losses = row_losses(labels, probabilities, known)
    cells = np.ones(losses.shape) if known is None else known.astype(np.float64)
    return _ratio(resamples.sums(losses), resamples.sums(cells))


def overall(
    labels: np.ndarray,
    probabilities: np.ndarray,
    resamples: Resamples,
    known: np.ndarray | None = None,
) -> np.ndarray:
    """Returns [1 + B] the score of a run, the mean log loss over known cells."""
    losses = row_losses(labels, probabilities, known)
    cells = np.ones(losses.shape) if known is None else known
    return _ratio(resamples.sums(losses.sum(1)), resamples.sums(cells.sum(1, dtype=np.float64)))


def ranking(
    labels: np.ndarray,
    probabilities: np.ndarray,
    resamples: Resamples,
    known: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns ROC AUC and average precision, [1 + B, L] each, as scikit-learn defines both.

    NaN where a resample has no positive or no negative row.
    """
    shape = resamples.times.shape[1], labels.shape[1]
    auc, precision = np.full(shape, np.nan), np.full(shape, np.nan)
    for mechanism in range(labels.shape[1]):
        rows = slice(None) if known is None else known[:, mechanism]
        auc[:, mechanism], precision[:, mechanism] = _ranked(
            np.asarray(labels)[rows, mechanism] != 0,
            np.asarray(probabilities, np.float64)[rows, mechanism],
            dataclasses.replace(resamples, units=resamples.units[rows]),
        )
    return auc, precision


def enrichment(
    labels: np.ndarray, probabilities: np.ndarray, known: np.ndarray | None = None
) -> np.ndarray:
    """Returns [L] how many times more of the top hits have a mechanism than of all rows.

    Top hits are the rows of the highest `TOP` of all, at least one; of rows that tie at their end
    each counts in part. NaN where no row has the mechanism.

    >>> labels = np.array([[1], [0], [0], [0]])
    >>> enrichment(labels, np.array([[0.9], [0.1], [0.2], [0.3]])).tolist()
    [4.0]
    """
    found = np.full(labels.shape[1], np.nan)
    for mechanism in range(labels.shape[1]):
        rows = slice(None) if known is None else known[:, mechanism]
        positive = np.asarray(labels)[rows, mechanism] != 0
        p = np.asarray(probabilities)[rows, mechanism]
        if not positive.any():
            continue
        top = max(1, round(TOP * len(p)))
        last = -np.partition(-p, top - 1)[top - 1]
        above, tied = p > last, p == last
        share = (top - above.sum()) / tied.sum()
        hits = positive[above].sum() + share * positive[tied].sum()
        found[mechanism] = hits / top / positive.mean()
    return found


def table(
    names: tuple[str, ...],
    labels: np.ndarray,
    probabilities: np.ndarray,
    resamples: Resamples,
    compounds: np.ndarray | None = None,
    known: np.ndarray | None = None,
) -> pd.DataFrame:
    """Returns a row per mechanism.

    Columns: `mechanism`; `wells` and `compounds` that have it (the latter only where compounds are
    known), `scored_wells`, those whose label is known; then `log_loss`, `roc_auc`,
    `average_precision`, each with `_low` and `_high`, the ends of its 95 % interval over resampled
    compounds, and `enrichment`, see `enrichment`.

    Args:
      names: L mechanisms.
      labels: [N, L] labels, 0 or 1.
      probabilities: [N, L] out-of-fold predictions.
      resamples: the resamples.
      compounds: [N] compound of each row; None where they are not known.
      known: [N, L] bool, the cells whose label is known; None for all.
    """
    import pandas as pd

    positive = np.asarray(labels) != 0
    if known is not None:
        positive = positive & known
    found: dict[str, np.ndarray | list] = {
        "mechanism": list(names),
        "wells": positive.sum(0),
    }
    if compounds is not None:
        found["compounds"] = [len(set(compounds[column])) for column in positive.T]
    found["scored_wells"] = (
        np.full(len(names), len(labels)) if known is None else known.sum(0, dtype=np.int64)
    )
    auc, precision = ranking(labels, probabilities, resamples, known)
    losses = loss_estimates(labels, probabilities, resamples, known)
    for name, estimates in zip(SCORES, (losses, auc, precision), strict=False):
        ends = np.array([interval(column) for column in estimates.T]).reshape(-1, 3)
        found |= {name: ends[:, 0], f"{name}_low": ends[:, 1], f"{name}_high": ends[:, 2]}
    found["enrichment"] = enrichment(labels, probabilities, known)
    return pd.DataFrame(found)


def reliability(
    labels: np.ndarray, probabilities: np.ndarray, known: np.ndarray | None = None
) -> list[dict[str, float]]:
    """Returns how often cells predicted alike are positive, by half decades of probability.

    Returns:
      For each bin that has cells: `predicted`, their mean prediction; `observed`, the share that is
      positive; `cells` and `positives`, their numbers.
    """
    p, positive = np.clip(np.asarray(probabilities, np.float64), 0, 1), np.asarray(labels) != 0
    p, positive = (p.ravel(), positive.ravel()) if known is None else (p[known], positive[known])
    bins = np.maximum(np.searchsorted(EDGES, p, side="left") - 1, 0)
    counts, sums, positives = (
        np.bincount(bins, weights, len(EDGES) - 1) for weights in (None, p, positive.astype(float))
    )
    return [
        {
            "predicted": float(sums[index] / counts[index]),
            "observed": float(positives[index] / counts[index]),
            "cells": int(counts[index]),
            "positives": int(positives[index]),
        }
        for index in np.flatnonzero(counts)
    ]


def reliability_table(
    names: tuple[str, ...],
    labels: np.ndarray,
    probabilities: np.ndarray,
    known: np.ndarray | None = None,
) -> pd.DataFrame:
    """Returns the bins of `reliability` of each mechanism: `mechanism`, and what a bin has."""
    import pandas as pd

    rows = []
    for index, name in enumerate(names):
        cells = slice(None) if known is None else known[:, index]
        of_one = reliability(labels[cells, index], probabilities[cells, index])
        rows += [{"mechanism": name, **part} for part in of_one]
    return pd.DataFrame(rows, columns=["mechanism", "predicted", "observed", "cells", "positives"])


def _blocks(columns: int, rows: int) -> Iterator[slice]:
    """Yields slices of consecutive columns, of as many as fit a block."""
    step = max(1, BLOCK // (8 * max(1, rows)))
    return (slice(start, start + step) for start in range(0, columns, step))


def _ranked(positive: np.ndarray, scores: np.ndarray, resamples: Resamples) -> np.ndarray:
    """Returns [2, 1 + B] ROC AUC and average precision of one mechanism."""
    from scipy import sparse

    if not positive.any() or positive.all():
        return np.full((2, resamples.times.shape[1]), np.nan)
    # Rows of equal score are one place; of these only the ones with positives matter. Negative rows
    # are counted in them and between them, for all resamples at once.
    places, place = np.unique(-scores, return_inverse=True)
    place = place.reshape(-1)
    with_positives = np.unique(place[positive])
    segment = 2 * np.searchsorted(with_positives, place)
    segment += np.isin(place, with_positives)
    size = 2 * len(with_positives) + 1, len(resamples.times)

    def counts(rows: np.ndarray) -> sparse.csr_array:
        ones = np.ones(int(rows.sum()))
        return sparse.csr_array((ones, (segment[rows], resamples.units[rows])), shape=size)

    negatives, positives = counts(~positive), counts(positive)[1::2]
    found = [_areas(negatives @ times, positives @ times) for times in resamples.parts(size[0])]
    return np.concatenate(found, axis=1)


def _areas(negatives: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Returns [2, b] ROC AUC and average precision of resamples.

    Args:
      negatives: [2 P + 1, b] negative rows before, within, ... and after P places with positives,
        the most likely first.
      positives: [P, b] positive rows within them.
    """
    above = negatives.cumsum(0)
    before, within = above[:-1:2], negatives[1::2]
    total, true = above[-1], positives.cumsum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        auc = (positives * (total - before - within / 2)).sum(0) / (true[-1] * total)
        called = true + before + within
        share = np.divide(true, called, out=np.zeros_like(true), where=called > 0)
        precision = (positives * share).sum(0) / true[-1]
    ranks = total > 0
    return np.where(ranks, [auc, precision], np.nan)


def _ratio(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
