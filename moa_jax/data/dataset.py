"""Dataset: rows of profiles with their treatment and targets, whatever file they came from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from moa_jax.config import DataConfig
from moa_jax.data import names
from moa_jax.errors import UserError

TREATMENT = ("cp_type", "cp_time", "cp_dose")
# Rows of float32 that are hashed at a time.
HASHED_ROWS = 1024


@dataclasses.dataclass(frozen=True)
class Levels:
    """Values that the columns of the treatment may take.

    Attributes:
      cp_time: hours; int where all are whole.
      cp_dose: names of the doses.
      treated, control: values of `cp_type`.
      others: values of `cp_type` that are treated rows', too.
      encoding: how networks read times and doses, see `TreatmentConfig`. Unless it is `one_hot` new
        rows may have others.
    """

    cp_time: tuple[float, ...]
    cp_dose: tuple[str, ...]
    treated: str
    control: str
    others: tuple[str, ...] = ()
    encoding: str = "one_hot"

    @classmethod
    def of(cls, data: DataConfig, encoding: str = "one_hot") -> Levels:
        """Returns the levels that a configuration names.

        Raises:
          UserError: two of a column are one, as 10 and 10.0 are; one is a mark of missing values.
          ValueError: it leaves some to the files, see `levels.settled`.
        """
        types = {"treated_type": data.treated_type, "control_type": data.control_type}
        if not (data.cp_times and data.cp_doses):
            raise ValueError("expected levels, found fields that leave them to the files")
        for field, levels in {
            "cp_times": data.cp_times,
            "cp_doses": names.separate("cp_doses", data.cp_doses),
            " and config.data.".join(types): (*types.values(), *data.other_types),
        }.items():
            first: dict[str | float, object] = {}
            for level in levels:
                if names.is_missing(str(level).strip()):
                    raise UserError(
                        f"config.data.{field}: expected texts of cells, found {level!r}, which "
                        "stands for a missing value; give it a name of its own in the file"
                    )
                if (key := names.level_key(str(level))) in first:
                    raise UserError(
                        f"config.data.{field}: expected different values, found {first[key]!r} "
                        f"and {level!r}"
                    )
                first[key] = level
        return cls(
            data.cp_times, data.cp_doses, data.treated_type, data.control_type, data.other_types,
            encoding,
        )  # fmt: skip

    @property
    def time_dtype(self) -> type[np.number]:
        """The dtype of times: int64 for whole hours, float64 where fractions are or may come."""
        whole = self.encoding == "one_hot" and all(isinstance(t, int) for t in self.cp_time)
        return np.int64 if whole else np.float64


def _run(rows: np.ndarray | slice) -> np.ndarray | slice:
    """Returns positions that follow one another as a slice, which copies nothing."""
    if isinstance(rows, slice) or rows.dtype.kind != "i" or not len(rows) or rows[0] < 0:
        return rows
    first = int(rows[0])
    follow = rows[-1] - first == len(rows) - 1 and (np.diff(rows) == 1).all()
    return slice(first, first + len(rows)) if follow else rows


def _hashed(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yields an array as it is hashed: float32 as the same numbers in float64, part by part."""
    if array.dtype != np.float32:
        yield np.ascontiguousarray(array)
        return
    for start in range(0, len(array), HASHED_ROWS):
        yield np.ascontiguousarray(array[start : start + HASHED_ROWS], np.float64)


# Columns of the treatment that have levels beside `cp_type`.
LEVELLED = ("cp_time", "cp_dose")

ORIGINAL_LEVELS = Levels.of(DataConfig())


@dataclasses.dataclass(frozen=True)
class Targets:
    """Binary targets.

    Attributes:
      names: L names.
      values: [N, L] uint8, 0 or 1; 0 where it is not known which.
      known: [N, L] bool, which of them were measured; None where all were.
    """

    names: tuple[str, ...]
    values: np.ndarray
    known: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.known is not None and self.known.all():
            object.__setattr__(self, "known", None)
        if self.known is not None:  # what stands in such a cell says nothing, and moves nothing
            values = np.where(self.known, self.values, np.zeros((), self.values.dtype))
            object.__setattr__(self, "values", values)

    def take(self, rows: np.ndarray | slice, columns: np.ndarray | slice = slice(None)) -> Targets:
        """Returns the cells of some rows and targets, each by positions or by a mask."""
        names = tuple(np.asarray(self.names, object)[columns].tolist())
        known = None if self.known is None else self.known[rows][:, columns]
        return Targets(names, self.values[rows][:, columns], known)


