"""2-heads ResNet: non-scored mechanisms, scored ones on the same trunk, then the freeze loop.

Joins are concatenations; the name is the original's.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from moa_jax.config import choice, number, switch
from moa_jax.data import folds
from moa_jax.data.dataset import Dataset, Levels, Targets
from moa_jax.features.selection import ChosenColumns, t_test_columns
from moa_jax.models.two_heads import TwoHeads, trunk
from moa_jax.recipes import recipe, two_heads_inputs
from moa_jax.recipes.dense import smoothed_loss
from moa_jax.recipes.recipe import Context, RecipeResult
from moa_jax.recipes.two_heads_inputs import PREDICTORS
from moa_jax.store import files, transform_files
from moa_jax.store.predictions import Predictions
from moa_jax.training import members, optimizers, rules, weights
from moa_jax.training.members import Member
from moa_jax.training.stage import Forward, Stage, by_row

NONSCORED, SCORED, LOOP = "nonscored", "scored", "loop"
# Adadelta's rates in the loop, and the gain and the number of repeats of its single epochs.
FROZEN_RATE, UNFROZEN_RATE = 1e-3 / 3, 1e-3 / 5
TOLERANCE, REPEATS = 1e-6, 3

Tree = Any


@dataclasses.dataclass(frozen=True)
class Config:
    """The 2-heads ResNet; the defaults are the original of the best leaderboard blend.

    The loop trains the scored networks on the very rows that they are validated on, with their
    labels, epoch by epoch while their loss falls. Its small rates hardly move the weights; it
    adapts the running statistics of the batch normalisations to these rows. Out-of-fold
    predictions after it are therefore slightly optimistic.

    Attributes:
      version: which original the switches are compared with in the report.
      seeds: training seeds, which also split; every seed trains one member per fold.
      folds: number of folds.
      one_hot: one-hot time and dose among the first input's columns.
      gene_components, cell_components: principal components among the first input's columns.
      predictors: columns of the second input: `listed`, the original's list, where the data have
        all of them, or chosen by a `t_test` on each fold's training rows.
      num_predictors: columns that the t-test chooses, at most all.
      hidden: width of the wide layers.
      epochs, batch_size, learning_rate: longest training, rows per step and Adam's rate of the
        first two stages.
      label_smoothing: share of each target replaced by one half, in validation too.
      patience, min_delta: epochs without a loss lower by more than `min_delta` after which a
        member ends.
      plateau_patience, plateau_factor: epochs after which the rate is multiplied.
      select_on: the rows that decide epoch, stopping and rate of the first two stages: the `fold`
        that is predicted, or a `holdout` of the training rows.
      freeze_loop: `faithful`: the stage that freezes the trunk does nothing, as the original's
        does; `intended`: it trains from the last dense layer but one of the last block on, on
        frozen statistics before it; `off`: there is no loop.
      loop_epochs: limit of the loop's epochs, all rounds together; the original has none.
      oof: out-of-fold predictions of the model: `after_loop` or `before_loop`.
    """

    recipe: str = "two_heads_resnet"
    version: str = choice("v1", "v1", "v2")
    seeds: tuple[int, ...] = number((23, 228, 1488, 1998, 2208, 2077, 404), 0, 2**31 - 1)
    folds: int = number(10, 2, 1000)
    one_hot: bool = False
    gene_components: int = number(2, 1)
    cell_components: int = number(100, 1)
    predictors: str = switch(choice("listed", "listed", "t_test"))
    num_predictors: int = number(447, 1)
    hidden: int = number(512, 2)
    epochs: int = number(50, 1)
    batch_size: int = number(128, 2)
    learning_rate: float = number(1e-3, 1e-12)
    label_smoothing: float = number(0.0005, 0.0, 0.999)
    patience: int = number(10, 0)
    min_delta: float = number(1e-5, 0.0)
    plateau_patience: int = number(4, 1)
    plateau_factor: float = number(0.5, 0.0, 1.0)
    select_on: str = switch(choice("fold", "fold", "holdout"))
    freeze_loop: str = switch(choice("faithful", "faithful", "off", "intended"))
    loop_epochs: int = number(200, 1)
    oof: str = switch(choice("after_loop", "after_loop", "before_loop"))

    def honest(self) -> Config:
        """Returns the configuration in which no row influences its own score."""
        return dataclasses.replace(
            self, predictors="t_test", select_on="holdout", oof="before_loop"
        )

    def original(self) -> Config:
        """Returns the original that this configuration is compared with."""
        return ORIGINAL[self.version]

    def adam_stage(self, select: Callable[[rules.Rule], rules.Rule], **parts) -> Stage:
        """Returns one of the first two stages.

        Args:
          select: makes the rule for the kept epoch from the rule for the end.
          **parts: other attributes of the stage.
        """
        stop = rules.patience(self.patience, self.min_delta)
        return self._stage(
            optimizer=functools.partial(_adam, learning_rate=self.learning_rate),
            epochs=self.epochs,
            stop=stop,
            select=select(stop),
            rate=rules.plateau(self.plateau_factor, self.plateau_patience),
            **parts,
        )

    def loop_stage(self, **parts) -> Stage:
        """Returns the loop: rounds of one phase or, as intended, of a frozen one before it."""
        repeats = rules.repeats(REPEATS, TOLERANCE)
        rates = (UNFROZEN_RATE,)
        if self.freeze_loop == "intended":
            rates = (FROZEN_RATE, UNFROZEN_RATE)
            parts["keywords"] = _frozen_in_first_phase
        rounds = rules.rounds(repeats, rates)
        return self._stage(
            optimizer=_adadelta,
            epochs=self.loop_epochs,
            validates_start=True,
            stop=rounds,
            select=rounds,
            rate=rounds,
            restarts=_phase_ended,
            **parts,
        )

    def _stage(self, **parts) -> Stage:
        return Stage(
            loss=functools.partial(smoothed_loss, smoothing=self.label_smoothing),
            valid_weights=by_row,
            batch_size=self.batch_size,
            share_init_across_folds=False,
            **parts,
        )


ORIGINAL = {
    "v1": Config(),
    "v2": Config(version="v2", one_hot=True, gene_components=50, cell_components=50, batch_size=64),
}


def check(dataset: Dataset, config: Config) -> None:
    """Checks that the data suit the configuration, before any model is trained.

    Raises:
      UserError: there are fewer treated rows than folds.
    """
    recipe.check_folds(dataset, config.folds)


def fit(dataset: Dataset, config: Config, context: Context) -> RecipeResult:
    """Trains every stage and predicts the training rows out of fold, and the test rows."""
    notes = recipe.data_notes(dataset, needs_nonscored=True, reads_test=False)
    training = _Training(dataset, config, context)
    names = _stage_names(dataset, config)
    oof = {name: training.fit(name) for name in names}
    test = None
    if dataset.test is not None:
        test = load(config, context, dataset.scored.names)(dataset.test)
        test.write(context.folder / names[-1] / "test.parquet")
    reported = names[-1] if config.oof == "after_loop" else SCORED
    own_notes = (*_notes(config, context, names[-1], reported), *training.notes())
    for note in own_notes:
        logging.info("%s: %s", context.model, note)
    return RecipeResult(oof[reported], test, tuple(names), (*notes, *own_notes))


def outline(dataset: Dataset, config: Config, context: Context) -> tuple[Stage, ...]:
    """Returns the stages that `fit` would train, see `recipe.outline_folds`."""
    training = _Training(dataset, config, context)
    data = training.member_data_outline()
    names = _stage_names(dataset, config)
    return tuple(training.stage(name, training.targets(name), data) for name in names)


def load(
    config: Config, context: Context, targets: tuple[str, ...]
) -> Callable[[Dataset], Predictions]:
    """Returns the function that predicts new rows; it needs the work folder only."""
    last = SCORED if config.freeze_loop == "off" else LOOP
    metrics = files.read_json(context.folder / last / "metrics.json")
    ids = recipe.member_ids(metrics)
    predictor = recipe.stage_predictor(
        context,
        f"{context.model}/{last}",
        _forward(config, metrics["outputs"]),
        ids,
        two_heads_inputs.stored_member_data(_features(context), [own.name for own in ids]),
    )

    def probabilities(rows: Dataset) -> dict[str, np.ndarray]:
        table = _table(rows, config, context.levels)
        return {last: predictor.mean(table, len(rows), context.parallel.predict_rows)}

    def predict(rows: Dataset) -> Predictions:
        found = recipe.predict_rows(rows, context.parallel.predict_rows, probabilities)
        return Predictions(rows.ids, targets, found[last])

    return predict


def _stage_names(dataset: Dataset, config: Config) -> list[str]:
    nonscored = [NONSCORED] if recipe.has_nonscored(dataset) else []
    loop = [LOOP] if config.freeze_loop != "off" else []
    return [*nonscored, SCORED, *loop]


class _Training:
    """The recipe being fitted: the treated rows, their members and, when needed, their inputs."""

    def __init__(self, dataset: Dataset, config: Config, context: Context):
        self.config, self.context = config, context
        self.rows = dataset.take(np.flatnonzero(~dataset.is_control))
        fold_of_row = {
            seed: folds.k_fold(len(self.rows), config.folds, seed) for seed in config.seeds
        }
        self.members = tuple(
            members.cross_validation(fold_of_row, context.base_seed, config.select_on)
        )
        self.listed = config.predictors == "listed" and two_heads_inputs.has_listed_predictors(
            self.rows
        )

    def notes(self) -> tuple[str, ...]:
        if self.config.predictors == "listed" and not self.listed:
            return (
                "Some of the original's predictors are absent from the data: each fold's are "
                "chosen by a t-test on its training rows.",
            )
        return ()

    @functools.cached_property
    def table(self) -> np.ndarray:
        return _table(self.rows, self.config, self.context.levels)

    @functools.cached_property
    def member_data(self) -> dict[str, np.ndarray]:
        """Fits and stores what an earlier run has not stored."""
        folder = _features(self.context)
        missing = [m for m in self.members if not transform_files.exists(folder / m.name)]
        if missing:
            config, rows = self.config, self.rows
            table = two_heads_inputs.raw_table(rows, _levels(config, self.context.levels))
        for member in missing:
            # Rows that are held out to decide the epoch are training rows of the fold.
            train = np.delete(np.arange(len(rows)), member.valid_rows)
            fitted = two_heads_inputs.fit_fold(table, train, self.sizes, self.components)
            fitted[PREDICTORS] = ChosenColumns(self._predictors(train))
            transform_files.save(folder / member.name, fitted)
        return two_heads_inputs.stored_member_data(folder, [m.name for m in self.members])

    def member_data_outline(self) -> dict[str, np.ndarray]:
        """Returns zeros in the place of `member_data`, without a fit."""
        sizes, components = self.sizes, self.components
        if self.listed:
            count = len(two_heads_inputs.main_predictors(self.rows))
        else:
            count = min(self.config.num_predictors, sum(sizes))
        columns = self.table.shape[1]
        shapes = two_heads_inputs.member_data_shapes(columns, sizes, components)
        data = {name: recipe.zeros((len(self.members), *s)) for name, s in shapes.items()}
        return {
            **data,
            PREDICTORS: recipe.zeros((len(self.members), count), np.int32),
        }

    @property
    def sizes(self) -> tuple[int, int]:
        return len(self.rows.genes), len(self.rows.cells)

    @property
    def components(self) -> tuple[int, int]:
        config, rows = self.config, self.rows
        return two_heads_inputs.allowed_components(
            (config.gene_components, config.cell_components),
            self.sizes,
            min(len(rows) - len(member.valid_rows) for member in self.members),
        )

    def _predictors(self, train: np.ndarray) -> np.ndarray:
        if self.listed:
            return two_heads_inputs.main_predictors(self.rows)
        values, labels = self.rows.features[train], self.rows.scored.values[train]
        return t_test_columns(values, labels, self.config.num_predictors)

    def fit(self, name: str) -> Predictions:
        """Fits a stage; one that an earlier run finished is read back."""
        context = self.context
        if (finished := recipe.finished_predictions(context, name)) is not None:
            return finished
        start = time.monotonic()
        table, member_data = self.table, self.member_data
        num_inputs = two_heads_inputs.width(table, member_data)
        seconds = time.monotonic() - start
        targets = self.targets(name)
        logging.info(
            "%s/%s: %d treated rows, %d and %d inputs, %d targets; features took %.1f s",
            context.model, name, len(self.rows), num_inputs, member_data[PREDICTORS].shape[1],
            len(targets.names), seconds,
        )  # fmt: skip
        stage = self.stage(name, targets, member_data)
        return recipe.fit_stage(context, stage, self.rows.ids, targets, num_inputs, seconds)

    def targets(self, name: str) -> Targets:
        return self.rows.nonscored if name == NONSCORED else self.rows.scored

    def stage(self, name: str, targets: Targets, member_data: Tree) -> Stage:
        config = self.config
        parts = {
            "name": f"{self.context.model}/{name}",
            "forward": _forward(config, len(targets.names)),
            "members": self.members,
            "shared": self.table,
            "member_data": member_data,
            "targets": targets.values.astype(self.table.dtype),
        }
        if name == NONSCORED:
            # What the next stage starts from is what Keras's model holds after training.
            last = functools.partial(rules.restored_if_stopped, epochs=config.epochs)
            return config.adam_stage(last, **parts)
        if name == SCORED:
            earlier = self.context.folder / NONSCORED
            if recipe.is_finished(earlier):
                parts["start"] = lambda member: trunk(_weights(earlier, member))
            return config.adam_stage(lambda stop: rules.lowest_loss(), **parts)
        parts["members"] = tuple(
            dataclasses.replace(m, train_rows=m.valid_rows, select_rows=m.valid_rows)
            for m in self.members
        )
        earlier = self.context.folder / SCORED
        return config.loop_stage(start=lambda member: _weights(earlier, member), **parts)


def _notes(config: Config, context: Context, last: str, reported: str) -> tuple[str, ...]:
    """Returns which out-of-fold predictions are reported, and whether the loop met its limit."""
    if last != LOOP:
        return ("There is no freeze loop.",)
    if reported == LOOP:
        notes = [
            "Out-of-fold predictions are those after the freeze loop, which has trained on the "
            f"rows that they predict; those before it are in {SCORED}/oof.parquet."
        ]
    else:
        notes = [
            "Out-of-fold predictions are those before the freeze loop; test predictions are those "
            "after it."
        ]
    trained = files.read_json(context.folder / LOOP / "metrics.json")["members"]
    limited = sum(member["epochs_run"] == config.loop_epochs for member in trained)
    if limited:
        notes.append(
            f"The freeze loop ended at its limit of {config.loop_epochs} epochs for {limited} of "
            f"{len(trained)} members."
        )
    return tuple(notes)


def _forward(config: Config, num_outputs: int) -> Forward:
    network = TwoHeads(num_outputs, hidden=config.hidden)
    return Forward(network, two_heads_inputs.two_inputs, inner="auto")


def _levels(config: Config, levels: Levels) -> Levels | None:
    return levels if config.one_hot else None


def _table(rows: Dataset, config: Config, levels: Levels) -> np.ndarray:
    return two_heads_inputs.device_table(rows, _levels(config, levels))


def _features(context: Context) -> Path:
    """Returns the folder of all members' transforms, which all stages read."""
    return context.folder / SCORED / "features"


def _weights(folder: Path, member: Member) -> Tree:
    return weights.read(folder / "members" / f"{member.name}.npz").variables


def _adam(total_steps, scale, learning_rate: float):
    return optimizers.keras_adam(scale * learning_rate)


def _adadelta(total_steps, scale):
    return optimizers.keras_adadelta(scale)


def _phase_ended(state):
    return state.rate.restart


def _frozen_in_first_phase(state):
    return {"frozen": state.rate.phase == 0}
