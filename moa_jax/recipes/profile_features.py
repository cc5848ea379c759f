"""Features of dense networks: columns of a profile, and of what an earlier stage predicted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from moa_jax.data.dataset import Dataset
from moa_jax.features.rank_gauss import holding
from moa_jax.recipes import profile
from moa_jax.recipes.features import Arrays, Features, Known, Passage, Stored, Transforms
from moa_jax.recipes.profile import Profile
from moa_jax.store.transform_files import Transform
from moa_jax.training.members import Member, MemberId

PREDICTIONS = "predictions"
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
            train, test = known.dataset, known.dataset.test
            own = known.sets[name] | (self.transforms == "all")
            if self.transforms == "per_fold":
                train, test = train.take(self._train_rows(train, own)), None
            fitted: dict[str, Transform] = {}
            if self.profile is not None and self.profile_of is None:
                fitted |= profile.fit(self.profile, train, test)
            if self.predictions_of is not None:
                earlier = known.predictions[self.predictions_of].without(known.blocks[name])
                fitted[PREDICTIONS] = holding().fit(earlier[own])
            yield name, fitted

    def table(self, passage: Passage, stage: str, stored: Stored) -> np.ndarray:
        """Returns the inputs by every set, [N, sets, F]; narrower ones end in zeros."""
        dtype, rows = jnp.result_type(float), passage.rows
        columns: Sequence[np.ndarray] | None = None
        if self.profile is not None:
            described, owner = self.profile, self.profile_of or stage
            columns = passage.once(
                f"profile of {owner}, {self.transforms}",
                lambda: [
                    profile.apply(described, fitted, rows).astype(dtype) for fitted in stored(owner)
                ],
            )
        by_set = []
        for number, fitted in enumerate(stored(stage)):
            predicted = own = np.zeros((len(rows), 0), dtype)
            if self.predictions_of is not None:
                earlier = passage.predictions[self.predictions_of]
                predicted = fitted[PREDICTIONS].transform(earlier.without(stored.blocks[number]))
            if columns is not None:
                own = columns[number]
            by_set.append(self.arrange(rows, own, predicted).astype(dtype))
        # A fold may leave out more columns of little variance than another.
        widest = max(inputs.shape[1] for inputs in by_set)
        table = np.zeros((len(rows), len(by_set), widest), dtype)
        for number, inputs in enumerate(by_set):
            table[:, number, : inputs.shape[1]] = inputs
        return table

    def member_data(
        self, stored: Sequence[Transforms], numbers: np.ndarray, train_rows: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Returns the number of the set that each member reads, [M]."""
        return numbers

    def inputs(
        self, table: jax.Array, member_data: jax.Array, rows: jax.Array, key: jax.Array, train: bool
    ) -> tuple[jax.Array]:
        return (table[rows, member_data],)

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
