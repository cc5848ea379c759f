"""Learner: what is fitted to one member's rows on the host, its strength chosen by inner folds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from moa_jax.data import folds

# With more training rows than this, or more than `SOME_ROWS` and more cells of labels, the first
# inner fold decides alone, by so many labels at most: it has enough to tell one number by.
MANY_ROWS, SOME_ROWS, MANY_CELLS, MOST_LABELS = 5_000, 2_000, 100_000, 100
# So many strengths in a row that are no better end the search.
PATIENCE = 2


class Model(Protocol):
    """A fitted model of all labels."""

    @property
    def num_parameters(self) -> int | None:
        """How many numbers it has learned; None where that says nothing."""

    def arrays(self) -> Mapping[str, Any]:
        """Returns what it is stored as, arrays by name."""

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Returns the probabilities [N, L] of rows [N, F]."""


class Learner(Protocol):
    """A kind of model, with what its configuration says of it."""

    @property
    def name(self) -> str:
        """What is fitted, in words."""

    @property
    def strength(self) -> str:
        """What the strengths are."""

    @property
    def strengths(self) -> Sequence[float]:
        """Those that are tried, the model that is nearest to each label's share first."""

    def fits(self, x: np.ndarray, y: np.ndarray, strengths: Sequence[float]) -> Iterator[Model]:
        """Yields a model at each of the strengths.

        Args:
          x: [N, F] float64.
          y: [N, L]; what is neither 0 nor 1 is unknown, and no part of that label's fit.
          strengths: in the order of the learner's own.
        """

    def restored(self, arrays: Mapping[str, Any]) -> Model:
        """Returns the model whose `arrays` these are.

        Raises:
          KeyError, TypeError, ValueError: they are of another.
        """


class Fit(NamedTuple):
    """A model, the strength that was chosen for it, and its log loss in the inner folds, if any."""

    model: Model
    chosen: float
    loss: float | None


def fit(
    learner: Learner,
    x: np.ndarray,
    y: np.ndarray,
    units: np.ndarray | None,
    inner_folds: int,
    seed: int,
) -> Fit:
    """Fits all labels at one strength: that of the lowest log loss in inner folds of the rows.

    Args:
      learner: what is fitted.
      x: [N, F] the member's training rows.
      y: [N, L] their labels.
      units: [N] unit of each row, such as its compound, whose rows no inner fold parts; None where
        every row is its own. Of a single unit nothing can be held out, and the first strength is
        taken.
      inner_folds: their number.
      seed: seed of the inner folds.
    """
    x, strengths = np.asarray(x, np.float64), list(learner.strengths)
    losses = inner_losses(learner, x, y, inner_folds_of(y, units, inner_folds, seed))
    best = int(np.argmin(losses)) if losses else 0
    (model,) = learner.fits(x, y, strengths[best : best + 1])
    return Fit(model, strengths[best], losses[best] if losses else None)


def inner_losses(
    learner: Learner, x: np.ndarray, y: np.ndarray, fold_of_row: np.ndarray
) -> list[float]:
    """Returns the log loss at each strength, up to where two in a row have made it no better.

    Each inner fold is predicted by a model of the others; none where all rows are in one fold or
    there is but one strength to take. Of many rows one inner fold and some labels are looked at.
    """
    inner = np.unique(fold_of_row)
    if len(learner.strengths) == 1 or len(inner) == 1:
        return []
    if judged_by_one(len(x), y.size):
        inner, y = inner[:1], y[:, spread_labels(y, MOST_LABELS)]
    held_out = [fold_of_row == fold for fold in inner]
    count = sum(int(is_known(y[own]).sum()) for own in held_out)
    losses: list[float] = []
    for models in zip(
        *(learner.fits(x[~own], y[~own], learner.strengths) for own in held_out), strict=True
    ):
        found = (
            summed_loss(y[own], model.predict(x[own]))
            for own, model in zip(held_out, models, strict=True)
        )
        losses.append(sum(found) / max(count, 1))
        if len(losses) - 1 - int(np.argmin(losses)) == PATIENCE:
            break
    return losses


def judged_by_one(rows: int, cells: int) -> bool:
    """Tells whether the first inner fold alone is looked at, with so many rows and cells [N, L]."""
    return rows > MANY_ROWS or (rows > SOME_ROWS and cells > MANY_CELLS)


def inner_folds_of(
    y: np.ndarray, units: np.ndarray | None, num_folds: int, seed: int
) -> np.ndarray:
    """Returns the inner fold of each row, labels stratified, units whole; arguments as of `fit`."""
    positive = y == 1
    if units is None:
        if len(y) < num_folds:
            return np.arange(len(y))
        return folds.multilabel_stratified(positive, num_folds, seed, shuffle=True)
    return folds.drug_aware(positive, units, num_folds, seed, frequent_above=0)


def spread_labels(y: np.ndarray, most: int) -> np.ndarray:
    """Returns the positions of at most so many labels [N, L], ascending, of all frequencies.

    In the order of their positives they lie at even distances, the most frequent one among them.

    >>> spread_labels(np.array([[1, 0, 1, 0, 1], [0, 0, 1, 0, 1], [0, 1, 1, 0, 0]]), 3).tolist()
    [0, 2, 3]
    """
    if y.shape[1] <= most:
        return np.arange(y.shape[1])
    by_frequency = np.argsort(-(y == 1).sum(0), kind="stable")
    return np.sort(by_frequency[np.linspace(0, y.shape[1] - 1, most).round().astype(int)])


def is_known(y: np.ndarray) -> np.ndarray:
    """Tells which labels are known, [N, L] bool.

    >>> is_known(np.array([[0.0, 1.0, np.nan]])).tolist()
    [[True, True, False]]
    """
    return (y == 0) | (y == 1)


def share(y: np.ndarray) -> float:
    """Returns the share of positives of a label [N], of known rows alone.

    Half a row of each kind is added, so that it is never 0 or 1.

    >>> share(np.array([0, 0, 0]))
    0.125
    """
    return float(((y == 1).sum() + 0.5) / (is_known(y).sum() + 1))


def summed_loss(y: np.ndarray, p: np.ndarray) -> float:
    """Returns the log loss summed over known labels [N, L], probabilities as `metrics` clips."""
    of_label = np.where(y == 1, p, 1 - p)
    return float(-np.log(np.clip(of_label, 1e-15, 1.0))[is_known(y)].sum())
