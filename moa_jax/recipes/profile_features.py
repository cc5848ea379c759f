"""Features of dense networks: columns of a profile, and of what an earlier stage predicted."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from moa_jax.data.dataset import Dataset
from moa_jax.features.rank_gauss import holding
from moa_jax.recipes import profile
from moa_jax.recipes.attribution_baseline import Ends
from moa_jax.recipes.features import Arrays, Features, Known, Passage, Stored, Transforms
from moa_jax.recipes.origins import PREDICTION, Direct, Origins, Traced
from moa_jax.recipes.profile import Profile
from moa_jax.store.transform_files import Transform
from moa_jax.training.made_rows import MadeRows
from moa_jax.training.members import Member, MemberId

PREDICTIONS = "predictions"
# Marks go down from here, where no time or dose is.
FIRST_MARK = -1e9
# Columns of profiles, of all rows by all sets, that are kept for later stages.
KEPT_BYTES = 2**30
# From rows, their profile's columns and the columns made of earlier predictions, either of width 0
# where the stage has none, to the network's inputs [N, F].
Arrange = Callable[[Dataset, np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class ProfileFeatures(Features):
    """Rows of a matrix for each set of transforms, computed on the host.

    Attributes:
      arrange: puts a network's inputs together.
      transforms: fit them on `all` rows at hand, test rows included, or `per_fold` on the fold's
        training rows and the controls.
      profile: the profile that the stage reads.
      profile_of: name of the earlier stage that has fitted it; None where this stage does.
      predictions_of: name of the earlier stage whose predictions it reads, through a rank-gauss
        that is fitted on the out-of-fold predictions of training rows.
    """

    arrange: Arrange
    transforms: str = "all"
    profile: Profile | None = None
    profile_of: str | None = None
    predictions_of: str | None = None

    @property
    def reads_test(self) -> bool:
        return self.transforms == "all"

    @property
    def selects(self) -> bool:
        return getattr(self.profile, "selects", False)

    def set_of(self, member: MemberId) -> str:
        return "all" if self.transforms == "all" else member.place

    def fit(self, known: Known, missing: Sequence[str]) -> Iterator[tuple[str, Transforms]]:
        for name in missing:
            train, test, rows = known.dataset, known.dataset.test, None
            own = known.sets[name] | (self.transforms == "all")
            if self.transforms == "per_fold":
                test, rows = None, self._train_rows(train, own)
            fitted: dict[str, Transform] = {}
            if self.profile is not None and self.profile_of is None:
                fitted |= profile.fit(self.profile, train, test, rows)
            if self.predictions_of is not None:
                earlier = known.predictions[self.predictions_of].without(known.blocks[name])
                fitted[PREDICTIONS] = holding().fit(earlier[own])
            yield name, fitted

    def table(self, passage: Passage, stage: str, stored: Stored) -> np.ndarray:
        """Returns the inputs by every set, [N, sets, F]; narrower ones end in zeros."""
        return np.asarray(self._rows(passage, stage, stored))

    def made(self, passage: Passage, stage: str, stored: Stored) -> np.ndarray | MadeRows:
        rows = self._rows(passage, stage, stored)
        return rows if self.makes_rows(rows) else np.asarray(rows)

    def makes_rows(self, table: Any) -> bool:
        return math.prod(table.shape) * table.dtype.itemsize > KEPT_BYTES

    def _rows(self, passage: Passage, stage: str, stored: Stored) -> MadeRows:
        """Returns the table, nothing of which is made yet."""
        dtype, rows = np.dtype(jnp.result_type(float)), passage.rows
        columns, at_once = self._columns(passage, self.profile_of or stage, stored)
        every = stored(stage)
        at_once = max(at_once, profile.rows_at_once(every, rows.features.shape[1]))

        def inputs(number: int, block: slice) -> np.ndarray:
            own = rows.take(block)
            predicted = np.zeros((len(own), 0), dtype)
            if self.predictions_of is not None:
                earlier = passage.predictions[self.predictions_of]
                known = earlier.without(stored.blocks[number])[block]
                predicted = every[number][PREDICTIONS].transform(known)
            return self.arrange(own, columns(number, block), predicted)

        def write(start: int, out: np.ndarray) -> None:
            for number in range(len(every)):
                for block in profile.blocks(len(rows), at_once):
                    # Whole blocks are made, and cut: products of others may be rounded otherwise.
                    first, last = max(start, block.start), min(start + len(out), block.stop)
                    if first < last:
                        made = inputs(number, block)[first - block.start : last - block.start]
                        out[first - start : last - start, number, : made.shape[1]] = made

        # A fold may leave out more columns of little variance than another.
        widths = [inputs(number, slice(0, 1)).shape[1] for number in range(len(every))]
        return MadeRows((len(rows), len(every), max(widths)), dtype, write)

    def _columns(
        self, passage: Passage, owner: str, stored: Stored
    ) -> tuple[Callable[[int, slice], np.ndarray], int]:
        """Returns what gives the profile's columns by a set for a block of rows, and its most rows.

        Those that later stages read too are kept, unless they are many: then they are made anew.
        """
        described, rows, dtype = self.profile, passage.rows, jnp.result_type(float)
        if described is None:
            return lambda number, block: np.zeros((len(rows.ids[block]), 0), dtype), 1

        def made() -> tuple[Callable[[int, slice], np.ndarray], int]:
            sets = stored(owner)
            at_once = profile.rows_at_once(sets, rows.features.shape[1])
            size = len(sets) * rows.features.size * np.dtype(dtype).itemsize
            if size > KEPT_BYTES and not any(map(profile.looks_at_all_rows, sets)):
                return lambda number, block: profile.apply(
                    described, sets[number], rows.take(block), dtype
                ), at_once
            kept = [profile.apply(described, fitted, rows, dtype) for fitted in sets]
            return lambda number, block: kept[number][block], at_once

        return passage.once(f"profile of {owner}, {self.transforms}", made)

    def member_data(
        self, stored: Sequence[Transforms], numbers: np.ndarray, train_rows: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Returns the number of the set that each member reads, [M]."""
        return numbers

    # Programs hold these three, and none of what else describes the features.
    @staticmethod
    def inputs(
        table: jax.Array, member_data: jax.Array, rows: jax.Array, key: jax.Array, train: bool
    ) -> tuple[jax.Array]:
        return (table[rows, member_data],)

    @staticmethod
    def columns(table: jax.Array, member_data: jax.Array) -> jax.Array:
        return table[:, member_data]

    @staticmethod
    def inputs_of(columns: jax.Array, member_data: jax.Array) -> tuple[jax.Array]:
        return (columns,)

    def origins(
        self, ends: Ends, table: np.ndarray, stage: str, stored: Stored, predicted: Sequence[str]
    ) -> list[Traced]:
        owners, found = stored(self.profile_of or stage), []
        for fitted, values in zip(owners, np.moveaxis(table, 1, 0), strict=True):
            own = Traced([])
            if self.profile is not None:
                of_rows: Any = ends.columns
                made: Any = self.profile.columns(of_rows, len(ends.rows.genes), Origins(fitted))
                own = made
            width, earlier = own.shape[1], len(predicted)
            places, treatments = self._places(ends.every, width, earlier)
            rest = np.zeros((len(values), earlier))
            is_earlier = (places >= width) & (places < width + earlier)
            rest[:, places[is_earlier] - width] = values[:, : len(places)][:, is_earlier]
            parts = [
                Direct(rest, np.array([PREDICTION.format(name) for name in predicted], object)),
                Direct(
                    values[:, : len(places)][:, places >= width + earlier].astype(np.float64),
                    np.array(treatments, object),
                ),
            ]
            found.append(Traced([*own.parts, *parts]).take(places))
        return found

    def _places(self, rows: Dataset, width: int, earlier: int) -> tuple[np.ndarray, list[str]]:
        """Returns where each input comes from, and the names of those of the treatment.

        Places are those among the profile's columns, the earlier predictions and the treatment's
        inputs, one after another. What only arranges columns shows where it puts them when they
        hold their places; what time or dose make changes with these.

        Args:
          rows: rows of all times and doses that there are.
          width, earlier: numbers of the profile's columns and of earlier predictions.
        """
        marks = FIRST_MARK - np.arange(width + earlier)

        def arranged(name: str) -> np.ndarray:
            levels: Any = np.unique(getattr(rows, name))
            some = dataclasses.replace(rows.take(np.zeros(len(levels), int)), **{name: levels})
            each = np.tile(marks, (len(levels), 1))
            return self.arrange(some, each[:, :width], each[:, width:])

        by_dose = arranged("cp_dose")
        first, is_dose = by_dose[0], np.ptp(by_dose, axis=0) > 0
        is_mark = first <= FIRST_MARK
        places = np.where(is_mark, FIRST_MARK - first, 0).astype(int)
        places[~is_mark] = width + earlier + np.arange((~is_mark).sum())
        return places, ["cp_dose" if dose else "cp_time" for dose in is_dose[~is_mark]]

    def shapes(self, known: Known, members: Sequence[Member], widths: Mapping[str, int]) -> Arrays:
        dataset, first = known.dataset, known.rows.take(np.arange(1))
        columns = earlier = np.zeros((1, 0))
        if self.profile is not None:
            num_train, num_test = len(dataset), len(dataset.test or ())
            if self.transforms == "per_fold":
                trained = (self._train_rows(dataset, own) for own in known.sets.values())
                num_train, num_test = max(map(len, trained)), 0
            columns = profile.outline(self.profile, first, num_train, num_test)
        if self.predictions_of is not None:
            earlier = np.zeros((1, widths[self.predictions_of]))
        width = self.arrange(first, columns, earlier).shape[1]
        return Arrays(
            jax.ShapeDtypeStruct((len(known.rows), len(known.sets), width), jnp.result_type(float)),
            jax.ShapeDtypeStruct((len(members),), np.int32),
        )

    def _train_rows(self, dataset: Dataset, known: np.ndarray) -> np.ndarray:
        """Returns the positions of the known treated rows and of the controls, in their order."""
        treated = np.flatnonzero(~dataset.is_control)
        return np.sort(np.concatenate([treated[known], np.flatnonzero(dataset.is_control)]))
