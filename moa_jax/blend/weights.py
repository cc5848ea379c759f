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
CELLS_IN_CACHE = 2**14


def log_loss(weights: np.ndarray, predictions: np.ndarray, targets: np.ndarray) -> float:
    """Returns the mean log loss of the weighted sum of predictions, clipped at 1e-15.

    Args:
      weights: [K] weights.
      predictions: [K, N, L] probabilities of K models.
      targets: [N, L] labels, 0 or 1.
    """
    return mean_log_loss(targets, _blended(weights, predictions))


def log_loss_and_gradient(
    weights: np.ndarray, predictions: np.ndarray, targets: np.ndarray
) -> tuple[float, np.ndarray]:
    """Returns `log_loss` and its gradient [K] with respect to the weights.

    With q the blend and y the label, d/dq of a cell's loss is (q - y) / (q (1 - q)), which is
    1 / (1 - y - q) for y in {0, 1}; where q is clipped the loss is flat.

    Args:
      weights: [K] weights.
      predictions: [K, N, L] probabilities of K models.
      targets: [N, L] labels, 0 or 1.
    """
    cells, labels = predictions.reshape(len(predictions), -1), targets.ravel()
    loss, gradient = 0.0, np.zeros(len(cells))
    for start in range(0, labels.size, CELLS_IN_CACHE):
        part = cells[:, start : start + CELLS_IN_CACHE]
        blended = weights @ part
        clipped = np.clip(blended, CLIP, 1 - CLIP)
        margin = 1 - labels[start : start + CELLS_IN_CACHE] - clipped
        loss -= np.log(np.abs(margin)).sum()
        gradient += part @ ((blended == clipped) / margin)
    return loss / labels.size, gradient / labels.size


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
    # Per positive label rather than per cell the loss has a curvature near the unit matrix that
    # SLSQP starts from: a quarter of the steps where positives are rare.
    scale = targets.size / max(np.count_nonzero(targets), 1)

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = log_loss_and_gradient(weights, predictions, targets)
        return scale * loss, scale * gradient

    with warnings.catch_warnings():
        # A trial step may leave the bounds by a rounding error; scipy clips it and says so.
        warnings.filterwarnings("ignore", "Values in x were outside bounds", RuntimeWarning)
        found = optimize.minimize(
            objective,
            ones / num_models,
            method="SLSQP",
            jac=True,
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
        # Unlike indexing, which keeps the rows outermost, this lays the copy out model by model.
        others = predictions.compress(~held_out, axis=1)
        found.append(slsqp(others, targets[~held_out]))
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
    for name in weights:
        if name not in models:
            raise UserError(f"blend.weights.{name}: expected one of the models {list(models)}")
    for name in models:
        if name not in weights:
            raise UserError(f"blend.weights: expected a weight for {name}, found none")
    (first, reference), *_ = models.items()
    blended = np.zeros_like(reference.values)
    for name, predictions in models.items():
        _check_same("sig_ids", first, reference.ids, name, predictions.ids)
        _check_same("targets", first, reference.targets, name, predictions.targets)
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
    noun: str, first: str, expected: Sequence[str], second: str, found: Sequence[str]
) -> None:
    differing = pd.Index(expected).symmetric_difference(pd.Index(found), sort=False)
    if len(differing):
        owner = first if differing[0] in set(expected) else second
        raise UserError(
            f"blend: expected the same {noun} in {first} and {second}, found {len(differing)} in "
            f"one of them only, the first is {differing[0]!r} in {owner}"
        )