def shares(values: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """Returns the share of rows that have each target, of those of which it is known, [L] float64.

    A target that is known of none has the share of all targets' cells together.

    Args:
      values: [N, L], 0 or 1.
      known: [N, L] bool; None where all are.

    >>> shares(np.array([[1, 0], [0, 0]]), np.array([[True, False], [True, False]])).tolist()
    [0.5, 0.5]
    """
    if known is None:
        return values.mean(0, dtype=np.float64)
    positive, counted = (values * known).sum(0, dtype=np.float64), known.sum(0)
    overall = positive.sum() / max(counted.sum(), 1)
    return np.where(counted > 0, positive / np.maximum(counted, 1), overall)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Rows of profiles, for training or to be predicted.

    Attributes:
      ids: [N] unique `sig_id`.
      genes, cells: names of the gene and cell columns; either group may be empty.
      features: [N, genes + cells], genes first; float32 where the file has no other numbers, else
        float64. What computes with them takes `values`.
      cp_time: [N] hours; int64, or float64 where the levels are fractions.
      cp_dose: [N] names of doses.
      is_control: [N] bool.
      scored, nonscored: targets of the rows; None where there are none.
      drug_id: [N] drug of each row, or None.
      groups: [N] group of each row by the run's own file, a text, or None.
      test: the rows to predict that came with training rows, or None.
      submission_ids: ids of the sample submission in its order, or None.
      treatment: the columns of the treatment that the rows came with; in one that is left out all
        rows have the first level.
      prepared: what the folder's `columns.json` tells of the table that it was made from, or None.
    """

    ids: np.ndarray
    genes: tuple[str, ...]
    cells: tuple[str, ...]
    features: np.ndarray
    cp_time: np.ndarray
    cp_dose: np.ndarray
    is_control: np.ndarray
    scored: Targets | None = None
    nonscored: Targets | None = None
    drug_id: np.ndarray | None = None
    groups: np.ndarray | None = None
    test: Dataset | None = None
    submission_ids: np.ndarray | None = None
    treatment: tuple[str, ...] = TREATMENT
    prepared: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def targets(self) -> Targets:
        """The scored targets of training rows.

        Raises:
          ValueError: the rows have none.
        """
        if self.scored is None:
            raise ValueError("expected training rows, found rows without scored targets")
        return self.scored

    @property
    def values(self) -> np.ndarray:
        """[N, genes + cells] float64: the features, themselves where they are float64."""
        return self.features.astype(np.float64, copy=False)

    @property
    def gene_values(self) -> np.ndarray:
        """[N, genes] float64."""
        return self.features[:, : len(self.genes)].astype(np.float64, copy=False)

    @property
    def cell_values(self) -> np.ndarray:
        """[N, cells] float64."""
        return self.features[:, len(self.genes) :].astype(np.float64, copy=False)

    def take(self, rows: np.ndarray | slice) -> Dataset:
        """Returns the rows at the given positions, without test rows and submission.

        Of rows that follow one another the arrays are views.
        """
        rows = _run(rows)

        def targets(of: Targets | None) -> Targets | None:
            return None if of is None else of.take(rows)

        return Dataset(
            self.ids[rows],
            self.genes,
            self.cells,
            self.features[rows],
            self.cp_time[rows],
            self.cp_dose[rows],
            self.is_control[rows],
            targets(self.scored),
            targets(self.nonscored),
            None if self.drug_id is None else self.drug_id[rows],
            None if self.groups is None else self.groups[rows],
            treatment=self.treatment,
        )

    def trained_levels(self) -> dict[str, list]:
        """Returns the times and doses of the treated rows, by the name of their column."""
        treated = ~self.is_control
        return {name: np.unique(getattr(self, name)[treated]).tolist() for name in LEVELLED}

    def at_trained_levels(self, levels: Levels, trained: Mapping[str, Sequence]) -> Dataset:
        """Returns the rows, those of a time or dose that no training row has at the nearest one.

        Networks have learned nothing about such a level, but normalise by a variance of zero what
        stands for it. Nearest is meant in the order of the levels; the log tells of it. Levels that
        are not one-hot stay: networks read them as numbers or not at all.

        Args:
          levels: the levels that there are.
          trained: those that training rows have, see `trained_levels`.
        """
        changed: dict[str, Any] = {}
        for name in LEVELLED if levels.encoding == "one_hot" else ():
            order, values = list(getattr(levels, name)), getattr(self, name)
            known = np.array([order.index(level) for level in trained[name] if level in order])
            for level in set(values.tolist()) - set(trained[name]) if len(known) else ():
                nearest = order[known[np.abs(known - order.index(level)).argmin()]]
                logging.warning(
                    "column %s: no training row has %s; its rows are predicted as those of %s",
                    name, level, nearest,
                )  # fmt: skip
                changed[name] = np.where(values == level, nearest, changed.get(name, values))
        return dataclasses.replace(self, **changed)

    def fingerprint(self) -> str:
        """Returns a hash of everything in the rows, whatever file they came from."""
        digest = hashlib.sha256()
        targets = [t for t in (self.scored, self.nonscored) if t is not None]
        words: list[Sequence[str] | np.ndarray]
        words = [self.ids, self.genes, self.cells, self.cp_dose, *(t.names for t in targets)]
        words += [column for column in (self.drug_id, self.groups) if column is not None]
        for part in words:
            digest.update(json.dumps(list(part)).encode())
        arrays = [self.features, self.cp_time, self.is_control, *(t.values for t in targets)]
        for array in arrays + [t.known for t in targets if t.known is not None]:
            for part in _hashed(array):
                digest.update(part.data)
        return digest.hexdigest()[:16]

    def description(self) -> dict[str, Any]:
        """Returns the sizes of training rows and the names of their columns."""
        controls = int(self.is_control.sum())
        columns = {"genes": self.genes, "cells": self.cells, "scored": self.targets.names}
        sizes = {name: len(names) for name, names in columns.items()}
        columns["treatment"] = self.treatment
        table = {} if self.prepared is None else {"prepared": self.prepared}
        kinds = {"scored": self.scored, "nonscored": self.nonscored}
        masked = {k: int((~t.known).sum()) for k, t in kinds.items() if t and t.known is not None}
        return {
            "rows": len(self),
            "treated": len(self) - controls,
            "controls": controls,
            **sizes,
            "nonscored": len(self.nonscored.names) if self.nonscored else 0,
            "test_rows": len(self.test) if self.test else 0,
            "columns": {name: list(names) for name, names in columns.items()},
            "levels": self.trained_levels(),
            **({"not_measured": masked} if masked else {}),
            **table,
        }
