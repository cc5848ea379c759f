"""Blended: what a run's models are together, all of it found before the first file is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from moa_jax.blend import combination, stored_weights, weighing
from moa_jax.blend.sources import Source
from moa_jax.blend.weighing import Weighing
from moa_jax.config import RunConfig
from moa_jax.data import folds
from moa_jax.data.dataset import Dataset
from moa_jax.deepinsight import inputs
from moa_jax.engine import answers, explanation, other_folds
from moa_jax.engine.answers import Learned
from moa_jax.engine.loading import known_levels
from moa_jax.recipes.splitting import COMPOUNDS
from moa_jax.report import analysis
from moa_jax.store import files, transform_files
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir
from moa_jax.training.means import MEANS

# The recipe of models that others are held against.
BASELINE = "baseline"


@dataclasses.dataclass(frozen=True)
class Blended:
    """What is found of the models together.

    Attributes:
      record: what `blend/weights.json` holds but for the run and the answers.
      weighed: weights and, where there are out-of-fold predictions, the blend's own.
      oof: those of each model that has them, of the treated rows.
      analysed: what `blend/analysis.json` holds.
      learned: what answers are made by; None without out-of-fold predictions.
      beside: the scores on the folds of the other question; None where there are none.
      tests: test predictions of each model, empty without test rows.
      predicted: their blend, None without test rows.
      submission: the same in the order that is asked for.
    """

    record: Mapping[str, Any]
    weighed: Weighing
    oof: Mapping[str, Predictions]
    analysed: Mapping[str, Any]
    learned: Learned | None
    beside: Mapping[str, Any] | None
    tests: Mapping[str, Predictions]
    predicted: Predictions | None
    submission: Predictions | None


def find(
    config: RunConfig,
    workdir: Workdir,
    dataset: Dataset,
    models: Mapping[str, Source],
    record: Mapping[str, Any],
) -> Blended:
    """Returns what the models are together; nothing is written.

    Args:
      config: the run, its models being those that take part.
      workdir: its work folder.
      dataset: its data.
      models: the predictions of each model, of those from elsewhere too.
      record: what is known of the models' folds, for the record of weights.

    Raises:
      UserError: a file is not as it was written, or the weights cannot be found.
    """
    labels = dataset.targets.take(~dataset.is_control)
    weighed = weighing.weigh(
        config.blend,
        {name: source.oof for name, source in models.items()},
        labels.values,
        int(dataset.is_control.sum()),
        config.seed,
        config.honest,
        _units(config, dataset),
        labels.known,
    )
    oof = {name: source.oof for name, source in models.items() if source.oof is not None}
    tests = {name: source.test for name, source in models.items() if source.test is not None}
    controls = {name: s.controls for name, s in models.items() if s.controls is not None}
    learned, beside = _learned(config, workdir, dataset, weighed, oof, record["splits"])
    analysed = analysis.analyse(config.blend, dataset, oof, tests, weighed.oof, controls)
    analysed["maps"] = _feature_maps(config, workdir, dataset)
    analysed["both_scores"] = other_folds.left_to_score(config, workdir, dataset, beside)
    predicted = submission = None
    if tests:
        mean = MEANS[config.blend.mean]
        predicted = combination.bounded(combination.combine(tests, weighed.weights, mean))
        submission = predicted
    if submission is not None and dataset.test is not None:
        order = dataset.test.ids if dataset.submission_ids is None else dataset.submission_ids
        submission = submission.aligned(order, "test predictions")
    return Blended(
        {**record, **weighed.record}, weighed, oof, analysed, learned, beside, tests, predicted,
        submission,
    )  # fmt: skip


def _learned(
    config: RunConfig,
    workdir: Workdir,
    dataset: Dataset,
    weighed: Weighing,
    oof: Mapping[str, Predictions],
    splits: Mapping[str, Any],
) -> tuple[Learned | None, Mapping[str, Any] | None]:
    """Returns what answers are made by, and the scores on the other folds, which are part of it."""
    if weighed.oof is None:
        return None, None
    baselines = {name for name, model in config.models.items() if model.recipe == BASELINE}
    known = dataset.targets.take(~dataset.is_control).known
    learned = answers.learn(
        config.answers, dataset, oof, weighed.oof, splits, baselines, config.seed, known=known
    )
    beside = other_folds.record(other_folds.of(config, workdir, dataset))
    if beside is not None:
        learned = dataclasses.replace(learned, record={**learned.record, "other_folds": beside})
    return learned, beside


def write(found: Blended, config: RunConfig, workdir: Workdir, dataset: Dataset) -> None:
    """Writes weights, scores, answers and submission into a work folder that is bound to the run.

    What an earlier blend left and this one does not have is removed.
    """
    folder = workdir.path / "blend"
    _write_scores(found, dataset, workdir)
    files.write_json(folder / "analysis.json", found.analysed)
    answered = {} if found.learned is None else {"answers": found.learned.hash}
    stored_weights.write(workdir.path, {**found.record, "run": workdir.run, **answered})
    answers.remove(workdir.path)
    if found.learned is not None:
        found.learned.write(workdir.path)
    _write_predicted(found, config, workdir, dataset)
    # It computes, which may fail: all that belongs together is written.
    explanation.of_training_rows(config, workdir, dataset, found.oof)


def _write_predicted(found: Blended, config: RunConfig, workdir: Workdir, dataset: Dataset) -> None:
    """Writes what is said of the rows to predict, or removes what an earlier blend said."""
    folder = workdir.path / "blend"
    if found.predicted is None or found.submission is None:
        files.remove(workdir.path / "submission.csv")
        logging.info("no test features: no submission")
        return
    parts = answers.weighed(found.tests, found.weighed.weights)
    answers.write_test(folder, found.learned, config.answers, dataset.test, found.predicted, parts)
    logging.info("answers: %s", folder / answers.PREDICTIONS[0])
    found.submission.write(workdir.path / "submission.csv")


def _write_scores(found: Blended, dataset: Dataset, workdir: Workdir) -> None:
    """Writes the blend's out-of-fold predictions and what they are of each target, and logs."""
    folder, weighed = workdir.path / "blend", found.weighed
    if weighed.oof is None:
        files.remove(folder / "oof.parquet", folder / "targets.csv")
        return
    labels = dataset.targets.take(~dataset.is_control)
    weighed.oof.write(folder / "oof.parquet")
    targets = analysis.targets_table(labels.values, weighed.oof, found.oof, labels.known)
    files.write_text(folder / "targets.csv", targets.to_csv(index=False))
    logging.info(
        "blend: log loss %.5f, best single model %s %.5f",
        weighed.record["score"],
        weighed.record["best_model"],
        weighed.record["best_model_loss"],
    )
    if found.beside is not None:
        logging.info("%s", other_folds.told(found.beside))


def _units(config: RunConfig, dataset: Dataset) -> np.ndarray | None:
    """Returns the units of the treated rows that folds keep whole, of the model with fewest.

    None where some model's folds are made row by row, or nobody knows how.
    """
    rows = dataset.take(np.flatnonzero(~dataset.is_control))
    found = [model.kept(rows).units(rows) for model in config.models.values()]
    for file in config.blend.files.values():
        drugs = rows.drug_id if file.split == COMPOUNDS else None
        found.append(None if drugs is None else folds.units_of(drugs))
    units = [one for one in found if one is not None]
    return min(units, key=np.max) if units and len(units) == len(found) else None


def _feature_maps(config: RunConfig, workdir: Workdir, dataset: Dataset) -> list[dict[str, Any]]:
    """Returns the first fold's map of every way that a finished model places the columns."""
    folders = {f for model in config.models.values() for f in model.drawn_maps(workdir.path)}
    stored = [folder for folder in sorted(folders) if transform_files.exists(folder)]
    if not stored:
        return []
    table = inputs.raw_table(dataset, known_levels(config))
    return [analysis.feature_map(folder, table, dataset) for folder in stored]
