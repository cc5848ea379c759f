"""Folds by iterative stratification, beside the library whose draws they are."""

from __future__ import annotations

import numpy as np

from benchmarks.row import Peer, Row, Side

# Rows and labels.
SIZES = {"tiny": (60, 4), "quick": (2_000, 100), "full": (21_948, 206)}
FOLDS, SEED = 5, 42


def labels(size: str) -> np.ndarray:
    """Returns rare labels, some of a few rows and some of one in twenty-five."""
    rows, count = SIZES[size]
    generator = np.random.default_rng(0)
    shares = np.exp(generator.uniform(np.log(2 / rows), np.log(0.04), count))
    return generator.random((rows, count)) < shares


def ours(size: str) -> Side:
    from moa_jax.data import folds

    known = labels(size)
    return Side(lambda: folds.multilabel_stratified(known, FOLDS, SEED, shuffle=True))


def library(size: str) -> Side:
    from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

    known = labels(size)
    splitter = MultilabelStratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    return Side(lambda: list(splitter.split(known, known)))


ROWS = (
    Row(
        "folds.stratified", "five stratified folds", "s", ours,
        {"iterative-stratification": Peer(library, ("iterstrat",), "iterative-stratification")},
    ),
)  # fmt: skip
