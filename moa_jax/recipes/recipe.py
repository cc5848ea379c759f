"""What every recipe shares: its context, its result, and fitting a stage from start to files."""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import logging

from moa_jax.config import ParallelConfig
from moa_jax.data import folds as fold_files
from moa_jax.data.dataset import Dataset, Levels, Targets
from moa_jax.errors import UserError
from moa_jax.store import files
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir
from moa_jax.training import weights
from moa_jax.training.layout import Settings, members_that_fit
from moa_jax.training.loop import StageRun
from moa_jax.training.members import Member, MemberId
from moa_jax.training.metrics import mean_log_loss
from moa_jax.training.parallel import Devices, choose_per_member
from moa_jax.training.predict import Predictor, out_of_fold
from moa_jax.training.progress import MetricsLog
from moa_jax.training.stage import Forward, Stage

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

    def devices_for(self, forward: Forward, num_members: int) -> Devices:
        """Returns the devices as that many members of a network use them."""
        parallel = self.parallel
        per_member = choose_per_member(
            parallel.devices_per_member,
            parallel.strategy,
            forward.shares_batches,
            len(self.devices.devices),
            num_members,
        )
        return self.devices.sharing_batches(per_member)


@dataclasses.dataclass(frozen=True)
class RecipeResult:
    """What a fitted recipe hands on.

    Attributes:
      oof: out-of-fold predictions of the treated training rows.
      test: predictions of the test rows, None without a test file.
      stages: names of the stages in the order of training.
      notes: sentences for the report about what the data made different.
    """

    oof: Predictions
    test: Predictions | None
    stages: tuple[str, ...]
    notes: tuple[str, ...] = ()


