"""Weights of a blend: searched on out-of-fold predictions, scored honestly, applied."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import optimize

from moa_jax.errors import UserError
from moa_jax.predictions import Predictions
from moa_jax.training.metrics import mean_log_loss

CLIP = 1e-15
# Searched weights are multiples of this power of two: sums of them are exact in float64.
RESOLUTION = 2.0**-40


def log_loss(weights: np.ndarray, predictions: np.ndarray, targets: np.ndarray) -> float:
    """Returns the mean log loss of the weighted sum of predictions, clipped at 1e-15.

    Args:
      weights: [K] weights.
      predictions: [K, N, L] probabilities of K models.
      targets: [N, L] labels, 0 or 1.
    """
    return mean_log_loss(targets, _blended(weights, predictions))


def gradient(weights: np.ndarray, predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns the gradient [K] of `log_loss` with respect to the weights.

    With q the blend and y the label, d/dq of a cell's loss is (q - y) / (q (1 - q)), which is
    1 / (1 - y - q) for y in {0, 1}; where the loss clips q it is flat.

    Args:
      weights: [K] weights.
      predictions: [K, N, L] probabilities of K models.
      targets: [N, L] labels, 0 or 1.
    """
    blended = _blended(weights, predictions)
    flat = (blended < CLIP) | (blended > 1 - CLIP)
    slope = 1 / np.where(flat, np.inf, 1 - targets - blended)
    return predictions.reshape(len(predictions), -1) @ slope.ravel() / slope.size


def slsqp(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Finds the weights in [0, 1] that sum to 1 and minimise `log_loss`.

    Sequential least squares (Kraft 1988) from equal weights, to a tolerance of 1e-10, as the
    original does it, but with the analytic gradient. What it finds is rounded to multiples of
    2^-40, the largest weight taking up the difference: bounds and sum hold exactly. Should a
    single model be better than that, it gets the whole weight.

    Args:
      predictions: [K, N, L] float64 probabilities of K models.
      targets: [N, L] labels, 0 or 1.

    Returns:
      [K] weights.
    """
    num_models = len(predictions)
    ones = np.ones(num_models)
    with warnings.catch_warnings():
        # A trial step may leave the bounds by a rounding error; scipy clips it and says so.
        warnings.filterwarnings("ignore", "Values in x were outside bounds", RuntimeWarning)
        found = optimize.minimize(
            log_loss,
            ones / num_models,
            args=(predictions, targets),
            method="SLSQP",
            jac=gradient,
            bounds=[(0, 1)] * num_models,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: ones},
            tol=1e-10,
        ).x
    candidates = [_on_simplex(found), *np.eye(num_models)]
    return min(candidates, key=lambda weights: log_loss(weights, predictions, targets))


def nested(
    predictions: np.ndarray, targets: np.ndarray, folds: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Scores `slsqp` without its optimism: no row is blended with weights it helped to find.

    Args:
      predictions: [K, N, L] float64 probabilities of K models.
      targets: [N, L] labels, 0 or 1.
      folds: [N] fold of each row.

    Returns:
      The loss over all rows; [F, K] weights, row f found without the f-th fold; [N, L] blended
      probabilities.
    """
    blended = np.empty(targets.shape)
    found = []
    for fold in np.unique(folds):
        held_out = folds == fold
        found.append(slsqp(predictions[:, ~held_out], targets[~held_out]))
        blended[held_out] = _blended(found[-1], predictions[:, held_out])
    return mean_log_loss(targets, blended), np.stack(found), blended


def combine(models: Mapping[str, Predictions], weights: Mapping[str, float]) -> Predictions:
    """Returns the weighted sum of the models' predictions, in the first model's order.

    Rows are joined on `sig_id` and columns on the target's name. The sum is neither clipped nor
    renormalised.

    Args:
      models: predictions by model.
      weights: weight of each of these models.

    Raises:
      UserError: weights and models do not name the same models, or two models do not predict the
        same rows and targets.
    """
    _check_same(list(weights), list(models), "blend", ("the weights", "the models"), "model")
    (first, reference), *_ = models.items()
    blended = np.zeros_like(reference.values)
    for name, predictions in models.items():
        pair = (first, name)
        _check_same(reference.ids, predictions.ids, "blend", pair, "sig_id")
        _check_same(reference.targets, predictions.targets, "blend", pair, "target")
        columns = pd.Index(predictions.targets).get_indexer(reference.targets)
        blended += weights[name] * predictions.aligned(reference.ids, name).values[:, columns]
    return Predictions(reference.ids, reference.targets, blended)


def _blended(weights: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    return np.tensordot(weights, predictions, axes=1)


def _on_simplex(weights: np.ndarray) -> np.ndarray:
    weights = np.round(np.clip(weights, 0, 1) / RESOLUTION) * RESOLUTION
    weights[weights.argmax()] += 1 - weights.sum()
    return weights


def _check_same(
    here: Sequence[str], there: Sequence[str], where: str, sources: tuple[str, str], noun: str
) -> None:
    differing = pd.Index(here).symmetric_difference(pd.Index(there), sort=False)
    if len(differing):
        only = sources[0] if differing[0] in set(here) else sources[1]
        raise UserError(
            f"{where}: expected {sources[0]} and {sources[1]} to have the same {noun}s, "
            f"found {len(differing)} of only one, the first is {differing[0]!r} of {only}"
        )
