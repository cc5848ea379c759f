"""Prediction: rows that are predicted by the members of finished stages, chunk by chunk."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from moa_jax.data.dataset import Dataset
from moa_jax.recipes import finished
from moa_jax.recipes.context import Context
from moa_jax.recipes.design import StageDesign
from moa_jax.recipes.features import Passage
from moa_jax.recipes.fitting import predictor_of
from moa_jax.recipes.outcome import alike
from moa_jax.recipes.stage_predictions import StagePredictions
from moa_jax.recipes.stored import StoredSets
from moa_jax.training import exhausted
from moa_jax.training.log_odds import MemberSpread
from moa_jax.training.means import PROBABILITIES, Mean
from moa_jax.training.members import Blocks, MemberId

# From at most `predict_rows` rows, and what takes the members' spread, to each stage's predictions.
Trained = Callable[..., Mapping[str, StagePredictions]]


def trained(
    designs: Sequence[StageDesign],
    context: Context,
    weights: Callable[[str, Sequence[MemberId]], np.ndarray] = alike,
    num_stages: int | None = None,
    predicting: Collection[str] = (),
    mean: Mean = PROBABILITIES,
) -> Trained:
    """Returns what predicts at most `predict_rows` rows by the members of finished stages.

    Args:
      designs: stages, each of which reads the predictions of the one before it or none.
      context: where they were fitted, and how many rows are predicted together.
      weights: of the members in a stage's mean, see `Outcome`.
      num_stages: as for `system.load`.
      predicting: the stages whose members a spread takes; empty for the last one.
      mean: what the means over members are of.
    """
    chunk_rows, loaded = context.parallel.predict_rows, []
    counted = predicting or [designs[-1].name]
    known: list[Blocks] = []  # blocks that the members of the stage after this one leave out
    for design in reversed(designs):
        every, outputs = finished.trained_members(context, design)
        stored = StoredSets(design, context, every)
        share = 1 / (num_stages or len(designs))
        remedy = functools.partial(exhausted.of_prediction, design.full_name(context))
        with exhausted.told(functools.partial(remedy, None)):
            predictor = predictor_of(context, design, every, outputs, stored, share)
        of = np.array(
            [
                weights(design.name, every),
                *([set(view) <= set(m.blocks) for m in every] for view in known),
            ]
        )
        loaded.append((design, stored, predictor, known, of, remedy))
        read = design.features.predictions_of is not None
        known = sorted({member.blocks for member in every if member.blocks}) if read else []

    def predict(
        rows: Dataset, spread: MemberSpread | None = None
    ) -> Mapping[str, StagePredictions]:
        passage = Passage(rows)
        for design, stored, predictor, views, of, remedy in reversed(loaded):
            table = design.features.table(passage, design.name, stored)
            own = spread if design.name in counted else None
            with exhausted.told(functools.partial(remedy, chunk_rows)):
                whole, *nested = predictor.means(table, len(rows), chunk_rows, of, own, mean)
            found = StagePredictions(whole, dict(zip(views, nested, strict=True)))
            passage.predictions[design.name] = found
        return passage.predictions

    return predict


def predict_rows(
    dataset: Dataset, context: Context, predict: Trained
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns each stage's predictions of all rows, chunk by chunk, and their members' spread.

    Controls get exactly 0, and NaN for the spread.

    Args:
      dataset: rows to predict.
      context: how many rows a chunk has.
      predict: from at most so many rows to the predictions of each stage.
    """
    chunk_rows, chunks, spreads = context.parallel.predict_rows, [], []
    for start in range(0, len(dataset), chunk_rows):
        rows, spread = np.arange(start, min(start + chunk_rows, len(dataset))), MemberSpread()
        chunks.append(predict(dataset.take(rows), spread))
        spreads.append(spread.values())
    treated = ~dataset.is_control[:, None]
    found = {
        stage: np.concatenate([chunk[stage].whole for chunk in chunks]) * treated
        for stage in chunks[0]
    }
    return found, np.where(treated, np.concatenate(spreads), np.nan)
