"""Outcome: how a model's predictions come from those of its stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from moa_jax.recipes.design import StageDesign
from moa_jax.training.means import PROBABILITIES, Mean
from moa_jax.training.members import MemberId


class Outcome(Protocol):
    """What is made of the stages' predictions of rows that no member has trained on."""

    @property
    def designs(self) -> list[StageDesign]:
        """The stages that new rows go through, in the order of training."""

    def weights(self, stage: str, every: Sequence[MemberId]) -> np.ndarray:
        """Returns the weight of each member in its stage's mean, [M]."""

    @property
    def shares(self) -> Mapping[str, float]:
        """The weights, of any sum, of stages whose mean the model's predictions are."""

    @property
    def mean(self) -> Mean:
        """What the means over members, and over stages, are of."""


def alike(stage: str, every: Sequence[MemberId]) -> np.ndarray:
    """Weighs all members of a stage alike."""
    return np.ones(len(every))


class LastStage:
    """The predictions of the last stage, to which those of stages before it lead.

    Attributes:
      designs, mean: see `Outcome`.
    """

    mean = PROBABILITIES

    def __init__(self, designs: Sequence[StageDesign]):
        """`designs` are all stages."""
        wanted: str | None = designs[-1].name
        self.designs: list[StageDesign] = []
        for design in reversed(designs):
            if design.name == wanted:
                self.designs.insert(0, design)
                wanted = design.features.predictions_of

    def weights(self, stage: str, every: Sequence[MemberId]) -> np.ndarray:
        return alike(stage, every)

    @property
    def shares(self) -> Mapping[str, float]:
        return {self.designs[-1].name: 1}
