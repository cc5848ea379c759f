"""Profile NN: a population of dense networks, each of a size of its own, and the ensemble of them.

Nothing is tuned to the data: every member draws its hyperparameters, and a greedy choice among
all members by out-of-fold predictions finds what suits. Where every training row of a member has
exactly one label, its labels exclude each other: their probabilities add up to one.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from moa_jax.config import WIDEST, choice, number, switch
from moa_jax.data.dataset import Dataset, Levels, shares
from moa_jax.data.folds import Split
from moa_jax.errors import UserError
from moa_jax.features.factors import BY_SHAPE, PrincipalComponents
from moa_jax.features.rank_gauss import holding
from moa_jax.features.standard_scale import StandardScale
from moa_jax.recipes import profile
from moa_jax.recipes.draws import Draw, Ranges
from moa_jax.recipes.profile import Steps
from moa_jax.recipes.recipe import Recipe, check_lengths
from moa_jax.recipes.splitting import SPLITS
from moa_jax.training.means import MEANS, Mean

if TYPE_CHECKING:
    import flax.linen as nn

    from moa_jax.recipes.context import Context
    from moa_jax.recipes.design import StageDesign
    from moa_jax.training.members import Member, MemberId
    from moa_jax.training.stage import Stage

AUTO = "auto"
INPUTS = ("standard", "rank_gauss", "components")
# Groups of a stage's members that train one after another, by their length.
COHORTS = 3
# Adam's second moment, of runs of some hundred steps.
BETA2 = 0.99
# What a pass over the rows should take at most, and by how much batches grow for that.
MOST_BATCHES, MOST_TIMES = 64, 4


@dataclasses.dataclass(frozen=True)
class Config(Recipe, Ranges):
    """A population of dense networks.

    Groups of members, one after another a stage each, differ in inputs, width and depth. Members
    are dealt to the groups in turn; member m has the same draws in all folds and in a population of
    any number.

    Attributes:
      members: networks of each fold, in all groups together.
      inputs: what each group reads: the columns by their `standard` scale, by `rank_gauss`, or
        their principal `components`, whitened. With them go time and dose.
      widths, depths: of each group, width and number of the hidden layers; with none its members
        are linear: logistic regressions, which draw a ridge and a length alone.
      components: most principal components.
      split: as for every recipe; by default compounds stay whole where they are known, which tells
        of compounds that no network has seen. `stratified` tells of new wells of known ones.
      frequent_above: see `Splitting`.
      nested: choose each fold's ensemble by networks that have not seen the fold either: for every
        two folds a network that leaves out both, which serves each by the other.
      select_on: the epoch whose weights are kept: the `last` one, of a network that trains on all
        rows and whose length the choice among members decides, or the best one by a `holdout` of
        the training rows.
      split_seed: seed of the splitter.
      choices: how many members an ensemble takes at most, the same one as often as it helps.
      mean: what an ensemble's mean is of: `probabilities`, `log_odds`, or `auto`, whichever of both
        loses less out of fold, for new rows and for each fold by itself.
      batch_size: rows per step; up to four times as many where that leaves more than 64 batches.
      epoch_steps: optimiser steps between validations.
      pct_start: share of the steps before the peak of the learning rate.
      patience: epochs without a better loss of the hold-out after which a member ends; 0 for never.
    """

    recipe: str = "profile_nn"
    members: int = number(40, 1, 256)
    inputs: tuple[str, ...] = choice(
        ("standard", "standard", "rank_gauss", "components", "components"), *INPUTS
    )
    widths: tuple[int, ...] = number((128, 128, 128, 128, 256), 1, WIDEST)
    depths: tuple[int, ...] = number((0, 1, 1, 1, 2), 0, 100)
    components: int = number(100, 1)
    split: str = switch(choice("auto", *SPLITS))
    frequent_above: int = switch(number(0, 0))
    nested: bool = switch(number(False))
    select_on: str = switch(choice("last", "last", "holdout"))
    split_seed: int = number(0, 0, 2**31 - 1)
    choices: int = number(30, 1, 1000)
    mean: str = choice(AUTO, AUTO, *MEANS)
    batch_size: int = number(64, 2, 2**20)
    epoch_steps: int = number(50, 1)
    pct_start: float = number(0.1, 0.0, 1.0)
    patience: int = number(0, 0)

    encodes_treatment = True

    @property
    def original_split(self) -> str:
        return "stratified"

    def honest(self) -> Config:
        return dataclasses.replace(self, nested=True, **self.honest_split())

    def original(self) -> Config:
        return Config()

    @property
    def seeds(self) -> tuple[int, ...]:
        """The numbers of all members."""
        return tuple(range(self.members))

    @property
    def means(self) -> Sequence[Mean]:
        return tuple(MEANS.values()) if self.mean == AUTO else (MEANS[self.mean],)

    def check(self, dataset: Dataset) -> None:
        super().check(dataset)
        self.check_ranges()
        if len(set(self.groups)) < len(self.groups):
            raise UserError(
                "inputs: expected groups that differ in inputs, width or depth, found "
                + ", ".join(map(str, self.groups))
            )
        if self.nested and self.folds < 3:
            raise UserError(f"folds: expected at least 3 with nested=true, found {self.folds}")
        if self.patience and self.select_on == "last":
            raise UserError(
                f"patience: expected 0 with select_on=last, found {self.patience}; it is the loss "
                "of a holdout that ends a network"
            )

    def stages(self, levels: Levels, nonscored: bool) -> tuple[StageDesign, ...]:
        from moa_jax.recipes.design import StageDesign, scored
        from moa_jax.recipes.profile_features import ProfileFeatures
        from moa_jax.training.members import Nesting

        def arrange(rows: Dataset, columns: np.ndarray, earlier: np.ndarray) -> np.ndarray:
            return np.concatenate([columns, *profile.treatment(rows, levels)], axis=1)

        described = {
            inputs: ProfileFeatures(arrange, "per_fold", PopulationProfile(inputs, self.components))
            for inputs in self.inputs
        }
        designs = []
        for group, (inputs, width, depth) in enumerate(self.groups):
            if not (dealt := self.dealt(group)):
                continue
            kind = f"{width}x{depth}" if depth else "linear"
            name, features = f"{inputs}_{kind}", described[inputs]
            designs.append(
                StageDesign(
                    name=name,
                    network=functools.partial(self.network, (width,) * depth),
                    training=self.stage,
                    targets=scored,
                    split=functools.partial(self.split_rows, seeds=dealt),
                    features=features,
                    select_on="holdout" if self.select_on == "holdout" else "fold",
                    nesting=Nesting(self.folds, 2) if self.nested else None,
                    probabilities=_probabilities,
                    draws=self.draws,
                    by_seed=True,
                )
            )
            # What the first group of these inputs has fitted the later ones read.
            if features.profile_of is None:
                described[inputs] = dataclasses.replace(features, profile_of=name)
        return tuple(designs)

    @property
    def groups(self) -> list[tuple[str, int, int]]:
        """Inputs, width and depth of each group; width 0 of a linear one.

        Raises:
          UserError: they are not equally many.
        """
        for name in ("widths", "depths"):
            check_lengths(name, getattr(self, name), "inputs", self.inputs)
        every = zip(self.inputs, self.widths, self.depths, strict=True)
        return [(inputs, width if depth else 0, depth) for inputs, width, depth in every]

    def draw(self, member: int) -> Draw:
        """Returns what a member draws, by its number among all."""
        place, group = divmod(member, len(self.inputs))
        drawn = self.drawn(place, group)
        if self.depths[group]:
            return drawn
        # What is left is convex: the highest rate gets to its minimum soonest.
        return drawn._replace(
            learning_rate=self.learning_rate[1],
            weight_decay=0.0,
            dropout=0.0,
            input_dropout=0.0,
            input_noise=0.0,
            label_smoothing=0.0,
        )

    def dealt(self, group: int) -> list[int]:
        """Returns the numbers of a group's members, those with the most steps first."""
        own = range(group, self.members, len(self.inputs))
        return sorted(own, key=lambda member: -self.draw(member).steps)

    def whole_epochs(self, steps: int) -> int:
        """Returns the number of epochs that is nearest to so many steps, at least one."""
        return max(1, math.floor(steps / self.epoch_steps + 0.5))

    def network(self, hidden: tuple[int, ...], num_outputs: int) -> nn.Module:
        from moa_jax.models.drawn_mlp import DrawnMLP

        return DrawnMLP(hidden, num_outputs)

    def notes(self, rows: Dataset, context: Context) -> tuple[str, ...]:
        from moa_jax.recipes import population_notes

        stages = [design.name for design in self.stages(context.levels, False)]
        return population_notes.of(context, self.draw, stages, self.nested)

    def split_rows(self, rows: Dataset, seeds: Sequence[int]) -> Split:
        """Returns the fold of each row, the same for all seeds."""
        labels = rows.targets.values
        return self.cut(rows, labels, dict.fromkeys(seeds, self.split_seed))

    def draws(self, every: Sequence[MemberId]) -> Mapping[str, np.ndarray]:
        """Returns the draws of members but for their steps, [M] float32 by name."""
        drawn = np.array([self.draw(member.seed) for member in every], np.float32)
        columns = zip(Draw._fields, drawn.reshape(-1, len(Draw._fields)).T, strict=True)
        return {name: values for name, values in columns if name != "steps"}

    def stage(self, members: tuple[Member, ...], targets: np.ndarray, **parts) -> Stage:
        """Returns the stage that trains such networks; `parts` are its other attributes."""
        from moa_jax.training import rules
        from moa_jax.training.stage import Stage, by_row

        def length(member: Member) -> int:
            return self.whole_epochs(self.draw(member.seed).steps)

        def start(member: Member) -> dict:
            own = member.train_rows
            cells = None if known is None else known[own]
            of_rows = shares(targets[own], cells)
            # In a row with a label that is unknown others may be of its class, too.
            exclusive = targets.shape[1] > 1 and (targets[own].sum(1) == 1).all()
            exclusive = exclusive and (cells is None or cells.all())
            bias = np.log(_kept(of_rows)) if exclusive else _log_odds(of_rows)
            return {
                "params": {"output": {"bias": bias}},
                "batch_stats": {"exclusive": np.float32(exclusive)},
            }

        known = parts.get("known")
        # The ridge is added to a mean over known cells, and weighed against so many rows.
        rows = 1.0 if targets is None else len(targets)
        if known is not None:
            rows = known.sum() / known.shape[1]
        best = self.select_on == "holdout"
        most_rows = max((len(member.train_rows) for member in members), default=0)
        return Stage(
            **{**parts, "start": start},
            members=members,
            targets=targets,
            loss=_smoothed_loss,
            valid_loss=_loss,
            valid_weights=by_row,
            optimizer=functools.partial(_optimizer, rows, self.pct_start),
            epochs=max(map(length, members), default=self.whole_epochs(self.steps[1])),
            own_epochs=length,
            epoch_steps=self.epoch_steps,
            batch_size=rows_per_step(self.batch_size, most_rows),
            cohorts=COHORTS,
            select=rules.lowest_loss() if best else rules.latest(),
            stop=rules.patience(self.patience),
            share_init_across_folds=False,
        )


