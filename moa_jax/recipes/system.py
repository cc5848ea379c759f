"""System: every recipe's stages fitted in order, read back, and applied to rows."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from absl import logging

from moa_jax.config import switches
from moa_jax.data.dataset import Dataset, Levels
from moa_jax.recipes.context import Context
from moa_jax.recipes.design import StageDesign, has_nonscored, scored
from moa_jax.recipes.features import Arrays, Known, Passage, Transforms, sets_of
from moa_jax.recipes.fitting import fit_stage
from moa_jax.recipes.recipe import Recipe
from moa_jax.store import files, transform_files
from moa_jax.store.predictions import Predictions
from moa_jax.training import members, metrics
from moa_jax.training.members import Member, MemberId
from moa_jax.training.predict import Predictor
from moa_jax.training.stage import Stage


@dataclasses.dataclass(frozen=True)
class RecipeResult:
    """What a fitted recipe hands on.

    Attributes:
      oof: out-of-fold predictions of the treated training rows.
      test: predictions of the test rows, None without a test file.
      stages: names of the stages in the order of training.
      notes: sentences for the report about what the data made different.
      reported: the stage whose out-of-fold predictions these are.
      controls: that stage's of the control rows; None where its members train on treated rows only.
    """

    oof: Predictions
    test: Predictions | None
    stages: tuple[str, ...]
    notes: tuple[str, ...]
    reported: str
    controls: Predictions | None


def is_finished(context: Context, stage: str = "") -> bool:
    """Tells whether a model or one of its stages is complete: its metrics are written last."""
    return (context.folder / stage / "metrics.json").exists()


def fit(recipe: Recipe, dataset: Dataset, context: Context) -> RecipeResult:
    """Trains every stage and predicts the training rows out of fold, and the test rows.

    What an earlier run has finished is read back. The model's files are complete afterwards.

    Args:
      recipe: the system.
      dataset: training rows; `dataset.test` may be absent.
      context: where and how it runs.
    """
    start = time.monotonic()
    designs = recipe.stages(context.levels, has_nonscored(dataset))
    notes = _data_notes(recipe, dataset, context.levels, designs)
    training = Fitting(recipe, dataset, context)
    for design in designs:
        training.fit(design)
    test = None
    if dataset.test is not None:
        used = _used(designs)
        found = predict_rows(dataset.test, context, _probabilities(used, context))
        for design in used:
            names = training.oof[design.name].targets
            test = Predictions(dataset.test.ids, names, found[design.name])
            test.write(context.folder / design.name / "test.parquet")
    own_notes = recipe.notes(training.passage.rows, context)
    for note in own_notes:
        logging.info("%s: %s", context.model, note)
    reported = recipe.reported or designs[-1].name
    result = RecipeResult(
        training.oof[reported].aligned(dataset.ids[~dataset.is_control]),
        test,
        tuple(design.name for design in designs),
        (*notes, *own_notes),
        reported,
        training.oof[reported].if_any(dataset.ids[dataset.is_control]),
    )
    _write(recipe, dataset, context, result, time.monotonic() - start)
    return result


def load(
    recipe: Recipe, context: Context, targets: tuple[str, ...]
) -> Callable[[Dataset], Predictions]:
    """Returns the function that predicts new rows; it needs the work folder only.

    Args:
      recipe: the system.
      context: where it was fitted, and how it runs.
      targets: names of the scored targets.
    """
    designs = recipe.stages(context.levels, True)
    if not all(is_finished(context, design.name) for design in designs):
        designs = recipe.stages(context.levels, False)
    probabilities, last = _probabilities(_used(designs), context), designs[-1].name

    def predict(rows: Dataset) -> Predictions:
        return Predictions(rows.ids, targets, predict_rows(rows, context, probabilities)[last])

    return predict


class BuiltStage(NamedTuple):
    """A stage ready to be fitted.

    Attributes:
      stage: the stage.
      num_inputs: number of the network's inputs.
    """

    stage: Stage
    num_inputs: int


def outline(recipe: Recipe, dataset: Dataset, context: Context) -> list[BuiltStage]:
    """Returns the stages that `fit` would train, their folds being split and nothing fitted.

    Features are zeros that take no memory.
    """
    rows, outlines = recipe.rows(dataset), []
    widths: dict[str, int] = {}
    for design in recipe.stages(context.levels, has_nonscored(dataset)):
        targets, every = design.targets(rows), _members(design, rows, context)
        known = Known(dataset, rows, sets_of(design.features, every, len(rows)), {})
        shapes = design.features.shapes(known, every, widths)
        arrays = Arrays(*jax.tree.map(_zeros, tuple(shapes)))
        stage = design.stage(context, every, arrays, targets)
        outlines.append(BuiltStage(stage, design.features.num_inputs(arrays)))
        widths[design.name] = len(targets.names)
    return outlines


def selecting(recipe: Recipe, dataset: Dataset, levels: Levels) -> list[str]:
    """Returns the stages of which only a fit tells how many of the outlined inputs are left."""
    designs = recipe.stages(levels, has_nonscored(dataset))
    return [design.name for design in designs if design.features.selects]


class Fitting:
    """A system being fitted: its rows, and what the stages so far have made of them.

    Attributes:
      passage: the rows that members train on.
      oof: out-of-fold predictions of the stages so far, by name.
    """

    def __init__(self, recipe: Recipe, dataset: Dataset, context: Context):
        self.dataset, self.context = dataset, context
        self.passage = Passage(recipe.rows(dataset))
        self.oof: dict[str, Predictions] = {}

    def fit(self, design: StageDesign) -> None:
        """Fits a stage; one that an earlier run finished is read back."""
        context, name, rows = self.context, design.name, self.passage.rows
        if is_finished(context, name):
            logging.info("%s/%s: finished by an earlier run", context.model, name)
            oof = Predictions.read(context.folder / name / "oof.parquet")
        else:
            start = time.monotonic()
            stage, num_inputs = self.build(design)
            seconds, targets = time.monotonic() - start, design.targets(rows)
            logging.info(
                "%s: %d rows, %d inputs, %d targets; features took %.1f s",
                stage.name, len(rows), num_inputs, len(targets.names), seconds,
            )  # fmt: skip
            oof = fit_stage(context, stage, rows.ids, targets, num_inputs, seconds)
        self.oof[name], self.passage.predictions[name] = oof, oof.values

    def build(self, design: StageDesign) -> BuiltStage:
        """Returns a stage to be fitted; transforms that are not stored are fitted and stored."""
        context, features, rows = self.context, design.features, self.passage.rows
        targets, every = design.targets(rows), _members(design, rows, context)
        sets = sets_of(features, every, len(rows))
        folder = features.folder(context, design.name)
        missing = [name for name in sets if not transform_files.exists(folder / name)]
        known = Known(self.dataset, rows, sets, self.passage.predictions)
        if missing:
            which = ", ".join(missing) if len(missing) <= 10 else f"{len(missing)} sets"
            logging.info("%s/%s: fitting transforms: %s", context.model, design.name, which)
            for name, fitted in features.fit(known, missing):
                transform_files.save(folder / name, fitted)
        stored = _Stored(design, context, list(sets))
        train_rows = [member.train_rows for member in every]
        arrays = Arrays(
            features.table(self.passage, design.name, stored),
            features.member_data(
                stored(design.name), stored.numbers([m.id for m in every]), train_rows
            ),
        )
        start = design.start(context, len(targets.names))
        stage = design.stage(context, every, arrays, targets, start)
        return BuiltStage(stage, features.num_inputs(arrays))


class _Stored:
    """The sets of transforms that a stage's members read, read once, by the stage that has them."""

    def __init__(self, design: StageDesign, context: Context, names: Sequence[str]):
        self._design, self._context, self._names = design, context, names
        self._read: dict[str, list[Transforms]] = {}

    @classmethod
    def of(cls, design: StageDesign, context: Context, every: Sequence[MemberId]) -> _Stored:
        names = dict.fromkeys(design.features.set_of(member) for member in every)
        return cls(design, context, list(names))

    def __call__(self, stage: str) -> list[Transforms]:
        if stage not in self._read:
            folder = self._design.features.folder(self._context, stage)
            classes = self._design.features.classes
            self._read[stage] = [
                transform_files.load(folder / name, classes) for name in self._names
            ]
        return self._read[stage]

    def numbers(self, every: Sequence[MemberId]) -> np.ndarray:
        """Returns which of the sets each member reads, [M] int32."""
        features = self._design.features
        return np.array([self._names.index(features.set_of(m)) for m in every], np.int32)


