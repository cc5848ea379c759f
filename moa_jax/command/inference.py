"""Mode infer: new rows, part by part through every model, into files beside a record."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import logging

from moa_jax import schema
from moa_jax.command import inference_record, new_compounds
from moa_jax.command.inference_record import InputFile
from moa_jax.command.known_rows import KnownRows
from moa_jax.command.new_compounds import NewCompounds
from moa_jax.config import LEVELS_OF_FILES, DataConfig, RunConfig
from moa_jax.data import formats, tables
from moa_jax.data.ahead import read_ahead
from moa_jax.data.names import Prefixes
from moa_jax.engine import answers, explanation, participation, prediction
from moa_jax.engine.prediction import LoadedEnsemble
from moa_jax.errors import UserError
from moa_jax.prepare import new_rows
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir

SUBMISSION = "submission.csv"


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


def settled(config: RunConfig, workdir: Workdir) -> RunConfig:
    """Returns the configuration with the levels that it leaves to the data, as a run found them.

    Raises:
      UserError: the work folder's configuration cannot be read.
    """
    stored = schema.build(DataConfig, workdir.read()["config"]["data"], "config.data")
    unset = [name for name in LEVELS_OF_FILES if not getattr(config.data, name)]
    if not unset:
        return config
    found = {name: getattr(stored, name) for name in (*unset, "other_types")}
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **found))


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
    stored = workdir.read()
    config, _ = participation.of(config, workdir, stored["data"])
    workdir.check(config)
    source = InputFile.of(config.data.test_features)
    targets = tuple(stored["data"]["columns"]["scored"])
    chosen = prediction.chosen(config, workdir, targets)
    if not chosen.record:
        logging.info(
            "inference: probabilities are not calibrated and none is confident before "
            "--mode=blend has learned how"
        )
    contexts = prediction.finished(config, workdir)
    manifests = {name: context.manifest.path for name, context in contexts.items()}
    made_by = inference_record.made_by(
        stored, manifests, chosen.weights, chosen.mean.name, chosen.record
    )
    outputs = [*(f"{name}.parquet" for name in contexts), *answers.PREDICTIONS, SUBMISSION]
    drugs = new_compounds.beside(source.path)
    if drugs is not None:
        made_by["compounds"] = drugs.record
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
    ensemble = LoadedEnsemble.of(config, stored["data"], chosen, contexts)
    with inference_record.removing_if_empty(folder):
        known = KnownRows((one.folder for one in contexts.values()), stored["data"].get("prepared"))
        rows = _write(config, stored["data"], source, drugs, ensemble, folder, seen, known)
        if seen is not None:
            seen.write(folder)
        inference_record.write(folder, source, made_by, rows, outputs)
    logging.info("inference: %s, %d rows", folder / SUBMISSION, rows)
    return folder / SUBMISSION


def _write(
    config: RunConfig,
    data: Mapping[str, Any],
    source: InputFile,
    drugs: InputFile | None,
    ensemble: LoadedEnsemble,
    folder: Path,
    seen: explanation.MostLikely | None,
    known: KnownRows,
) -> int:
    """Writes the models' predictions, their blend and answers; returns the number of rows."""
    columns, chosen, count = data["columns"], ensemble.chosen, 0
    with contextlib.ExitStack() as stack:
        # What is entered first appears last.
        submit = stack.enter_context(Predictions.writer(folder / SUBMISSION))
        append = {
            name: stack.enter_context(Predictions.writer(folder / f"{name}.parquet"))
            for name in ensemble.predicts
        }
        compounds = NewCompounds(drugs)
        answer = stack.enter_context(
            answers.writing(folder, chosen.listed, lambda: bool(compounds.are_known))
        )
        answering = answers.Answering(chosen.rules, columns["scored"])
        stack.enter_context(source.unchanged())
        if drugs is not None:
            stack.enter_context(drugs.unchanged())
        file = stack.enter_context(new_rows.in_layout(source.path, data.get("prepared")))
        pieces = tables.stream(
            file,
            tuple(columns["genes"]),
            tuple(columns["cells"]),
            ensemble.levels,
            config.parallel.predict_rows,
            Prefixes.of(config.data),
            columns["treatment"],
        )
        for rows in stack.enter_context(contextlib.closing(read_ahead(pieces))):
            rows = ensemble.levelled(rows)
            known.add(rows)
            blended, found = ensemble.predict(rows)
            for name, predictions in found.items():
                append[name](predictions)
            if seen is not None:
                seen.add(rows, found[seen.model])
            submit(blended)
            names = compounds.of(rows)
            treated, parts = ensemble.of_treated(rows, blended, found)
            for lines in answering.wells(treated, parts):
                answer(lines)
            if names is not None:
                answering.add(names, treated, parts)
            count += len(rows)
        for lines in answering.compounds():
            answer(lines)
        compounds.tell()
        known.tell()
    return count
