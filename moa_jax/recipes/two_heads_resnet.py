"""2-heads ResNet: non-scored mechanisms, scored ones on the same trunk, then the freeze loop.

Joins are concatenations; the name is the original's.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from moa_jax.config import WIDEST, choice, number, sized, switch
from moa_jax.data import folds
from moa_jax.data.dataset import Dataset, Levels
from moa_jax.data.folds import Split
from moa_jax.recipes import optimisation
from moa_jax.recipes.recipe import Recipe
from moa_jax.store import files
from moa_jax.store.model_files import METRICS
from moa_jax.training.names import LOSSES, OPTIMIZERS, SCHEDULES

if TYPE_CHECKING:
    import flax.linen as nn

    from moa_jax.recipes.context import Context
    from moa_jax.recipes.design import StageDesign
    from moa_jax.recipes.two_heads_features import TwoHeadsFeatures
    from moa_jax.training.members import Member
    from moa_jax.training.rules import Rule
    from moa_jax.training.stage import Stage

NONSCORED, SCORED, LOOP = "nonscored", "scored", "loop"
# Adadelta's rates in the loop, and the gain and the number of repeats of its single epochs.
FROZEN_RATE, UNFROZEN_RATE = 1e-3 / 3, 1e-3 / 5
TOLERANCE, REPEATS = 1e-6, 3
# Epochs of the originals where they are recorded: until the scored networks' losses fell no more,
# the mean of two folds of v1 and one of v2; and of their whole loops, one fold of each.
BEST_EPOCH, LOOP_EPOCHS = {"v1": 6.5, "v2": 8.0}, {"v1": 15.0, "v2": 8.0}


@dataclasses.dataclass(frozen=True)
class Config(Recipe):
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
      loss, optimizer, schedule: of the first two stages (the loop has Adadelta), by their names
        in `losses.LOSSES`, `optimizers.OPTIMIZERS` and `schedules.SCHEDULES`.
      label_smoothing: share of each target replaced by one half, in validation too.
      patience, min_delta: epochs without a loss lower by more than `min_delta` after which a
        member ends.
      plateau_patience, plateau_factor: epochs after which the rate is multiplied.
      select_on: the rows that decide epoch, stopping and rate of the first two stages: the `fold`
        that is predicted, or a `holdout` of the training rows.
      restore_best: the first stage ends with the weights of its best epoch where a member stops
        before the last one and else with the last one's, `if_stopped`, as TensorFlow 2.3 does, or
        with those of the lowest loss, `always`. The second one keeps these in any case.
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
    gene_components: int = sized(number(2, 1))
    cell_components: int = sized(number(100, 1))
    predictors: str = switch(choice("listed", "listed", "t_test"))
    num_predictors: int = number(447, 1)
    hidden: int = sized(number(512, 2, WIDEST))
    epochs: int = number(50, 1)
    batch_size: int = sized(number(128, 2, 2**20))
    learning_rate: float = number(1e-3, 1e-12, 1e3)
    loss: str = choice("binary_cross_entropy", *LOSSES)
    optimizer: str = choice("keras_adam", *OPTIMIZERS)
    schedule: str = choice("constant", *SCHEDULES)
    label_smoothing: float = number(0.0005, 0.0, 0.999)
    patience: int = number(10, 0)
    min_delta: float = number(1e-5, 0.0)
    plateau_patience: int = number(4, 1)
    plateau_factor: float = number(0.5, 0.0, 1.0)
    select_on: str = switch(choice("fold", "fold", "holdout"))
    restore_best: str = switch(choice("if_stopped", "if_stopped", "always"))
    freeze_loop: str = switch(choice("faithful", "faithful", "off", "intended"))
    loop_epochs: int = sized(number(200, 1))
    oof: str = switch(choice("after_loop", "after_loop", "before_loop"))

    convention = "epsilon"

    def honest(self) -> Config:
        return dataclasses.replace(
            self, predictors="t_test", select_on="holdout", oof="before_loop",
            **self.honest_split(),
        )  # fmt: skip

    def original(self) -> Config:
        return ORIGINAL[self.version]

    @property
    def recorded_score(self) -> float:
        return {"v1": 0.015887, "v2": 0.015660}[self.version]

    @property
    def reported(self) -> str | None:
        return SCORED if self.oof == "before_loop" else None

    def check(self, dataset: Dataset) -> None:
        super().check(dataset)
        optimisation.check(self, self.learning_rate)

    def notes(self, rows: Dataset, context: Context) -> tuple[str, ...]:
        """Returns which predictions are reported, how the loop ended, and who chose columns."""
        found = self._loop_notes(context)
        if self.predictors == "listed" and not self.features(context.levels).is_listed(rows):
            found.append(
                "Some of the original's predictors are absent from the data: each fold's are "
                "chosen by a t-test on its training rows."
            )
        return tuple(found)

    def _loop_notes(self, context: Context) -> list[str]:
        if self.freeze_loop == "off":
            return ["There is no freeze loop."]
        if self.oof == "before_loop":
            found = [
                "Out-of-fold predictions are those before the freeze loop; test predictions are "
                "those after it."
            ]
        else:
            found = [
                "Out-of-fold predictions are those after the freeze loop, which has trained on the "
                f"rows that they predict; those before it are in {SCORED}/oof.parquet."
            ]
        trained = files.read_json(context.folder / LOOP / METRICS)["members"]
        limited = sum(member["epochs_run"] == self.loop_epochs for member in trained)
        if limited:
            found.append(
                f"The freeze loop ended at its limit of {self.loop_epochs} epochs for {limited} of "
                f"{len(trained)} members."
            )
        return found

    def network(self, num_outputs: int) -> nn.Module:
        from moa_jax.models.two_heads import TwoHeads

        return TwoHeads(num_outputs, hidden=self.hidden)

    def features(self, levels: Levels) -> TwoHeadsFeatures:
        """Returns the features, which all stages share and the folder of the second has."""
        from moa_jax.recipes.two_heads_features import TwoHeadsFeatures

        return TwoHeadsFeatures(
            owner=SCORED,
            levels=levels if self.one_hot else None,
            components=(self.gene_components, self.cell_components),
            listed=self.predictors == "listed",
            num_predictors=self.num_predictors,
        )

    def stages(self, levels: Levels, nonscored: bool) -> tuple[StageDesign, ...]:
        """Returns the stages; without non-scored targets the first is left out."""
        from moa_jax.models.two_heads import trunk
        from moa_jax.recipes import design
        from moa_jax.training import rules

        def lowest_loss(stop: Rule) -> Rule:
            return rules.lowest_loss()

        # What the next stage starts from is what Keras's model holds after training.
        restored = functools.partial(rules.restored_if_stopped, epochs=self.epochs)
        first = design.StageDesign(
            name=NONSCORED,
            network=self.network,
            training=functools.partial(
                self.adam_stage, lowest_loss if self.restore_best == "always" else restored
            ),
            targets=design.every_nonscored,
            split=self.split_rows,
            features=self.features(levels),
            select_on=self.select_on,
        )
        second = dataclasses.replace(
            first,
            name=SCORED,
            training=functools.partial(self.adam_stage, lowest_loss),
            targets=design.scored,
            start=functools.partial(_start, NONSCORED, trunk) if nonscored else design.from_scratch,
            expected_epochs=BEST_EPOCH[self.version] + self.patience if self.patience else None,
        )
        loop = dataclasses.replace(
            second,
            name=LOOP,
            training=self.loop_stage,
            rows=_predicted_rows,
            start=functools.partial(_start, SCORED, None),
            expected_epochs=LOOP_EPOCHS[self.version] if self.freeze_loop == "faithful" else None,
        )
        return (
            *((first,) if nonscored else ()),
            second,
            *((loop,) if self.freeze_loop != "off" else ()),
        )

    def split_rows(self, rows: Dataset) -> Split:
        """Returns the fold of each row for every seed."""
        seeds = dict(zip(self.seeds, self.seeds, strict=True))
        original = functools.partial(folds.k_fold, len(rows), self.folds)
        return self.cut(rows, rows.targets.values, seeds, original)

    def adam_stage(self, select: Callable[[Rule], Rule], **parts) -> Stage:
        """Returns one of the first two stages.

        Args:
          select: makes the rule for the kept epoch from the rule for the end.
          **parts: other attributes of the stage.
        """
        from moa_jax.training import rules

        stop = rules.patience(self.patience, self.min_delta)
        return self._stage(
            optimizer=optimisation.optimizer(self, self.learning_rate),
            epochs=self.epochs,
            stop=stop,
            select=select(stop),
            rate=rules.plateau(self.plateau_factor, self.plateau_patience),
            **parts,
        )

    def loop_stage(self, **parts) -> Stage:
        """Returns the loop: rounds of one phase or, as intended, of a frozen one before it."""
        from moa_jax.training import rules

        repeats = rules.repeats(REPEATS, TOLERANCE)
        rates: tuple[float, ...] = (UNFROZEN_RATE,)
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
        from moa_jax.training.stage import Stage, by_row

        return Stage(
            loss=optimisation.smoothed_loss(self.loss, self.label_smoothing),
            valid_weights=by_row,
            batch_size=self.batch_size,
            share_init_across_folds=False,
            **parts,
        )


ORIGINAL = {
    "v1": Config(),
    "v2": Config(version="v2", one_hot=True, gene_components=50, cell_components=50, batch_size=64),
}


def _predicted_rows(member: Member) -> Member:
    """Lets a member train on the very rows that it is validated on."""
    rows = member.valid_rows
    return dataclasses.replace(member, train_rows=rows, select_rows=rows)


def _start(
    stage: str, part: Callable | None, context: Context, num_outputs: int
) -> Callable[[Member], Any]:
    """Starts from what the same member of an earlier stage has kept, or a part of it."""
    from moa_jax.training import weights

    folder = context.folder / stage / "members"

    def start(member: Member) -> Any:
        variables = weights.read(folder / f"{member.name}.npz").variables
        return variables if part is None else part(variables)

    return start


def _adadelta(total_steps, scale, member_data):
    from moa_jax.training import optimizers

    return optimizers.keras_adadelta(scale)


def _phase_ended(state):
    return state.rate.restart


def _frozen_in_first_phase(state):
    return {"frozen": state.rate.phase == 0}