def _members(design: StageDesign, rows: Dataset, context: Context) -> list[Member]:
    folds, seed = design.folds(rows), context.config.seed
    return [design.rows(m) for m in members.cross_validation(folds, seed, design.select_on)]


def _used(designs: Sequence[StageDesign]) -> list[StageDesign]:
    """Returns the last stage and, before it, those whose predictions lead to it."""
    wanted: str | None = designs[-1].name
    used = []
    for design in reversed(designs):
        if design.name == wanted:
            used.append(design)
            wanted = design.features.predictions_of
    return used[::-1]


Probabilities = Callable[[Dataset], Mapping[str, np.ndarray]]


def _probabilities(designs: Sequence[StageDesign], context: Context) -> Probabilities:
    """Returns the function from at most `predict_rows` rows to each stage's probabilities."""
    chunk_rows, loaded = context.parallel.predict_rows, []
    for design in designs:
        stage_metrics = files.read_json(context.folder / design.name / "metrics.json")
        every = [MemberId(m["seed"], m["fold"]) for m in stage_metrics["members"]]
        stored = _Stored.of(design, context, every)
        forward = design.forward(stage_metrics["outputs"])
        predictor = Predictor(
            f"{context.model}/{design.name}",
            forward,
            context.folder / design.name,
            every,
            context.devices_for(forward, len(every)),
            design.features.member_data(stored(design.name), stored.numbers(every), ()),
            share=1 / len(designs),
        )
        loaded.append((design, stored, predictor))

    def probabilities(rows: Dataset) -> Mapping[str, np.ndarray]:
        passage = Passage(rows)
        for design, stored, predictor in loaded:
            table = design.features.table(passage, design.name, stored)
            passage.predictions[design.name] = predictor.mean(table, len(rows), chunk_rows)
        return passage.predictions

    return probabilities


