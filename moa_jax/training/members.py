"""A member is one network of a stage: its seed, its fold, its rows, its keys and index tables."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from moa_jax.errors import UserError

HOLDOUT_SHARE = 0.1
# Batch normalisation is undefined for a single row.
SMALLEST_BATCH = 2
# Streams of one member's generator that must never coincide.
_PERMUTATION, _HOLDOUT = 0, 1


# Numbers of blocks of folds, see `Nesting`; none where a stage is not nested.
Blocks = tuple[int, ...]


class MemberId(NamedTuple):
    """Who a member is within its stage; `name` is that of its file, too.

    Attributes:
      seed: the training seed, as configured.
      fold: the fold that the member does not train on; where it leaves out several blocks of
        folds, its number among the members of its seed.
      blocks: in a nested chain, the blocks of folds that it does not train on, see `Nesting`.

    >>> MemberId(seed=2, fold=4).name
    'seed2_fold4'
    >>> MemberId(seed=2, fold=5, blocks=(1, 3)).name
    'seed2_without1-3'
    """

    seed: int
    fold: int
    blocks: Blocks = ()

    @property
    def place(self) -> str:
        """What members of all seeds that leave out the same rows have in common."""
        if len(self.blocks) > 1:
            return f"without{'-'.join(map(str, self.blocks))}"
        return f"fold{self.fold}"

    @property
    def name(self) -> str:
        return f"seed{self.seed}_{self.place}"


class Nesting(NamedTuple):
    """Which rows the members of a stage leave out, so that a chain of stages never sees a fold.

    Folds are grouped into blocks. The last stage's members leave out a fold each. The stage before
    predicts for each block the other blocks' rows by members that have seen neither: one member
    for every pair of blocks, which serves both. The stage before that leaves out every three.

    Attributes:
      blocks: number of blocks, at most that of folds; fold k is in block k mod `blocks`.
      left_out: number of blocks that a member leaves out; 1 for the last stage.
    """

    blocks: int
    left_out: int


@dataclasses.dataclass(frozen=True)
class Member:
    """One (seed, fold) of a stage. Rows are positions in the stage's training rows.

    Attributes:
      seed, fold, blocks: see `MemberId`.
      train_rows: rows that are trained on.
      select_rows: rows whose loss decides epoch, stopping and plateau.
      valid_rows: rows predicted out of fold; the same as `select_rows` unless some are held out.
    """

    seed: int
    fold: int
    train_rows: np.ndarray
    select_rows: np.ndarray
    valid_rows: np.ndarray
    blocks: Blocks = ()

    @property
    def id(self) -> MemberId:
        return MemberId(self.seed, self.fold, self.blocks)

    @property
    def name(self) -> str:
        return self.id.name


def cross_validation(
    folds: Mapping[int, np.ndarray],
    base_seed: int,
    select_on: str = "fold",
    units: np.ndarray | None = None,
    nesting: Nesting | None = None,
) -> list[Member]:
    """Returns the members of every seed and fold, seeds outermost, in the mapping's order.

    Args:
      folds: for every seed the fold of each row, [N] integers.
      base_seed: the run's seed; it enters the draw of the inner hold-out.
      select_on: what decides a member's epoch, stopping and rate: the `fold` that it predicts, or
        a `holdout`, about a tenth of its training rows that it does not train on, so that no row
        influences the weights it is scored with.
      units: [N] unit of each row, whose rows the hold-out keeps together; None where every row is
        its own.
      nesting: the stage's place in a nested chain; None where stages are not nested.

    Raises:
      UserError: all training rows of a member are one unit, of which nothing can be held out.
    """
    if select_on not in ("fold", "holdout"):
        raise ValueError(f"select_on: expected fold or holdout, found {select_on!r}")
    members = []
    for seed, fold_of_row in folds.items():
        for fold, blocks, valid in _left_out(fold_of_row, nesting):
            train, predicted = np.flatnonzero(~valid), np.flatnonzero(valid)
            select = predicted
            if select_on == "holdout":
                held = _held_out(train, units, [base_seed, seed, fold, _HOLDOUT])
                train, select = train[~held], train[held]
            members.append(Member(seed, fold, train, select, predicted, blocks))
    return members


def _left_out(
    fold_of_row: np.ndarray, nesting: Nesting | None
) -> Iterator[tuple[int, Blocks, np.ndarray]]:
    """Yields number, blocks and rows ([N] bool) of each part that a member leaves out."""
    if nesting is None or nesting.left_out == 1:
        for fold in np.unique(fold_of_row).tolist():
            blocks = () if nesting is None else (fold % nesting.blocks,)
            yield fold, blocks, fold_of_row == fold
        return
    block_of_row = fold_of_row % nesting.blocks
    parts = itertools.combinations(np.unique(block_of_row).tolist(), nesting.left_out)
    for number, blocks in enumerate(parts):
        yield number, blocks, np.isin(block_of_row, blocks)


def _held_out(train: np.ndarray, units: np.ndarray | None, seeds: Sequence[int]) -> np.ndarray:
    """Returns which of the training rows are held out: whole units, as many rows as wanted.

    Units that would make them more are passed over; where all would, the smallest is taken.
    """
    own = train if units is None else units[train]
    _, unit_of_row = np.unique(own, return_inverse=True)
    sizes = np.bincount(unit_of_row)
    if len(sizes) < 2:
        raise UserError(
            "folds: expected training rows of at least two compounds or groups in every network, "
            f"of which a holdout takes one, found {len(sizes)}; use fewer stages, or more folds"
        )
    drawn = np.random.default_rng(seeds).permutation(len(sizes))
    room, held = max(1, round(HOLDOUT_SHARE * len(train))), []
    for unit in drawn.tolist():
        if sizes[unit] <= room:
            held.append(unit)
            room -= sizes[unit]
    return np.isin(unit_of_row, held or [int(np.argmin(sizes))])


def member_key(base_seed: int, member: Member, share_across_folds: bool) -> jax.Array:
    """Returns the member's key: who it is decides, never its slot or its neighbours.

    With `share_across_folds` all folds of a seed start from the same weights and draw the same
    dropout masks, as in the original.
    """
    key = jax.random.fold_in(jax.random.key(base_seed), member.seed)
    return key if share_across_folds else jax.random.fold_in(key, member.fold)


def num_batches(rows: int, batch_size: int) -> int:
    """Returns the number of batches that rows are cut into, a short last one included."""
    return -(-rows // batch_size)


def epoch_order(base_seed: int, member: Member, epoch: int, share_across_folds: bool) -> np.ndarray:
    """Returns the member's training rows in the order of one epoch.

    The permutation comes from numpy on the host: the same on every backend and device count.
    """
    identity = [member.seed] if share_across_folds else [member.seed, member.fold]
    generator = np.random.default_rng([base_seed, *identity, epoch, _PERMUTATION])
    return generator.permutation(member.train_rows)


def stretch(
    base_seed: int, member: Member, number: int, count: int, share_across_folds: bool
) -> np.ndarray:
    """Returns `count` training rows, those after `number` such stretches of pass after pass.

    Every pass has an order of its own, that of `epoch_order`, and all rows once.
    """
    size, first = len(member.train_rows), number * count
    start, end = first // size, -(-(first + count) // size)
    passes = [epoch_order(base_seed, member, p, share_across_folds) for p in range(start, end)]
    return np.concatenate(passes)[first - start * size :][:count]


def index_table(
    rows: np.ndarray, batch_size: int, num_steps: int, smallest_batch: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts rows into batches, padded to a fixed number of steps.

    Args:
      rows: [n] row positions in the order they are used.
      batch_size: width of the table; the last batch may have fewer real rows.
      num_steps: length of the table; steps past the last batch have no real rows.
      smallest_batch: a last batch with fewer rows takes the missing ones from the batch before,
        since batch normalisation of a single row is undefined.

    Returns:
      row positions [num_steps, batch_size] int32 (padding repeats row 0) and the number of real
      rows of each step [num_steps] int32; a step's real rows come first.

    >>> table, counts = index_table(np.array([5, 6, 7, 8]), batch_size=3, num_steps=3)
    >>> table.tolist()
    [[5, 6, 7], [8, 0, 0], [0, 0, 0]]
    >>> counts.tolist()
    [3, 1, 0]
    """
    counts = np.zeros(num_steps, np.int32)
    used = num_batches(len(rows), batch_size)
    counts[:used] = batch_size
    counts[used - 1] = len(rows) - (used - 1) * batch_size
    missing = smallest_batch - counts[used - 1]
    if missing > 0 and used > 1:
        counts[used - 2] -= missing
        counts[used - 1] += missing
    table = np.zeros((num_steps, batch_size), np.int32)
    table[np.arange(batch_size) < counts[:, None]] = rows
    return table, counts


def stacked_tables(
    rows: Sequence[np.ndarray], batch_size: int, num_steps: int, smallest_batch: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the `index_table` of every member, stacked to [M, steps, batch] and [M, steps]."""
    tables = [index_table(r, batch_size, num_steps, smallest_batch) for r in rows]
    positions, counts = zip(*tables, strict=True)
    return np.stack(positions), np.stack(counts)