def fit_stage(
    context: Context,
    stage: Stage,
    ids: np.ndarray,
    targets: Targets,
    num_inputs: int,
    feature_seconds: float = 0.0,
) -> Predictions:
    """Fits a stage and writes its folder.

    Args:
      context: where and how.
      stage: what to fit; its name is `<model>/<stage>`.
      ids: [N] `sig_id` of the stage's training rows.
      targets: the hard targets, which predictions are scored with.
      num_inputs: number of the network's inputs, for the report.
      feature_seconds: time that building the stage's inputs took, for the report.

    Returns:
      The out-of-fold predictions, averaged over seeds.
    """
    folder = context.folder / stage.name.split("/")[-1]
    devices = context.devices_for(stage.forward, len(stage.members))
    members_at_once = context.workdir.resolved(
        f"{stage.name}: members_at_once",
        context.parallel.members_at_once
        or members_that_fit(stage, devices.num_shards, devices.memory_bytes()),
    )
    devices = context.devices_for(stage.forward, min(members_at_once, len(stage.members)))
    if devices.per_member > 1:
        logging.info("%s: %d devices share each batch", stage.name, devices.per_member)
    settings = Settings(
        devices=devices,
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
        context, stage.name, stage.forward, [m.id for m in stage.members], stage.member_data
    )
    values, scores = out_of_fold(stage, predictor, targets.values)
    oof = Predictions(ids, targets.names, values)
    oof.write(folder / "oof.parquet")
    score = mean_log_loss(targets.values, values)
    logging.info("%s: out-of-fold log loss %.5f", stage.name, score)
    files.write_json(
        folder / "metrics.json",
        {
            "network": type(stage.forward.network).__name__,
            "inputs": num_inputs,
            "outputs": len(targets.names),
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
            "slots": run.slots_per_shard * devices.num_shards,
            "devices_per_member": devices.per_member,
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


def check_same_folds(config) -> None:
    """Checks that transforms of a fold serve every stage of a chain.

    Raises:
      UserError: transforms are fitted per fold, but folds differ between stages.
    """
    if config.transforms == "per_fold" and not config.same_folds:
        raise UserError("same_folds: expected true with transforms=per_fold, found false")


def check_lengths(field: str, values: Sequence, other: str, expected: Sequence) -> None:
    """Checks that two fields have equally many values.

    Raises:
      UserError: they differ.
    """
    if len(values) != len(expected):
        raise UserError(
            f"{field}: expected {len(expected)} values, one for each of {other}, "
            f"found {len(values)}"
        )


def zeros(shape: tuple[int, ...], dtype: type | None = None) -> np.ndarray:
    """Returns zeros that take no memory, in the dtype of the devices unless another is given.

    They stand for features that are not computed where only shapes count.
    """
    return np.broadcast_to(np.zeros((), dtype or jnp.result_type(float)), shape)


def outline_folds(num_rows: int, num_folds: int, seeds: Sequence[int]) -> dict[int, np.ndarray]:
    """Returns for every seed folds of equal size, which stand for those of a splitter.

    An outline has the stages, members, networks and shapes of a fit, and is made in no time: folds
    are not split, transforms not fitted, and features are `zeros`.
    """
    return dict.fromkeys(seeds, np.arange(num_rows) % num_folds)


def nonempty_nonscored(rows: Dataset) -> Targets:
    """Returns the non-scored targets that have a positive row; possibly none."""
    if rows.nonscored is None:
        return Targets((), np.zeros((len(rows), 0), np.uint8))
    some = rows.nonscored.values.any(0)
    names = tuple(np.asarray(rows.nonscored.names)[some].tolist())
    return Targets(names, rows.nonscored.values[:, some])


def has_nonscored(dataset: Dataset) -> bool:
    """Tells whether treated rows have positive non-scored targets."""
    return bool(nonempty_nonscored(dataset.take(np.flatnonzero(~dataset.is_control))).names)


def data_notes(dataset: Dataset, needs_nonscored: bool, reads_test: bool = True) -> tuple[str, ...]:
    """Returns, and logs, what the log and the report say about parts that the data lack.

    Args:
      dataset: training rows.
      needs_nonscored: a stage learns the non-scored targets.
      reads_test: transforms look at test rows where there are any.
    """
    lacking = {
        "No gene columns: their blocks are left out.": not dataset.genes,
        "No cell columns: their blocks are left out.": not dataset.cells,
        "No non-scored targets: the stage that learns them is left out.": needs_nonscored
        and not has_nonscored(dataset),
        "No test rows while fitting: transforms know the training rows only.": reads_test
        and not dataset.test,
    }
    notes = tuple(note for note, holds in lacking.items() if holds)
    for note in notes:
        logging.info("%s", note)
    return notes


def is_finished(folder: Path) -> bool:
    """Tells whether a model's or stage's folder is complete: its metrics are written last."""
    return (folder / "metrics.json").exists()


def finished_predictions(context: Context, stage: str) -> Predictions | None:
    """Returns the out-of-fold predictions of a stage that an earlier run finished, else None."""
    folder = context.folder / stage
    if not is_finished(folder):
        return None
    logging.info("%s/%s: finished by an earlier run", context.model, stage)
    return Predictions.read(folder / "oof.parquet")


def member_ids(metrics: Mapping[str, Any]) -> list[MemberId]:
    """Returns who a stage's members are from its metrics, in the order of training."""
    return [MemberId(member["seed"], member["fold"]) for member in metrics["members"]]


def stage_predictor(
    context: Context,
    stage_name: str,
    forward: Forward,
    members: Sequence[MemberId],
    member_data: Tree = (),
    share: float = 1.0,
) -> Predictor:
    """Returns the predictor of a stage whose weights lie in its folder."""
    folder = context.folder / stage_name.split("/")[-1]
    devices = context.devices_for(forward, len(members))
    return Predictor(stage_name, forward, folder, members, devices, member_data, share)


def predict_rows(
    dataset: Dataset,
    chunk_rows: int,
    probabilities: Callable[[Dataset], Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Returns each stage's predictions of all rows, chunk by chunk; controls get exactly 0.

    Args:
      dataset: rows to predict.
      chunk_rows: rows per chunk.
      probabilities: maps at most `chunk_rows` rows to probabilities [rows, L] by stage.
    """
    starts = range(0, len(dataset), chunk_rows)
    chunks = [
        probabilities(dataset.take(np.arange(start, min(start + chunk_rows, len(dataset)))))
        for start in starts
    ]
    treated = ~dataset.is_control[:, None]
    return {
        stage: np.concatenate([chunk[stage] for chunk in chunks]) * treated for stage in chunks[0]
    }


def peak_memory_bytes(devices: Devices) -> int:
    """Returns the peak memory so far: of the devices where they tell, of this process else."""
    statistics = [device.memory_stats() or {} for device in devices.local]
    peaks = [s["peak_bytes_in_use"] for s in statistics if "peak_bytes_in_use" in s]
    if peaks:
        return sum(peaks)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
