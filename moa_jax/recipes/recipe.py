"""Recipe: what a system of the solution must give, and what it gets for nothing."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from moa_jax.data.dataset import Dataset, Levels
from moa_jax.errors import UserError
from moa_jax.recipes.splitting import Splitting
from moa_jax.training.means import PROBABILITIES, Mean

if TYPE_CHECKING:
    from moa_jax.recipes.context import Context
    from moa_jax.recipes.design import StageDesign


class Recipe(Splitting, abc.ABC):
    """A system: a frozen configuration that gives a list of stages over features.

    A subclass is a frozen dataclass whose fields are those of the model's section in the
    configuration, and stands in `recipes.RECIPES` under the name that is its `recipe`. It must
    give `stages`, `honest` and `original`. From these `recipes.system` makes training with exact
    resume, out-of-fold, test and new rows' predictions, the plan, and all files.

    Configurations are read, and mistakes in them told, before JAX is imported: what needs it is
    imported by the methods.

    Attributes:
      recipe: the recipe's name.
      convention: the one of `metrics.conventions` that the recipe's original prints.
      optional: whether a run goes on without the model where it does not apply, see `left_out`.
      encodes_treatment: whether time and dose are read as `treatment.encoding` says, by
        `profile.treatment`; else always as the recipe's original does.
    """

    recipe: str
    optional: bool = False
    convention: ClassVar[str | None] = None
    encodes_treatment: ClassVar[bool] = False

    @abc.abstractmethod
    def stages(self, levels: Levels, nonscored: bool) -> tuple[StageDesign, ...]:
        """Returns the stages in the order of training; the last one's predictions are the model's.

        Args:
          levels: levels of time, dose and type.
          nonscored: whether there are non-scored targets to learn from.
        """

    @abc.abstractmethod
    def honest(self) -> Self:
        """Returns the configuration in which no row influences its own score."""

    @abc.abstractmethod
    def original(self) -> Self:
        """Returns the original whose switches this configuration's are compared with."""

    def check(self, dataset: Dataset) -> None:
        """Checks that the data suit the configuration, before any model is trained.

        Raises:
          UserError: there are fewer treated rows than folds, or compounds or groups that folds
            keep whole are absent or fewer than folds.
        """
        self.check_split(dataset)
        treated = int((~dataset.is_control).sum())
        if treated < self.folds:
            raise UserError(
                f"folds: expected at most as many as treated rows, found {self.folds} for {treated}"
            )

    def left_out(self, description: Mapping[str, Any]) -> str:
        """Returns why a run goes on without this model; empty where it takes part.

        Args:
          description: sizes and columns of the training rows, see `Dataset.description`.
        """
        return ""

    def has_networks(self, levels: Levels) -> bool:
        """Tells whether every stage is of networks, which have gradients; the host's have none.

        Args:
          levels: levels of time, dose and type.
        """
        stages = self.stages(levels, False)
        return bool(stages) and all(design.network is not None for design in stages)

    def honest_split(self) -> dict[str, Any]:
        """Returns the fields by which an honest run keeps compounds whole where they are known.

        A split that was chosen stays.
        """
        return {"split": "auto" if self.split == "original" else self.split, "frequent_above": 0}

    def rows(self, dataset: Dataset) -> Dataset:
        """Returns the rows that members train on: the treated ones."""
        return dataset.take(np.flatnonzero(~dataset.is_control))

    def prepare(self) -> None:  # noqa: B027
        """Gets what training needs from elsewhere, before any model of the run is trained.

        Raises:
          UserError: it is out of reach, or not what is expected.
        """

    def notes(self, rows: Dataset, context: Context) -> tuple[str, ...]:
        """Returns sentences for log and report about what this fit did, its stages being done."""
        return ()

    @property
    def reported(self) -> str | None:
        """The stage whose out-of-fold predictions are the model's; None for the last one."""
        return None

    @property
    def choices(self) -> int:
        """How many members of all stages an ensemble takes, whose mean is the model's prediction.

        Each counts as often as it is taken; 0 where the last stage's predictions are the model's.
        """
        return 0

    @property
    def means(self) -> Sequence[Mean]:
        """What the mean of that ensemble may be of; the choice is between them."""
        return (PROBABILITIES,)

    @property
    def recorded_score(self) -> float | None:
        """Log loss over treated rows that the original recorded on its own data, if it did."""
        return None

    def drawn_maps(self, workdir: Path) -> tuple[Path, ...]:
        """Returns the folders of feature maps that the report draws."""
        return ()


def check_lengths(field: str, values: Sequence, other: str, expected: Sequence) -> None:
    """Checks that two fields have equally many values.

    Raises:
      UserError: they differ.
    """
    if len(values) != len(expected):
        raise UserError(
            f"{field}: expected {len(expected)} values, one for each of {other}, "
            f"found {len(values)}"
        )
