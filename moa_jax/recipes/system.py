"""System: every recipe's stages fitted in order, read back, and applied to rows."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from moa_jax.config import switches
from moa_jax.data.dataset import Dataset
from moa_jax.data.folds import Split
from moa_jax.recipes import attribution_baseline, ensemble, finished, notes, prediction
from moa_jax.recipes.context import Context
from moa_jax.recipes.design import StageDesign, has_nonscored, scored
from moa_jax.recipes.features import Arrays, Passage, known_of
from moa_jax.recipes.finished import is_finished
from moa_jax.recipes.fitting import fit_stage
from moa_jax.recipes.host_stage import HostStage
from moa_jax.recipes.outcome import LastStage, Outcome
from moa_jax.recipes.prediction import Trained
from moa_jax.recipes.recipe import Recipe
from moa_jax.recipes.stored import StoredSets
from moa_jax.store import files, transform_files
from moa_jax.store.model_files import METRICS, OOF, TEST, TEST_SPREAD
from moa_jax.store.predictions import Predictions
from moa_jax.training import metrics, waiting
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
    training = Fitting(recipe, dataset, context)
    splits = [training.split(design) for design in designs]
    name = recipe.reported or designs[-1].name
    reported = splits[[design.name for design in designs].index(name)]
    split_record = notes.split_record(recipe, training.passage.rows, reported)
    said = [*notes.of_data(recipe, dataset, context.levels, designs)]
    seed = context.config.seed
    # Of one stage at a time: the rows of all members of a population are much to hold.
    said += notes.of_nesting((d.members(s, seed), s) for d, s in zip(designs, splits, strict=True))
    for note in (*said, notes.of_split(split_record)):
        logging.info("%s: %s", context.model, note)
    for design in designs:
        training.fit(design)
    outcome, oof = training.outcome(designs, name)
    test, written = None, []
    if dataset.test is not None:
        rows = dataset.test.at_trained_levels(context.levels, dataset.trained_levels())
        found, values, spread = _predicted(rows, context, outcome, _members(outcome, context))
        for design in outcome.designs:
            names = training.oof[design.name].targets
            written.append(context.folder / design.name / TEST)
            Predictions(dataset.test.ids, names, found[design.name]).write(written[-1])
        test = Predictions(dataset.test.ids, oof.targets, values, spread)
    own_notes = recipe.notes(training.passage.rows, context)
    for note in own_notes:
        logging.info("%s: %s", context.model, note)
    result = RecipeResult(
        oof.aligned(dataset.ids[~dataset.is_control]),
        test,
        tuple(design.name for design in designs),
        (*said, *own_notes),
        name,
        oof.if_any(dataset.ids[dataset.is_control]),
    )
    _write(recipe, dataset, context, result, split_record, time.monotonic() - start, written)
    return result


def load(
    recipe: Recipe, context: Context, targets: tuple[str, ...], num_stages: int | None = None
) -> Callable[[Dataset], Predictions]:
    """Returns the function that predicts new rows; it needs the work folder only.

    Args:
      recipe: the system.
      context: where it was fitted, and how it runs.
      targets: names of the scored targets.
      num_stages: stages that share the memory for members, those of other systems that are loaded
        beside this one included; None for its own.

    Raises:
      UserError: a file is missing, or is not as it was written.
    """
    outcome = finished_outcome(recipe, context)
    members = _members(outcome, context, num_stages)

    def predict(rows: Dataset) -> Predictions:
        _, values, spread = _predicted(rows, context, outcome, members)
        return Predictions(rows.ids, targets, values, spread)

    return predict


def _members(outcome: Outcome, context: Context, num_stages: int | None = None) -> Trained:
    """Returns what predicts by the members of all stages, see `load`."""
    return prediction.trained(
        outcome.designs, context, outcome.weights, num_stages, outcome.shares, outcome.mean
    )


def _predicted(
    rows: Dataset, context: Context, outcome: Outcome, members: Trained
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Returns each stage's predictions of rows, the model's, and their spread over members."""
    found, spread = prediction.predict_rows(rows, context, members)
    values = outcome.mean.over((share, found[name]) for name, share in outcome.shares.items())
    # Controls are 0, which is nobody's log odds.
    return found, values * ~rows.is_control[:, None], spread


