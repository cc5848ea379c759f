"""Stored: the sets of transforms that the members of a stage read, each read once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moa_jax.recipes.context import Context
from moa_jax.recipes.design import StageDesign
from moa_jax.recipes.features import Transforms
from moa_jax.store import transform_files
from moa_jax.training.members import MemberId


class StoredSets:
    """The sets of transforms that a stage's members read, by the stage that has them.

    Attributes:
      blocks: see `Stored`.
    """

    def __init__(self, design: StageDesign, context: Context, every: Sequence[MemberId]):
        self._design, self._context = design, context
        blocks = {design.features.set_of(member): member.blocks for member in every}
        self._names, self.blocks = list(blocks), list(blocks.values())
        self._read: dict[str, list[Transforms]] = {}

    def __call__(self, stage: str) -> list[Transforms]:
        if stage not in self._read:
            folder = self._design.features.folder(self._context, stage)
            classes, manifest = self._design.features.classes, self._context.manifest
            places = [folder / name for name in self._names]
            for path in (path for place in places for path in transform_files.paths(place)):
                if manifest.lists(path):
                    manifest.verify(path)
            self._read[stage] = [transform_files.load(place, classes) for place in places]
        return self._read[stage]

    def numbers(self, every: Sequence[MemberId]) -> np.ndarray:
        """Returns which of the sets each member reads, [M] int32."""
        features = self._design.features
        return np.array([self._names.index(features.set_of(m)) for m in every], np.int32)