def predict_rows(
    dataset: Dataset, context: Context, probabilities: Probabilities
) -> dict[str, np.ndarray]:
    """Returns each stage's predictions of all rows, chunk by chunk; controls get exactly 0.

    Args:
      dataset: rows to predict.
      context: how many rows a chunk has.
      probabilities: maps at most so many rows to probabilities [rows, L] by stage.
    """
    chunk_rows = context.parallel.predict_rows
    starts = range(0, len(dataset), chunk_rows)
    chunks = [
        probabilities(dataset.take(np.arange(start, min(start + chunk_rows, len(dataset)))))
        for start in starts
    ]
    treated = ~dataset.is_control[:, None]
    return {
        stage: np.concatenate([chunk[stage] for chunk in chunks]) * treated for stage in chunks[0]
    }


def _zeros(shape: jax.ShapeDtypeStruct) -> np.ndarray:
    """Returns zeros that take no memory."""
    return np.broadcast_to(np.zeros((), shape.dtype), shape.shape)


def _data_notes(
    recipe: Recipe, dataset: Dataset, levels: Levels, designs: Sequence[StageDesign]
) -> tuple[str, ...]:
    """Returns, and logs, what the log and the report say about parts that the data lack."""
    lacking = {
        "No gene columns: their blocks are left out.": not dataset.genes,
        "No cell columns: their blocks are left out.": not dataset.cells,
        "No non-scored targets: the stage that learns them is left out.": len(designs)
        < len(recipe.stages(levels, True)),
        "No test rows while fitting: transforms know the training rows only.": not dataset.test
        and any(design.features.reads_test for design in designs),
    }
    notes = tuple(note for note, holds in lacking.items() if holds)
    for note in notes:
        logging.info("%s", note)
    return notes


def _write(
    recipe: Recipe, dataset: Dataset, context: Context, result: RecipeResult, seconds: float
) -> None:
    """Writes the model's predictions and, when these are there, its metrics."""
    labels = scored(dataset).values[~dataset.is_control]
    num_controls = int(dataset.is_control.sum())
    controls = None if result.controls is None else result.controls.values
    result.oof.write(context.folder / "oof.parquet")
    if result.test is not None:
        result.test.write(context.folder / "test.parquet")
    files.write_json(
        context.folder / "metrics.json",
        {
            "recipe": recipe.recipe,
            "scores": metrics.conventions(labels, result.oof.values, num_controls, controls),
            "convention": recipe.convention,
            "recorded": recipe.recorded_score,
            "seconds": seconds,
            "fidelity": switches(recipe),
            "faithful": switches(recipe.original()),
            "notes": list(result.notes),
            "stages": list(result.stages),
            "reported": result.reported,
        },
    )
