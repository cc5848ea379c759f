"""A sixth system, in one file: logistic regression on principal components."""

from __future__ import annotations

import dataclasses
import functools

import flax.linen as nn

from moa_jax.config import choice, number
from moa_jax.data import folds
from moa_jax.features.factors import PrincipalComponents
from moa_jax.recipes import optimisation
from moa_jax.recipes.design import StageDesign, scored
from moa_jax.recipes.profile_features import ProfileFeatures
from moa_jax.recipes.recipe import Recipe
from moa_jax.training import losses
from moa_jax.training.names import LOSSES, OPTIMIZERS, SCHEDULES
from moa_jax.training.stage import Stage


class Logistic(nn.Module):
    """One layer."""

    num_outputs: int

    @nn.compact
    def __call__(self, x, mask=None, train=False):
        return nn.Dense(self.num_outputs)(x)


@dataclasses.dataclass(frozen=True)
class Config(Recipe):
    """Logistic regression.

    Attributes:
      seeds: training seeds.
      components: principal components that it reads.
      epochs, batch_size, learning_rate: length of training, rows per step, and rate.
      loss, optimizer, schedule: by name.
      transforms: fit components on `all` rows or `per_fold`.
      select_on: rows that decide the epoch.
    """

    recipe: str = "logistic"
    folds: int = number(3, 2)
    seeds: tuple[int, ...] = number((0, 1), 0)
    components: int = number(5, 1)
    epochs: int = number(4, 1)
    batch_size: int = number(32, 2)
    learning_rate: float = number(1e-2, 0.0)
    loss: str = choice("binary_cross_entropy", *LOSSES)
    optimizer: str = choice("adam", *OPTIMIZERS)
    schedule: str = choice("constant", *SCHEDULES)
    transforms: str = choice("all", "all", "per_fold")
    select_on: str = choice("fold", "fold", "holdout")

    def honest(self) -> Config:
        return dataclasses.replace(
            self, transforms="per_fold", select_on="holdout", **self.honest_split()
        )

    def original(self) -> Config:
        return Config()

    def check(self, dataset) -> None:
        super().check(dataset)
        optimisation.check(self, self.learning_rate)

    def columns(self, values, num_genes, steps):
        return steps("components", lambda: PrincipalComponents(self.components), values)

    def stages(self, levels, nonscored):
        features = ProfileFeatures(lambda rows, columns, _: columns, self.transforms, self)
        return (
            StageDesign(
                "scored", Logistic, self.stage, scored, self.split_rows, features, self.select_on
            ),
        )

    def split_rows(self, rows):
        original = functools.partial(folds.k_fold, len(rows), self.folds)
        return self.cut(rows, rows.targets.values, dict.fromkeys(self.seeds, 0), original)

    def stage(self, **parts):
        return Stage(
            loss=losses.LOSSES[self.loss],
            optimizer=optimisation.optimizer(self, self.learning_rate),
            epochs=self.epochs,
            batch_size=self.batch_size,
            **parts,
        )
