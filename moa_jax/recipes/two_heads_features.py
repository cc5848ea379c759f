"""Features of the 2-heads network: a scaler and principal components of each member's own rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from moa_jax.data.dataset import Dataset, Levels
from moa_jax.features.selection import ChosenColumns, t_test_columns
from moa_jax.recipes import two_heads_inputs
from moa_jax.recipes.attribution_baseline import Ends
from moa_jax.recipes.context import Context
from moa_jax.recipes.features import Arrays, Features, Known, Passage, Stored, Transforms
from moa_jax.recipes.origins import Traced
from moa_jax.recipes.two_heads_inputs import PREDICTORS
from moa_jax.training.members import Member, MemberId


@dataclasses.dataclass(frozen=True)
class TwoHeadsFeatures(Features):
    """The raw table on the devices, and each member's scaling, rotation and predictors.

    Attributes:
      owner: the stage whose folder has the transforms of all stages.
      levels: levels of one-hot time and dose; None leaves these out.
      components: number of gene and of cell components.
      listed: the second input has the original's columns, where the data have all of them.
      num_predictors: columns that a t-test chooses otherwise, at most all.
    """

    owner: str
    levels: Levels | None
    components: tuple[int, int]
    listed: bool
    num_predictors: int

    def is_listed(self, rows: Dataset) -> bool:
        """Tells whether the second input has the columns of the original."""
        return self.listed and two_heads_inputs.has_listed_predictors(rows)

    def set_of(self, member: MemberId) -> str:
        return member.name

    def folder(self, context: Context, stage: str) -> Path:
        return super().folder(context, self.owner)

    def fit(self, known: Known, missing: Sequence[str]) -> Iterator[tuple[str, Transforms]]:
        rows, components = known.rows, self._components(known)
        table = two_heads_inputs.raw_table(rows, self.levels)
        for name in missing:
            # Rows that are held out to decide the epoch are training rows of the fold.
            train = np.flatnonzero(known.sets[name])
            fitted = two_heads_inputs.fit_fold(table, train, _sizes(rows), components)
            predictors = ChosenColumns(self._predictors(rows, train).tolist())
            yield name, {**fitted, PREDICTORS: predictors}

    def table(self, passage: Passage, stage: str, stored: Stored) -> np.ndarray:
        """Returns the raw table, [N, F]."""
        return passage.once(
            f"table with {self.levels}",
            lambda: two_heads_inputs.device_table(passage.rows, self.levels),
        )

    def member_data(
        self, stored: Sequence[Transforms], numbers: np.ndarray, train_rows: Sequence[np.ndarray]
    ) -> dict[str, np.ndarray]:
        folds = [{k: v for k, v in stored[n].items() if k != PREDICTORS} for n in numbers]
        predictors = np.stack([stored[n][PREDICTORS].kept_ for n in numbers])
        return two_heads_inputs.member_data(folds, predictors)

    def inputs(
        self,
        table: jax.Array,
        member_data: Mapping[str, jax.Array],
        rows: jax.Array,
        key: jax.Array,
        train: bool,
    ) -> tuple[jax.Array, jax.Array]:
        return two_heads_inputs.two_inputs(table, member_data, rows, key, train)

    def origins(
        self, ends: Ends, table: np.ndarray, stage: str, stored: Stored, predicted: Sequence[str]
    ) -> list[Traced]:
        features, sizes = ends.columns, _sizes(ends.rows)
        means, start = [], 0
        for size in filter(None, sizes):
            block = features[:, start : start + size]
            found = block.combined(block.values.mean(1)[:, None], np.full((1, size), 1 / size))
            means += found.parts
            start += size
        indicators = []
        if self.levels is not None:
            names = ["cp_time"] * len(self.levels.cp_time) + ["cp_dose"] * len(self.levels.cp_dose)
            of_treatment = table[:, sum(sizes) : sum(sizes) + len(names)].astype(np.float64)
            indicators = Traced.of(of_treatment, names).parts
        return [Traced([*features.parts, *indicators, *means])]

    def shapes(self, known: Known, members: Sequence[Member], widths: Mapping[str, int]) -> Arrays:
        rows, dtype, count = known.rows, jnp.result_type(float), len(members)
        columns = two_heads_inputs.raw_table(rows.take(np.arange(1)), self.levels).shape[1]
        sizes, components = _sizes(rows), self._components(known)
        if self.is_listed(rows):
            predictors = len(two_heads_inputs.main_predictors(rows))
        else:
            predictors = min(self.num_predictors, sum(sizes))
        shapes = two_heads_inputs.member_data_shapes(columns, sizes, components)
        data = {
            name: jax.ShapeDtypeStruct((count, *shape), dtype) for name, shape in shapes.items()
        }
        data[PREDICTORS] = jax.ShapeDtypeStruct((count, predictors), np.int32)
        return Arrays(jax.ShapeDtypeStruct((len(rows), columns), dtype), data)

    def num_inputs(self, arrays: Arrays) -> int:
        return two_heads_inputs.width(arrays.table, arrays.member_data)

    def _components(self, known: Known) -> tuple[int, int]:
        fewest = min(int(own.sum()) for own in known.sets.values())
        return two_heads_inputs.allowed_components(self.components, _sizes(known.rows), fewest)

    def _predictors(self, rows: Dataset, train: np.ndarray) -> np.ndarray:
        if self.is_listed(rows):
            return two_heads_inputs.main_predictors(rows)
        own = rows.take(train)
        return t_test_columns(
            own.values, own.targets.values, self.num_predictors, own.targets.known
        )


def _sizes(rows: Dataset) -> tuple[int, int]:
    return len(rows.genes), len(rows.cells)
