"""A member is one network of a stage: its seed, its fold, its rows, its keys and index tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

HOLDOUT_SHARE = 0.1
# Batch normalisation is undefined for a single row.
SMALLEST_BATCH = 2
# Streams of one member's generator that must never coincide.
_PERMUTATION, _HOLDOUT = 0, 1


class MemberId(NamedTuple):
    """Who a member is within its stage; `name` is that of its file, too.

    >>> MemberId(seed=2, fold=4).name
    'seed2_fold4'
    """

    seed: int
    fold: int

    @property
    def name(self) -> str:
        return f"seed{self.seed}_fold{self.fold}"


@dataclasses.dataclass(frozen=True)
class Member:
    """One (seed, fold) of a stage. Rows are positions in the stage's training rows.

    Attributes:
      seed: the training seed, as configured.
      fold: the fold whose rows the member does not train on.
      train_rows: rows that are trained on.
      select_rows: rows whose loss decides epoch, stopping and plateau.
      valid_rows: rows predicted out of fold; the same as `select_rows` unless some are held out.
    """

    seed: int
    fold: int
    train_rows: np.ndarray
    select_rows: np.ndarray
    valid_rows: np.ndarray

    @property
    def id(self) -> MemberId:
        return MemberId(self.seed, self.fold)

    @property
    def name(self) -> str:
        return self.id.name


def cross_validation(
    folds: Mapping[int, np.ndarray], base_seed: int, select_on: str = "fold"
) -> list[Member]:
    """Returns the members of every seed and fold, seeds outermost, in the mapping's order.

    Args:
      folds: for every seed the fold of each row, [N] integers.
      base_seed: the run's seed; it enters the draw of the inner hold-out.
      select_on: what decides a member's epoch, stopping and rate: the `fold` that it predicts, or
        a `holdout`, a tenth of its training rows that it does not train on, so that no row
        influences the weights it is scored with.
    """
    if select_on not in ("fold", "holdout"):
        raise ValueError(f"select_on: expected fold or holdout, found {select_on!r}")
    members = []
    for seed, fold_of_row in folds.items():
        for fold in np.unique(fold_of_row).tolist():
            select = valid = np.flatnonzero(fold_of_row == fold)
            train = np.flatnonzero(fold_of_row != fold)
            if select_on == "holdout":
                generator = np.random.default_rng([base_seed, seed, fold, _HOLDOUT])
                size = max(1, round(HOLDOUT_SHARE * len(train)))
                held = np.zeros(len(train), bool)
                held[generator.permutation(len(train))[:size]] = True
                train, select = train[~held], train[held]
            members.append(Member(seed, fold, train, select, valid))
    return members


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
