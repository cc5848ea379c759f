"""Features of image networks: scale and pixels of each fold on the host, images on the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from moa_jax.data.dataset import Levels
from moa_jax.deepinsight import inputs
from moa_jax.deepinsight.feature_map import FeatureMap
from moa_jax.deepinsight.inputs import Placement
from moa_jax.deepinsight.log_scale import LogScale
from moa_jax.recipes.attribution_baseline import Ends
from moa_jax.recipes.context import Context
from moa_jax.recipes.features import Arrays, Features, Known, Passage, Stored, Transforms
from moa_jax.recipes.origins import Traced
from moa_jax.training.members import Member, MemberId


@dataclasses.dataclass(frozen=True)
class ImageFeatures(Features):
    """The raw table on the devices, and the scale and the pixel table of each member's fold.

    Models that place columns alike share a fold's sets.

    Attributes:
      levels: levels of dose and time.
      placement: how columns are placed.
      resolution: height and width of an image in pixels.
      swap_probability, swap_portion: see `swap_noise`.
    """

    levels: Levels
    placement: Placement
    resolution: int
    swap_probability: float
    swap_portion: float

    classes = (FeatureMap, LogScale)

    def set_of(self, member: MemberId) -> str:
        return member.place

    def folder(self, context: Context, stage: str) -> Path:
        return inputs.folder(context.workdir.path, self.placement, fold=0).parent

    def fit(self, known: Known, missing: Sequence[str]) -> Iterator[tuple[str, Transforms]]:
        table = inputs.raw_table(known.rows, self.levels)
        for name in missing:
            yield name, inputs.fit_fold(table[known.sets[name]], self.placement)

    def table(self, passage: Passage, stage: str, stored: Stored) -> np.ndarray:
        """Returns the raw table, [N, F]."""
        return inputs.device_table(passage.rows, self.levels)

    def member_data(
        self, stored: Sequence[Transforms], numbers: np.ndarray, train_rows: Sequence[np.ndarray]
    ) -> dict[str, Any]:
        return inputs.member_data([stored[n] for n in numbers], self.resolution, train_rows)

    def inputs(
        self,
        table: jax.Array,
        member_data: Mapping[str, Any],
        rows: jax.Array,
        key: jax.Array,
        train: bool,
    ) -> tuple[jax.Array]:
        return inputs.images(
            table,
            member_data,
            rows,
            key,
            train,
            resolution=self.resolution,
            swap_probability=self.swap_probability,
            swap_portion=self.swap_portion,
        )

    def origins(
        self, ends: Ends, table: np.ndarray, stage: str, stored: Stored, predicted: Sequence[str]
    ) -> list[Traced]:
        """The table has the columns themselves: a pixel's gradient goes to those that share it."""
        names = ("cp_type", "cp_dose", "cp_time", *ends.rows.genes, *ends.rows.cells)
        return [Traced.of(table.astype(np.float64), names)]

    def shapes(self, known: Known, members: Sequence[Member], widths: Mapping[str, int]) -> Arrays:
        """Every column has a pixel of its own here, while in a fitted map some share one."""
        columns = inputs.raw_table(known.rows.take(np.arange(1)), self.levels).shape[1]
        data = inputs.member_data_outline(
            columns, self.resolution, [member.train_rows for member in members]
        )
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), data)
        table = jax.ShapeDtypeStruct((len(known.rows), columns), jnp.result_type(float))
        return Arrays(table, shapes)
