"""Profiles: what a recipe makes of gene expression and viability before a network reads it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np

from moa_jax.data.dataset import Dataset, Levels
from moa_jax.data.names import level_key
from moa_jax.features.log10 import log10_column
from moa_jax.features.one_hot import one_hot
from moa_jax.features.row_statistics import STATISTICS, row_statistics
from moa_jax.store.transform_files import Transform

# Rows that are transformed at a time.
ROWS_AT_ONCE = 2**15
# Bytes of rows in float64 up to which they are fitted on as one table, and of a part of more.
WHOLE_BYTES, PART_BYTES = 2**30, 2**23


class Profile(Protocol):
    """Columns made of the gene and cell columns of rows, by transforms that are fitted once.

    One that leaves columns out by their values says so by an attribute `selects` that is true.
    """

    def columns(self, values: np.ndarray, num_genes: int, steps: Steps) -> np.ndarray:
        """Returns the columns [N, F] of [N, genes + cells], fitting or applying `steps`."""


class ColumnTransform(Transform, Protocol):
    """A transform of the columns of a table.

    One that may be fitted on parts of the rows has a method `fit_parts`, see `StandardScale`; what
    it makes of a number depends on that one alone, and not on the rows beside it.
    """

    def fit(self, values: np.ndarray) -> Self:
        """Learns from [N, columns]."""

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Returns the columns that it makes of [N, columns]."""


class _AllFitted(Exception):
    """The last transform of a profile is fitted."""


class _NotFitted(KeyError):
    """A transform is reached that is not fitted; `args` are its name and what it is to read."""


class Steps:
    """Named transforms that are fitted where they are first used, and applied ever after.

    One function describes a profile, and serves fitting and applying alike.
    """

    def __init__(
        self, num_train: int = 0, fitted: Mapping[str, Any] | None = None, last: str | None = None
    ):
        """Begins.

        Args:
          num_train: so many first rows are training rows.
          fitted: transforms that are applied as they are.
          last: the transform with whose fit the steps end, by `_AllFitted`: what it makes of the
            rows is a table of all of them, which nobody reads.
        """
        self.num_train = num_train
        self.fitted = {} if fitted is None else dict(fitted)
        self._complete, self._last = fitted is not None, last

    def __call__(
        self,
        name: str,
        new: Callable[[], ColumnTransform],
        values: np.ndarray,
        on_train_alone: bool = False,
    ) -> np.ndarray:
        """Returns the transformed values.

        Args:
          name: name of the transform.
          new: makes it.
          values: [N, columns], the rows to transform; it is fitted on them too.
          on_train_alone: fit on training rows without the test rows beside them.
        """
        if name not in self.fitted:
            if self._complete:
                raise _NotFitted(name, values)
            self.fitted[name] = new().fit(values[: self.num_train] if on_train_alone else values)
        if name == self._last:
            raise _AllFitted
        return self.fitted[name].transform(values)

    def derive(
        self, names: Sequence[str], function: Callable[[np.ndarray], np.ndarray], values: np.ndarray
    ) -> np.ndarray:
        """Returns the columns that a function without a fit makes of [N, columns].

        Args:
          names: of the columns that it makes.
          function: of the values.
          values: [N, columns].
        """
        return function(values)


class Widths(Steps):
    """Stands in for transforms that are not fitted: zeros, as wide as what they would make.

    Attributes:
      asked: the transforms, not fitted, in the order of their first use.
      on_train_alone: those that are fitted on training rows alone.
    """

    def __init__(self, num_train: int, num_test: int):
        """They would be fitted on so many training rows, and on so many test rows beside them."""
        super().__init__(num_train)
        self.num_rows = num_train + num_test
        self.asked: dict[str, Any] = {}
        self.on_train_alone: set[str] = set()

    def __call__(
        self,
        name: str,
        new: Callable[[], Any],
        values: np.ndarray,
        on_train_alone: bool = False,
    ) -> np.ndarray:
        if on_train_alone:
            self.on_train_alone.add(name)
        one = self.asked.setdefault(name, new())
        rows = self.num_train if on_train_alone else self.num_rows
        return np.zeros((len(values), one.width((rows, values.shape[1]))))


def outline(profile: Profile, rows: Dataset, num_train: int, num_test: int) -> np.ndarray:
    """Returns what stands for the columns of the rows after a fit to so many other rows."""
    return profile.columns(rows.values, len(rows.genes), Widths(num_train, num_test))


def fit(
    profile: Profile, train: Dataset, test: Dataset | None, rows: np.ndarray | None = None
) -> dict[str, Transform]:
    """Returns the transforms of a profile, fitted on training rows and, if given, test rows.

    Of many rows there is never a table in float64 where every transform can be fitted part by
    part, to the same bits.

    Args:
      profile: the profile.
      train: training rows.
      test: test rows, or None.
      rows: positions of the training rows that are fitted on; None for all.
    """
    num_train = len(train) if rows is None else len(rows)
    widths = Widths(num_train, len(test or ()))
    profile.columns(train.take(slice(1)).values, len(train.genes), widths)
    if not widths.asked:
        return {}
    num_bytes = 8 * widths.num_rows * train.features.shape[1]
    if num_bytes > WHOLE_BYTES and all(hasattr(one, "fit_parts") for one in widths.asked.values()):
        return _fitted_in_parts(profile, train, test, rows, widths)
    train = train if rows is None else train.take(rows)
    steps = Steps(num_train, last=[*widths.asked][-1])
    values = train.values
    if test is not None:
        values = np.concatenate([values, test.values])
    with contextlib.suppress(_AllFitted):
        profile.columns(values, len(train.genes), steps)
    return steps.fitted