@dataclasses.dataclass(frozen=True)
class PopulationProfile:
    """Profile of a group: all columns, scaled, or their components.

    Columns, in order: genes and cells, or principal components, the largest first. All are clipped:
    further out a value tells of a broken well and no more.

    Attributes:
      inputs: one of `INPUTS`.
      components: most principal components.
      limit: largest absolute value.
    """

    inputs: str
    components: int
    limit: float = 8.0

    def columns(self, values: np.ndarray, num_genes: int, steps: Steps) -> np.ndarray:
        if self.inputs == "rank_gauss":
            return steps("rank_gauss", holding, values)
        scaled = np.clip(steps("standard_scale", StandardScale, values), -self.limit, self.limit)
        if self.inputs == "standard":
            return scaled
        new = functools.partial(PrincipalComponents, self.components, BY_SHAPE)
        whitened = steps("whitening", StandardScale, steps("components", new, scaled))
        return np.clip(whitened, -self.limit, self.limit)


def rows_per_step(batch_size: int, rows: int) -> int:
    """Returns the rows of a step for so many training rows: more where a pass is long.

    >>> rows_per_step(64, 400), rows_per_step(64, 5000), rows_per_step(64, 24000)
    (64, 128, 256)
    """
    times = 1
    while times < MOST_TIMES and rows > MOST_BATCHES * times * batch_size:
        times *= 2
    return times * batch_size


