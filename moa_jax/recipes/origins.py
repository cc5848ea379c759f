"""Origins: which of the user's columns each column of a profile comes from, and with what share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from moa_jax.features.factors import FactorScores, PrincipalComponents
from moa_jax.features.rank_gauss import RankGauss
from moa_jax.features.selection import ChosenColumns, VarianceSelection
from moa_jax.features.standard_scale import StandardScale
from moa_jax.recipes.profile import Steps

# Transforms by what they do: each column for itself, some of the columns, sums of columns. What
# others make has names of its own.
BY_COLUMN = (StandardScale, RankGauss)
SELECTING = (ChosenColumns, VarianceSelection)
LINEAR = (PrincipalComponents, FactorScores)
# The name of a prediction of an earlier stage.
PREDICTION = "prediction of {}"
# A sum's difference is rounding below this share of its terms'.
SMALLEST_SHARE = 1e-12
# By so much may a sum be missed that is one.
ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Direct:
    """Columns each of which is a function of one feature.

    Attributes:
      values: [R + 1, n] of rows and, last, of the baseline.
      names: [n] the features.
    """

    values: np.ndarray
    names: np.ndarray

    def take(self, columns: np.ndarray | slice) -> Direct:
        return Direct(self.values[:, columns], self.names[columns])

    def carry(
        self, gradients: np.ndarray, rows: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield self.names, gradients * (self.values[rows] - self.values[-1])


@dataclasses.dataclass(frozen=True)
class Summed:
    """Columns each of which is a function of a sum of direct columns with weights of its own.

    The sum's terms share the column's attribution as they share the sum's difference.

    Attributes:
      values: [R + 1, n].
      sums: [R + 1, n] the sums.
      loadings: [n, m] the weights.
      of: the m direct columns.
    """

    values: np.ndarray
    sums: np.ndarray
    loadings: np.ndarray
    of: Direct

    def take(self, columns: np.ndarray | slice) -> Summed:
        return Summed(
            self.values[:, columns], self.sums[:, columns], self.loadings[columns], self.of
        )

    def carry(
        self, gradients: np.ndarray, rows: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        terms = self.of.values[rows] - self.of.values[-1]
        sums = self.sums[rows] - self.sums[-1]
        smallest = SMALLEST_SHARE * (np.abs(terms) @ np.abs(self.loadings).T)
        slopes = np.divide(
            self.values[rows] - self.values[-1],
            sums,
            out=np.zeros_like(sums),
            where=np.abs(sums) > smallest,
        )
        yield self.of.names, ((gradients * slopes) @ self.loadings) * terms


class Traced:
    """A table's columns with their origins; it stands in for the table where a profile is made.

    It can be cut, joined by `np.concatenate` and bounded by `np.clip`, as a profile does.

    Attributes:
      parts: blocks of columns, in their order.
    """

    def __init__(self, parts: Sequence[Direct | Summed]):
        self.parts = [part for part in parts if part.values.shape[1]]

    @classmethod
    def of(cls, values: np.ndarray, names: Sequence[str]) -> Traced:
        """Returns columns each of which is a feature."""
        return cls([Direct(values, np.asarray(names, object))])

    @property
    def values(self) -> np.ndarray:
        """[R + 1, columns] of rows and, last, of the baseline."""
        return np.concatenate([part.values for part in self.parts], axis=1)

    @property
    def shape(self) -> tuple[int, int]:
        rows = len(self.parts[0].values) if self.parts else 0
        return rows, sum(part.values.shape[1] for part in self.parts)

    def __getitem__(self, key: tuple[slice, slice | np.ndarray]) -> Traced:
        rows, columns = key
        if rows != slice(None):
            raise IndexError("expected all rows")
        return self.take(np.arange(self.shape[1])[columns])

    def take(self, columns: np.ndarray) -> Traced:
        """Returns the columns at these positions, in their order."""
        ends = np.cumsum([part.values.shape[1] for part in self.parts])
        part_of = np.searchsorted(ends, columns, side="right")
        runs = np.split(np.arange(len(columns)), np.flatnonzero(np.diff(part_of)) + 1)
        taken = []
        for run in runs if len(columns) else []:
            number = int(part_of[run[0]])
            first = ends[number] - self.parts[number].values.shape[1]
            taken.append(self.parts[number].take(columns[run] - first))
        return Traced(taken)

    def with_values(self, values: np.ndarray) -> Traced:
        """Returns the same columns after a function of each of them."""
        parts, start = [], 0
        for part in self.parts:
            stop = start + part.values.shape[1]
            parts.append(dataclasses.replace(part, values=values[:, start:stop]))
            start = stop
        return Traced(parts)

    @property
    def are_direct(self) -> bool:
        """Whether each column is a function of one feature."""
        return all(isinstance(part, Direct) for part in self.parts)

    def combined(self, values: np.ndarray, loadings: np.ndarray) -> Traced:
        """Returns sums [R + 1, n] of direct columns with weights [n, columns]."""
        names = [part.names for part in self.parts if isinstance(part, Direct)]
        of = Direct(self.values, np.concatenate(names))
        return Traced([Summed(values, values, loadings, of)])

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func is np.clip:
            columns, *bounds = args
            return columns.with_values(np.clip(columns.values, *bounds, **kwargs))
        if func is np.concatenate and kwargs.get("axis") == 1:
            return Traced([part for columns in args[0] for part in columns.parts])
        return NotImplemented

    def carry(self, gradients: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the attributions of features, [P] by name, whose sum is that of the columns.

        Args:
          gradients: [P, columns] mean gradients by the columns.
          rows: [P] the row of each.
        """
        found: dict[str, np.ndarray] = {}
        start = 0
        for part in self.parts:
            stop = start + part.values.shape[1]
            for names, values in part.carry(gradients[:, start:stop], rows):
                for name, column in zip(names.tolist(), values.T, strict=True):
                    found[name] = found[name] + column if name in found else column
            start = stop
        return found


class Origins(Steps):
    """Fitted steps, applied to `Traced`."""

    def __init__(self, fitted: Mapping[str, Any]):
        super().__init__(fitted=fitted)

    def __call__(
        self, name: str, new: Callable[[], Any], values: Any, on_train_alone: bool = False
    ) -> Any:
        transform, columns = self.fitted[name], values
        made = transform.transform(columns.values)
        if isinstance(transform, BY_COLUMN):
            return columns.with_values(made)
        if isinstance(transform, SELECTING):
            return columns.take(transform.kept_)
        if isinstance(transform, LINEAR) and columns.are_direct:
            none, each = np.zeros((1, columns.shape[1])), np.eye(columns.shape[1])
            loadings = transform.transform(each) - transform.transform(none)
            return columns.combined(made, loadings.T)
        return Traced.of(made, [f"{name} {number}" for number in range(1, made.shape[1] + 1)])

    def derive(
        self, names: Sequence[str], function: Callable[[np.ndarray], np.ndarray], values: Any
    ) -> Any:
        """Returns what a function makes: sums of the columns as such, the rest under its names."""
        columns = values
        made = Traced.of(function(columns.values), names)
        if not columns.are_direct:
            return made
        none, each = np.zeros((1, columns.shape[1])), np.eye(columns.shape[1])
        loadings = function(each) - function(none)
        sums = columns.values @ loadings
        offsets = np.abs(made.values - function(none) - sums).max(axis=0)
        are_sums = offsets <= ROUNDING * (1 + np.abs(sums).max(axis=0))
        both = Traced([*made.parts, *columns.combined(sums, loadings.T).parts])
        return both.take(np.arange(len(names)) + len(names) * are_sums)