def finished_outcome(recipe: Recipe, context: Context) -> Outcome:
    """Returns how new rows are predicted by a system that is finished."""
    designs = recipe.stages(context.levels, True)
    listed = context.manifest.lists
    if not all(listed(context.folder / design.name / METRICS) for design in designs):
        designs = recipe.stages(context.levels, False)
    return ensemble.read(context, designs) if recipe.choices else LastStage(designs)


class BuiltStage(NamedTuple):
    """A stage ready to be fitted.

    Attributes:
      stage: the stage.
      num_inputs: number of the network's inputs.
      split: how its rows are cut into folds.
      at_most: whether a selection of columns, which only a fit knows, may leave fewer inputs.
      expected_epochs: see `StageDesign`.
      by_seed: whether each seed's predictions are kept.
      makes_rows: whether the host makes what members read part by part for devices that share
        its rows; else it holds the whole table.
    """

    stage: Stage | HostStage
    num_inputs: int
    split: Split
    at_most: bool = False
    expected_epochs: float | None = None
    by_seed: bool = False
    makes_rows: bool = False


def outline(recipe: Recipe, dataset: Dataset, context: Context) -> list[BuiltStage]:
    """Returns the stages that `fit` would train, their folds being split and nothing fitted.

    Features are zeros that take no memory.
    """
    rows, outlines = recipe.rows(dataset), []
    widths: dict[str, int] = {}
    for design in recipe.stages(context.levels, has_nonscored(dataset)):
        targets, split = design.targets(rows), design.split(rows)
        every = design.members(split, context.config.seed)
        known = known_of(design.features, every, dataset, rows, {})
        shapes = design.features.shapes(known, every, widths)
        arrays = Arrays(*jax.tree.map(_zeros, tuple(shapes)))
        stage = design.stage(context, every, arrays, targets, units=split.units)
        num_inputs, at_most = design.features.num_inputs(arrays), design.features.selects
        expected, by_seed = design.expected_epochs, design.by_seed
        makes_rows = design.features.makes_rows(shapes.table)
        outlines.append(
            BuiltStage(stage, num_inputs, split, at_most, expected, by_seed, makes_rows)
        )
        widths[design.name] = len(targets.names)
    return outlines