def _kept(shares: np.ndarray) -> np.ndarray:
    """Returns shares [L], kept from 0 and 1."""
    return np.clip(shares, 1e-4, 1 - 1e-4)


def _log_odds(shares: np.ndarray) -> np.ndarray:
    """Returns log odds [L] of shares."""
    return np.log(_kept(shares) / (1 - _kept(shares)))


def _optimizer(rows, pct_start, total_steps, scale, member_data):
    """Returns AdamW on a one-cycle schedule, with a member's own rate, decay and ridge."""
    import optax

    from moa_jax.training.schedules import one_cycle

    draws = member_data.draws
    moved = one_cycle(total_steps, 1, draws["learning_rate"], pct_start=pct_start)
    rate = moved.scaled(scale).rate
    return optax.chain(
        _ridge(draws["ridge"] / rows),
        optax.adamw(rate, b2=BETA2, weight_decay=draws["weight_decay"], mask=_kernels),
    )


def _probabilities(outputs):
    import jax

    return jax.nn.sigmoid(outputs.logits)


def _loss(outputs, targets, mask):
    from moa_jax.training import losses

    return losses.binary_cross_entropy(outputs.logits, targets, mask)


def _smoothed_loss(outputs, targets, mask):
    from moa_jax.training import losses

    return _loss(outputs, losses.smoothed(targets, outputs.smoothing), mask)


def _ridge(weight):
    """Returns what adds the gradient of a ridge to that of a loss, the mean over the labels."""
    import jax
    import optax

    def add(path, update, array):
        if [key.key for key in path] != ["output", "kernel"]:
            return update
        return update + weight / array.shape[-1] * array

    return optax.stateless(functools.partial(jax.tree.map_with_path, add))


def _kernels(params):
    import jax

    return jax.tree.map(lambda array: array.ndim > 1, params)
