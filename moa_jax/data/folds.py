"""Fold assignments: every splitter of the recipes, and the file that keeps their result."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from moa_jax.store import files


@dataclasses.dataclass(frozen=True)
class Split:
    """How rows are cut into folds.

    Attributes:
      folds: for every training seed the fold of each row, [N] integers.
      units: [N] number of the unit that each row belongs to, whose rows no split parts: those of
        a compound that is kept whole. None where every row is its own.
    """

    folds: Mapping[int, np.ndarray]
    units: np.ndarray | None = None


def multilabel_stratified(
    labels: np.ndarray,
    num_folds: int,
    seed: int,
    shuffle: bool = False,
    always_true_label: bool = False,
) -> np.ndarray:
    """Returns the fold of each row by iterative stratification.

    Ties are broken by a fresh `numpy.random.RandomState(seed)`, the generator that the original's
    unshuffled splitter finds; current splitters refuse that combination.

    Args:
      labels: [N, L] labels; anything but zero counts as true.
      num_folds: number of folds.
      seed: seed of the generator.
      shuffle: permute the rows before they are assigned.
      always_true_label: add a first label that every row has. The original hands `sig_id` over
        as one. It changes the draws only where all labels are tied.

    References:
      K. Sechidis, G. Tsoumakas and I. Vlahavas (2011), On the stratification of multi-label data,
      ECML PKDD.

    >>> labels = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 0], [0, 0]])
    >>> folds = multilabel_stratified(labels, num_folds=2, seed=0, shuffle=True)
    >>> [labels[folds == fold].sum(0).tolist() for fold in (0, 1)]
    [[1, 1], [1, 1]]
    """
    from iterstrat.ml_stratifiers import IterativeStratification

    labels = np.asarray(labels) != 0
    num_rows = len(labels)
    if always_true_label:
        labels = np.concatenate([np.ones((num_rows, 1), bool), labels], axis=1)
    random_state = np.random.RandomState(seed)
    order = np.arange(num_rows)
    if shuffle:
        random_state.shuffle(order)
    shares = np.full(num_folds, 1 / num_folds)
    folds = np.empty(num_rows, np.int64)
    folds[order] = IterativeStratification(labels[order], shares, random_state)
    return folds


def drug_aware(
    labels: np.ndarray,
    drug_ids: np.ndarray,
    num_folds: int,
    seed: int,
    frequent_above: int = 18,
    alone: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the fold of each row, rows of a rare drug together, of a frequent one spread.

    Rare drugs are stratified by the labels that any of their rows has, in descending order of
    their count (equal counts in order of appearance); rows of frequent drugs are stratified one
    by one. Where a kind has fewer members than there are folds, its members are dealt out in
    that order, fold after fold.

    Args:
      labels: [N, L] labels.
      drug_ids: [N] drug of each row.
      num_folds: number of folds.
      seed: seed of both stratifications.
      frequent_above: drugs with more rows than this are frequent; 0 for none.
      alone: [N] bool, rows that are stratified one by one whatever their drug, as controls are.

    >>> drugs = np.array(["rare", "rare", "other", "other", *["control"] * 4])
    >>> folds = drug_aware(np.ones((8, 1)), drugs, num_folds=2, seed=0, frequent_above=3)
    >>> {drug: sorted(set(folds[drugs == drug].tolist())) for drug in ("rare", "control")}
    {'rare': [0], 'control': [0, 1]}
    """
    labels = np.asarray(labels) != 0
    spread = _parted(drug_ids, frequent_above, alone)
    # A unit's number is its place in the order of appearance.
    units = units_of(drug_ids, frequent_above, alone)
    counts = np.bincount(units)
    by_count = np.argsort(-counts, kind="stable")
    rare = by_count[~np.isin(by_count, units[spread])]
    any_label = np.zeros((len(counts), labels.shape[1]), bool)
    np.logical_or.at(any_label, units, labels)

    fold_of_unit = np.full(len(counts), -1)
    fold_of_unit[rare] = _stratified_or_dealt(any_label[rare], num_folds, seed)
    folds = fold_of_unit[units]
    folds[spread] = _stratified_or_dealt(labels[spread], num_folds, seed)
    return folds


def units_of(
    groups: np.ndarray, frequent_above: int = 0, alone: np.ndarray | None = None
) -> np.ndarray:
    """Returns [N] the unit of each row, see `Split.units`, numbered in order of appearance.

    Args:
      groups: [N] group of each row.
      frequent_above: rows of groups with more rows than this are units of their own; 0 for none.
      alone: [N] bool, rows that are units of their own whatever their group.

    >>> units_of(np.array(["b", "a", "b", "c", "c", "c"]), frequent_above=2).tolist()
    [0, 1, 0, 2, 3, 4]
    """
    import pandas as pd

    codes, _ = pd.factorize(np.asarray(groups))
    own = len(codes) + np.arange(len(codes))
    return pd.factorize(np.where(_parted(groups, frequent_above, alone), own, codes))[0]


def parted_groups(groups: np.ndarray, folds: np.ndarray) -> tuple[int, int]:
    """Returns how many groups have rows in several folds, and the number of these rows.

    >>> parted_groups(np.array(["a", "a", "b", "b", "c"]), np.array([0, 1, 2, 2, 0]))
    (1, 2)
    """
    import pandas as pd

    parted = pd.Series(folds).groupby(np.asarray(groups)).transform("nunique") > 1
    return int(pd.Series(groups)[parted].nunique()), int(parted.sum())


def k_fold(num_rows: int, num_folds: int, seed: int) -> np.ndarray:
    """Returns the fold of each row by a shuffled K-fold split, as scikit-learn draws it.

    >>> k_fold(num_rows=7, num_folds=3, seed=0).tolist()
    [1, 0, 0, 1, 2, 2, 0]
    """
    from sklearn.model_selection import KFold

    folds = np.empty(num_rows, np.int64)
    splitter = KFold(num_folds, shuffle=True, random_state=seed)
    for fold, (_, rows) in enumerate(splitter.split(folds)):
        folds[rows] = fold
    return folds


def write(path: str | Path, ids: np.ndarray, folds: Mapping[int, np.ndarray]) -> None:
    """Writes columns sig_id, seed, fold: one row for every id and seed."""
    import pandas as pd

    parts = [
        pd.DataFrame({"sig_id": ids, "seed": seed, "fold": fold}) for seed, fold in folds.items()
    ]
    with files.replacing(path) as temporary:
        pd.concat(parts).to_csv(temporary, index=False)


def _parted(groups: np.ndarray, frequent_above: int, alone: np.ndarray | None) -> np.ndarray:
    """Returns [N] bool, the rows that are not kept with the others of their group."""
    import pandas as pd

    codes, _ = pd.factorize(np.asarray(groups))
    parted = np.zeros(len(codes), bool) if alone is None else np.array(alone, bool)
    counts = np.bincount(codes[~parted], minlength=codes.max(initial=0) + 1)
    return parted | (counts[codes] > frequent_above) if frequent_above else parted


def _stratified_or_dealt(labels: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    if len(labels) < num_folds:
        return np.arange(len(labels)) % num_folds
    return multilabel_stratified(labels, num_folds, seed, shuffle=True)
