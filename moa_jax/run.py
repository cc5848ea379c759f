"""The modes of a run: train, infer, blend, and all of them in turn."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
from absl import logging

from moa_jax import files
from moa_jax.blend import report, weights
from moa_jax.config import RunConfig, switches
from moa_jax.data import folds, simulate, tables
from moa_jax.data.tables import Dataset
from moa_jax.errors import UserError
from moa_jax.predictions import Predictions
from moa_jax.recipes import RECIPES, Context, is_finished
from moa_jax.training import metrics
from moa_jax.training.parallel import Devices
from moa_jax.training.progress import MetricsLog
from moa_jax.workdir import Workdir, levels


def load_data(config: RunConfig) -> Dataset:
    """Returns the training data that the configuration names, its test rows within."""
    data = config.data
    if data.source == "simulated":
        return simulate.make(
            rows=data.rows,
            seed=data.seed,
            genes=data.genes,
            cells=data.cells,
            scored=data.scored,
            nonscored=data.nonscored,
        )
    return tables.load(data.folder or tables.sample_folder(), levels(config))


def train(config: RunConfig, workdir: Workdir, dataset: Dataset) -> None:
    """Fits every model of the configuration; models that are finished are left as they are."""
    for model in config.models.values():
        RECIPES[model.recipe].check(dataset, model)
    devices = Devices.available(config.parallel.strategy)
    workdir.bind(config, dataset, devices.strategy)
    treated = ~dataset.is_control
    labels = dataset.scored.values[treated]
    log = MetricsLog(workdir.path, config.logging.tensorboard)
    for name, model in config.models.items():
        context = dataclasses.replace(_context(config, workdir, name), log=log)
        if is_finished(context.folder):
            logging.info("%s: finished by an earlier run", name)
            continue
        start = time.monotonic()
        recipe = RECIPES[model.recipe]
        result = recipe.fit(dataset, model, context)
        result.oof.write(context.folder / "oof.parquet")
        if result.test is not None:
            result.test.write(context.folder / "test.parquet")
        files.write_json(
            context.folder / "metrics.json",
            {
                "recipe": model.recipe,
                "scores": _scores(labels, result.oof.values, int(dataset.is_control.sum())),
                "seconds": time.monotonic() - start,
                "fidelity": switches(model),
                "faithful": switches(model.original()),
                "notes": list(result.notes),
                "stages": list(result.stages),
            },
        )
    log.close()


def blend(config: RunConfig, workdir: Workdir, dataset: Dataset) -> None:
    """Weights the models on their out-of-fold predictions, writes submission and report."""
    treated = np.flatnonzero(~dataset.is_control)
    ids, labels = dataset.ids[treated], dataset.scored.values[treated].astype(np.float64)
    names = list(config.models)
    aligned = {
        name: _read_finished(workdir, name, "oof.parquet").aligned(ids, f"{name}/oof.parquet")
        for name in names
    }
    stacked = np.stack([p.values for p in aligned.values()])
    searched = config.blend.method == "slsqp"
    if searched:
        found = weights.slsqp(stacked, labels)
    else:
        found = np.array([config.blend.weights.get(name, 1.0) for name in names])
    chosen = dict(zip(names, found.tolist(), strict=True))
    blended = weights.combine(aligned, chosen)
    losses = {name: metrics.mean_log_loss(labels, p.values) for name, p in aligned.items()}
    best = min(losses, key=losses.get)
    result = {
        "method": config.blend.method,
        "weights": chosen,
        "loss": metrics.mean_log_loss(labels, blended.values),
        "best_model": best,
        "best_model_loss": losses[best],
        "rows": len(ids),
    }
    if searched:
        parts = folds.k_fold(len(ids), config.blend.nested_folds, config.seed)
        nested_loss, nested_weights, _ = weights.nested(stacked, labels, parts)
        result["nested"] = {
            "loss": nested_loss,
            "weights": [dict(zip(names, w.tolist(), strict=True)) for w in nested_weights],
        }
    blended.write(workdir.path / "blend" / "oof.parquet")
    files.write_json(workdir.path / "blend" / "weights.json", result)
    logging.info(
        "blend: log loss %.5f, best single model %s %.5f", result["loss"], best, losses[best]
    )
    if dataset.test is not None:
        tests = {name: _read_finished(workdir, name, "test.parquet") for name in names}
        submission = weights.combine(tests, chosen)
        order = dataset.test.ids if dataset.submission_ids is None else dataset.submission_ids
        submission.aligned(order, "test predictions").write(workdir.path / "submission.csv")
    else:
        logging.info("no test features: no submission")
    report.write(workdir.path / "blend" / "report.html", report.collect(workdir.path))


def infer(config: RunConfig, workdir: Workdir) -> Path:
    """Predicts the rows of `data.test_features` with the work folder alone.

    Rows are streamed: memory does not grow with their number. Returns the submission's path.
    """
    if not config.data.test_features:
        raise UserError("config.data.test_features: expected a file for mode infer, found none")
    file = Path(config.data.test_features)
    columns = workdir.read()["data"]["columns"]
    folder = workdir.path / "infer" / file.name.split(".")[0]
    chosen = _stored_weights(workdir, list(config.models))
    predicted = {}
    for name, model in config.models.items():
        if not is_finished(workdir.path / name):
            raise UserError(f"{workdir.path / name}: expected a finished model, found none")
        predict = RECIPES[model.recipe].load(
            model, _context(config, workdir, name), tuple(columns["scored"])
        )
        predicted[name] = folder / f"{name}.parquet"
        with Predictions.writer(predicted[name]) as append:
            for rows in tables.stream(
                file,
                tuple(columns["genes"]),
                tuple(columns["cells"]),
                levels(config),
                config.parallel.predict_rows,
            ):
                append(predict(rows))
    with Predictions.writer(folder / "submission.csv") as append:
        for chunks in zip(*(Predictions.stream(p) for p in predicted.values()), strict=True):
            append(weights.combine(dict(zip(predicted, chunks, strict=True)), chosen))
    logging.info("inference: %s", folder / "submission.csv")
    return folder / "submission.csv"


def _context(config: RunConfig, workdir: Workdir, name: str) -> Context:
    return Context(
        model=name,
        workdir=workdir,
        devices=Devices.available(config.parallel.strategy),
        parallel=config.parallel,
        levels=levels(config),
        base_seed=config.seed,
        checkpoint_seconds=config.checkpoint.seconds,
    )


def _read_finished(workdir: Workdir, model: str, file: str) -> Predictions:
    path = workdir.path / model / file
    if not path.exists():
        raise UserError(
            f"{path}: expected predictions of a finished model, found none; train first"
        )
    return Predictions.read(path)


def _stored_weights(workdir: Workdir, models: list[str]) -> dict[str, float]:
    path = workdir.path / "blend" / "weights.json"
    if len(models) == 1 and not path.exists():
        return {models[0]: 1.0}
    return files.read_json(path)["weights"]


def _scores(labels: np.ndarray, values: np.ndarray, num_controls: int) -> dict[str, float]:
    return {
        "treated": metrics.mean_log_loss(labels, values),
        "epsilon": metrics.mean_log_loss_epsilon(labels, values),
        "printed": metrics.printed_log_loss(labels, values, num_controls),
    }
