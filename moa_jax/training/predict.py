"""Prediction with finished members: out of fold, and for new rows in chunks of one size."""

from __future__ import annotations

import abc
import collections
import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np

from moa_jax.errors import UserError, first_line
from moa_jax.models import batch_axis
from moa_jax.training import weights
from moa_jax.training.layout import even_groups
from moa_jax.training.log_odds import MemberSpread, log_odds
from moa_jax.training.means import LOG_ODDS, PROBABILITIES, Mean
from moa_jax.training.members import Blocks, Member, MemberId, num_batches, stacked_tables
from moa_jax.training.metrics import mean_log_loss
from moa_jax.training.parallel import MEMORY_SHARE, Devices
from moa_jax.training.program import Program
from moa_jax.training.slots import Slots, stack
from moa_jax.training.stage import Forward
from moa_jax.training.trees import (
    Finished,
    MemberArrays,
    MemberFunction,
    Prediction,
    PredictionShared,
    SharedArrays,
    Variables,
)


def predict(forward: Forward, axis_name: str | None = None) -> MemberFunction:
    """Returns the program that predicts rows with one member.

    `program((), own: Prediction, shared: PredictionShared) -> ((), probabilities [steps, batch,
    targets])`. A row's probabilities depend on that row alone.

    Args:
      forward: network and inputs.
      axis_name: the mapped axis over which devices share a batch, see `Forward.network_on`.
    """
    network = forward.network_on(axis_name)

    def program(state: tuple, own: Prediction, shared: PredictionShared) -> tuple[tuple, jax.Array]:
        (variables, data), table = own
        unused_key = jax.random.key(0)

        def batch(rows):
            inputs = forward.inputs(shared.inputs, data, rows, unused_key, False)
            inputs = batch_axis.part(inputs, axis_name)
            probabilities = forward.probabilities(network.apply(variables, *inputs, train=False))
            return batch_axis.whole(probabilities, len(rows), axis_name)

        def step(index, found):
            return found.at[index].set(batch(table[index]))

        one = jax.eval_shape(batch, table[0])
        empty = jnp.zeros((len(table), *one.shape), one.dtype)
        return state, jax.lax.fori_loop(0, shared.steps, step, empty)

    return program


def lifted(name: str, forward: Forward, devices: Devices, inner: str) -> Program:
    """Returns `predict` for all members; `name` is for logs, the others are `map_members`'s."""
    program, precision = predict(forward, devices.batch_axis), forward.precision
    name = f"{name}: predict"
    return Program(name, program, devices, precision=precision, inner=inner, donate=False)


class OutOfFold(NamedTuple):
    """Predictions of training rows by members that have not seen them.

    Attributes:
      values: [N, L] float64, the mean over these members.
      scores: for each member its seed, fold, blocks, number of rows and mean log loss on them;
        where labels are unknown also how many of the rows' are `known`, which the loss is of.
      nested: for blocks that a stage after this one leaves out, [N, L] in the networks' precision,
        the mean over the members that leave out these and the row.
      by_seed: where it is asked for, both for each seed alone, with `()` for the whole, [N, L] in
        the networks' precision.
    """

    values: np.ndarray
    scores: list[dict[str, Any]]
    nested: dict[Blocks, np.ndarray]
    by_seed: dict[int, dict[Blocks, np.ndarray]]


class MemberPredictor(abc.ABC):
    """The finished members of a stage, ready to predict, whatever fitted them.

    Attributes:
      rows_at_once: rows that are predicted in one step.
    """

    rows_at_once: int

    @abc.abstractmethod
    def __call__(
        self, inputs: SharedArrays, rows: Callable[[Sequence[int]], np.ndarray], steps: int
    ) -> Iterator[tuple[Sequence[int], np.ndarray]]:
        """Yields `(group, probabilities [members of the group, steps, batch, targets])`.

        Args:
          inputs: the shared inputs.
          rows: for a group of members, their row positions [members, at least steps, batch].
          steps: how many steps are computed; those after them are 0.
        """

    def means(
        self,
        inputs: SharedArrays,
        num_rows: int,
        chunk_rows: int,
        of: np.ndarray,
        spread: MemberSpread | None = None,
        mean: Mean = PROBABILITIES,
    ) -> np.ndarray:
        """Returns means over members, [means, num_rows, targets] float64.

        Args:
          inputs: host arrays of at most `chunk_rows` rows along their first axis.
          num_rows: how many of the rows are real.
          chunk_rows: rows that every call is padded to, a multiple of those at once.
          of: [means, members] weights of the members in each mean, 0 for those that it is not of.
          spread: takes the members of the first mean.
          mean: what the means are of.
        """
        padded = jax.tree.map(
            lambda a: np.concatenate([a, np.zeros((chunk_rows - len(a), *a.shape[1:]), a.dtype)]),
            inputs,
        )
        table = np.arange(chunk_rows, dtype=np.int32).reshape(-1, self.rows_at_once)
        steps = num_batches(num_rows, self.rows_at_once)
        totals: Any = 0.0
        for group, values in self(padded, lambda group: np.stack([table] * len(group)), steps):
            # Most of a population are in no mean, and logarithms take long.
            chosen = np.flatnonzero(of[:, list(group)].any(0))
            weights = of[:, np.asarray(group)[chosen]]
            flat = values.reshape(len(values), chunk_rows, -1)
            summed = flat[chosen, :num_rows].astype(np.float64)
            for own in summed:  # one by one, what is made on the way stays in caches
                own[...] = mean.of(own)
            totals = totals + np.stack([_weighted(summed, of_mean) for of_mean in weights])
            if spread is not None:
                spread.add(summed if mean is LOG_ODDS else map(log_odds, summed), weights[0])
        return mean.back(totals / of.sum(1)[:, None, None])