def _fitted_in_parts(
    profile: Profile,
    train: Dataset,
    test: Dataset | None,
    rows: np.ndarray | None,
    widths: Widths,
) -> dict[str, Transform]:
    """Returns what `fit` does, one transform after another being fitted on parts of the rows."""
    fitted: dict[str, Transform] = {}

    def reached(test: Dataset | None) -> Iterator[np.ndarray]:
        """Yields what the first transform that is not fitted is fitted on."""
        for part in _parts(train, test, rows):
            try:
                profile.columns(part, len(train.genes), Steps(fitted=fitted))
            except _NotFitted as found:
                yield found.args[1]

    for name, one in widths.asked.items():
        alone = name in widths.on_train_alone
        count = widths.num_train if alone else widths.num_rows
        fitted[name] = one.fit_parts(functools.partial(reached, None if alone else test), count)
    return fitted


def _parts(train: Dataset, test: Dataset | None, rows: np.ndarray | None) -> Iterator[np.ndarray]:
    """Yields rows in their order, `PART_BYTES` of them in float64 at a time."""
    count = max(1, PART_BYTES // (8 * train.features.shape[1]))
    of_train = range(len(train)) if rows is None else rows
    for dataset, chosen in ((train, of_train), (test, range(len(test or ())))):
        for start in range(0, len(chosen), count):
            part = chosen[start : start + count]
            own = slice(part.start, part.stop) if isinstance(part, range) else part
            assert dataset is not None
            yield dataset.features[own].astype(np.float64, copy=False)


def apply(
    profile: Profile, transforms: Mapping[str, Transform], rows: Dataset, dtype: np.dtype
) -> np.ndarray:
    """Returns the columns of the rows, [N, F], computed in float64 and kept in a type.

    Many rows are transformed block by block, so that there are never several tables of all of them
    in float64; a transform that looks at all rows together gets them together.
    """
    steps, num_genes = Steps(fitted=transforms), len(rows.genes)
    together = looks_at_all_rows(transforms)
    made = np.empty((len(rows), 0), dtype)
    for block in [slice(None)] if together else blocks(len(rows)):
        values = rows.features[block].astype(np.float64, copy=False)
        columns = profile.columns(values, num_genes, steps)
        if not block.start:
            made = np.empty((len(rows), columns.shape[1]), dtype)
        made[block] = columns
    return made


def looks_at_all_rows(transforms: Mapping[str, Transform]) -> bool:
    """Tells whether what one of the transforms makes of a row depends on the rows beside it."""
    return any(getattr(one, "looks_at_all_rows", False) for one in transforms.values())


def blocks(num_rows: int, at_once: int | None = None) -> list[slice]:
    """Returns the parts of rows that are transformed at a time; an empty one of no rows.

    Args:
      num_rows: number of rows.
      at_once: most rows of a part; None for `ROWS_AT_ONCE`.
    """
    size = at_once or ROWS_AT_ONCE
    return [slice(start, start + size) for start in range(0, num_rows or 1, size)]


def rows_at_once(every: Iterable[Mapping[str, Transform]], num_columns: int) -> int:
    """Returns how many rows sets of transforms are applied to at a time.

    Of many columns they are fewer where that changes no bit: a product of fewer rows may be rounded
    otherwise.
    """
    if all(hasattr(one, "fit_parts") for transforms in every for one in transforms.values()):
        return min(ROWS_AT_ONCE, max(1, PART_BYTES // (8 * num_columns)))
    return ROWS_AT_ONCE


def groups(num_genes: int, num_columns: int) -> list[tuple[str, slice]]:
    """Returns the groups of columns that are there, `gene` and `cell`, with their places."""
    present = [("gene", slice(0, num_genes)), ("cell", slice(num_genes, num_columns))]
    return [(name, block) for name, block in present if block.stop > block.start]


def statistics_blocks(present: list[tuple[str, slice]]) -> list[tuple[str, slice]]:
    """Returns the blocks that statistics of a row are taken of: each group, then both together."""
    if len(present) < 2:  # both together would repeat that group's statistics
        return present
    return [*present, ("all", slice(0, present[-1][1].stop))]


def statistics(
    steps: Steps, table: np.ndarray, present: list[tuple[str, slice]], kinds: slice = slice(None)
) -> list[np.ndarray]:
    """Returns statistics of each row over each of its blocks.

    Args:
      steps: of the profile.
      table: [N, F], which begins with the columns of the groups.
      present: the groups.
      kinds: which of `STATISTICS` there are.
    """
    return [
        steps.derive(
            [f"{name} {kind}" for kind in STATISTICS[kinds]],
            lambda values: row_statistics(values)[:, kinds],
            table[:, block],
        )
        for name, block in statistics_blocks(present)
    ]


def treatment(rows: Dataset, levels: Levels) -> list[np.ndarray]:
    """Returns the columns of time and those of dose of the rows, as `levels.encoding` says."""
    if levels.encoding == "none":
        return []
    if levels.encoding == "log10":
        return [
            log10_column(_numbers(rows.cp_time), _numbers(levels.cp_time)),
            log10_column(_numbers(rows.cp_dose), _numbers(levels.cp_dose)),
        ]
    return [one_hot(rows.cp_time, levels.cp_time), one_hot(rows.cp_dose, levels.cp_dose)]


def _numbers(levels: np.ndarray | Sequence) -> np.ndarray:
    """Returns levels as float64, NaN for those that are no numbers."""
    keys = {level: level_key(str(level)) for level in set(levels)}
    number_of = {level: key if isinstance(key, float) else np.nan for level, key in keys.items()}
    return np.array([number_of[level] for level in levels], np.float64)
