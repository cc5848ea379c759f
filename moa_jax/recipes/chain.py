"""Chain: a recipe whose stages read what earlier ones predict, and when that is honest."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Self

from moa_jax.config import choice, number, switch
from moa_jax.errors import UserError
from moa_jax.recipes.recipe import Recipe

if TYPE_CHECKING:
    from moa_jax.training.members import Nesting

# Blocks of an honest chain: with five, no stage before the last has more than ten members a seed.
HONEST_BLOCKS = 5


@dataclasses.dataclass(frozen=True)
class Chain(Recipe):
    """A recipe whose stages read the out-of-fold predictions of earlier ones.

    Such predictions of the other folds' rows come from networks that trained on the fold: its
    labels come back through other rows' features, whether or not the folds of all stages are the
    same. Nesting alone prevents that.

    Attributes:
      same_folds: all stages and seeds use the folds of the first stage that predicts scored
        mechanisms, so that no row's earlier predictions come from networks that trained on it.
      nested_blocks: number of blocks that the folds are grouped into (fold k is in block k modulo
        this) for a nested chain, in which no network that a fold's predictions rest on has seen
        the fold: the networks of the stage before the last leave out every pair of blocks, those
        of the stage before that every three; 0 for a chain that is not nested, as the original's.
        It needs `same_folds` and transforms per fold.
      transforms: fit transforms as the original does on `all` rows at hand, test rows included, or
        `per_fold` on the rows that a network may know and the controls; that needs `same_folds`.
      select_on: the rows that decide epoch and stopping: the `fold` that is predicted, or a
        `holdout` of the training rows.
    """

    same_folds: bool = switch(number(False))
    nested_blocks: int = switch(number(0, 0, 1000))
    transforms: str = switch(choice("all", "all", "per_fold"))
    select_on: str = switch(choice("fold", "fold", "holdout"))

    def honest(self) -> Self:
        return dataclasses.replace(
            self,
            same_folds=True,
            nested_blocks=min(HONEST_BLOCKS, self.folds),
            transforms="per_fold",
            select_on="holdout",
            **self.honest_split(),
        )

    def nesting(self, before_last: int) -> Nesting | None:
        """Returns the place in the nested chain of a stage so many stages before the last."""
        from moa_jax.training.members import Nesting

        return Nesting(self.nested_blocks, 1 + before_last) if self.nested_blocks else None

    def check_chain(self, num_stages: int) -> None:
        """Checks that folds, transforms and nesting go together.

        Args:
          num_stages: stages of the chain for the data at hand.

        Raises:
          UserError: transforms are fitted per fold, but folds differ between stages; blocks are
            nested without these, are more than folds, or leave no row to train on.
        """
        if self.transforms == "per_fold" and not self.same_folds:
            raise UserError("same_folds: expected true with transforms=per_fold, found false")
        if not self.nested_blocks or num_stages == 1:
            return
        if self.transforms != "per_fold":
            raise UserError(
                f"transforms: expected per_fold with nested_blocks={self.nested_blocks}, found all"
            )
        if num_stages >= self.folds:
            raise UserError(
                f"folds: expected at least {num_stages + 1} for a nested chain of {num_stages} "
                f"stages, found {self.folds}"
            )
        if not num_stages < self.nested_blocks <= self.folds:
            raise UserError(
                f"nested_blocks: expected 0, or between {num_stages + 1} for a chain of "
                f"{num_stages} stages and {self.folds}, the number of folds, found "
                f"{self.nested_blocks}"
            )
