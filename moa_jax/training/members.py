"""A member is one network of a stage: its seed, its fold, its rows, its keys and index tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np

HOLDOUT_SHARE = 0.1
# Streams of one member's generator that must never coincide.
_PERMUTATION, _HOLDOUT = 0, 1


@dataclasses.dataclass(frozen=True)
class Member:
    """One (seed, fold) of a stage. Rows are positions in the stage's training rows.

    Attributes:
      seed: the training seed, as configured.
      fold: the fold whose rows the member does not train on.
      train_rows: rows that are trained on.
      select_rows: rows whose loss decides epoch, stopping and plateau.
      valid_rows: rows predicted out of fold; the same as `select_rows` unless honest.
    """

    seed: int
    fold: int
    train_rows: np.ndarray
    select_rows: np.ndarray
    valid_rows: np.ndarray

    @property
    def name(self) -> str:
        return f"seed{self.seed}_fold{self.fold}"


def cross_validation(
    folds: Mapping[int, np.ndarray], base_seed: int, honest: bool = False
) -> list[Member]:
    """Returns the members of every seed and fold, seeds outermost, in the mapping's order.

    Args:
      folds: for every seed the fold of each row, [N] integers.
      base_seed: the run's seed; it enters the draw of the inner hold-out.
      honest: hold a tenth of a member's training rows out, and let these decide its epoch, so
        that no row influences the weights it is scored with.
    """
    members = []
    for seed, fold_of_row in folds.items():
        for fold in np.unique(fold_of_row).tolist():
            valid = np.flatnonzero(fold_of_row == fold)
            train = select = np.flatnonzero(fold_of_row != fold)
            if honest:
                generator = np.random.default_rng([base_seed, seed, fold, _HOLDOUT])
                size = max(1, round(HOLDOUT_SHARE * len(train)))
                held = np.zeros(len(train), bool)
                held[generator.permutation(len(train))[:size]] = True
                train, select = train[~held], train[held]
            else:
                select = valid
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
