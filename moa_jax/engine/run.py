"""Training and blending all models of a run, and the data that they read."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from moa_jax.blend import search, sources
from moa_jax.blend.sources import Source
from moa_jax.config import RunConfig
from moa_jax.data.dataset import Dataset
from moa_jax.data.names import level_key
from moa_jax.engine import blended, explanation, limits, other_folds, participation
from moa_jax.engine.loading import known_levels
from moa_jax.errors import UserError
from moa_jax.recipes import system
from moa_jax.recipes.context import Context
from moa_jax.recipes.design import has_nonscored
from moa_jax.recipes.recipe import Recipe
from moa_jax.recipes.splitting import COMPOUNDS
from moa_jax.report import figures, html, records
from moa_jax.store.workdir import OTHER_FOLDS, Workdir
from moa_jax.training.parallel import Devices, check_per_member
from moa_jax.training.progress import MetricsLog

# What folds keep whole of which nobody has said.
UNKNOWN = "unknown"


def check(config: RunConfig, dataset: Dataset) -> None:
    """Checks that the data suit every model, before any is trained.

    The log tells where devices are to share batches or rows and no model's can.

    Raises:
      UserError: naming the model and its field.
    """
    limits.check_counts(config, dataset)
    explanation.check(config, dataset)
    if config.treatment.encoding == "log10":
        _check_numbers(dataset)
    for name, model in config.models.items():
        with limits.naming(name):
            model.check(dataset)
            targets = [t for t in (dataset.scored, dataset.nonscored) if t is not None]
            masked = any(t.known is not None for t in targets)
            if masked or model.kept(dataset).groups is not None:
                _check_members(model, dataset, config)
    _tell_of_sharing(config)


def _tell_of_sharing(config: RunConfig) -> None:
    batches, rows = config.parallel.devices_per_member > 1, config.parallel.rows == "sharded"
    if not (batches or rows):
        return
    models, known = config.models.values(), known_levels(config)
    designs = [design for model in models for design in model.stages(known, True)]
    shares_batches = [design.shares_batches for design in designs if design.network]
    if batches and not any(shares_batches):
        logging.warning("config.parallel.devices_per_member: no model here shares batches")
    if rows and all(shares_batches):
        logging.warning("config.parallel.rows: no model here has rows that devices share")


def _check_numbers(dataset: Dataset) -> None:
    """Checks that times and doses of treated rows are numbers that have a logarithm, or 0."""
    for rows in filter(None, (dataset, dataset.test)):
        for column, values in rows.trained_levels().items():
            for value in values:
                key = level_key(str(value))
                if not isinstance(key, float) or key < 0:
                    raise UserError(
                        f"config.treatment.encoding=log10: column {column}: expected numbers that "
                        f"are not negative, found {value!r}; write it as one, or set one_hot"
                    )


def _check_members(model: Recipe, dataset: Dataset, config: RunConfig) -> None:
    """Checks that members are left with groups, and with known labels, to learn from."""
    rows = model.rows(dataset)
    for design in model.stages(known_levels(config), has_nonscored(dataset)):
        known = design.targets(rows).known
        members = design.members(design.split(rows), config.seed)
        if known is None:
            continue
        for member in members:
            for part in (member.train_rows, member.select_rows, member.valid_rows):
                if not known[part].any():
                    raise UserError(
                        f"folds: expected known labels among all rows that a network of stage "
                        f"{design.name} learns from or is scored on, found none in fold "
                        f"{member.fold}; set fewer folds, or leave rows without labels out"
                    )


def unlike_splits(config: RunConfig, dataset: Dataset) -> dict[str, list[str]]:
    """Returns the models by what their folds keep whole; one entry where their scores compare.

    Those of predictions from elsewhere may be `unknown`, which stops nothing.

    Raises:
      UserError: there are several, weights are searched, and `blend.unlike_splits` is `stop`; or
        a model's folds need what the data lack.
    """
    found: dict[str, list[str]] = {}
    for name, model in config.models.items():
        with limits.naming(name):
            found.setdefault(model.kept(dataset).whole, []).append(name)
    for name, file in config.blend.files.items():
        if file.oof:
            found.setdefault(file.split or UNKNOWN, []).append(name)
    searched = config.blend.method != "fixed" and config.blend.unlike_splits == "stop"
    if len(found.keys() - {UNKNOWN}) > 1 and searched:
        groups = "; ".join(f"{whole} of {', '.join(names)}" for whole, names in found.items())
        raise UserError(
            f"config.blend.method={config.blend.method}: expected models whose folds keep the same "
            f"whole, found {groups}; set config.data.groups=compound or each model's split, "
            "config.blend.method=fixed, or config.blend.unlike_splits=allow"
        )
    return found


def train(
    config: RunConfig, workdir: Workdir, dataset: Dataset, only: Sequence[str] | None = None
) -> None:
    """Fits every model of the configuration; models that are finished are left as they are.

    Args:
      config: the run.
      workdir: its work folder.
      dataset: its data.
      only: the models that are fitted of those that the folder is for; None for all.

    Raises:
      UserError: the data do not suit the configuration, the work folder is of another run, or a
        file of a finished model is not as it was written.
    """
    config, left_out = participation.of(config, workdir, dataset)
    for name, reason in left_out.items():
        logging.warning("config.models.%s: left out: %s", name, reason)
    check(config, dataset)
    devices = Devices.available(config.parallel.strategy)
    check_per_member(config.parallel.devices_per_member, len(devices.devices))
    fitted = {n: m for n, m in config.models.items() if only is None or n in only}
    unfinished = [
        context
        for name in fitted
        if not system.is_finished(context := Context(name, workdir, devices, config))
    ]
    for context in unfinished:
        limits.check_memory(config, dataset, context)
    for context in unfinished:
        with limits.naming(context.model):
            config.models[context.model].prepare()
    workdir.bind(config, dataset, devices.strategy)
    with contextlib.closing(MetricsLog(workdir.path, config.logging.tensorboard)) as log:
        for name, model in fitted.items():
            context = Context(name, workdir, devices, config, log)
            if system.is_finished(context):
                context.manifest.verify(*context.manifest.paths)
                logging.info("%s: finished by an earlier run", name)
            else:
                system.fit(model, dataset, context)


def train_on_other_folds(config: RunConfig, workdir: Workdir, dataset: Dataset) -> None:
    """Fits the models that `answers.both_scores` names on the folds of the other question.

    Data that do not suit those folds leave the run without that score, and the log says so.

    Raises:
      UserError: see `train`.
    """
    config, _ = participation.of(config, workdir, dataset)
    other = other_folds.of(config, workdir, dataset)
    if other is None:
        return
    try:
        check(other.config, other.dataset)
    except UserError as error:
        logging.warning("config.answers.both_scores: there is one score: %s", error)
        return
    what = "whole" if other.whole == COMPOUNDS else "apart"
    logging.info(
        "%s: on folds that keep compounds %s: %s", OTHER_FOLDS, what, ", ".join(other.models)
    )
    other.workdir.lock()
    try:
        train(other.config, other.workdir, other.dataset, other.models)
    finally:
        other.workdir.unlock()


def outside_sources(config: RunConfig, dataset: Dataset) -> dict[str, Source]:
    """Reads the predictions from elsewhere that are to be blended, by model.

    What could stop the blend is found here, before hours of training.

    Raises:
      UserError: a file is not what is expected, or the method's library is not installed.
    """
    search.check_installed(config.blend.method)
    found = {name: sources.of_files(files, dataset) for name, files in config.blend.files.items()}
    sources.check_tests(found, tuple(config.models) if dataset.test else ())
    return found


def blend(
    config: RunConfig, workdir: Workdir, dataset: Dataset, outside: Mapping[str, Source]
) -> None:
    """Weighs the models, writes weights, scores and submission.

    Everything is read and computed before the first file is written.
    """
    config, left_out = participation.of(config, workdir, dataset)
    models = {name: sources.of_model(workdir.manifest(name), dataset) for name in config.models}
    models |= outside
    sources.check_tests(models)
    record: dict[str, Any] = {"splits": unlike_splits(config, dataset)}
    if left_out:
        record["left_out"] = left_out
    found = blended.find(config, workdir, dataset, models, record)
    workdir.bind(config, dataset, Devices.available(config.parallel.strategy).strategy)
    blended.write(found, config, workdir, dataset)


def complete(config: RunConfig, workdir: Workdir, dataset: Dataset) -> None:
    """Trains a run, on other folds too where that is asked for, and blends it, with a lock.

    Raises:
      UserError: see `train` and `blend`.
    """
    workdir.lock()
    try:
        outside = outside_sources(config, dataset)
        unlike_splits(config, dataset)
        train(config, workdir, dataset)
        train_on_other_folds(config, workdir, dataset)
        blend(config, workdir, dataset, outside)
    finally:
        workdir.unlock()


def report(workdir: Workdir) -> None:
    """Writes the report of a blended run, and its figures."""
    folder, collected = workdir.path / "blend", records.collect(workdir.path)
    html.write(folder / "report.html", collected)
    figures.write(folder, collected)