class Predictor(MemberPredictor):
    """The finished members of a stage, ready to predict.

    Weights of one group of members stay on the devices; with several groups each call loads them
    anew, so that memory holds one group only.
    """

    def __init__(
        self,
        name: str,
        forward: Forward,
        folder: Path,
        members: Sequence[MemberId],
        devices: Devices,
        member_data: MemberArrays = (),
        share: float = 1.0,
        program: MemberFunction | None = None,
    ):
        """Loads the weights where they fit.

        Args:
          name: name in logs.
          forward: network and inputs, as in training.
          folder: the stage's folder, where `members/` lies.
          members: who they are, in the order of `member_data`.
          devices: devices and strategy.
          member_data: arrays of each member, stacked.
          share: this predictor's share of the memory for members, if there are several.
          program: what is computed of rows by each member; None for `predict`.

        Raises:
          UserError: a member's file is missing, damaged, or of other shapes than the others.
        """
        self.folder, self.devices, self.forward = folder, devices, forward
        self.rows_at_once = forward.rows_at_once
        for member in members:
            if not self._path(member).exists():
                raise UserError(f"{self._path(member)}: not found, the work folder is not complete")
        at_once = self._members_that_fit(members, share)
        self.groups = even_groups(range(len(members)), at_once)
        self._members, self._data = members, member_data
        self._slots_per_shard = -(-len(self.groups[0]) // devices.num_shards)
        self.devices = devices = devices.in_lanes(forward.inner, self._slots_per_shard)
        inner = devices.inner(forward.inner)
        if program is None:
            self._program = lifted(name, forward, devices, inner)
        else:
            self._program = Program(
                name, program, devices, precision=forward.precision, inner=inner, donate=False
            )
        self._resident = self._load(self.groups[0]) if len(self.groups) == 1 else None

    def _members_that_fit(self, members: Sequence[MemberId], share: float) -> int:
        # The arrays lie in the file uncompressed.
        size = weights.num_bytes(self._path(members[0]))
        budget = share * MEMORY_SHARE * self.devices.memory_bytes() / self.devices.per_member
        return max(int(budget // size), self.devices.num_shards)

    def _path(self, member: MemberId) -> Path:
        return self.folder / "members" / f"{member.name}.npz"

    @property
    def compilations(self) -> int:
        return self._program.compilations

    def _slots(self, group: Sequence[int]) -> Slots:
        return self.devices.slots(len(group), self._slots_per_shard)

    def _load(self, group: Sequence[int]) -> Finished:
        read = [weights.read(self._path(self._members[i])).variables for i in group]
        for number, variables in zip(group, read, strict=True):
            if _shapes(variables) != _shapes(read[0]):
                raise UserError(
                    f"{self._path(self._members[number])}: expected arrays of the shapes of "
                    f"{self._path(self._members[group[0]]).name}, found others"
                )
        data = jax.tree.map(lambda a: np.asarray(a)[np.asarray(group)], self._data)
        return self.devices.put_members(self._slots(group).pad(Finished(stack(read), data)))

    def begin(
        self, inputs: SharedArrays, rows: Callable[[Sequence[int]], np.ndarray], steps: int
    ) -> None:
        """Has the program of such a call compiled meanwhile, where all members are loaded."""
        if self._resident is not None:
            (group,) = self.groups
            with self._naming(group):
                shared = self._shared(inputs, steps)
                self._program.begin_call((), self._own(group, rows), shared)

    @contextlib.contextmanager
    def _naming(self, group: Sequence[int]) -> Iterator[None]:
        """Names the group's first file where the arrays in it are not the network's."""
        try:
            yield
        except flax.errors.FlaxError as error:
            raise UserError(
                f"{self._path(self._members[group[0]])}: expected the arrays of the "
                f"configuration's network: {first_line(error)}"
            ) from error

    def _own(self, group: Sequence[int], rows: Callable[[Sequence[int]], np.ndarray]) -> Prediction:
        member = self._resident or self._load(group)
        return Prediction(member, self.devices.put_members(self._slots(group).pad(rows(group))))

    def _shared(self, inputs: SharedArrays, steps: int) -> PredictionShared:
        there = self.devices.put_shared(np.int32(steps))
        return PredictionShared(self.devices.put_tables(inputs), there)

    def __call__(
        self, inputs: SharedArrays, rows: Callable[[Sequence[int]], np.ndarray], steps: int
    ) -> Iterator[tuple[Sequence[int], Any]]:
        """Yields what `MemberPredictor` does, or another program's output in its place."""
        shared = self._shared(inputs, steps)
        for group in self.groups:
            with self._naming(group):
                _, predicted = self._program((), self._own(group, rows), shared)
            yield group, self._slots(group).unpad(predicted)


class WithMembers(Protocol):
    """What prediction asks of a stage: who its members are, and what they all read."""

    @property
    def members(self) -> Sequence[Member]:
        """The (seed, fold) pairs with their rows."""

    @property
    def shared(self) -> SharedArrays:
        """Arrays that all members read."""

    @property
    def known(self) -> np.ndarray | None:
        """Which targets are known, [N, L] bool; None where all are."""


def out_of_fold(
    stage: WithMembers, predictor: MemberPredictor, hard_targets: np.ndarray, by_seed: bool = False
) -> OutOfFold:
    """Predicts every training row with the members that did not train on it.

    Args:
      stage: the fitted stage.
      predictor: its members, in the stage's order.
      hard_targets: [N, L] 0/1 targets to score with, where the stage's are known.
      by_seed: keep the predictions of each seed; of a nested stage these are in the place of the
        means over seeds, which nobody reads then.
    """
    members, batch = stage.members, predictor.rows_at_once
    steps = num_batches(max(len(member.valid_rows) for member in members), batch)
    new = functools.partial(_Mean, hard_targets.shape)
    everywhere, nested = new(), collections.defaultdict[Blocks, _Mean](new)
    alone: dict[int, dict[Blocks, _Mean]] = {}
    apart: dict[int, dict[Blocks, np.ndarray]] = {}
    left = collections.Counter(member.seed for member in members)
    scores = []
    # In the precision of the networks that read them: half a file of float64.
    dtype = jnp.result_type(float)

    def stored(means: Mapping[Blocks, _Mean]) -> dict[Blocks, np.ndarray]:
        return {blocks: mean.values().astype(dtype) for blocks, mean in means.items()}

    def rows(group):
        return stacked_tables([members[i].valid_rows for i in group], batch, steps)[0]

    for group, predicted in predictor(stage.shared, rows, steps):
        for index, values in zip(group, predicted, strict=True):
            member = members[index]
            own = member.valid_rows
            values = values.reshape(-1, values.shape[-1])[: len(own)].astype(np.float64)
            everywhere.add(own, values)
            views = []
            if len(member.blocks) > 1:
                views = [*itertools.combinations(member.blocks, len(member.blocks) - 1)]
            for blocks in () if by_seed else views:
                nested[blocks].add(own, values)
            for blocks in [(), *views] if by_seed else ():
                of_seed = alone.setdefault(member.seed, collections.defaultdict(new))
                of_seed[blocks].add(own, values)
            left[member.seed] -= 1
            if by_seed and not left[member.seed]:
                # Of one seed at a time the sums are in memory, which are twice as large.
                apart[member.seed] = stored(alone.pop(member.seed))
            known = None if stage.known is None else stage.known[own]
            scores.append(
                {
                    "seed": member.seed,
                    "fold": member.fold,
                    "blocks": list(member.blocks),
                    "rows": len(own),
                    **({} if known is None else {"known": int(known.sum())}),
                    "score": mean_log_loss(hard_targets[own], values, known),
                }
            )
    return OutOfFold(everywhere.values(), scores, stored(nested), apart)


def _weighted(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the sum over members [members, ...] with their weights."""
    chosen = np.flatnonzero(weights)
    return (values[chosen] * weights[chosen, None, None]).sum(0)


def _shapes(variables: Variables) -> Mapping[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_flatten_with_path(variables)[0]
    return {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in leaves}


class _Mean:
    """A mean over members, each of which predicts some of the rows."""

    def __init__(self, shape: tuple[int, ...]):
        self._total, self._count = np.zeros(shape), np.zeros(shape[0], int)

    def add(self, rows: np.ndarray, values: np.ndarray) -> None:
        self._total[rows] += values
        self._count[rows] += 1

    def values(self) -> np.ndarray:
        return self._total / self._count[:, None]
