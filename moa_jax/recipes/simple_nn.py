"""Simple NN: one dense network on quantile-transformed profiles; old or new (drug-aware) CV."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from moa_jax.config import choice, number, sized, switch
from moa_jax.data import folds
from moa_jax.data.dataset import Dataset, Levels
from moa_jax.data.folds import Split
from moa_jax.features.factors import ClusterOneHot, FactorScores
from moa_jax.features.rank_gauss import holding
from moa_jax.recipes import optimisation, profile
from moa_jax.recipes.dense import DenseTraining
from moa_jax.recipes.profile import Steps
from moa_jax.recipes.recipe import Recipe

if TYPE_CHECKING:
    from moa_jax.recipes.design import StageDesign


@dataclasses.dataclass(frozen=True)
class Config(Recipe, DenseTraining):
    """The Simple NN; the defaults are the original with old CV.

    Attributes:
      cv: which original this is, `old` (rows stratified, unshuffled) or `new` (compounds whole,
        but for frequent ones).
      split_seed: seed of the splitter.
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

    recipe: str = "simple_nn"
    cv: str = choice("old", "old", "new")
    split_seed: int = number(42, 0, 2**31 - 1)
    seeds: tuple[int, ...] = number((940, 1513, 1269, 1392, 1119, 1303), 0, 2**31 - 1)
    drop_first_gene: bool = switch(number(True))
    transforms: str = switch(choice("all", "all", "per_fold"))
    select_on: str = switch(choice("fold", "fold", "holdout"))
    gene_factors: int = sized(number(90, 1))
    cell_factors: int = sized(number(50, 1))
    gene_clusters: int = sized(number(45, 0))
    cell_clusters: int = sized(number(15, 0))

    convention = "printed"

    def honest(self) -> Config:
        return dataclasses.replace(
            self, transforms="per_fold", select_on="holdout", **self.honest_split()
        )

    def original(self) -> Config:
        return ORIGINAL[self.cv]

    @property
    def recorded_score(self) -> float:
        return {"old": 0.015846, "new": 0.016976}[self.cv]

    def check(self, dataset: Dataset) -> None:
        super().check(dataset)
        optimisation.check(self, self.max_learning_rate, self.weight_decay)

    def stages(self, levels: Levels, nonscored: bool) -> tuple[StageDesign, ...]:
        from moa_jax.recipes.design import StageDesign, scored
        from moa_jax.recipes.profile_features import ProfileFeatures

        def inputs(rows: Dataset, columns: np.ndarray, earlier: np.ndarray) -> np.ndarray:
            return np.concatenate([columns, *profile.treatment(rows, levels)], axis=1)

        described = SimpleProfile(
            factors={"gene": self.gene_factors, "cell": self.cell_factors},
            clusters={"gene": self.gene_clusters, "cell": self.cell_clusters},
            drop_first_column=self.drop_first_gene,
        )
        return (
            StageDesign(
                name="scored",
                network=self.network,
                training=self.stage,
                targets=scored,
                split=self.split_rows,
                features=ProfileFeatures(inputs, self.transforms, described),
                select_on=self.select_on,
            ),
        )

    @property
    def original_split(self) -> str:
        return "compound" if self.cv == "new" else "original"

    def split_rows(self, rows: Dataset) -> Split:
        """Returns the fold of each row, the same for every seed."""
        labels = rows.targets.values

        def original(seed: int) -> np.ndarray:
            return folds.multilabel_stratified(labels, self.folds, seed, always_true_label=True)

        return self.cut(rows, labels, dict.fromkeys(self.seeds, self.split_seed), original)


ORIGINAL = {
    "old": Config(),
    "new": Config(
        cv="new",
        split_seed=34,
        drop_first_gene=False,
        gene_clusters=0,
        cell_clusters=0,
    ),
}


@dataclasses.dataclass(frozen=True)
class SimpleProfile:
    """Profile of the Simple NNs.

    Columns, in order: genes and cells (rank-gauss twice), their factor scores (rank-gauss once),
    one-hot clusters of the gene block and of the cell block, five statistics per row of the gene
    block, the cell block and both.

    The blocks are cut by position: with `drop_first_column` every block begins one column late,
    so that the gene block ends with the first cell column and the cell block with the first gene
    factor, as in the original with old CV.

    Attributes:
      factors: number of factors by group, `gene` and `cell`.
      clusters: number of clusters by group, 0 for none.
      drop_first_column: lose the first column after the first rank-gauss.
    """

    factors: Mapping[str, int]
    clusters: Mapping[str, int]
    drop_first_column: bool

    def columns(self, values: np.ndarray, num_genes: int, steps: Steps) -> np.ndarray:
        present = profile.groups(num_genes, values.shape[1])
        values = steps("first_rank_gauss", holding, values, on_train_alone=True)
        scores = [
            steps(
                f"{name}_factors",
                functools.partial(FactorScores, self.factors[name]),
                values[:, block],
            )
            for name, block in present
        ]
        table = np.concatenate([values, *scores], axis=1)[:, int(self.drop_first_column) :]
        table = steps("second_rank_gauss", holding, table)
        clusters = [
            steps(
                f"{name}_clusters",
                functools.partial(ClusterOneHot, self.clusters[name]),
                table[:, block],
            )
            for name, block in present
            if self.clusters[name]
        ]
        statistics = profile.statistics(steps, table, present)
        return np.concatenate([table, *clusters, *statistics], axis=1)
