"""Fitting a stage of a system, from its arrays to the files of its folder."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from moa_jax.data import folds as fold_files
from moa_jax.data.dataset import Targets
from moa_jax.recipes import stage_predictions
from moa_jax.recipes.context import Context
from moa_jax.recipes.design import StageDesign
from moa_jax.recipes.host_stage import HostPredictor, HostStage, HostTraining, read_record
from moa_jax.recipes.stage_predictions import StagePredictions
from moa_jax.recipes.stored import StoredSets
from moa_jax.store import files
from moa_jax.store.model_files import FOLDS, METRICS, OOF
from moa_jax.store.posix import resource
from moa_jax.store.predictions import Predictions
from moa_jax.training import exhausted, waiting, weights
from moa_jax.training.layout import Settings
from moa_jax.training.loop import StageRun
from moa_jax.training.members import MemberId
from moa_jax.training.metrics import mean_log_loss
from moa_jax.training.parallel import Devices
from moa_jax.training.predict import MemberPredictor, Predictor, out_of_fold
from moa_jax.training.stage import Stage


def fit_stage(
    context: Context,
    stage: Stage | HostStage,
    ids: np.ndarray,
    targets: Targets,
    folds: Mapping[int, np.ndarray],
    num_inputs: int,
    feature_seconds: float = 0.0,
    by_seed: bool = False,
) -> tuple[Predictions, StagePredictions]:
    """Fits a stage and writes its folder.

    Args:
      context: where and how.
      stage: what to fit; its name is `<model>/<stage>`.
      ids: [N] `sig_id` of the stage's training rows.
      targets: the hard targets, which predictions are scored with.
      folds: for every seed the fold of each row, for the file that keeps them.
      num_inputs: number of the network's inputs, for the report.
      feature_seconds: time that building the stage's inputs took, for the report.
      by_seed: keep the predictions of each seed, too.

    Returns:
      The out-of-fold predictions, averaged over seeds, and with them what later stages read.
    """
    folder = context.folder / stage.name.split("/")[-1]
    fold_files.write(folder / FOLDS, ids, folds)
    start = time.monotonic()
    if isinstance(stage, HostStage):
        made = _on_host(context, stage, folder)
    else:
        made = _networks(context, stage, folder)
    trained = time.monotonic()
    with exhausted.told(lambda: exhausted.of_prediction(stage.name, None)):
        there = dataclasses.replace(stage, shared=made.inputs)
        found = out_of_fold(there, made.predictor, targets.values, by_seed)
    oof = Predictions(ids, targets.names, found.values)
    oof.write(folder / OOF)
    if found.nested:
        stage_predictions.write_nested(folder, found.nested)
    apart: dict[int, stage_predictions.SeedPredictions] = {}
    if by_seed:
        stage_predictions.write_seeds(folder, found.by_seed)
        apart = stage_predictions.read_seeds(folder)
    score = mean_log_loss(targets.values, found.values, targets.known)
    logging.info("%s: out-of-fold log loss %.5f", stage.name, score)
    files.write_json(
        folder / METRICS,
        {
            "network": made.network,
            "inputs": num_inputs,
            "outputs": len(targets.names),
            "parameters": made.num_parameters,
            "members": [
                {
                    "seed": member.seed,
                    "fold": member.fold,
                    "blocks": list(member.blocks),
                    "train_rows": len(member.train_rows),
                    "valid_rows": len(member.valid_rows),
                    **made.record(folder / "members" / f"{member.name}.npz"),
                }
                for member in stage.members
            ],
            "score": score,
            "fold_scores": found.scores,
            "seconds": {
                "features": feature_seconds,
                "train": trained - start,
                "predict": time.monotonic() - trained,
            },
            "peak_memory_bytes": peak_memory_bytes(context.devices),
            **made.of_training(),
        },
    )
    return oof, StagePredictions(found.values, found.nested, apart)


def predictor_of(
    context: Context,
    design: StageDesign,
    every: Sequence[MemberId],
    outputs: int,
    stored: StoredSets,
    share: float,
) -> MemberPredictor:
    """Returns what predicts by the members of a finished stage.

    Args:
      context: where they were fitted.
      design: the stage.
      every: who they are.
      outputs: number of targets that each predicts.
      stored: the transforms that they read.
      share: the predictor's share of the memory for members.

    Raises:
      UserError: a member's file is missing or damaged.
    """
    folder, features = context.folder / design.name, design.features
    data = features.member_data(stored(design.name), stored.numbers(every), ())
    if isinstance(design.training, HostTraining):
        return HostPredictor(design.training.learner, features.inputs, folder, every, data)
    forward = design.forward(outputs, context)
    return Predictor(
        design.full_name(context),
        forward,
        folder,
        every,
        context.devices_for(forward, len(every)),
        design.member_data(data, every),
        share=share,
    )


class _Made(NamedTuple):
    """Fitted members: what predicts by them, and what the stage's metrics tell of them.

    Attributes:
      predictor: predicts by them.
      inputs: what all members read, on the devices where it lies there as the predictor needs it.
      network: what each is.
      num_parameters: of each; None where that says nothing.
      record: from a member's file to what it tells of the member.
      of_training: what else there is to tell, all programs being compiled.
    """

    predictor: MemberPredictor
    inputs: Any
    network: str
    num_parameters: int | None
    record: Callable[[Path], Mapping[str, Any]]
    of_training: Callable[[], Mapping[str, Any]]


def _networks(context: Context, stage: Stage, folder: Path) -> _Made:
    """Trains the networks of a stage."""
    members_at_once, waves = context.cut(stage)
    devices = context.devices_of(stage, members_at_once)
    for wave in waves:
        logging.info("%s: %d members with %d devices each", stage.name, *wave)
    if devices.per_member > 1 and not waves:
        logging.info("%s: %d devices share each batch", stage.name, devices.per_member)
    if devices.shares_rows:
        logging.info("%s: %d devices share the rows", stage.name, devices.num_shards)
    settings = Settings(
        devices=devices,
        base_seed=context.config.seed,
        members_at_once=members_at_once,
        waves=waves,
        steps_per_call=context.parallel.steps_per_call,
        checkpoint_seconds=context.config.checkpoint.seconds,
        manifest=context.manifest,
        run=context.workdir.run,
    )
    run = StageRun(stage, folder, settings, context.log)
    remat = getattr(context.config.models.get(context.model), "remat", None)
    asked = context.model, remat, context.parallel.strategy
    with exhausted.told(lambda: exhausted.of_training(stage, settings, *asked)):
        with waiting.told(stage.name) as begin:
            begin("making and uploading what members read")
            shared = run.shared  # before rows per second are counted
        run.fit()
    predicting = context.devices_of(stage, len(stage.members))
    with exhausted.told(lambda: exhausted.of_prediction(stage.name, None)):
        predictor = Predictor(
            stage.name,
            stage.forward,
            folder,
            [member.id for member in stage.members],
            predicting,
            stage.member_data,
        )

    def of_training() -> dict[str, Any]:
        return {
            "steps_per_epoch": stage.longest_epoch,
            "groups": len(run.groups),
            "slots": run.layout.slots_per_shard * devices.num_shards,
            "devices_per_member": devices.per_member,
            "waves": waves,
            "compilations": run.compilations + predictor.compilations,
        }

    network = type(stage.forward.network).__name__
    inputs = shared.inputs if predicting == devices else stage.shared
    del shared, run.shared  # the rest makes room on the devices
    return _Made(predictor, inputs, network, run.num_parameters, weights.read_record, of_training)


def _on_host(context: Context, stage: HostStage, folder: Path) -> _Made:
    """Fits the models of a stage by their library."""
    stage.fit(folder, context.manifest)
    every = [member.id for member in stage.members]
    learner = stage.training.learner
    predictor = HostPredictor(learner, stage.inputs, folder, every, stage.member_data)
    count = predictor.num_parameters
    return _Made(predictor, stage.shared, learner.name, count, read_record, dict)


def peak_memory_bytes(devices: Devices) -> int:
    """Returns the peak memory so far: of the devices where they tell, of this process else."""
    statistics = [device.memory_stats() or {} for device in devices.local]
    peaks = [s["peak_bytes_in_use"] for s in statistics if "peak_bytes_in_use" in s]
    if peaks:
        return sum(peaks)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
