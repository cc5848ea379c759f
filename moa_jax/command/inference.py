"""Mode infer: new rows, part by part through every model, into files beside a record."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from absl import logging

from moa_jax.blend import combination, stored_weights
from moa_jax.blend.combination import Weight
from moa_jax.command import explanation, inference_record
from moa_jax.command.inference_record import InputFile
from moa_jax.config import RunConfig
from moa_jax.data import formats, tables
from moa_jax.data.dataset import Dataset, Levels
from moa_jax.data.names import Prefixes
from moa_jax.errors import UserError
from moa_jax.prepare import new_rows
from moa_jax.recipes import system
from moa_jax.recipes.context import Context
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir
from moa_jax.training.parallel import Devices

SUBMISSION = "submission.csv"
# From some rows to a model's predictions of them.
Predict = Callable[[Dataset], Predictions]


def check_ahead(config: RunConfig) -> None:
    """Checks what could only stop inference when everything before it is done.

    Raises:
      UserError: `data.test_features` is no file, or predictions are blended that come from one.
    """
    formats.check_file(Path(config.data.test_features))
    for name in config.blend.files:
        raise UserError(
            f"config.data.test_features: expected none with config.blend.files.{name}, whose "
            "predictions come from a file; new rows cannot be predicted"
        )


def infer(config: RunConfig, workdir: Workdir) -> Path:
    """Predicts the rows of `data.test_features` with the work folder alone.

    The file is hashed, then parsed once, every part of it for all models, and must be the same at
    the end: all predictions are of one table. Memory does not grow with the number of rows but for
    their ids. What an earlier inference made of the same content, by the same models and weights,
    is left as it is. Returns the submission's path.

    Raises:
      UserError: a field that decides what is predicted differs from the work folder's; a model is
        not finished; the file is not what is expected, or was changed meanwhile. Nothing of what
        was begun is left.
    """
    if not config.data.test_features:
        raise UserError("config.data.test_features: expected a file for mode infer, found none")
    workdir.check(config)
    source = InputFile.of(config.data.test_features)
    stored, devices = workdir.read(), Devices.available(config.parallel.strategy)
    targets = tuple(stored["data"]["columns"]["scored"])
    chosen = _weights(config, workdir, targets)
    contexts = {name: Context(name, workdir, devices, config) for name in config.models}
    for context in contexts.values():
        if not system.is_finished(context):
            raise UserError(f"{context.folder}: expected a finished model, found none; train first")
    manifests = {name: context.manifest.path for name, context in contexts.items()}
    made_by = inference_record.made_by(stored, manifests, chosen)
    outputs = [*(f"{name}.parquet" for name in contexts), SUBMISSION]
    seen = explanation.new_rows(config, workdir, targets)
    if seen is not None:
        made_by["explain"] = seen.question
        outputs.append(explanation.FILE)
    folder, is_there = inference_record.find(workdir.path / "infer", source, made_by, outputs)
    if is_there:
        logging.info(
            "inference: %s, made earlier of the same content; nothing to do", folder / SUBMISSION
        )
        return folder / SUBMISSION
    predicts = _loaded(config, contexts, targets)
    with inference_record.removing_if_empty(folder):
        rows = _write(config, stored["data"], source, predicts, chosen, folder, seen)
        if seen is not None:
            seen.write(folder)
        inference_record.write(folder, source, made_by, rows, outputs)
    logging.info("inference: %s, %d rows", folder / SUBMISSION, rows)
    return folder / SUBMISSION


def _loaded(
    config: RunConfig, contexts: Mapping[str, Context], targets: tuple[str, ...]
) -> dict[str, Predict]:
    """Returns what predicts by each model, all of them in memory together."""
    num_stages = sum(
        len(system.finished_outcome(config.models[name], context).designs)
        for name, context in contexts.items()
    )
    return {
        name: system.load(config.models[name], context, targets, num_stages)
        for name, context in contexts.items()
    }


def _write(
    config: RunConfig,
    data: Mapping[str, Any],
    source: InputFile,
    predicts: Mapping[str, Predict],
    chosen: Mapping[str, Weight],
    folder: Path,
    seen: explanation.MostLikely | None,
) -> int:
    """Writes the models' predictions and their blend part by part; returns the number of rows."""
    levels, columns, count = Levels.of(config.data), data["columns"], 0
    with contextlib.ExitStack() as stack:
        # What is entered first appears last.
        submit = stack.enter_context(Predictions.writer(folder / SUBMISSION))
        append = {
            name: stack.enter_context(Predictions.writer(folder / f"{name}.parquet"))
            for name in predicts
        }
        stack.enter_context(source.unchanged())
        file = stack.enter_context(new_rows.in_layout(source.path, data.get("prepared")))
        for rows in tables.stream(
            file,
            tuple(columns["genes"]),
            tuple(columns["cells"]),
            levels,
            config.parallel.predict_rows,
            Prefixes.of(config.data),
            columns["treatment"],
        ):
            rows = rows.at_trained_levels(levels, data["levels"])
            found = {name: predict(rows) for name, predict in predicts.items()}
            for name, predictions in found.items():
                append[name](predictions)
            if seen is not None:
                seen.add(rows, found[seen.model])
            submit(combination.bounded(combination.combine(found, chosen)))
            count += len(rows)
    return count


def _weights(config: RunConfig, workdir: Workdir, targets: tuple[str, ...]) -> dict[str, Weight]:
    """Returns the weights that the work folder's blend found, those of a single model if none."""
    models, files = list(config.models), list(config.blend.files)
    is_weighed = os.path.lexists(workdir.path / stored_weights.FILE)
    if len(models) == 1 and not files and not is_weighed:
        return {models[0]: 1.0}
    record = stored_weights.read(workdir.path, [*models, *files], targets)
    if files:
        raise UserError(
            f"{workdir.path / stored_weights.FILE}: expected weights of the models {models}, found "
            f"one of {files[0]}, whose predictions come from a file; new rows cannot be predicted"
        )
    stored_weights.check_origin(workdir.path, record, workdir.run, config.blend)
    return record["weights"]
