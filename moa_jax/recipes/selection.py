"""Selection of an ensemble: greedy, with replacement, by log loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# A gain below this is rounding.
TOLERANCE = 1e-7
# So many further ones are tried before the choice ends.
PATIENCE = 10


def greedy(
    predictions: Sequence[np.ndarray],
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
      predictions: [C] arrays [N, L] of probabilities, one for each candidate.
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
    targets = np.asarray(targets)[chosen].astype(bool)
    counts, total = np.zeros(len(predictions), int), np.zeros(targets.shape)
    kept, best, best_size = counts, np.inf, 0
    for size in range(1, most + 1):
        losses = [_loss((total + p[chosen]) / size, targets) for p in predictions]
        taken = int(np.argmin(losses))
        counts = counts + (np.arange(len(counts)) == taken)
        total = total + predictions[taken][chosen]
        if losses[taken] < best - TOLERANCE:
            kept, best, best_size = counts, losses[taken], size
        elif size - best_size == PATIENCE:
            break
    return kept


def _loss(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Returns the mean log loss, of float32 networks that may be sure and wrong as well."""
    # A logarithm for each cell and not two: nearly all of the time goes here.
    of_target = np.where(targets, probabilities, 1 - probabilities)
    return float(-np.log(np.maximum(of_target, 1e-15)).mean())
