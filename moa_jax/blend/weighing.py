"""The models weighed: weights by the configured method, and what the blend scores with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from moa_jax.blend import diversity, search
from moa_jax.blend.combination import Weight, bounded, combine, named
from moa_jax.blend.search import Search
from moa_jax.config import BlendConfig
from moa_jax.data import folds
from moa_jax.store.predictions import Predictions
from moa_jax.training import metrics
from moa_jax.training.means import MEANS, PROBABILITIES


@dataclasses.dataclass(frozen=True)
class Weighing:
    """A weighed blend.

    Attributes:
      weights: weight of each model, or its weights for each target.
      record: what `blend/weights.json` holds, for people and the report.
      oof: the out-of-fold predictions that `record["score"]` is of; None where a model has none.
    """

    weights: Mapping[str, Weight]
    record: Mapping[str, Any]
    oof: Predictions | None


def weigh(
    config: BlendConfig,
    oof: Mapping[str, Predictions | None],
    labels: np.ndarray,
    num_controls: int,
    seed: int,
    honest: bool,
    units: np.ndarray | None = None,
    known: np.ndarray | None = None,
) -> Weighing:
    """Weighs the models and scores the blend.

    The reported score is taken on the rows that the weights were searched on, unless the run is
    honest: then it is the nested one. Fixed weights have no other.

    Args:
      config: the method.
      oof: out-of-fold predictions [N, L] of each model, rows and targets in one order; None only
        with fixed weights.
      labels: [N, L] labels, 0 or 1.
      num_controls: number of control rows beside them, for the original's conventions.
      seed: seed of the parts of the nested score, and of TPE.
      honest: report the nested score.
      units: [N] unit of each row, whose rows the parts of the nested score keep together, as the
        models' folds do; None where every row is its own.
      known: [N, L] bool, the labels that are known; None where all are.
    """
    scored = {name: p for name, p in oof.items() if p is not None}
    losses = {name: metrics.mean_log_loss(labels, p.values, known) for name, p in scored.items()}
    record: dict[str, Any] = {"method": config.method, "losses": losses, "rows": len(labels)}
    if losses:
        best = min(losses, key=losses.__getitem__)
        record |= {"best_model": best, "best_model_loss": losses[best]}
    chosen: dict[str, Weight]
    if config.method == "fixed":
        chosen = {**config.fixed(oof)}
    else:
        chosen, found = _searched(config, scored, labels, known, seed)
        record |= found
    record["weights"] = chosen
    mean = MEANS[config.mean]
    if mean is not PROBABILITIES:  # else the record is as it was before there were others
        record["mean"] = mean.name
    if len(scored) < len(oof):
        return Weighing(chosen, record, None)
    blended = bounded(combine(scored, chosen, mean))
    record["loss"] = record["score"] = metrics.mean_log_loss(labels, blended.values, known)
    if config.method != "fixed":
        if units is None:
            units = np.arange(len(labels))
        record["nested"], nested = _nested(config, scored, labels, known, units, seed)
        if honest:
            blended, record["score"] = bounded(nested), record["nested"]["loss"]
    record["conventions"] = metrics.conventions(labels, blended.values, num_controls, None, known)
    return Weighing(chosen, record, blended)


def losses_without(
    config: BlendConfig,
    oof: Mapping[str, Predictions],
    labels: np.ndarray,
    known: np.ndarray | None = None,
) -> dict[str, float]:
    """Returns the blend's loss without each model, of at least two.

    The others' weights are searched anew, by SLSQP where TPE would take hundreds of trials for
    each; fixed weights are scaled up to the sum they had.
    """
    name = "per_target" if config.method == "per_target" else "slsqp"
    mean = MEANS[config.mean]
    find = search.method(name, config.trials, 0, config.prior, mean)

    def searched(kept: np.ndarray, others: np.ndarray) -> np.ndarray:
        return find(others, labels, known)

    weights = np.array(list(config.fixed(oof).values()))

    def scaled(kept: np.ndarray, others: np.ndarray) -> np.ndarray:
        return search.normalised(weights[kept]) * weights.sum()

    found = diversity.losses_without(
        scaled if config.method == "fixed" else searched, _stacked(oof), labels, known, mean
    )
    return dict(zip(oof, found.tolist(), strict=True))


def _searched(
    config: BlendConfig,
    oof: Mapping[str, Predictions],
    labels: np.ndarray,
    known: np.ndarray | None,
    seed: int,
) -> tuple[dict[str, Weight], dict[str, Any]]:
    names, targets = list(oof), next(iter(oof.values())).targets
    if config.method != "tpe":
        weights = named(_search(config, seed)(_stacked(oof), labels, known), names, targets)
        # Without one the record is as it was before there were priors.
        return weights, {"prior": config.prior} if config.prior else {}
    mean = MEANS[config.mean]
    found = search.tpe(_stacked(oof), labels, config.trials, seed, known, mean)
    # Applied are the normalised weights; the sum tells how far the search left 1.
    stated = {"trials": config.trials, "found": named(found, names), "sum": float(found.sum())}
    return named(search.normalised(found), names), {"tpe": stated}


def _nested(
    config: BlendConfig,
    oof: Mapping[str, Predictions],
    labels: np.ndarray,
    known: np.ndarray | None,
    units: np.ndarray,
    seed: int,
) -> tuple[dict[str, Any], Predictions]:
    count = int(units.max()) + 1
    # Without the only unit there is nothing to search on, and weights are equal.
    parts = np.zeros(len(units), int)
    if count > 1:
        parts = folds.k_fold(count, min(config.nested_folds, count), seed)[units]
    find = _search(config, seed)
    mean = MEANS[config.mean]
    loss, weights, values = search.nested(find, _stacked(oof), labels, parts, known, mean)
    # Of weights for each target the mean, which is all the report shows of them.
    weights = weights.mean(-1) if weights.ndim == 3 else weights
    record = {"loss": loss, "weights": [named(of_part, list(oof)) for of_part in weights]}
    return record, dataclasses.replace(next(iter(oof.values())), values=values)


def _search(config: BlendConfig, seed: int) -> Search:
    return search.method(config.method, config.trials, seed, config.prior, MEANS[config.mean])


def _stacked(oof: Mapping[str, Predictions]) -> np.ndarray:
    return np.stack([predictions.values for predictions in oof.values()])
