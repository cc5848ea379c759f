"""Ranking: how far seeds move a model's score, and which model is better by more than that."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from moa_jax.report.records import ModelRecord


def spread(model: ModelRecord) -> float | None:
    """Returns the standard deviation over a model's seeds of the loss of one seed's predictions.

    They are the out-of-fold predictions of the stage that the model's score is of. None where there
    is one seed only, where predictions come from elsewhere, and of an ensemble, whose members
    differ in more than their random numbers.
    """
    if model.is_ensemble:
        return None
    stages = {stage.name: stage for stage in model.stages}
    stage = stages.get(model.reported or "", model.stages[-1] if model.stages else None)
    of_seeds = {score.seed for score in stage.fold_scores} - {None} if stage else set()
    if stage is None or len(of_seeds) < 2:
        return None
    labels = {str(seed) for seed in of_seeds}
    return statistics.stdev(row.whole for row in stage.score_rows() if row.label in labels)


def leads(models: Sequence[ModelRecord], name: str | None) -> bool:
    """Tells whether a model's score is the lowest, and not by less than either's spread.

    A spread that is not known counts as 0. Beside a model without a score none leads.
    """
    scored = {model.name: model for model in models if "treated" in model.scores}
    own = scored.get(name or "")
    if own is None or len(scored) < len(models):
        return False
    return all(
        other.scores["treated"] - own.scores["treated"] >= max(spread(own) or 0, spread(other) or 0)
        for other in scored.values()
        if other is not own
    )
