"""Design of a stage: all that its recipe decides before there are data."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from moa_jax.data.dataset import Dataset, Targets
from moa_jax.data.folds import Split
from moa_jax.recipes.context import Context
from moa_jax.recipes.features import Arrays, Features
from moa_jax.recipes.host_stage import HostStage, HostTraining
from moa_jax.training.attribution import Reading
from moa_jax.training.members import Member, MemberId, Nesting, cross_validation
from moa_jax.training.stage import Forward, Stage

Start = Callable[[Member], Any]


def scored(rows: Dataset) -> Targets:
    """Returns the scored targets of rows."""
    return rows.targets


def nonempty_nonscored(rows: Dataset) -> Targets:
    """Returns the non-scored targets that have a positive row; possibly none."""
    if rows.nonscored is None:
        return Targets((), np.zeros((len(rows), 0), np.uint8))
    return rows.nonscored.take(slice(None), np.any(rows.nonscored.values, axis=0))


def every_nonscored(rows: Dataset) -> Targets:
    """Returns all non-scored targets: which ones are positive nowhere is not for a fold to know."""
    assert rows.nonscored is not None
    return rows.nonscored


def has_nonscored(dataset: Dataset) -> bool:
    """Tells whether treated rows have positive non-scored targets."""
    return bool(nonempty_nonscored(dataset.take(np.flatnonzero(~dataset.is_control))).names)


def same_rows(member: Member) -> Member:
    """Leaves a member's rows as cross-validation makes them."""
    return member


def from_scratch(context: Context, num_outputs: int) -> Start | None:
    """Starts from random weights."""
    return None


class Drawn(NamedTuple):
    """Arrays of members that have numbers of their own.

    Attributes:
      features: what they read of the features.
      draws: [M] numbers by name.
    """

    features: Any
    draws: Mapping[str, Any]


# What programs are made of: of the design they hold nothing else, so that stages whose networks are
# alike are one program.
def _with_draws(inputs, table, data: Drawn, rows, key, train) -> tuple:
    return (*inputs(table, data.features, rows, key, train), data.draws)


def _columns_beside_draws(columns, table, data: Drawn) -> jax.Array:
    return columns(table, data.features)


def _columns_with_draws(inputs_of, values, data: Drawn) -> tuple:
    return (*inputs_of(values, data.features), data.draws)


@dataclasses.dataclass(frozen=True)
class StageDesign:
    """A stage as its recipe decides it.

    Attributes:
      name: the stage's name, and that of its folder.
      network: makes the network for a number of outputs; None where `training` is on the host.
      training: makes the `Stage` from name, forward, members, shared, member_data, targets, known
        and start: loss, optimiser, schedule and rules are its own. Or what the host fits.
      targets: the targets of the recipe's rows.
      split: how these rows are cut into folds.
      features: what a network reads of a row.
      select_on: rows that decide a member's epoch: the `fold` it predicts, or a `holdout` of its
        training rows.
      nesting: the stage's place in a nested chain; None where stages are not nested.
      rows: changes which rows a member trains on and is selected by.
      start: from context and number of outputs to the variables that a member starts from.
      probabilities: maps the network's output to probabilities.
      inner, shares_batches, rows_at_once: how members run on devices, see `Forward`.
      draws: numbers of each member's own, [M] by name, as its learning rate: the network's last
        input, and in a `Drawn` what the optimiser is made from. None where members are alike.
      by_seed: keep what the members of each seed predict of the training rows.
      expected_epochs: epochs that the original's members had on average where a rule ended them;
        None where that is not recorded, or nothing ends them.
    """

    name: str
    network: Callable[[int], nn.Module] | None
    training: Callable[..., Stage] | HostTraining
    targets: Callable[[Dataset], Targets]
    split: Callable[[Dataset], Split]
    features: Features
    select_on: str = "fold"
    nesting: Nesting | None = None
    rows: Callable[[Member], Member] = same_rows
    start: Callable[[Context, int], Start | None] = from_scratch
    probabilities: Callable[[Any], jax.Array] = jax.nn.sigmoid
    inner: str = "auto"
    shares_batches: bool = False
    rows_at_once: int = 128
    draws: Callable[[Sequence[MemberId]], Mapping[str, np.ndarray]] | None = None
    by_seed: bool = False
    expected_epochs: float | None = None

    def full_name(self, context: Context) -> str:
        """Returns the stage's name in logs, `<model>/<stage>`."""
        return f"{context.model}/{self.name}"

    def members(self, split: Split, base_seed: int) -> list[Member]:
        """Returns the members for folds of the recipe's rows, `base_seed` being the run's seed."""
        made = cross_validation(split.folds, base_seed, self.select_on, split.units, self.nesting)
        return [self.rows(member) for member in made]

    def member_data(self, features: Any, every: Sequence[MemberId]) -> Any:
        """Returns the arrays of members from those that their features give."""
        return features if self.draws is None else Drawn(features, self.draws(every))

    def forward(self, num_outputs: int, context: Context) -> Forward:
        """Returns how the networks predict.

        Args:
          num_outputs: number of targets.
          context: how they run.

        Raises:
          ValueError: there are none.
        """
        if self.network is None:
            raise ValueError(f"{self.name}: expected networks, found models that the host fits")
        return Forward(
            self.network(num_outputs),
            self.features.inputs
            if self.draws is None
            else functools.partial(_with_draws, self.features.inputs),
            self.probabilities,
            inner=self.inner,
            shares_batches=self.shares_batches,
            rows_at_once=self.rows_at_once,
            matmul_precision=context.config.matmul_precision,
        )

    def reading(self, network: nn.Module) -> Reading:
        """Returns how a member reads a table, where the network is differentiated."""
        held = tuple(getattr(network, "cat_idxs", ()))
        columns, inputs = self.features.columns, self.features.inputs_of
        if self.draws is not None:
            columns = functools.partial(_columns_beside_draws, columns)
            inputs = functools.partial(_columns_with_draws, inputs)
        return Reading(columns, inputs, held)

    def stage(
        self,
        context: Context,
        members: Sequence[Member],
        arrays: Arrays,
        targets: Targets,
        start: Start | None = None,
        units: np.ndarray | None = None,
    ) -> Stage | HostStage:
        """Returns what is to be fitted.

        Args:
          context: where and how it runs.
          members: the stage's members.
          arrays: what they read.
          targets: the targets of the recipe's rows.
          start: the variables that each member starts from; None for random ones.
          units: the units of these rows, see `Split`, which inner folds keep whole.
        """
        name, training = self.full_name(context), self.training
        if isinstance(training, HostTraining):
            return HostStage(
                name,
                training,
                self.features.inputs,
                tuple(members),
                np.asarray(arrays.table),
                arrays.member_data,
                targets.values,
                units,
                targets.known,
            )
        return training(
            name=name,
            forward=self.forward(len(targets.names), context),
            members=tuple(members),
            shared=arrays.table,
            member_data=self.member_data(arrays.member_data, [m.id for m in members]),
            targets=targets.values.astype(arrays.table.dtype),
            known=targets.known,
            start=start,
        )
