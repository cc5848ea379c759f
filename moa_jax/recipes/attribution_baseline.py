"""Baseline: the row that others are compared with where a prediction is explained."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from moa_jax.data.dataset import Dataset
from moa_jax.errors import UserError
from moa_jax.features.column_sums import column_means
from moa_jax.recipes import profile
from moa_jax.recipes.context import Context
from moa_jax.recipes.origins import Traced
from moa_jax.store import arrays

FILE, KIND = "baseline.npz", "baseline"


@dataclasses.dataclass(frozen=True)
class Baseline:
    """The mean of the control rows, or of all training rows where there is no control.

    Of time and dose, which have levels, it has the shares: every treatment among the rows counts
    as often as there.

    Attributes:
      features: [genes + cells] means.
      cp_time, cp_dose: [K] the treatments among the rows.
      shares: [K] float64 of sum 1.
      num_rows: how many rows it is the mean of.
      of_controls: whether these are control rows.
    """

    features: np.ndarray
    cp_time: np.ndarray
    cp_dose: np.ndarray
    shares: np.ndarray
    num_rows: int
    of_controls: bool

    @classmethod
    def of(cls, dataset: Dataset) -> Baseline:
        """Returns the baseline of training rows."""
        of_controls = bool(dataset.is_control.any())
        rows = dataset.take(np.flatnonzero(dataset.is_control | (not of_controls)))
        doses, dose = np.unique(rows.cp_dose.astype(str), return_inverse=True)
        times, time = np.unique(rows.cp_time, return_inverse=True)
        places, counts = np.unique(time * len(doses) + dose, return_counts=True)
        time, dose = np.divmod(places, len(doses))
        return cls(
            column_means(rows.take(part).values for part in profile.blocks(len(rows))),
            times[time], doses[dose], counts / len(rows), len(rows),
            of_controls,
        )  # fmt: skip

    def __str__(self) -> str:
        return f"mean of {self.num_rows} {'control' if self.of_controls else 'training'} rows"

    def rows(self, like: Dataset) -> Dataset:
        """Returns one row for each treatment, with the columns of other rows."""
        count = len(self.shares)
        return Dataset(
            np.array([f"baseline {number}" for number in range(count)], object),
            like.genes,
            like.cells,
            np.tile(self.features, (count, 1)),
            self.cp_time,
            self.cp_dose.astype(object),
            np.full(count, self.of_controls),
        )


def joined(first: Dataset, second: Dataset) -> Dataset:
    """Returns the rows of two data sets of the same columns, without targets and compounds."""
    parts: dict[str, Any] = {
        name: np.concatenate([getattr(rows, name) for rows in (first, second)])
        for name in ("ids", "features", "cp_time", "cp_dose", "is_control")
    }
    return Dataset(genes=first.genes, cells=first.cells, **parts)


def write(folder: Path, dataset: Dataset) -> None:
    """Writes the baseline of training rows to a model's folder."""
    stored: dict[str, Any] = dataclasses.asdict(Baseline.of(dataset))
    record = {name: stored.pop(name) for name in ("num_rows", "of_controls")}
    arrays.write(folder / FILE, KIND, stored, record)


def read(context: Context, like: Dataset) -> Baseline:
    """Returns the baseline of a finished model.

    Args:
      context: where it was fitted.
      like: rows of the same columns.

    Raises:
      UserError: the file is missing, damaged, of other columns, or the model was fitted before
        there was one.
    """
    path = context.folder / FILE
    context.manifest.verify(path)
    stored, record = arrays.read(path, KIND)
    try:
        found = Baseline(**stored, **record)
    except TypeError as error:
        raise UserError(f"{path}: damaged: {error}; {context.manifest.remedy}") from None
    if len(found.features) != like.features.shape[1]:
        raise UserError(
            f"{path}: expected {like.features.shape[1]} columns, found {len(found.features)}; "
            f"{context.manifest.remedy}"
        )
    return found


@dataclasses.dataclass(frozen=True)
class Ends:
    """Where lines from a baseline to rows begin and end.

    Attributes:
      rows: R rows.
      baseline: where all lines begin.
    """

    rows: Dataset
    baseline: Baseline

    @property
    def every(self) -> Dataset:
        """The rows, and those of the baseline after them."""
        return joined(self.rows, self.baseline.rows(self.rows))

    def joined(self, table: np.ndarray) -> np.ndarray:
        """Returns [R + 1, ...] of a table of `every`: the rows', and the mean of the baseline's."""
        count = len(self.rows)
        mean = np.tensordot(self.baseline.shares, table[count:].astype(np.float64), axes=1)
        return np.concatenate([table[:count], mean[None].astype(table.dtype)])

    @property
    def columns(self) -> Traced:
        """The columns of the data themselves, of rows and baseline."""
        values = np.concatenate([self.rows.features, self.baseline.features[None]])
        return Traced.of(values, [*self.rows.genes, *self.rows.cells])
