"""--repair: what is damaged of a work folder is removed, so that training makes it again."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import logging

from moa_jax.config import RunConfig
from moa_jax.data.dataset import Dataset
from moa_jax.engine import other_folds, participation
from moa_jax.errors import UserError
from moa_jax.recipes import attribution_baseline
from moa_jax.recipes.context import Context
from moa_jax.recipes.design import StageDesign, has_nonscored
from moa_jax.store import files, model_files, processes
from moa_jax.store.workdir import Workdir
from moa_jax.training.parallel import Devices
from moa_jax.training.progress import MetricsLog


def repair(config: RunConfig, workdir: Workdir, dataset: Dataset) -> None:
    """Removes what is damaged of each model, and what was made from it; the log names all.

    A stage with a damaged file is removed with the stages after it. Of damaged transforms the set
    is removed alone; the stages that read it go on from their checkpoints, as those of a model
    without a manifest do. Training then ends with what it would have ended with.

    Raises:
      UserError: the work folder is of another run; its `config.json` is damaged, which nothing
        can repair; something cannot be removed.
    """
    devices = Devices.available(config.parallel.strategy)
    config, _ = participation.of(config, workdir, dataset)
    other = other_folds.of(config, workdir, dataset)
    if other is not None and processes.said_by_first(
        os.path.lexists(other.workdir.path / "config.json")
    ):
        alone = dataclasses.replace(other.config.answers, both_scores="none")
        other.workdir.lock()
        try:
            repair(dataclasses.replace(other.config, answers=alone), other.workdir, other.dataset)
        finally:
            other.workdir.unlock()
    workdir.bind(config, dataset, devices.strategy)
    for name, model in config.models.items():
        context = Context(name, workdir, devices, config)
        _repair_model(context, model.stages(context.levels, has_nonscored(dataset)))
    if damage := processes.said_by_first(_damage_of_log(workdir)):
        _remove(workdir.path / "metrics.jsonl", damage)


def _damage_of_log(workdir: Workdir) -> str:
    try:
        MetricsLog(workdir.path, tensorboard=False).read()
    except UserError as error:
        return str(error)
    return ""


def _repair_model(context: Context, designs: Sequence[StageDesign]) -> None:
    manifest = context.manifest
    if os.path.lexists(context.folder) and not context.folder.is_dir():
        _remove(context.folder, "it is no folder")
    try:
        damaged = dict(manifest.damages())
    except UserError as error:
        _remove(manifest.path, str(error))
        return
    if not damaged:
        return
    gone = _damaged_folders(context, designs, damaged)
    of_model = (
        model_files.METRICS,
        model_files.OOF,
        model_files.TEST,
        model_files.TEST_SPREAD,
        model_files.ENSEMBLE,
        attribution_baseline.FILE,
    )
    own = [context.folder / name for name in of_model]
    own += [context.folder / design.name / model_files.TEST for design in designs]
    for path in own:
        gone.setdefault(path, "made from what is made again")
    # A stage that lost a set of transforms is as one that was interrupted at its end.
    for design in designs:
        sets = design.features.folder(context, design.name)
        if any(sets == path.parent or sets.is_relative_to(path) for path in gone):
            own.append(context.folder / design.name / model_files.METRICS)
    manifest.discard(lambda path: path in own or any(path.is_relative_to(g) for g in gone))
    for path, reason in gone.items():
        if os.path.lexists(path):
            _remove(path, reason)


def _damaged_folders(
    context: Context, designs: Sequence[StageDesign], damaged: Mapping[Path, str]
) -> dict[Path, str]:
    """Returns the folders of stages and of sets of transforms that are damaged, and why."""
    found: dict[Path, str] = {}
    sets = {design.features.folder(context, design.name) for design in designs}
    stages = [context.folder / design.name for design in designs]
    for path, reason in damaged.items():
        of_set = next((path.parent for folder in sets if path.parent.parent == folder), None)
        of_stage = next((folder for folder in stages if path.is_relative_to(folder)), None)
        if of_set is not None:
            found.setdefault(of_set, reason)
        elif of_stage is not None and path.name != model_files.TEST:
            for later in stages[stages.index(of_stage) :]:
                found.setdefault(later, reason)
    return found


def _remove(path: Path, reason: str) -> None:
    logging.warning("%s: removed: %s", path, reason.partition("; ")[0])
    files.remove_all(path)
