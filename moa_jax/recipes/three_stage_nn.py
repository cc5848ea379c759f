"""3-stage NN: non-scored mechanisms, then scored ones, then scored ones from their predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np

from moa_jax.config import choice, number, switch
from moa_jax.data import folds
from moa_jax.data.dataset import Dataset, Levels, Targets
from moa_jax.features.factors import FactorScores
from moa_jax.features.rank_gauss import RankGauss
from moa_jax.features.umap import UmapEmbedding
from moa_jax.recipes import profile, recipe
from moa_jax.recipes.chain import Chain, Link
from moa_jax.recipes.dense import Dense
from moa_jax.recipes.profile import Steps
from moa_jax.recipes.recipe import Context, RecipeResult
from moa_jax.store.predictions import Predictions
from moa_jax.training.stage import Stage

NONSCORED, SCORED, STACKED = "nonscored", "scored", "stacked"
DROPOUT = (0.15, 0.3, 0.25)


@dataclasses.dataclass(frozen=True)
class StageConfig(Dense):
    """One of the three networks; the defaults are the second's.

    Attributes:
      split_seed: seed of the stage's splitter.
    """

    dropout: tuple[float, ...] = number(DROPOUT, 0.0, 0.999, length=3)
    batch_size: int = number(256, 2)
    pct_start: float = number(0.2, 0.0, 1.0)
    label_smoothing: float = number(0.0, 0.0, 0.999)
    split_seed: int = number(4, 0, 2**31 - 1)


@dataclasses.dataclass(frozen=True)
class Features:
    """Features beside the genes and cells themselves.

    Attributes:
      gene_factors, cell_factors: components of factor analysis.
      umap: embed genes and cells with UMAP.
      gene_umap, cell_umap: dimensions of the embeddings.
    """

    gene_factors: int = number(90, 1)
    cell_factors: int = number(50, 1)
    umap: bool = True
    gene_umap: int = number(45, 1)
    cell_umap: int = number(25, 1)


@dataclasses.dataclass(frozen=True)
class Config:
    """The 3-stage NN; the defaults are the original with 5 folds.

    Attributes:
      folds: number of folds of every stage.
      seeds: training seeds; every seed trains one member per fold and stage.
      stratify_on: what the first and the third stage's folds are stratified on: `clipped` targets,
        which all count as true, so that the split is random within blocks, or `labels`.
      same_folds: all stages use the second stage's folds, so that no row's earlier predictions
        come from networks that trained on it.
      transforms: fit transforms on `all` rows at hand, test rows included, or `per_fold` on the
        fold's training rows and the controls; that needs `same_folds`.
      select_on: the rows that decide the epoch: the `fold` that is predicted, or a `holdout` of
        the training rows.
      features: features of the first two stages.
      nonscored, scored, stacked: the three networks.
    """

    convention: ClassVar[str] = "printed"  # of `metrics.conventions`, as it was printed

    recipe: str = "three_stage_nn"
    folds: int = number(5, 2, 1000)
    seeds: tuple[int, ...] = number((0, 1, 2, 3, 4), 0, 2**31 - 1)
    stratify_on: str = switch(choice("clipped", "clipped", "labels"))
    same_folds: bool = switch(number(False))
    transforms: str = switch(choice("all", "all", "per_fold"))
    select_on: str = switch(choice("fold", "fold", "holdout"))
    features: Features = dataclasses.field(default_factory=Features)
    nonscored: StageConfig = dataclasses.field(
        default_factory=lambda: StageConfig(
            epochs=15, label_smoothing=1e-3, smooth_validation=True, split_seed=1903
        )
    )
    scored: StageConfig = dataclasses.field(default_factory=StageConfig)
    stacked: StageConfig = dataclasses.field(
        default_factory=lambda: StageConfig(
            hidden=1024, label_smoothing=1e-3, smooth_validation=True
        )
    )

    def honest(self) -> Config:
        """Returns the configuration in which no row influences its own score."""
        return dataclasses.replace(
            self, transforms="per_fold", select_on="holdout", same_folds=True
        )

    def original(self) -> Config:
        """Returns the original that this configuration is compared with."""
        return Config(folds=self.folds)

    @property
    def recorded_score(self) -> float | None:
        """Treated-row log loss that the original recorded on its own data; None for other folds."""
        return {5: 0.015606, 10: 0.015461}.get(self.folds)


def check(dataset: Dataset, config: Config) -> None:
    """Checks that the data suit the configuration, before any model is trained.

    Raises:
      UserError: there are fewer treated rows than folds, or the switches contradict each other.
    """
    recipe.check_folds(dataset, config.folds)
    recipe.check_same_folds(config)


def fit(dataset: Dataset, config: Config, context: Context) -> RecipeResult:
    """Trains every stage and predicts the training rows out of fold, and the test rows."""
    chain = _chain(config, context.levels, recipe.has_nonscored(dataset))
    return chain.fit(dataset, context, needs_nonscored=True)


def outline(dataset: Dataset, config: Config, context: Context) -> tuple[Stage, ...]:
    """Returns the stages that `fit` would train, see `recipe.outline_folds`."""
    return _chain(config, context.levels, recipe.has_nonscored(dataset)).outline(dataset, context)


def load(
    config: Config, context: Context, targets: tuple[str, ...]
) -> Callable[[Dataset], Predictions]:
    """Returns the function that predicts new rows; it needs the work folder only."""
    nonscored = recipe.is_finished(context.folder / NONSCORED)
    return _chain(config, context.levels, nonscored).load(context, targets)


@dataclasses.dataclass(frozen=True)
class ThreeStageProfile:
    """Genes and cells (rank-gauss), factors and embedding of the raw genes, then of the cells.

    Factors and embeddings are not rank-gaussed. All transforms are fitted on training and test
    rows together.
    """

    features: Features

    def columns(self, values: np.ndarray, num_genes: int, steps: Steps) -> np.ndarray:
        features, made = self.features, []
        sizes = {
            "gene": (features.gene_factors, features.gene_umap),
            "cell": (features.cell_factors, features.cell_umap),
        }
        for group, block in profile.groups(num_genes, values.shape[1]):
            factors, dimensions = sizes[group]
            raw = values[:, block]
            made.append(steps(f"{group}_factors", lambda n=factors: FactorScores(n), raw))
            if features.umap:
                made.append(steps(f"{group}_umap", lambda n=dimensions: UmapEmbedding(n), raw))
        return np.concatenate([steps("rank_gauss", RankGauss, values), *made], axis=1)


def _chain(config: Config, levels: Levels, nonscored: bool) -> Chain:
    """Returns the stages; without non-scored targets the first is left out."""

    def with_treatment(
        rows: Dataset, columns: np.ndarray, previous: np.ndarray | None
    ) -> np.ndarray:
        earlier = [] if previous is None else [previous]
        return np.concatenate([columns, *earlier, *profile.treatment(rows, levels)], axis=1)

    def predictions_alone(rows: Dataset, columns: None, previous: np.ndarray) -> np.ndarray:
        return previous

    def scored_targets(rows: Dataset) -> Targets:
        return rows.scored

    def link(stage: str, targets: Callable[[Dataset], Targets], inputs, **reads) -> Link:
        dense: StageConfig = getattr(config, stage)

        def split(rows: Dataset) -> Mapping[int, np.ndarray]:
            return dict.fromkeys(config.seeds, _split(config, stage, rows, targets(rows)))

        return Link(
            stage, dense.network, dense.stage, targets, config.seeds, split, inputs, **reads
        )

    described = ThreeStageProfile(config.features)
    if nonscored:
        first = (link(NONSCORED, recipe.nonempty_nonscored, with_treatment, profile=described),)
        reads = {"profile_of": NONSCORED, "predictions_of": NONSCORED}
    else:
        first, reads = (), {"profile": described}
    second = link(SCORED, scored_targets, with_treatment, **reads)
    third = link(STACKED, scored_targets, predictions_alone, predictions_of=SCORED)
    return Chain.of((*first, second, third), config.transforms, config.select_on, config.folds)


def _split(config: Config, stage: str, rows: Dataset, targets: Targets) -> np.ndarray:
    labels, seed = targets.values, getattr(config, stage).split_seed
    if config.same_folds:
        labels, seed = rows.scored.values, config.scored.split_seed
    elif config.stratify_on == "clipped" and stage != SCORED:
        # The original clips the targets before it splits: every entry then counts as true.
        labels = np.ones_like(labels)
    return folds.multilabel_stratified(labels, config.folds, seed, always_true_label=True)
