"""3-stage NN: non-scored mechanisms, then scored ones, then scored ones from their predictions."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from moa_jax.config import choice, number, sized, switch
from moa_jax.data import folds
from moa_jax.data.dataset import Dataset, Levels, Targets
from moa_jax.data.folds import Split
from moa_jax.features.factors import FactorScores
from moa_jax.features.rank_gauss import holding
from moa_jax.features.umap_joint import EMBEDDINGS
from moa_jax.recipes import optimisation, profile
from moa_jax.recipes.chain import Chain
from moa_jax.recipes.dense import DenseTraining
from moa_jax.recipes.profile import Steps

if TYPE_CHECKING:
    from moa_jax.recipes.design import StageDesign

NONSCORED, SCORED, STACKED = "nonscored", "scored", "stacked"
DROPOUT = (0.15, 0.3, 0.25)


@dataclasses.dataclass(frozen=True)
class StageConfig(DenseTraining):
    """One of the three networks; the defaults are the second's.

    Attributes:
      split_seed: seed of the stage's splitter.
    """

    dropout: tuple[float, ...] = number(DROPOUT, 0.0, 0.999, length=3)
    batch_size: int = sized(number(256, 2, 2**20))
    pct_start: float = number(0.2, 0.0, 1.0)
    label_smoothing: float = number(0.0, 0.0, 0.999)
    split_seed: int = number(4, 0, 2**31 - 1)


@dataclasses.dataclass(frozen=True)
class FeaturesConfig:
    """Features beside the genes and cells themselves.

    Attributes:
      gene_factors, cell_factors: components of factor analysis.
      umap: embed genes and cells with UMAP.
      gene_umap, cell_umap: dimensions of the embeddings.
      umap_new_rows: embed every row for itself, `row_by_row`, or all rows of a call together with
        those of the fit, `joint`, as the original does; there a row's prediction depends on the
        rows it comes with, `parallel.predict_rows` at a time.
    """

    gene_factors: int = sized(number(90, 1))
    cell_factors: int = sized(number(50, 1))
    umap: bool = True
    gene_umap: int = sized(number(45, 1))
    cell_umap: int = sized(number(25, 1))
    umap_new_rows: str = switch(choice("row_by_row", "joint", "row_by_row"))


@dataclasses.dataclass(frozen=True)
class Config(Chain):
    """The 3-stage NN; the defaults are the original with 5 folds, but for `umap_new_rows`.

    Attributes:
      seeds: training seeds; every seed trains one member per fold and stage.
      stratify_on: what the first and the third stage's folds are stratified on: `clipped` targets,
        which all count as true, so that the split is random within blocks, or `labels`.
      features: features of the first two stages.
      nonscored, scored, stacked: the three networks.
    """

    recipe: str = "three_stage_nn"
    seeds: tuple[int, ...] = number((0, 1, 2, 3, 4), 0, 2**31 - 1)
    stratify_on: str = switch(choice("clipped", "clipped", "labels"))
    features: FeaturesConfig = dataclasses.field(default_factory=FeaturesConfig)
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

    convention = "printed"

    def honest(self) -> Config:
        alone = dataclasses.replace(self.features, umap_new_rows="row_by_row")
        return dataclasses.replace(super().honest(), features=alone)

    def original(self) -> Config:
        return Config(folds=self.folds, features=FeaturesConfig(umap_new_rows="joint"))

    @property
    def recorded_score(self) -> float | None:
        return {5: 0.015606, 10: 0.015461}.get(self.folds)

    def check(self, dataset: Dataset) -> None:
        from moa_jax.recipes.design import has_nonscored

        super().check(dataset)
        self.check_chain(3 if has_nonscored(dataset) else 2)
        for name in (NONSCORED, SCORED, STACKED):
            stage: StageConfig = getattr(self, name)
            optimisation.check(stage, stage.max_learning_rate, stage.weight_decay, f"{name}.")

    def stages(self, levels: Levels, nonscored: bool) -> tuple[StageDesign, ...]:
        """Returns the stages; without non-scored targets the first is left out."""
        from moa_jax.recipes.design import (
            StageDesign,
            every_nonscored,
            nonempty_nonscored,
            scored,
        )
        from moa_jax.recipes.profile_features import ProfileFeatures

        def with_treatment(rows: Dataset, columns: np.ndarray, earlier: np.ndarray) -> np.ndarray:
            return np.concatenate([columns, earlier, *profile.treatment(rows, levels)], axis=1)

        def predictions_alone(
            rows: Dataset, columns: np.ndarray, earlier: np.ndarray
        ) -> np.ndarray:
            return earlier

        def design(
            name: str,
            targets: Callable[[Dataset], Targets],
            features: ProfileFeatures,
            before_last: int,
        ) -> StageDesign:
            dense: StageConfig = getattr(self, name)

            def split(rows: Dataset) -> Split:
                return self._split(name, rows, targets(rows))

            return StageDesign(
                name, dense.network, dense.stage, targets, split, features, self.select_on,
                nesting=self.nesting(before_last),
            )  # fmt: skip

        described = ThreeStageProfile(self.features)
        own = ProfileFeatures(with_treatment, self.transforms, described)
        # Members of a nested chain leave out other rows in every stage: each has its own profile.
        owner = None if self.nested_blocks else NONSCORED
        after = dataclasses.replace(own, profile_of=owner, predictions_of=NONSCORED)
        alone = ProfileFeatures(predictions_alone, self.transforms, predictions_of=SCORED)
        learned = every_nonscored if self.nested_blocks else nonempty_nonscored
        first = (design(NONSCORED, learned, own, 2),) if nonscored else ()
        return (
            *first,
            design(SCORED, scored, after if nonscored else own, 1),
            design(STACKED, scored, alone, 0),
        )

    def _split(self, stage: str, rows: Dataset, targets: Targets) -> Split:
        labels, seed = targets.values, getattr(self, stage).split_seed
        if self.same_folds:
            labels, seed = rows.targets.values, self.scored.split_seed

        def original(seed: int) -> np.ndarray:
            by = labels
            if self.stratify_on == "clipped" and stage != SCORED and not self.same_folds:
                # The original clips targets before it splits: every entry then counts as true.
                by = np.ones_like(labels)
            return folds.multilabel_stratified(by, self.folds, seed, always_true_label=True)

        return self.cut(rows, labels, dict.fromkeys(self.seeds, seed), original)


@dataclasses.dataclass(frozen=True)
class ThreeStageProfile:
    """Genes and cells (rank-gauss), factors and embedding of the raw genes, then of the cells.

    Factors and embeddings are not rank-gaussed. All transforms are fitted on training and test
    rows together.
    """

    features: FeaturesConfig

    def columns(self, values: np.ndarray, num_genes: int, steps: Steps) -> np.ndarray:
        features, made = self.features, []
        sizes = {
            "gene": (features.gene_factors, features.gene_umap),
            "cell": (features.cell_factors, features.cell_umap),
        }
        for group, block in profile.groups(num_genes, values.shape[1]):
            factors, dimensions = sizes[group]
            raw = values[:, block]
            made.append(steps(f"{group}_factors", functools.partial(FactorScores, factors), raw))
            if features.umap:
                embedding = functools.partial(EMBEDDINGS[features.umap_new_rows], dimensions)
                made.append(steps(f"{group}_umap", embedding, raw))
        return np.concatenate([steps("rank_gauss", holding, values), *made], axis=1)