class Fitting:
    """A system being fitted: its rows, and what the stages so far have made of them.

    Attributes:
      passage: the rows that members train on.
      oof: out-of-fold predictions of the stages so far, by name.
    """

    def __init__(self, recipe: Recipe, dataset: Dataset, context: Context):
        self.recipe, self.dataset, self.context = recipe, dataset, context
        self.passage = Passage(recipe.rows(dataset))
        self.oof: dict[str, Predictions] = {}
        self._splits: dict[str, Split] = {}

    def fit(self, design: StageDesign) -> None:
        """Fits a stage; one that an earlier run finished is read back."""
        context, name, rows = self.context, design.name, self.passage.rows
        if is_finished(context, name):
            logging.info("%s: finished by an earlier run", design.full_name(context))
            every = design.members(self.split(design), context.config.seed)
            oof, predictions = finished.read_back(context, design, every, rows)
        else:
            finished.strike(context, name)
            start = time.monotonic()
            stage, num_inputs, split, *_ = self.build(design)
            seconds, targets = time.monotonic() - start, design.targets(rows)
            logging.info(
                "%s: %d rows, %d inputs, %d targets; features took %.1f s",
                stage.name, len(rows), num_inputs, len(targets.names), seconds,
            )  # fmt: skip
            oof, predictions = fit_stage(
                context, stage, rows.ids, targets, split.folds, num_inputs, seconds, design.by_seed
            )
            finished.list_stage(context, design, stage.members)
        self.oof[name] = oof
        self.passage.predictions[name] = predictions

    def outcome(self, designs: Sequence[StageDesign], name: str) -> tuple[Outcome, Predictions]:
        """Returns how new rows are predicted, and the model's out-of-fold predictions.

        Args:
          designs: the stages, all of them fitted.
          name: the stage whose predictions these are where no ensemble is chosen.
        """
        oof, most = self.oof[name], self.recipe.choices
        if not most:
            return LastStage(designs), oof
        (fold_of_row, *_) = self.split(designs[-1]).folds.values()
        targets = designs[-1].targets(self.passage.rows)
        chosen, values = ensemble.choose(
            self.context, designs, self.passage.predictions, targets.values, fold_of_row, most,
            self.recipe.means, targets.known,
        )  # fmt: skip
        return chosen, dataclasses.replace(oof, values=values)

    def build(self, design: StageDesign) -> BuiltStage:
        """Returns a stage to be fitted; transforms that are not stored whole are fitted."""
        context, features, rows = self.context, design.features, self.passage.rows
        targets, split = design.targets(rows), self.split(design)
        every = design.members(split, context.config.seed)
        known = known_of(features, every, self.dataset, rows, self.passage.predictions)
        folder = features.folder(context, design.name)
        files_of = {name: transform_files.paths(folder / name) for name in known.sets}
        missing = [name for name, two in files_of.items() if not all(map(context.is_whole, two))]
        if missing:
            which = ", ".join(missing) if len(missing) <= 10 else f"{len(missing)} sets"
            what = f"{design.full_name(context)}: fitting transforms"
            logging.info("%s: %s", what, which)
            with waiting.told(what) as begin:
                begin(f"{missing[0]}, set 1 of {len(missing)}")
                for number, (name, fitted) in enumerate(features.fit(known, missing), 1):
                    transform_files.save(folder / name, fitted)
                    context.manifest.add(files_of[name])
                    if number < len(missing):
                        begin(f"{missing[number]}, set {number + 1} of {len(missing)}")
        stored = StoredSets(design, context, [member.id for member in every])
        train_rows = [member.train_rows for member in every]
        arrays = Arrays(
            features.made(self.passage, design.name, stored),
            features.member_data(
                stored(design.name), stored.numbers([m.id for m in every]), train_rows
            ),
        )
        start = design.start(context, len(targets.names))
        stage = design.stage(context, every, arrays, targets, start, split.units)
        return BuiltStage(stage, features.num_inputs(arrays), split)

    def split(self, design: StageDesign) -> Split:
        """Returns how the rows are cut into folds for a stage, computed once."""
        if design.name not in self._splits:
            self._splits[design.name] = design.split(self.passage.rows)
        return self._splits[design.name]


def _zeros(shape: jax.ShapeDtypeStruct) -> np.ndarray:
    """Returns zeros that take no memory."""
    return np.broadcast_to(np.zeros((), shape.dtype), shape.shape)


def _write(
    recipe: Recipe,
    dataset: Dataset,
    context: Context,
    result: RecipeResult,
    split_record: Mapping[str, Any],
    seconds: float,
    written: Sequence[Path],
) -> None:
    """Writes the model's predictions and metrics, and lists them and what else was written."""
    labels = scored(dataset).take(~dataset.is_control)
    num_controls = int(dataset.is_control.sum())
    controls = None if result.controls is None else result.controls.values
    finished.strike(context)
    result.oof.write(context.folder / OOF)
    if result.test is not None:
        result.test.write(context.folder / TEST)
        result.test.write_spread(context.folder / TEST_SPREAD)
        written = [*written, context.folder / TEST, context.folder / TEST_SPREAD]
    files.write_json(
        context.folder / METRICS,
        {
            "recipe": recipe.recipe,
            "scores": metrics.conventions(
                labels.values, result.oof.values, num_controls, controls, labels.known
            ),
            "convention": recipe.convention,
            "recorded": recipe.recorded_score,
            "seconds": seconds,
            "fidelity": switches(recipe),
            "faithful": switches(recipe.original()),
            "notes": list(result.notes),
            "split": split_record,
            "stages": list(result.stages),
            "reported": result.reported,
        },
    )
    attribution_baseline.write(context.folder, dataset)
    own = [context.folder / name for name in (OOF, METRICS, attribution_baseline.FILE)]
    context.manifest.add([*written, *own])
