"""Simple NN: one dense network on quantile-transformed profiles; old or new (drug-aware) CV."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np

from moa_jax.config import choice, number, switch
from moa_jax.data import folds
from moa_jax.data.dataset import Dataset, Levels, Targets
from moa_jax.errors import UserError
from moa_jax.recipes import profile, recipe
from moa_jax.recipes.chain import Chain, Link
from moa_jax.recipes.dense import Dense
from moa_jax.recipes.profile import SimpleProfile
from moa_jax.recipes.recipe import Context, RecipeResult
from moa_jax.store.predictions import Predictions
from moa_jax.training.stage import Stage


@dataclasses.dataclass(frozen=True)
class Config(Dense):
    """The Simple NN; the defaults are the original with old CV.

    Attributes:
      cv: which original the switches are compared with in the report, `old` or `new`.
      split: `stratified` (row by row, unshuffled), `drug_aware` (rare drugs as a whole), or
        `k_fold`.
      split_seed: seed of the splitter.
      folds: number of folds.
      seeds: training seeds; every seed trains one member per fold.
      drop_first_gene: lose the first feature column after the first transform and shift the
        blocks of clusters and statistics by one, as the original with old CV does.
      transforms: fit transforms on `all` rows at hand, test rows included, or `per_fold` on the
        fold's training rows and the controls.
      select_on: the rows that decide the epoch: the `fold` that is predicted, or a `holdout` of
        the training rows.
      gene_factors, cell_factors: components of factor analysis.
      gene_clusters, cell_clusters: clusters of k-means; 0 for none.
    """

    convention: ClassVar[str] = "printed"  # of `metrics.conventions`, as it was printed

    recipe: str = "simple_nn"
    cv: str = choice("old", "old", "new")
    split: str = switch(choice("stratified", "stratified", "drug_aware", "k_fold"))
    split_seed: int = number(42, 0, 2**31 - 1)
    folds: int = number(5, 2, 1000)
    seeds: tuple[int, ...] = number((940, 1513, 1269, 1392, 1119, 1303), 0, 2**31 - 1)
    drop_first_gene: bool = switch(number(True))
    transforms: str = switch(choice("all", "all", "per_fold"))
    select_on: str = switch(choice("fold", "fold", "holdout"))
    gene_factors: int = number(90, 1)
    cell_factors: int = number(50, 1)
    gene_clusters: int = number(45, 0)
    cell_clusters: int = number(15, 0)

    def honest(self) -> Config:
        """Returns the configuration in which no row influences its own score."""
        return dataclasses.replace(self, transforms="per_fold", select_on="holdout")

    def original(self) -> Config:
        """Returns the original that this configuration is compared with."""
        return ORIGINAL[self.cv]

    @property
    def recorded_score(self) -> float:
        """Treated-row log loss that the original recorded on its own data."""
        return {"old": 0.015846, "new": 0.016976}[self.cv]


ORIGINAL = {
    "old": Config(),
    "new": Config(
        cv="new",
        split="drug_aware",
        split_seed=34,
        drop_first_gene=False,
        gene_clusters=0,
        cell_clusters=0,
    ),
}


def check(dataset: Dataset, config: Config) -> None:
    """Checks that the data suit the configuration, before any model is trained.

    Raises:
      UserError: there are fewer treated rows than folds, or the split needs drug ids.
    """
    recipe.check_folds(dataset, config.folds)
    if config.split == "drug_aware" and dataset.drug_id is None:
        raise UserError(
            "train_drug: expected for split=drug_aware, found none; "
            "add the file or set split=stratified"
        )


def fit(dataset: Dataset, config: Config, context: Context) -> RecipeResult:
    """Trains every member and predicts the training rows out of fold, and the test rows."""
    return _chain(config, context.levels).fit(dataset, context)


def outline(dataset: Dataset, config: Config, context: Context) -> tuple[Stage, ...]:
    """Returns the stages that `fit` would train, see `recipe.outline_folds`."""
    return _chain(config, context.levels).outline(dataset, context)


def load(
    config: Config, context: Context, targets: tuple[str, ...]
) -> Callable[[Dataset], Predictions]:
    """Returns the function that predicts new rows; it needs the work folder only."""
    return _chain(config, context.levels).load(context, targets)


def _chain(config: Config, levels: Levels) -> Chain:
    described = SimpleProfile(
        factors={"gene": config.gene_factors, "cell": config.cell_factors},
        clusters={"gene": config.gene_clusters, "cell": config.cell_clusters},
        drop_first_column=config.drop_first_gene,
    )

    def inputs(rows: Dataset, columns: np.ndarray, previous: None) -> np.ndarray:
        return np.concatenate([columns, *profile.treatment(rows, levels)], axis=1)

    def scored(rows: Dataset) -> Targets:
        return rows.scored

    def split(rows: Dataset) -> Mapping[int, np.ndarray]:
        return dict.fromkeys(config.seeds, _split(rows, config))

    link = Link(
        "scored", config.network, config.stage, scored, config.seeds, split, inputs, described
    )
    return Chain.of((link,), config.transforms, config.select_on, config.folds)


def _split(rows: Dataset, config: Config) -> np.ndarray:
    labels = rows.scored.values
    if config.split == "drug_aware":
        return folds.drug_aware(labels, rows.drug_id, config.folds, config.split_seed)
    if config.split == "k_fold":
        return folds.k_fold(len(rows), config.folds, config.split_seed)
    return folds.multilabel_stratified(
        labels, config.folds, config.split_seed, always_true_label=True
    )
