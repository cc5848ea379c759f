"""Baseline: what networks are to be better than, by methods that a field knows.

Logistic regression of principal components, boosted trees, and logistic regression of viability or
numbers of cells alone, which tells whether a profile says more than how many cells died.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from moa_jax.config import choice, number, switch
from moa_jax.data.dataset import Dataset, Levels
from moa_jax.data.folds import Split
from moa_jax.errors import UserError
from moa_jax.features.factors import BY_SHAPE, PrincipalComponents
from moa_jax.features.standard_scale import StandardScale
from moa_jax.learners import learner as learners
from moa_jax.learners import trees
from moa_jax.learners.learner import Learner
from moa_jax.learners.logistic import Logistic
from moa_jax.recipes import profile
from moa_jax.recipes.profile import Steps
from moa_jax.recipes.recipe import Recipe
from moa_jax.recipes.splitting import SPLITS
from moa_jax.store import files
from moa_jax.store.model_files import METRICS

if TYPE_CHECKING:
    from moa_jax.recipes.context import Context
    from moa_jax.recipes.design import StageDesign

LOGISTIC, TREES, VIABILITY = "logistic", "trees", "viability"
STAGE = "scored"


@dataclasses.dataclass(frozen=True)
class Config(Recipe):
    """A model for each label, all of them regularised alike: as inner folds of the rows choose.

    The inner folds keep whole what the outer ones do. A label without both classes in the rows of a
    fold is predicted as its share there.

    Attributes:
      model: `logistic` regression of principal components, of time and of dose; boosted `trees` of
        the columns, of time and of dose, by LightGBM; or logistic regression of `viability` alone,
        which a number of cells may stand for.
      optional: leave the model out, with a note, where it does not apply, as `viability` does not
        to data without such columns, or LightGBM is not installed; else the run stops.
      components: most principal components.
      c: strengths of the logistic regression that are tried, the factor of its log loss beside the
        penalty.
      rounds: numbers of trees that are tried, up to where two in a row are no better.
      tree_rate: factor on what each tree adds.
      leaves, leaf_rows: leaves of a tree at most, and rows of each at least.
      tree_ridge: ridge on the values of the leaves.
      tree_rows: share of the rows that a tree learns from, other ones each time.
      tree_columns: columns that a tree may use, other ones each time, and no more than half of all.
      inner_folds: their number; of more than 5,000 training rows, or of more than 2,000 that have
        100,000 labels together, the first one decides alone, by at most 100 labels, rare and
        frequent ones.
      split: as for every recipe; by default compounds stay whole where they are known.
      frequent_above: see `Splitting`.
      split_seed: seed of the splitter, of the folds and of the inner ones.
    """

    recipe: str = "baseline"
    model: str = choice(LOGISTIC, LOGISTIC, TREES, VIABILITY)
    optional: bool = False
    components: int = number(100, 1)
    c: tuple[float, ...] = number(
        (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0), 1e-12, 1e6
    )
    rounds: tuple[int, ...] = number(
        (5, 7, 10, 14, 20, 28, 40, 57, 80, 113, 160, 226, 320, 453, 640, 905, 1280, 1810), 1, 10_000
    )
    tree_rate: float = number(0.1, 1e-6, 1.0)
    leaves: int = number(8, 2, 10_000)
    leaf_rows: int = number(5, 1)
    tree_ridge: float = number(1.0, 0.0, 1e6)
    tree_rows: float = number(0.8, 0.01, 1.0)
    tree_columns: int = number(60, 1)
    inner_folds: int = number(3, 2, 100)
    split: str = switch(choice("auto", *SPLITS))
    frequent_above: int = switch(number(0, 0))
    split_seed: int = number(0, 0, 2**31 - 1)

    encodes_treatment = True

    @property
    def original_split(self) -> str:
        return "stratified"

    def honest(self) -> Config:
        return dataclasses.replace(self, **self.honest_split())

    def original(self) -> Config:
        return Config(model=self.model)

    def left_out(self, description: Mapping[str, Any]) -> str:
        return self._lacking(description["cells"]) if self.optional else ""

    def _lacking(self, num_cells: int) -> str:
        """Returns what there would have to be, as a sentence; empty where nothing is lacking."""
        if self.model == VIABILITY and not num_cells:
            return "there are no columns of viability or of numbers of cells"
        if self.model == TREES and not trees.is_installed():
            return trees.NEEDED
        return ""

    def check(self, dataset: Dataset) -> None:
        super().check(dataset)
        if lacking := self._lacking(len(dataset.cells)):
            raise UserError(f"model: {lacking}")
        for name in ("c", "rounds"):
            values = getattr(self, name)
            if any(one >= other for one, other in zip(values, values[1:], strict=False)):
                raise UserError(f"{name}: expected values in ascending order, found {values}")

    def stages(self, levels: Levels, nonscored: bool) -> tuple[StageDesign, ...]:
        from moa_jax.recipes.design import StageDesign, scored
        from moa_jax.recipes.host_stage import HostTraining
        from moa_jax.recipes.profile_features import ProfileFeatures

        def arrange(rows: Dataset, columns: np.ndarray, earlier: np.ndarray) -> np.ndarray:
            if self.model == VIABILITY:
                return columns
            return np.concatenate([columns, *profile.treatment(rows, levels)], axis=1)

        return (
            StageDesign(
                name=STAGE,
                network=None,
                training=HostTraining(self.learner, self.inner_folds, self.split_seed),
                targets=scored,
                split=self.split_rows,
                features=ProfileFeatures(arrange, "per_fold", self),
            ),
        )

    @property
    def learner(self) -> Learner:
        """What is fitted to the rows of a fold."""
        if self.model == TREES:
            return trees.Trees(
                self.rounds,
                self.tree_rate,
                self.leaves,
                self.leaf_rows,
                self.tree_ridge,
                self.tree_rows,
                self.tree_columns,
            )
        return Logistic(self.c)

    def split_rows(self, rows: Dataset) -> Split:
        """Returns the fold of each row: those of every recipe that is not bound to an original."""
        return self.cut(rows, rows.targets.values, {0: self.split_seed})

    def columns(self, values: np.ndarray, num_genes: int, steps: Steps) -> np.ndarray:
        """Returns the columns [N, F] that a fold's model reads, a `Profile`."""
        chosen = values[:, num_genes:] if self.model == VIABILITY else values
        scaled = steps("standard_scale", StandardScale, chosen)
        if self.model != LOGISTIC:
            return scaled
        new = functools.partial(PrincipalComponents, self.components, BY_SHAPE)
        return steps("components", new, scaled)

    def notes(self, rows: Dataset, context: Context) -> tuple[str, ...]:
        record = files.read_json(context.folder / STAGE / METRICS)
        members, learner = record["members"], self.learner
        chosen = [f"{member['chosen']:g}" for member in sorted(members, key=itemgetter("chosen"))]
        taken = " to ".join(dict.fromkeys((chosen[0], chosen[-1])))
        folds = f"{self.inner_folds} inner folds"
        most = max(member["train_rows"] for member in members)
        if learners.judged_by_one(most, most * record["outputs"]):
            folds = "one inner fold"
        by = f"as {folds} of each fold chose"
        if all(member["loss"] is None for member in members):
            by = "there being nothing to choose by"
        return (
            f"A baseline, to hold networks against: {learner.name} of {record['inputs']} columns"
            f"{', viability alone' if self.model == VIABILITY else ''}; {learner.strength} "
            f"{taken} of {min(learner.strengths):g} to {max(learner.strengths):g}, {by}.",
        )
