"""Fold assignments: every splitter of the recipes, and the file that keeps their result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from moa_jax.store import files


def multilabel_stratified(
    labels: np.ndarray,
    num_folds: int,
    seed: int,
    shuffle: bool = False,
    always_true_label: bool = False,
) -> np.ndarray:
    """Returns the fold of each row by iterative stratification (Sechidis et al., 2011).

    Ties are broken by a fresh `numpy.random.RandomState(seed)`, the generator that the original's
    unshuffled splitter finds; current splitters refuse that combination.

    Args:
      labels: [N, L] labels; anything but zero counts as true.
      num_folds: number of folds.
      seed: seed of the generator.
      shuffle: permute the rows before they are assigned.
      always_true_label: add a first label that every row has. The original hands `sig_id` over
        as one. It changes the draws only where all labels are tied.
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
      frequent_above: drugs with more rows than this are frequent.
    """
    import pandas as pd

    labels = np.asarray(labels) != 0
    codes, _ = pd.factorize(np.asarray(drug_ids))
    counts = np.bincount(codes)
    by_count = np.argsort(-counts, kind="stable")
    rare = by_count[counts[by_count] <= frequent_above]
    any_label = np.zeros((len(counts), labels.shape[1]), bool)
    np.logical_or.at(any_label, codes, labels)

    fold_of_drug = np.full(len(counts), -1)
    fold_of_drug[rare] = _stratified_or_dealt(any_label[rare], num_folds, seed)
    folds = fold_of_drug[codes]
    spread = folds < 0
    folds[spread] = _stratified_or_dealt(labels[spread], num_folds, seed)
    return folds


def k_fold(num_rows: int, num_folds: int, seed: int) -> np.ndarray:
    """Returns the fold of each row by a shuffled K-fold split, as scikit-learn draws it."""
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


def _stratified_or_dealt(labels: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    if len(labels) < num_folds:
        return np.arange(len(labels)) % num_folds
    return multilabel_stratified(labels, num_folds, seed, shuffle=True)
