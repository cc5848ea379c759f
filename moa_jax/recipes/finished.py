"""What is finished of a model: the files of a stage, and whether they are what its design says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from moa_jax.data.dataset import Dataset
from moa_jax.errors import UserError
from moa_jax.recipes import stage_predictions
from moa_jax.recipes.context import Context
from moa_jax.recipes.design import StageDesign
from moa_jax.recipes.stage_predictions import StagePredictions
from moa_jax.store import files, transform_files
from moa_jax.store.model_files import FOLDS, METRICS, OOF
from moa_jax.store.predictions import Predictions
from moa_jax.training.members import Member, MemberId


def is_finished(context: Context, stage: str = "") -> bool:
    """Tells whether a model or one of its stages is complete: the manifest lists its metrics.

    Where they were deleted it is not, and is made again.

    Raises:
      UserError: the manifest is damaged, or that of another run or model.
    """
    return context.manifest.has(context.folder / stage / METRICS)


def strike(context: Context, stage: str = "") -> None:
    """Strikes off the metrics of a model, or of a stage, that is about to be made again."""
    metrics = context.folder / stage / METRICS
    context.manifest.discard(lambda path: path == metrics)


class TrainedStage(NamedTuple):
    """What the metrics of a finished stage tell about its networks.

    Attributes:
      members: who they are, in the order of training.
      outputs: number of targets that each predicts.
    """

    members: list[MemberId]
    outputs: int


def list_stage(context: Context, design: StageDesign, every: Sequence[Member]) -> None:
    """Lists the files of a stage in the manifest, all of which are written: it is finished."""
    folder = context.folder / design.name
    ids = [member.id for member in every]
    paths = [*_read_to_predict(context, design, ids), folder / OOF, folder / FOLDS]
    if _keeps_nested(design, every):
        paths.append(folder / stage_predictions.FILE)
    if design.by_seed:
        paths.append(folder / stage_predictions.SEEDS_FILE)
    context.manifest.add(paths)


def trained_members(context: Context, design: StageDesign) -> TrainedStage:
    """Returns the members of a finished stage, all that they read to predict being verified.

    Raises:
      UserError: a file is missing, is not as it was written, or is not of the stage.
    """
    path = context.folder / design.name / METRICS
    context.manifest.verify(path)
    stored = files.read_json(path)
    try:
        every = [MemberId(m["seed"], m["fold"], tuple(m["blocks"])) for m in stored["members"]]
        found = TrainedStage(every, stored["outputs"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged: {error!r}; {context.manifest.remedy}") from None
    context.manifest.verify(*_read_to_predict(context, design, every))
    folder = path.parent / "members"
    listed = [other for other in context.manifest.paths if other.parent == folder]
    if len(listed) != len(every):
        raise UserError(
            f"{path}: expected {len(listed)} members, found {len(every)}; {context.manifest.remedy}"
        )
    return found


def read_back(
    context: Context, design: StageDesign, every: Sequence[Member], rows: Dataset
) -> tuple[Predictions, StagePredictions]:
    """Returns the out-of-fold predictions of a finished stage, with those for later stages.

    Args:
      context: where it was fitted.
      design: the stage.
      every: the members that it must have.
      rows: the rows that these train on and predict.

    Raises:
      UserError: a file is missing, is not as it was written, or is of other members, rows or
        targets.
    """
    folder = context.folder / design.name
    found = trained_members(context, design).members
    names, wanted = [m.name for m in found], [m.name for m in every]
    _expect(context, folder / METRICS, "members", wanted, names)
    context.manifest.verify(folder / OOF, folder / FOLDS)
    oof = Predictions.read(folder / OOF)
    _expect(context, folder / OOF, "rows", rows.ids.tolist(), oof.ids.tolist())
    targets = list(design.targets(rows).names)
    _expect(context, folder / OOF, "targets", targets, list(oof.targets))
    nested: dict[tuple[int, ...], np.ndarray] = {}
    if _keeps_nested(design, every):
        path = folder / stage_predictions.FILE
        context.manifest.verify(path)
        nested = stage_predictions.read_nested(path.parent)
        if any(values.shape != oof.values.shape for values in nested.values()):
            raise UserError(
                f"{path}: damaged, expected arrays of the shape {oof.values.shape}; "
                f"{context.manifest.remedy}"
            )
    by_seed: dict[int, stage_predictions.SeedPredictions] = {}
    if design.by_seed:
        context.manifest.verify(folder / stage_predictions.SEEDS_FILE)
        by_seed = stage_predictions.read_seeds(folder)
    return oof, StagePredictions(oof.values, nested, by_seed)


def _keeps_nested(design: StageDesign, every: Sequence[Member]) -> bool:
    """Tells whether a stage keeps nested means, as later ones read; an ensemble reads its seeds."""
    return not design.by_seed and any(len(member.blocks) > 1 for member in every)


def _expect(context: Context, path: Path, what: str, expected: list[Any], found: list[Any]) -> None:
    if found != expected:
        raise UserError(
            f"{path}: expected the {len(expected)} {what} of this run's configuration and data, "
            f"found {len(found)}{' others' if len(found) == len(expected) else ''}; "
            f"{context.manifest.remedy}"
        )


def _read_to_predict(
    context: Context, design: StageDesign, every: Sequence[MemberId]
) -> list[Path]:
    folder = context.folder / design.name
    sets = dict.fromkeys(design.features.set_of(member) for member in every)
    stored = design.features.folder(context, design.name)
    return [
        folder / METRICS,
        *(folder / "members" / f"{member.name}.npz" for member in every),
        *(path for name in sets for path in transform_files.paths(stored / name)),
    ]
