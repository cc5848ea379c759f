"""Selection of an ensemble: greedy, with replacement, by log loss."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

# A gain below this is rounding.
TOLERANCE = 1e-7
# So many further ones are tried before the choice ends.
PATIENCE = 10
# A mean's probability is at least this: float32 networks may be sure and wrong as well.
SMALLEST = 1e-15
# Cells that are looked at together, so that they stay in a cache, and that share a logarithm: the
# product of so many of the smallest probabilities is a number still.
BLOCK, FACTORS = 2**15, 16


def greedy(
    predictions: Iterable[np.ndarray],
    targets: np.ndarray,
    most: int,
    rows: np.ndarray | None = None,
    known: np.ndarray | None = None,
) -> np.ndarray:
    """Returns how often each candidate is taken into an ensemble, whose mean is its prediction.

    It begins with the best candidate and takes the one in whose company the loss of the mean is
    lowest, again and again, the same one as often as that is so. The mean with the lowest loss of
    all is kept: where none of three is better than two, one of four may be.

    Args:
      predictions: [C] arrays [N, L] of probabilities, one for each candidate; each is asked for
        once, and only what is looked at of it is kept.
      targets: [N, L], 0 or 1.
      most: how many are taken at most, at least 1.
      rows: positions of the rows that are looked at; None for all.
      known: [N, L] bool, the cells that are looked at; None for all.

    Returns:
      [C] integers; at equal losses the first candidate is taken.

    References:
      R. Caruana, A. Niculescu-Mizil, G. Crew and A. Ksikes, Ensemble Selection from Libraries of
      Models, ICML 2004.

    >>> targets = np.array([[0], [1]])
    >>> low, high = np.array([[0.1], [0.4]]), np.array([[0.6], [0.9]])
    >>> greedy([low, high, np.full((2, 1), 0.9)], targets, most=9).tolist()
    [1, 1, 0]
    """
    chosen: Any = slice(None) if rows is None else rows
    if known is not None:
        mask = np.zeros(known.shape, bool)
        mask[chosen] = known[chosen]
        chosen = np.nonzero(mask)
    positive = np.asarray(targets)[chosen].astype(bool)
    # Cells without the label come first: what counts there is what is left to 1.
    negatives = positive.size - int(positive.sum())
    candidates = [np.concatenate([p[~positive], p[positive]]) for p in _parts(predictions, chosen)]
    counts, total = np.zeros(len(candidates), int), np.zeros(positive.size)
    kept, best, best_size = counts, np.inf, 0
    for size in range(1, most + 1):
        # What a candidate adds to, or is taken from, for the sum of all probabilities.
        before = np.concatenate([size - total[:negatives], total[negatives:]])
        losses = [_loss(before, p, negatives, size) for p in candidates]
        taken = int(np.argmin(losses))
        counts = counts + (np.arange(len(counts)) == taken)
        total = total + candidates[taken]
        if losses[taken] < best - TOLERANCE:
            kept, best, best_size = counts, losses[taken], size
        elif size - best_size == PATIENCE:
            break
    return kept


def _parts(predictions: Iterable[np.ndarray], chosen: Any) -> Iterable[np.ndarray]:
    for of_candidate in predictions:
        yield of_candidate[chosen]


def _loss(before: np.ndarray, candidate: np.ndarray, negatives: int, size: int) -> float:
    """Returns the mean log loss of the mean of `size` predictions.

    Args:
      before: [cells] in those without the label, `size` less the sum of the others' probabilities;
        then, in those with it, that sum.
      candidate: [cells] the last one's probabilities.
      negatives: number of cells without the label.
      size: number of predictions.
    """
    logarithms = 0.0
    for first, last, combine in (
        (0, negatives, np.subtract),
        (negatives, len(before), np.add),
    ):
        for start in range(first, last, BLOCK):
            part = slice(start, min(start + BLOCK, last))
            of_target = combine(before[part], candidate[part])
            logarithms += _sum_of_logarithms(np.maximum(of_target, SMALLEST * size, out=of_target))
    return float(np.log(size) - logarithms / max(len(before), 1))


def _sum_of_logarithms(values: np.ndarray) -> float:
    """Returns the sum over values [N]: a logarithm of a product takes the time of one."""
    shared = len(values) // FACTORS * FACTORS
    products = values[:shared].reshape(FACTORS, -1).prod(0)
    return float(np.log(products).sum() + np.log(values[shared:]).sum())
