"""Ensemble: a model whose predictions are a mean over chosen members of all its stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from moa_jax.errors import UserError
from moa_jax.recipes.context import Context
from moa_jax.recipes.design import StageDesign
from moa_jax.recipes.selection import greedy
from moa_jax.recipes.stage_predictions import StagePredictions
from moa_jax.store import files
from moa_jax.store.model_files import ENSEMBLE
from moa_jax.training.members import MemberId

# How often each seed of a stage is in the mean.
Counts = Mapping[str, Mapping[int, int]]


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """A mean over seeds of stages that do not read each other: an `Outcome`.

    Attributes:
      designs: the stages of which some seed was taken.
      counts: of each of these stages, how often each seed was.
    """

    designs: list[StageDesign]
    counts: Counts

    def weights(self, stage: str, every: Sequence[MemberId]) -> np.ndarray:
        return np.array([self.counts[stage].get(member.seed, 0) for member in every], float)

    @property
    def predicting(self) -> Collection[str]:
        return self.counts.keys()

    def of(self, found: Mapping[str, np.ndarray]) -> np.ndarray:
        sizes = {name: sum(seeds.values()) for name, seeds in self.counts.items()}
        total = sum(size * found[name] for name, size in sizes.items())
        return np.asarray(total / sum(sizes.values()))


def choose(
    context: Context,
    designs: Sequence[StageDesign],
    predictions: Mapping[str, StagePredictions],
    targets: np.ndarray,
    fold_of_row: np.ndarray,
    most: int,
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
      most, known: see `selection.greedy`.

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
        # Those of one fold at a time are in memory.
        counts = greedy(
            (view[(fold,) if (fold,) in view else ()] for view in views),
            targets, most, others, known,
        )  # fmt: skip
        own = fold_of_row == fold
        for place in np.flatnonzero(counts):
            found[own] += counts[place] * views[place][()][own]
        found[own] /= counts.sum()
        by_fold[str(fold)] = _by_stage(places, counts)
    whole = _by_stage(places, greedy((view[()] for view in views), targets, most, None, known))
    path = context.folder / ENSEMBLE
    files.write_sealed(path, {"run": context.workdir.run, "counts": whole, "folds": by_fold})
    context.manifest.add([path])
    return _ensemble(designs, whole), found


def read(context: Context, designs: Sequence[StageDesign]) -> Ensemble:
    """Returns the ensemble that was chosen.

    Raises:
      UserError: the file is missing, damaged or of other stages.
    """
    return _ensemble(designs, stored(context)[0])


def stored(context: Context) -> tuple[dict, dict[str, dict]]:
    """Returns the counts of the choice for new rows, and of each fold's, by the text of the fold.

    Those are by stage and by the text of the seed.

    Raises:
      UserError: the file is missing or damaged.
    """
    path = context.folder / ENSEMBLE
    context.manifest.verify(path)
    found = files.read_sealed(path, context.manifest.remedy)
    try:
        return found["counts"], found["folds"]
    except KeyError as error:
        raise UserError(f"{path}: damaged: {error!r}; {context.manifest.remedy}") from None


def _by_stage(places: Sequence[tuple[str, int]], counts: np.ndarray) -> dict[str, dict[str, int]]:
    """Returns the counts that are not 0, as JSON has them."""
    found: dict[str, dict[str, int]] = {}
    for (stage, seed), count in zip(places, counts.tolist(), strict=True):
        if count:
            found.setdefault(stage, {})[str(seed)] = count
    return found


def _ensemble(designs: Sequence[StageDesign], counts: Mapping[str, Mapping[str, int]]) -> Ensemble:
    read = {stage: {int(seed): n for seed, n in own.items()} for stage, own in counts.items()}
    return Ensemble([design for design in designs if design.name in read], read)
