"""Stage: one network fitted for every seed and fold, and what its recipe decides about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax

from moa_jax.training import rules
from moa_jax.training.members import Member, epoch_order, num_batches, stretch
from moa_jax.training.rules import Rule
from moa_jax.training.trees import (
    BatchStats,
    Loss,
    MemberArrays,
    Outputs,
    Params,
    RuleState,
    SharedArrays,
    Variables,
)


def take_rows(
    shared: jax.Array, member_data: MemberArrays, rows: jax.Array, key: jax.Array, train: bool
) -> tuple[jax.Array]:
    """The plainest `inputs`: rows of one matrix that all members share."""
    return (shared[rows],)


def by_batch(counts: jax.Array) -> jax.Array:
    """Weighs batches alike, a short last one as a full one, as the PyTorch originals do."""
    return counts > 0


def by_row(counts: jax.Array) -> jax.Array:
    """Weighs batches by their rows or known cells, as Keras does: the mean over these."""
    return counts


VALIDATION_MEANS = {"by_batch": by_batch, "by_row": by_row}


def no_keywords(state: MemberState) -> Mapping[str, jax.Array]:
    """Adds nothing to what a network is called with."""
    return {}


def _at_the_same_epoch(member: Member) -> int:
    """Stands for lengths of schedules, which no program looks at."""
    return 0


@dataclasses.dataclass(frozen=True)
class Forward:
    """How rows become probabilities; all that inference needs beside the weights.

    Attributes:
      network: module with `apply(variables, *inputs, mask=None, train=False)`.
      inputs: `inputs(shared, member_data, rows, key, train)` -> tuple of arrays, the network's
        positional inputs for `rows` [batch]. It runs on the device for one member, so per-fold
        transforms, augmentation and images are built here and never stored.
      probabilities: maps the network's output to probabilities [batch, targets].
      inner: how one device maps its members. `vmap`: all of them as one batch. `loop`: one after
        another, as for convolutions, which `vmap` would turn into grouped ones; so they train in
        waves of one member per shard (see `layout.members_that_fit`), and a stopped member is
        skipped. `auto`, for wide dense networks: as `parallel.choose_inner` says, which skips the
        stopped ones where it loops, and has no waves.
      rows_at_once: rows that are predicted in one step, a divisor of 128: bounds the activations.
      shares_batches: devices may share the rows of a member's batch. The network then has an
        attribute `axis_name`, the mapped axis over which they are spread.
      matmul_precision: of the products of float32, `default`, `high` or `highest` by JAX's names,
        wherever the network is trained or predicts; `auto`, see `precision`.
    """

    network: nn.Module
    inputs: Callable[[SharedArrays, MemberArrays, jax.Array, jax.Array, bool], tuple] = take_rows
    probabilities: Callable[[Outputs], jax.Array] = jax.nn.sigmoid
    inner: str = "vmap"
    rows_at_once: int = 128
    shares_batches: bool = False
    matmul_precision: str = "auto"

    @property
    def precision(self) -> str | None:
        """The precision of products; None for JAX's setting, usually that of the platform.

        `auto` is what the network has as its attribute `matmul_precision`, or that setting.
        """
        if self.matmul_precision == "auto":
            return getattr(self.network, "matmul_precision", None)
        return self.matmul_precision

    def network_on(self, axis_name: str | None) -> nn.Module:
        """Returns the network whose batches' rows are spread over a mapped axis, if there is one.

        Its inputs are made of all rows; it sees its device's part, and what it puts out is
        gathered. So losses, rules and states are those of the whole batch, alike on every device.
        """
        return self.network if axis_name is None else self.network.clone(axis_name=axis_name)


@dataclasses.dataclass(frozen=True)
class Stage:
    """Everything that fitting the members of a stage needs.

    Attributes:
      name: name in logs, `<model>/<stage>`.
      forward: network and inputs.
      members: the (seed, fold) pairs with their rows.
      shared: arrays that all members read, indexed by row where `forward.inputs` does so.
      targets: [N, L] targets of the training rows.
      loss: `loss(outputs, targets, mask)` -> scalar that is trained on; `outputs` is what the
        network returns, so auxiliary outputs are seen here; `mask` [batch] marks real rows, or
        [batch, L] known cells of real rows where `known` is given.
      optimizer: `optimizer(total_steps, scale, member_data)` -> optax transformation; the arguments
        are traced: the member's number of steps, the factor of the `rate` rule, and the member's
        own arrays, which may hold its learning rate.
      epochs, batch_size: length of the schedule and rows per step.
      own_epochs: length of one member's schedule, at most `epochs`, after which it ends; None where
        all are of one length.
      epoch_steps: optimiser steps of an epoch, which begins with the row after the last one of the
        epoch before, in pass after pass over the training rows; None for one pass an epoch.
      cohorts: groups that members are cut into, in their order, where all could train at once.
        Sorted by length they leave few steps in which members of a group have nothing to do.
      valid_loss: the loss that the rules look at. None: the same as `loss`.
      known: [N, L] bool, the targets that are known; None where all are.
      valid_weights: weights of the batches in its mean, from their numbers of rows, or of known
        cells, [steps].
      member_data: arrays of each member, stacked along the first axis to one shape.
      start: `start(member)` -> variables that take the place of initial ones, such as all but
        the head of a network from an earlier stage. It is called when the member's turn comes.
      validates_start: let the rules see the loss of the starting weights before epoch 1.
      select: rule for the epoch whose weights are kept.
      stop: rule for the end of a member.
      rate: rule for the factor on its learning rate.
      restarts: `restarts(state)` -> whether a member, an epoch being closed, goes back to its kept
        weights and begins with a new state of the optimiser. None: never.
      keywords: `keywords(state)` -> further keyword arguments of the network in training, such as
        what is frozen in a phase that `rate` tells.
      share_init_across_folds: leave the fold out of the keys of weights, dropout and row order.
    """

    name: str
    forward: Forward
    members: tuple[Member, ...]
    shared: SharedArrays
    targets: np.ndarray
    loss: Loss
    optimizer: Callable[[jax.Array, jax.Array, MemberArrays], optax.GradientTransformation]
    epochs: int
    batch_size: int
    own_epochs: Callable[[Member], int] | None = None
    epoch_steps: int | None = None
    cohorts: int = 1
    known: np.ndarray | None = None
    valid_loss: Loss | None = None
    valid_weights: Callable[[jax.Array], jax.Array] = by_batch
    member_data: MemberArrays = ()
    start: Callable[[Member], Variables] | None = None
    validates_start: bool = False
    select: Rule = dataclasses.field(default_factory=rules.lowest_loss)
    stop: Rule = dataclasses.field(default_factory=rules.never)
    rate: Rule = dataclasses.field(default_factory=rules.constant_rate)
    restarts: Callable[[MemberState], jax.Array] | None = None
    keywords: Callable[[MemberState], Mapping[str, jax.Array]] = no_keywords
    share_init_across_folds: bool = True

    @property
    def definition(self) -> Stage:
        """The same stage without data and members: all that its programs are made of.

        Programs of equal definitions are the same, see `identity`, and none holds the arrays
        of a stage longer than the stage does.
        """
        ends = _at_the_same_epoch if self.own_epochs else None
        return dataclasses.replace(
            self,
            name="",
            members=(),
            shared=(),
            targets=np.zeros((0, 0)),
            known=None,
            member_data=(),
            epochs=0,
            own_epochs=ends,
            epoch_steps=None,
            cohorts=1,
            start=None,
            share_init_across_folds=True,
        )

    def steps_per_epoch(self, member: Member) -> int:
        return self.epoch_steps or num_batches(len(member.train_rows), self.batch_size)

    @property
    def longest_epoch(self) -> int:
        """Optimiser steps of the longest epoch that a member has."""
        return max(map(self.steps_per_epoch, self.members))

    def epochs_of(self, member: Member) -> int:
        """Returns the length of a member's schedule."""
        return self.own_epochs(member) if self.own_epochs else self.epochs

    @property
    def mean_epochs(self) -> float:
        """Mean length of the members' schedules."""
        return sum(map(self.epochs_of, self.members)) / len(self.members)

    def total_steps(self, member: Member) -> int:
        """Returns the optimiser steps that a member's schedule is made for."""
        return self.epochs_of(member) * self.steps_per_epoch(member)

    def epoch_rows(self, base_seed: int, member: Member, epoch: int) -> np.ndarray:
        """Returns a member's training rows in the order in which an epoch takes them."""
        if self.epoch_steps is None:
            return epoch_order(base_seed, member, epoch, self.share_init_across_folds)
        count = self.epoch_steps * self.batch_size
        return stretch(base_seed, member, epoch, count, self.share_init_across_folds)


class Selected(NamedTuple):
    """Weights of the kept epoch."""

    params: Params
    batch_stats: BatchStats
    epoch: jax.Array


class MemberState(NamedTuple):
    """State of one member during training; all of it is saved, all of it is an array.

    Attributes:
      params, batch_stats: the network's variables.
      opt: state of the optimiser.
      key: data of the member's threefry key, never advanced; steps fold their number in.
      step: number of real optimiser steps taken.
      epoch: number of finished epochs; before the start is validated -1.
      epoch_loss: sum of the training losses of this epoch's batches so far.
      selected: weights of the kept epoch.
      select, stop, rate: states of the three rules.
      active: whether the member still trains.
    """

    params: Params
    batch_stats: BatchStats
    opt: optax.OptState
    key: jax.Array
    step: jax.Array
    epoch: jax.Array
    epoch_loss: jax.Array
    selected: Selected
    select: RuleState
    stop: RuleState
    rate: RuleState
    active: jax.Array
