"""Ensemble: a model whose predictions are a mean over chosen members of all its stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from moa_jax.errors import UserError
from moa_jax.recipes.context import Context
from moa_jax.recipes.design import StageDesign
from moa_jax.recipes.selection import Choice, best
from moa_jax.recipes.stage_predictions import StagePredictions
from moa_jax.store import files
from moa_jax.store.model_files import ENSEMBLE
from moa_jax.training.means import MEANS, Mean
from moa_jax.training.members import MemberId

# How often each seed of a stage is in the mean.
Counts = Mapping[str, Mapping[int, int]]


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """A mean over seeds of stages that do not read each other: an `Outcome`.

    Attributes:
      designs: the stages of which some seed was taken.
      counts: of each of these stages, how often each seed was.
      mean: what the mean is of.
    """

    designs: list[StageDesign]
    counts: Counts
    mean: Mean

    def weights(self, stage: str, every: Sequence[MemberId]) -> np.ndarray:
        return np.array([self.counts[stage].get(member.seed, 0) for member in every], float)

    @property
    def shares(self) -> Mapping[str, float]:
        return {name: sum(seeds.values()) for name, seeds in self.counts.items()}


def choose(
    context: Context,
    designs: Sequence[StageDesign],
    predictions: Mapping[str, StagePredictions],
    targets: np.ndarray,
    fold_of_row: np.ndarray,
    most: int,
    means: Sequence[Mean],
    known: np.ndarray | None = None,
) -> tuple[Ensemble, np.ndarray]:
    """Chooses an ensemble for new rows, and for each fold another one by the other folds' rows.

    For fold k every candidate predicts the rows of the other folds, by networks that have not seen
    the row and, in a nested chain of two blocks, not fold k either. Then nothing that predicts the
    fold knows its labels. Otherwise the choice does, as networks that trained on fold k predicted
    what it was made by; weights, and the rows of the fold, never do.

    Args:
      context: where the stages were fitted; the choice is written to the model's folder.
      designs: the stages.
      predictions: out of fold, of each seed of each stage.
      targets: [N, L], 0 or 1.
      fold_of_row: [N].
      most, means, known: see `selection.best`.

    Returns:
      The ensemble for new rows, and the predictions of these rows, each by its fold's choice,
      [N, L] float64.
    """
    places = [
        (design.name, seed) for design in designs for seed in predictions[design.name].by_seed
    ]
    views = [predictions[stage].by_seed[seed] for stage, seed in places]
    found, by_fold = np.zeros(targets.shape), {}
    for fold in np.unique(fold_of_row).tolist():
        others = np.flatnonzero(fold_of_row != fold)

        def unseen(fold: int = fold) -> Iterator[np.ndarray]:
            # Those of one fold at a time are in memory.
            return (view[(fold,) if (fold,) in view else ()] for view in views)

        choice, own = best(unseen, targets, most, means, others, known), fold_of_row == fold
        found[own] = choice.mean.over(
            (choice.counts[place], views[place][()][own]) for place in np.flatnonzero(choice.counts)
        )
        by_fold[str(fold)] = _record(places, choice)
    choice = best(lambda: (view[()] for view in views), targets, most, means, None, known)
    whole, path = _record(places, choice), context.folder / ENSEMBLE
    files.write_sealed(path, {"run": context.workdir.run, **whole, "folds": by_fold})
    context.manifest.add([path])
    return _ensemble(designs, whole), found


def read(context: Context, designs: Sequence[StageDesign]) -> Ensemble:
    """Returns the ensemble that was chosen.

    Raises:
      UserError: the file is missing, damaged or of other stages.
    """
    return _ensemble(designs, stored(context)[0])


def stored(context: Context) -> tuple[dict, dict[str, dict]]:
    """Returns the choice for new rows, and that of each fold, by the text of the fold.

    Each has `counts`, by stage and by the text of the seed, and the name of its `mean`.

    Raises:
      UserError: the file is missing or damaged.
    """
    path = context.folder / ENSEMBLE
    context.manifest.verify(path)
    found = files.read_sealed(path, context.manifest.remedy)
    try:
        return {name: found[name] for name in ("counts", "mean")}, found["folds"]
    except KeyError as error:
        raise UserError(f"{path}: damaged: {error!r}; {context.manifest.remedy}") from None


def _record(places: Sequence[tuple[str, int]], choice: Choice) -> dict[str, Any]:
    """Returns a choice as JSON has it, its counts those that are not 0."""
    counts: dict[str, dict[str, int]] = {}
    for (stage, seed), count in zip(places, choice.counts.tolist(), strict=True):
        if count:
            counts.setdefault(stage, {})[str(seed)] = count
    return {"counts": counts, "mean": choice.mean.name}


def _ensemble(designs: Sequence[StageDesign], record: Mapping[str, Any]) -> Ensemble:
    counts = {
        stage: {int(seed): count for seed, count in own.items()}
        for stage, own in record["counts"].items()
    }
    chosen = [design for design in designs if design.name in counts]
    return Ensemble(chosen, counts, MEANS[record["mean"]])
