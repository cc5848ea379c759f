"""Combination: predictions of several models joined by name into their weighted mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from moa_jax.config import SUM_TOLERANCE
from moa_jax.errors import UserError
from moa_jax.store.predictions import Predictions
from moa_jax.training.means import PROBABILITIES, Mean

# A model's weight, or its weight for each target.
Weight = float | Mapping[str, float]
Names = Sequence[str] | np.ndarray


def named(
    values: np.ndarray, models: Sequence[str], targets: Sequence[str] = ()
) -> dict[str, Weight]:
    """Returns weights by name, as JSON has them.

    Args:
      values: [K] weights, or [K, L] for each target.
      models: K names.
      targets: L names, for weights of each target.

    >>> named(np.array([0.25, 0.75]), ["mlp", "tabnet"])
    {'mlp': 0.25, 'tabnet': 0.75}
    >>> named(np.array([[0.25, 1.0], [0.75, 0.0]]), ["mlp", "tabnet"], ["x", "y"])
    {'mlp': {'x': 0.25, 'y': 1.0}, 'tabnet': {'x': 0.75, 'y': 0.0}}
    """
    if values.ndim == 1:
        return dict(zip(models, values.tolist(), strict=True))
    return {
        model: dict(zip(targets, row.tolist(), strict=True))
        for model, row in zip(models, values, strict=True)
    }


def combine(
    models: Mapping[str, Predictions], weights: Mapping[str, Weight], mean: Mean = PROBABILITIES
) -> Predictions:
    """Returns the weighted mean of the models' predictions, in the first model's order.

    Rows are joined on `sig_id` and columns on the target's name. A sum of probabilities is neither
    clipped nor renormalised; `bounded` takes off what rounding leaves beyond 1. Rows that are 0
    throughout by every model, as controls are, stay so, and a single model's are its own. The
    spread is that within
    models: the root of the weighted mean of their variances over members, of the models whose
    spread is known; None where that of none is.

    Args:
      models: predictions by model.
      weights: weight of each of these models, of sum 1.
      mean: what the mean is of.

    Raises:
      UserError: weights and models do not name the same models, or two models do not predict the
        same rows and targets.

    >>> mlp = Predictions(np.array(["a", "b"]), ("x",), np.array([[0.5], [0.25]]))
    >>> tabnet = Predictions(np.array(["b", "a"]), ("x",), np.array([[0.75], [0.0]]))
    >>> blended = combine({"mlp": mlp, "tabnet": tabnet}, {"mlp": 0.5, "tabnet": 0.5})
    >>> dict(zip(blended.ids.tolist(), blended.values[:, 0].tolist()))
    {'a': 0.25, 'b': 0.5}
    """
    for name in weights:
        if name not in models:
            raise UserError(f"blend.weights.{name}: expected one of the models {list(models)}")
    for name in models:
        if name not in weights:
            raise UserError(f"blend.weights: expected a weight for {name}, found none")
    (first, reference), *_ = models.items()
    mean = mean.of_several(len(models))
    blended, silent = np.zeros_like(reference.values), np.ones(len(reference.ids), bool)
    variances, known = np.zeros_like(blended), np.zeros_like(blended)
    for name, predictions in models.items():
        _check_same("sig_ids", first, reference.ids, name, predictions.ids)
        _check_same("targets", first, reference.targets, name, predictions.targets)
        columns = pd.Index(predictions.targets).get_indexer(reference.targets)
        aligned = predictions.aligned(reference.ids, name)
        weight = _row(name, weights[name], reference.targets)
        blended += weight * mean.of(aligned.values[:, columns])
        silent &= ~aligned.values.any(1)
        if aligned.spread is not None:
            within = aligned.spread[:, columns]
            variances += weight * np.nan_to_num(within) ** 2
            known += weight * ~np.isnan(within)
    blended = np.where(silent[:, None], 0.0, mean.back(blended))
    spread = None
    if any(predictions.spread is not None for predictions in models.values()):
        spread = np.sqrt(variances / np.where(known > 0, known, np.nan))
    return Predictions(reference.ids, reference.targets, blended, spread)


def bounded(blended: Predictions) -> Predictions:
    """Returns a blend without what lies beyond [0, 1] by the rounding of weights and sums.

    Weights are of sum 1 up to `SUM_TOLERANCE`, so that a blend of probabilities is beyond by no
    more. What is not beyond keeps its bits.

    Raises:
      UserError: a value is beyond by more, or no number: a model's predictions are damaged.

    >>> blended = Predictions(np.array(["a"]), ("x", "y"), np.array([[1.0000000000000002, 0.5]]))
    >>> bounded(blended).values.tolist()
    [[1.0, 0.5]]
    """
    beyond = ~((blended.values >= -SUM_TOLERANCE) & (blended.values <= 1 + SUM_TOLERANCE))
    if beyond.any():
        row, column = np.argwhere(beyond)[0]
        raise UserError(
            f"blend: expected probabilities between 0 and 1, found {blended.values[row, column]} "
            f"for sig_id {blended.ids[row]!r} and target {blended.targets[column]!r}; are the "
            "models' predictions damaged?"
        )
    return dataclasses.replace(blended, values=np.clip(blended.values, 0, 1))


def _row(name: str, weight: Weight, targets: Sequence[str]) -> float | np.ndarray:
    if not isinstance(weight, Mapping):
        return weight
    for target in targets:
        if target not in weight:
            raise UserError(f"blend.weights.{name}: expected a weight for {target}, found none")
    return np.array([weight[target] for target in targets])


def _check_same(noun: str, first: str, expected: Names, second: str, found: Names) -> None:
    differing = pd.Index(expected).symmetric_difference(pd.Index(found), sort=False)
    if len(differing):
        owner = first if differing[0] in set(expected) else second
        raise UserError(
            f"blend: expected the same {noun} in {first} and {second}, found {len(differing)} in "
            f"one of them only, the first is {differing[0]!r} in {owner}"
        )
