"""What every recipe shares: its context, its result, and fitting a stage from start to files."""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from moa_jax import files
from moa_jax.config import ParallelConfig
from moa_jax.data import folds as fold_files
from moa_jax.data.tables import Dataset, Levels
from moa_jax.errors import UserError
from moa_jax.predictions import Predictions
from moa_jax.training import loop, weights
from moa_jax.training.loop import Settings, StageRun
from moa_jax.training.members import Member
from moa_jax.training.metrics import mean_log_loss
from moa_jax.training.parallel import Devices
from moa_jax.training.predict import Predictor, out_of_fold
from moa_jax.training.progress import MetricsLog
from moa_jax.training.stage import Forward, Stage
from moa_jax.workdir import Workdir

Tree = Any


@dataclasses.dataclass(frozen=True)
class Context:
    """Where and how a recipe runs.

    Attributes:
      model: the model's name in the configuration; its folder in the work folder.
      workdir: the work folder.
      devices: devices and strategy.
      parallel: how members are spread.
      levels: levels of time, dose and type.
      base_seed: the run's seed.
      checkpoint_seconds: time between checkpoints.
      log: metrics of training; None in inference.
    """

    model: str
    workdir: Workdir
    devices: Devices
    parallel: ParallelConfig
    levels: Levels
    base_seed: int = 0
    checkpoint_seconds: float = 300.0
    log: MetricsLog | None = None

    @property
    def folder(self) -> Path:
        return self.workdir.path / self.model


@dataclasses.dataclass(frozen=True)
class RecipeResult:
    """What a fitted recipe hands on.

    Attributes:
      oof: out-of-fold predictions of the treated training rows.
      test: predictions of the test rows, None without a test file.
      notes: sentences for the report about what the data made different.
    """

    oof: Predictions
    test: Predictions | None
    notes: tuple[str, ...] = ()


def fit_stage(
    context: Context,
    stage: Stage,
    ids: np.ndarray,
    targets: tuple[str, ...],
    hard_targets: np.ndarray,
    num_inputs: int,
    feature_seconds: float = 0.0,
) -> Predictions:
    """Fits a stage and writes its folder; a stage that an earlier run finished is read back.

    Args:
      context: where and how.
      stage: what to fit; its name is `<model>/<stage>`.
      ids: [N] `sig_id` of the stage's training rows.
      targets: L target names.
      hard_targets: [N, L] 0/1 targets that predictions are scored with.
      num_inputs: number of the network's inputs, for the report.
      feature_seconds: time that building the stage's inputs took, for the report.

    Returns:
      The out-of-fold predictions, averaged over seeds.
    """
    folder = context.folder / stage.name.split("/")[-1]
    if is_finished(folder):
        logging.info("%s: finished by an earlier run", stage.name)
        return Predictions.read(folder / "oof.parquet")
    members_at_once = context.workdir.resolved(
        f"{stage.name}: members_at_once",
        context.parallel.members_at_once or loop.members_that_fit(stage, context.devices),
    )
    settings = Settings(
        devices=context.devices,
        base_seed=context.base_seed,
        members_at_once=members_at_once,
        steps_per_call=context.parallel.steps_per_call,
        checkpoint_seconds=context.checkpoint_seconds,
    )
    folds = {member.seed: np.full(len(ids), -1) for member in stage.members}
    for member in stage.members:
        folds[member.seed][member.valid_rows] = member.fold
    fold_files.write(folder / "folds.csv", ids, folds)

    start = time.monotonic()
    run = StageRun(stage, folder, settings, context.log)
    run.fit()
    trained = time.monotonic()
    predictor = stage_predictor(
        context, stage.name, stage.forward, [m.name for m in stage.members], stage.member_data
    )
    values, scores = out_of_fold(stage, predictor, hard_targets)
    oof = Predictions(ids, targets, values)
    oof.write(folder / "oof.parquet")
    score = mean_log_loss(hard_targets, values)
    logging.info("%s: out-of-fold log loss %.5f", stage.name, score)
    files.write_json(
        folder / "metrics.json",
        {
            "network": type(stage.forward.network).__name__,
            "inputs": num_inputs,
            "outputs": len(targets),
            "parameters": run.num_parameters,
            "members": [_member_record(folder, member) for member in stage.members],
            "score": score,
            "fold_scores": scores,
            "seconds": {
                "features": feature_seconds,
                "train": trained - start,
                "predict": time.monotonic() - trained,
            },
            "peak_memory_bytes": peak_memory_bytes(context.devices),
            "groups": len(run.groups),
            "slots": run.slots_per_device * len(context.devices.devices),
            "compilations": run.compilations + predictor.compilations,
        },
    )
    return oof


