"""Selection of an ensemble: greedy, with replacement, by log loss."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from moa_jax.training.means import LOG_ODDS, PROBABILITIES, Mean

# A gain below this is rounding.
TOLERANCE = 1e-7
# So many further ones are tried before the choice ends.
PATIENCE = 10
# A mean's probability is at least this: float32 networks may be sure and wrong as well.
SMALLEST = 1e-15
# Cells that are looked at together, so that they stay in a cache, and that share a logarithm: the
# product of so many of the smallest probabilities is a number still.
BLOCK, FACTORS = 2**15, 16


class Choice(NamedTuple):
    """What was chosen.

    Attributes:
      counts: [C] how often each candidate is in the mean.
      mean: what that is of.
      loss: its mean log loss.
    """

    counts: np.ndarray
    mean: Mean
    loss: float


def best(
    candidates: Callable[[], Iterable[np.ndarray]],
    targets: np.ndarray,
    most: int,
    means: Sequence[Mean],
    rows: np.ndarray | None = None,
    known: np.ndarray | None = None,
) -> Choice:
    """Returns the greedy choice by that mean whose loss is lowest, of equal ones the first.

    Args:
      candidates: what returns the predictions, asked once for each mean.
      targets, most, rows, known: see `greedy`.
      means: what means may be of.
    """
    found = (greedy(candidates(), targets, most, rows, known, mean) for mean in means)
    return min(found, key=lambda choice: choice.loss)


def greedy(
    predictions: Iterable[np.ndarray],
    targets: np.ndarray,
    most: int,
    rows: np.ndarray | None = None,
    known: np.ndarray | None = None,
    mean: Mean = PROBABILITIES,
) -> Choice:
    """Chooses how often each candidate is in an ensemble, whose mean is its prediction.

    It begins with the best candidate and takes the one in whose company the loss of the mean is
    lowest, again and again, the same one as often as that is so. The mean with the lowest loss of
    all is kept: where none of three is better than two, one of four may be. At equal losses the
    first candidate is taken.

    Args:
      predictions: [C] arrays [N, L] of probabilities, one for each candidate; each is asked for
        once, and only what is looked at of it is kept.
      targets: [N, L], 0 or 1.
      most: how many are taken at most, at least 1.
      rows: positions of the rows that are looked at; None for all.
      known: [N, L] bool, the cells that are looked at; None for all.
      mean: what the mean is of.

    References:
      R. Caruana, A. Niculescu-Mizil, G. Crew and A. Ksikes, Ensemble Selection from Libraries of
      Models, ICML 2004.

    >>> targets = np.array([[0], [1]])
    >>> low, high = np.array([[0.1], [0.4]]), np.array([[0.6], [0.9]])
    >>> greedy([low, high, np.full((2, 1), 0.9)], targets, most=9).counts.tolist()
    [1, 1, 0]
    """
    chosen: Any = slice(None) if rows is None else rows
    if known is not None:
        mask = np.zeros(known.shape, bool)
        mask[chosen] = known[chosen]
        chosen = np.nonzero(mask)
    positive = np.asarray(targets)[chosen].astype(bool)
    loss_of = (_LogOddsLoss if mean is LOG_ODDS else _ProbabilityLoss)(positive)
    candidates = [loss_of.kept(of_candidate[chosen]) for of_candidate in predictions]
    counts, total = np.zeros(len(candidates), int), np.zeros(positive.size)
    kept, lowest, best_size = counts, np.inf, 0
    for size in range(1, most + 1):
        before = loss_of.before(total, size)
        losses = [loss_of(before, of_candidate, size) for of_candidate in candidates]
        taken = int(np.argmin(losses))
        counts = counts + (np.arange(len(counts)) == taken)
        total = total + candidates[taken]
        if losses[taken] < lowest - TOLERANCE:
            kept, lowest, best_size = counts, losses[taken], size
        elif size - best_size == PATIENCE:
            break
    return Choice(kept, mean, lowest)


class _Loss(abc.ABC):
    """The mean log loss of the mean over some predictions and one more."""

    def __init__(self, positive: np.ndarray):
        """Takes which cells have the label, of any shape."""
        self.positive = positive

    @abc.abstractmethod
    def kept(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns what is kept of a candidate, [cells]."""

    @abc.abstractmethod
    def before(self, total: np.ndarray, size: int) -> np.ndarray:
        """Returns what `__call__` wants to know of the sum [cells] of all but one of `size`."""

    @abc.abstractmethod
    def __call__(self, before: np.ndarray, candidate: np.ndarray, size: int) -> float:
        """Returns the loss of the mean of `size` predictions, of which a candidate is the last."""


class _ProbabilityLoss(_Loss):
    """Of means of probabilities, those of cells without the label first."""

    def __init__(self, positive: np.ndarray):
        super().__init__(positive)
        self.negatives = positive.size - int(positive.sum())

    def kept(self, probabilities: np.ndarray) -> np.ndarray:
        return np.concatenate([probabilities[~self.positive], probabilities[self.positive]])

    def before(self, total: np.ndarray, size: int) -> np.ndarray:
        # What a candidate is taken from without the label, where what is left to 1 counts, or adds
        # to.
        return np.concatenate([size - total[: self.negatives], total[self.negatives :]])

    def __call__(self, before: np.ndarray, candidate: np.ndarray, size: int) -> float:
        logarithms = 0.0
        for first, last, combine in (
            (0, self.negatives, np.subtract),
            (self.negatives, len(before), np.add),
        ):
            for part in _blocks(first, last):
                of_target = combine(before[part], candidate[part])
                np.maximum(of_target, SMALLEST * size, out=of_target)
                logarithms += _sum_of_logarithms(of_target)
        return float(np.log(size) - logarithms / max(len(before), 1))


class _LogOddsLoss(_Loss):
    """Of means of log odds, log(1 + exp(odds against the label or its absence))."""

    def kept(self, probabilities: np.ndarray) -> np.ndarray:
        # As exact as the probabilities are, and no larger, in blocks, for float64 is larger.
        found = np.ravel(probabilities).copy()
        positive = np.ravel(self.positive)
        for part in _blocks(0, len(found)):
            odds = LOG_ODDS.of(found[part])
            found[part] = np.where(positive[part], -odds, odds)
        return found

    def before(self, total: np.ndarray, size: int) -> np.ndarray:
        return total

    def __call__(self, before: np.ndarray, candidate: np.ndarray, size: int) -> float:
        logarithms = 0.0
        for part in _blocks(0, len(before)):
            against = before[part] + candidate[part]
            against /= size
            np.exp(against, out=against)
            against += 1
            logarithms += _sum_of_logarithms(against)
        return logarithms / max(len(before), 1)


def _blocks(first: int, last: int) -> Iterator[slice]:
    for start in range(first, last, BLOCK):
        yield slice(start, min(start + BLOCK, last))


def _sum_of_logarithms(values: np.ndarray) -> float:
    """Returns the sum over values [N]: a logarithm of a product takes the time of one."""
    shared = len(values) // FACTORS * FACTORS
    products = values[:shared].reshape(FACTORS, -1).prod(0)
    return float(np.log(products).sum() + np.log(values[shared:]).sum())
