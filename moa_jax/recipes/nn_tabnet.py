"""2-stage NN + TabNet: non-scored mechanisms by a dense network, then scored ones by TabNet."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from moa_jax.config import choice, number, sized, switch
from moa_jax.data import folds
from moa_jax.data.dataset import Dataset, Levels
from moa_jax.data.folds import Split
from moa_jax.models.hyperparameters import tabnet_field
from moa_jax.recipes import optimisation, profile, recipe
from moa_jax.recipes.chain import Chain
from moa_jax.recipes.dense import DenseTraining
from moa_jax.training.names import LOSSES, OPTIMIZERS, SCHEDULES

if TYPE_CHECKING:
    import flax.linen as nn

    from moa_jax.recipes.design import StageDesign
    from moa_jax.training.stage import Stage

NONSCORED, SCORED = "nonscored", "scored"


@dataclasses.dataclass(frozen=True)
class DenseConfig(DenseTraining):
    """The first stage: a dense network of two layers and its features.

    Attributes:
      seeds: training seeds; every seed trains one member per fold.
      split_seeds: seed of the splitter for each training seed.
      gene_components, cell_components: number of principal components.
      umap: embed genes and cells with UMAP.
      gene_umap, cell_umap: dimensions of the embeddings.
      umap_new_rows: embed every row for itself, `row_by_row`, or all rows of a call together with
        those of the fit, `joint`, as the original does; there a row's prediction depends on the
        rows it comes with, `parallel.predict_rows` at a time.
      variance_threshold: columns whose variance is not above it are left out.
    """

    dropout: tuple[float, ...] = number((0.2, 0.25), 0.0, 0.999, length=2)
    epochs: int = sized(number(15, 1))
    batch_size: int = sized(number(256, 2, 2**20))
    pct_start: float = number(0.2, 0.0, 1.0)
    label_smoothing: float = number(0.0, 0.0, 0.999)
    seeds: tuple[int, ...] = number((0, 1, 2, 3, 4), 0, 2**31 - 1)
    split_seeds: tuple[int, ...] = number((512, 0, 1, 2, 3), 0, 2**31 - 1)
    gene_components: int = sized(number(50, 1))
    cell_components: int = sized(number(15, 1))
    umap: bool = True
    gene_umap: int = sized(number(15, 1))
    cell_umap: int = sized(number(5, 1))
    umap_new_rows: str = switch(choice("row_by_row", "joint", "row_by_row"))
    variance_threshold: float = number(0.5, 0.0)

    def network(self, num_outputs: int) -> nn.Module:
        from moa_jax.models.mlp import TwoLayerMLP

        return TwoLayerMLP(self.hidden, num_outputs, self.dropout)


@dataclasses.dataclass(frozen=True)
class TabNetConfig:
    """The second stage: TabNet, its training and its features.

    Attributes:
      seeds: training seeds; a seed's folds are split with the seed itself.
      gene_factors, cell_factors: components of factor analysis.
      gene_clusters, cell_clusters: clusters of k-means; 0 for none.
      duplicate_factor_columns: repeat the factors as the original does, whose gene and cell
        factors share names, so that selecting columns by name takes those of both twice.
      n_d, n_a, n_steps, gamma, n_independent, n_shared, mask_type: see `TabNet`.
      virtual_batch_size: largest ghost batch.
      lambda_sparse: factor on the entropy of the masks, which the loss adds.
      epochs, batch_size: longest training and rows per step.
      learning_rate, milestones, decay: the rate, and the epochs at which it is multiplied by
        `decay`.
      clip: largest norm of all gradients together.
      weight_decay: of the optimiser; coupled L2 on every parameter.
      loss, optimizer, schedule: by their names in `losses.LOSSES`, `optimizers.OPTIMIZERS` and
        `schedules.SCHEDULES`.
      label_smoothing: share of each target replaced by one half, in validation too.
      patience: epochs without a better loss after which a member ends; 0 for never.
      share_init_across_folds: all folds of a seed share initial weights and random draws.
    """

    seeds: tuple[int, ...] = number((0, 1, 2), 0, 2**31 - 1)
    gene_factors: int = sized(number(90, 1))
    cell_factors: int = sized(number(50, 1))
    gene_clusters: int = sized(number(35, 0))
    cell_clusters: int = sized(number(5, 0))
    duplicate_factor_columns: bool = switch(number(True))
    n_d: int = sized(tabnet_field("n_d", 32))
    n_a: int = sized(tabnet_field("n_a", 32))
    n_steps: int = tabnet_field("n_steps", 1)
    gamma: float = tabnet_field("gamma", 1.3)
    n_independent: int = tabnet_field("n_independent", 2)
    n_shared: int = tabnet_field("n_shared", 2)
    mask_type: str = tabnet_field("mask_type", "entmax")
    virtual_batch_size: int = sized(tabnet_field("virtual_batch_size", 128))
    lambda_sparse: float = number(0.0, 0.0)
    epochs: int = sized(number(200, 1))
    batch_size: int = sized(number(1024, 2, 2**20))
    learning_rate: float = number(2e-2, 1e-12, 1e3)
    milestones: tuple[int, ...] = sized(number((100, 150), 1))
    decay: float = number(0.9, 0.0, 1.0)
    clip: float = number(1.0, 1e-12)
    weight_decay: float = number(1e-5, 0.0, 1e3)
    loss: str = choice("log_loss_epsilon", *LOSSES)
    optimizer: str = choice("adam", *OPTIMIZERS)
    schedule: str = choice("multi_step", *SCHEDULES)
    label_smoothing: float = number(1e-3, 0.0, 0.999)
    patience: int = sized(number(50, 0))
    share_init_across_folds: bool = switch(number(True))

    def network(self, levels: Levels, num_outputs: int) -> nn.Module:
        from moa_jax.models.tabnet import from_attributes

        return from_attributes(
            self,
            num_outputs,
            cat_idxs=(0, 1),
            cat_dims=(len(levels.cp_time), len(levels.cp_dose)),
            cat_emb_dim=(1, 1),
        )

    def stage(self, **parts) -> Stage:
        """Returns the stage that trains such networks; `parts` are its other attributes."""
        from moa_jax.training import rules
        from moa_jax.training.stage import Stage, by_row

        return Stage(
            loss=functools.partial(_loss, config=self),
            valid_loss=functools.partial(_smoothed_loss, config=self),
            valid_weights=by_row,
            optimizer=optimisation.optimizer(
                self, self.learning_rate, self.weight_decay, self.clip
            ),
            epochs=self.epochs,
            batch_size=self.batch_size,
            stop=rules.patience(self.patience),
            share_init_across_folds=self.share_init_across_folds,
            **parts,
        )


@dataclasses.dataclass(frozen=True)
class Config(Chain):
    """The 2-stage NN + TabNet; the defaults are the original's, but for `umap_new_rows`.

    Attributes:
      nonscored, scored: the two stages.
    """

    recipe: str = "nn_tabnet"
    folds: int = number(10, 2, 1000)
    nonscored: DenseConfig = dataclasses.field(default_factory=DenseConfig)
    scored: TabNetConfig = dataclasses.field(default_factory=TabNetConfig)

    convention = "printed_treated"

    def honest(self) -> Config:
        alone = dataclasses.replace(self.nonscored, umap_new_rows="row_by_row")
        return dataclasses.replace(super().honest(), nonscored=alone)

    def original(self) -> Config:
        return Config(nonscored=DenseConfig(umap_new_rows="joint"))

    @property
    def recorded_score(self) -> float:
        return 0.016234

    def check(self, dataset: Dataset) -> None:
        from moa_jax.recipes.design import has_nonscored

        super().check(dataset)
        self.check_chain(2 if has_nonscored(dataset) else 1)
        seeds, split_seeds = self.nonscored.seeds, self.nonscored.split_seeds
        first, second = self.nonscored, self.scored
        optimisation.check(first, first.max_learning_rate, first.weight_decay, "nonscored.")
        optimisation.check(second, second.learning_rate, second.weight_decay, "scored.")
        recipe.check_lengths("nonscored.split_seeds", split_seeds, "nonscored.seeds", seeds)

    def stages(self, levels: Levels, nonscored: bool) -> tuple[StageDesign, ...]:
        """Returns the stages; without non-scored targets the first is left out."""
        from moa_jax.recipes.design import (
            StageDesign,
            every_nonscored,
            nonempty_nonscored,
            scored,
        )
        from moa_jax.recipes.nn_tabnet_profiles import DenseProfile, TabNetProfile
        from moa_jax.recipes.profile_features import ProfileFeatures

        def dense_inputs(rows: Dataset, columns: np.ndarray, earlier: np.ndarray) -> np.ndarray:
            return np.concatenate([columns, *profile.treatment(rows, levels)], axis=1)

        def tabnet_inputs(rows: Dataset, columns: np.ndarray, earlier: np.ndarray) -> np.ndarray:
            codes = [
                np.argmax(one_hot, axis=1)[:, None] for one_hot in profile.treatment(rows, levels)
            ]
            return np.concatenate([*codes, columns, earlier], axis=1)

        dense, tabnet = self.nonscored, self.scored
        embedding = {"gene": dense.gene_umap, "cell": dense.cell_umap} if dense.umap else {}
        first_profile = DenseProfile(
            {"gene": dense.gene_components, "cell": dense.cell_components},
            embedding,
            dense.variance_threshold,
            dense.umap_new_rows,
        )
        second_profile = TabNetProfile(
            {"gene": tabnet.gene_factors, "cell": tabnet.cell_factors},
            {"gene": tabnet.gene_clusters, "cell": tabnet.cell_clusters},
            tabnet.duplicate_factor_columns,
        )
        predictions_of = NONSCORED if nonscored else None
        first = StageDesign(
            name=NONSCORED,
            network=dense.network,
            training=dense.stage,
            targets=every_nonscored if self.nested_blocks else nonempty_nonscored,
            split=self._dense_folds,
            features=ProfileFeatures(dense_inputs, self.transforms, first_profile),
            select_on=self.select_on,
            nesting=self.nesting(1),
        )
        second = StageDesign(
            name=SCORED,
            network=functools.partial(tabnet.network, levels),
            training=tabnet.stage,
            targets=scored,
            split=self._tabnet_folds,
            features=ProfileFeatures(
                tabnet_inputs, self.transforms, second_profile, predictions_of=predictions_of
            ),
            select_on=self.select_on,
            nesting=self.nesting(0),
            probabilities=_probabilities,
        )
        return (first, second) if nonscored else (second,)

    def _dense_folds(self, rows: Dataset) -> Split:
        from moa_jax.recipes.design import nonempty_nonscored

        first = self.nonscored
        if self.same_folds:
            return self._common_folds(rows, first.seeds)
        seeds = dict(zip(first.seeds, first.split_seeds, strict=True))
        return self._shuffled(rows, nonempty_nonscored(rows).values, seeds)

    def _tabnet_folds(self, rows: Dataset) -> Split:
        seeds = self.scored.seeds
        if self.same_folds:
            return self._common_folds(rows, seeds)
        return self._shuffled(rows, rows.targets.values, dict(zip(seeds, seeds, strict=True)))

    def _common_folds(self, rows: Dataset, seeds: Sequence[int]) -> Split:
        labels = rows.targets.values
        return self._shuffled(rows, labels, dict.fromkeys(seeds, self.scored.seeds[0]))

    def _shuffled(self, rows: Dataset, labels: np.ndarray, seeds: Mapping[int, int]) -> Split:
        def original(seed: int) -> np.ndarray:
            return folds.multilabel_stratified(labels, self.folds, seed, shuffle=True)

        return self.cut(rows, labels, seeds, original)


def _probabilities(outputs):
    import jax

    return jax.nn.sigmoid(outputs[0])


def _smoothed_loss(outputs, targets, mask, config: TabNetConfig):
    import jax.numpy as jnp

    from moa_jax.training.losses import LOSSES

    logits, _ = outputs
    # Clipping gives the original's float32 targets to the last bit, which `losses.smoothed` misses:
    # for sure predictions that bit is 1e-4 of the loss.
    smoothing = config.label_smoothing
    targets = jnp.clip(targets, smoothing / 2, 1 - smoothing / 2)
    return LOSSES[config.loss](logits, targets, mask)


def _loss(outputs, targets, mask, config: TabNetConfig):
    _, mask_loss = outputs
    return _smoothed_loss(outputs, targets, mask, config) - config.lambda_sparse * mask_loss