def _member_record(folder: Path, member: Member) -> dict[str, Any]:
    return {
        "seed": member.seed,
        "fold": member.fold,
        "train_rows": len(member.train_rows),
        "valid_rows": len(member.valid_rows),
        **weights.read_record(folder / "members" / f"{member.name}.npz"),
    }


def check_folds(dataset: Dataset, num_folds: int) -> None:
    """Checks that every fold can have a row.

    Raises:
      UserError: there are fewer treated rows than folds.
    """
    treated = int((~dataset.is_control).sum())
    if treated < num_folds:
        raise UserError(
            f"folds: expected at most as many as treated rows, found {num_folds} for {treated}"
        )


def data_notes(dataset: Dataset) -> tuple[str, ...]:
    """Returns what the report says about parts that the data lack."""
    lacking = {
        "No gene columns: their blocks are left out.": not dataset.genes,
        "No cell columns: their blocks are left out.": not dataset.cells,
        "No test rows while fitting: transforms know the training rows only.": not dataset.test,
    }
    return tuple(note for note, holds in lacking.items() if holds)


def is_finished(folder: Path) -> bool:
    """Tells whether a model's or stage's folder is complete: its metrics are written last."""
    return (folder / "metrics.json").exists()


def member_names(folder: Path) -> list[str]:
    """Returns the names of a finished stage's members, in the order of training."""
    recorded = files.read_json(folder / "metrics.json")["members"]
    return [f"seed{member['seed']}_fold{member['fold']}" for member in recorded]


def stage_predictor(
    context: Context,
    stage_name: str,
    forward: Forward,
    members: Sequence[str],
    member_data: Tree = (),
) -> Predictor:
    """Returns the predictor of a stage whose weights lie in its folder."""
    members_at_once = context.workdir.resolved(f"{stage_name}: members_at_once", len(members))
    return Predictor(
        stage_name,
        forward,
        context.folder / stage_name.split("/")[-1],
        members,
        context.devices,
        members_at_once,
        member_data,
    )


def predict_rows(
    dataset: Dataset,
    targets: tuple[str, ...],
    chunk_rows: int,
    probabilities: Callable[[Dataset], np.ndarray],
) -> Predictions:
    """Returns predictions of all rows, chunk by chunk; control rows get exactly 0.

    Args:
      dataset: rows to predict.
      targets: L target names.
      chunk_rows: rows per chunk.
      probabilities: maps at most `chunk_rows` rows to [rows, L] probabilities.
    """
    values = np.zeros((len(dataset), len(targets)))
    for start in range(0, len(dataset), chunk_rows):
        rows = np.arange(start, min(start + chunk_rows, len(dataset)))
        values[rows] = probabilities(dataset.take(rows))
    values[dataset.is_control] = 0.0
    return Predictions(dataset.ids, targets, values)


def peak_memory_bytes(devices: Devices) -> int:
    """Returns the peak memory so far: of the devices where they tell, of this process else."""
    statistics = [device.memory_stats() or {} for device in devices.devices]
    peaks = [s["peak_bytes_in_use"] for s in statistics if "peak_bytes_in_use" in s]
    if peaks:
        return sum(peaks)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
