"""How much models differ, and what each one adds to the blend."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

from moa_jax.blend.search import log_loss
from moa_jax.training.means import PROBABILITIES, Mean


def correlations(predictions: np.ndarray, method: str = "pearson") -> np.ndarray:
    """Returns the correlation of every two models, target by target, averaged over targets, [K, K].

    The original's measure of diversity. A target that one of the two models predicts by a constant
    has no correlation and is left out of their mean; without any other, that is NaN. Give treated
    rows only: controls, 0 for every model, would raise all values.

    Args:
      predictions: [K, N, L] probabilities of K models.
      method: `pearson` or `spearman`.

    >>> one, other = np.array([[0.1], [0.2], [0.4]]), np.array([[0.2], [0.1], [0.3]])
    >>> correlations(np.stack([one, other]), "spearman").round(3).tolist()
    [[1.0, 0.5], [0.5, 1.0]]
    """
    if method == "spearman":
        predictions = np.stack([stats.rankdata(model, axis=0) for model in predictions])
    # A constant's deviations from its mean may be rounding errors: they would correlate.
    constant = np.ptp(predictions, axis=1, keepdims=True) == 0
    deviations = predictions - predictions.mean(1, keepdims=True)
    norms = np.where(constant, np.nan, np.linalg.norm(deviations, axis=1, keepdims=True))
    unit = deviations / norms
    each = np.einsum("inl,jnl->ijl", unit, unit, optimize=True)
    known = ~np.isnan(each)
    total = np.where(known, each, 0).sum(-1)
    return np.divide(total, known.sum(-1), out=np.full(total.shape, np.nan), where=known.any(-1))


def losses_without(
    weigh: Callable[[np.ndarray, np.ndarray], np.ndarray],
    predictions: np.ndarray,
    targets: np.ndarray,
    known: np.ndarray | None = None,
    mean: Mean = PROBABILITIES,
) -> np.ndarray:
    """Returns the blend's log loss when each model in turn is left out, [K].

    The others are weighed anew. How far that is above the whole blend's loss is what the model
    contributes; a model that others replace contributes little, however good it is.

    Args:
      weigh: from the positions [K-1] of the others and their predictions [K-1, N, L] to weights.
      predictions: [K, N, L] float64 probabilities of K models, at least two.
      targets: [N, L] labels, 0 or 1.
      known: [N, L] bool, the cells that are scored; None for all.
      mean: what the blend is the weighted mean of.
    """
    losses = []
    for left_out in range(len(predictions)):
        kept = np.delete(np.arange(len(predictions)), left_out)
        others = predictions[kept]
        losses.append(log_loss(weigh(kept, others), others, targets, known, mean))
    return np.array(losses)
