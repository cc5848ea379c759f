"""What MechanismClassifier is given, as the rows that a run reads: arrays, data frames, AnnData."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.utils import check_array

from moa_jax.config import LEVELS_OF_FILES, DataConfig, RunConfig
from moa_jax.data import compound_names, levels
from moa_jax.data.columns import Columns
from moa_jax.data.dataset import LEVELLED, TREATMENT, Dataset, Levels
from moa_jax.data.names import Prefixes, id_of, is_missing, level_key, ordered_levels
from moa_jax.errors import UserError
from moa_jax.estimators import checks, row_names
from moa_jax.estimators.row_names import ID
from moa_jax.schema import shown, suggestion


@dataclasses.dataclass(frozen=True)
class GivenRows:
    """X without what is about rows.

    Attributes:
      table: features and columns of the treatment: a data frame, or what becomes an array.
      ids: [N] names of the rows, or None for their numbers.
      groups: [N] group of each row, or None.
    """

    table: Any
    ids: np.ndarray | None
    groups: Any


def given(X: Any, groups: Any = None) -> GivenRows:
    """Takes X apart.

    Args:
      X: an array, a data frame, or an AnnData, whose variables are features and whose `obs` may
        have columns of the treatment, groups and ids.
      groups: group of each row, the name of a column that holds it, or None.

    Raises:
      ValueError: there is no such column.
    """
    found = groups
    if hasattr(X, "obs") and hasattr(X, "to_df"):
        about, X = X.obs, X.to_df()
        names = [*TREATMENT, ID, *([groups] if isinstance(groups, str) else [])]
        X = X.assign(**{name: about[name] for name in names if name in about.columns})
    X = row_names.as_pandas(X)
    if hasattr(X, "columns"):
        checks.check_names("X", "columns", [str(name) for name in X.columns])
        kinds = sorted({type(name).__name__ for name in X.columns})
        if "str" in kinds and len(kinds) > 1:
            raise ValueError(
                f"X: expected columns whose names are all texts, found {', '.join(kinds)}; see "
                "X.columns.astype(str)"
            )
    if not hasattr(X, "columns") or not hasattr(X, "iloc"):
        if isinstance(groups, str):
            raise ValueError(
                f"groups: expected the group of each row, found {groups!r}, which can only name a "
                "column of a data frame"
            )
        return GivenRows(X, None, found)
    X = checks.dense(X)
    ids = X.index.to_numpy()
    row_names.check_order("groups", X, groups)
    if isinstance(groups, str):
        if groups not in X.columns:
            near = suggestion(groups, map(str, X.columns))
            raise ValueError(f"groups: expected a column of X, found no {groups!r}{near}")
        found, X = X[groups].to_numpy(object), X.drop(columns=groups)
    if ID in X.columns:
        ids, X = X[ID].to_numpy(object), X.drop(columns=ID)
    return GivenRows(X, ids, found)


def settled(table: Any, data: DataConfig) -> DataConfig:
    """Returns the section with the levels that it leaves to the data, those of a table.

    Args:
      table: a data frame, or an array.
      data: the section.

    Raises:
      ValueError: a time is no number, or a cell is empty.
    """
    if all(getattr(data, field) for field in LEVELS_OF_FILES):
        return data
    found: dict[str, list[str]] = {}
    for name, values in _treatment(table).items():
        texts = dict.fromkeys(str(value).strip() for value in values)
        wrong = next((text for text in texts if is_missing(text)), None)
        if name == "cp_time" and wrong is None:
            wrong = next((t for t in texts if not isinstance(level_key(t), float)), None)
        if wrong is not None:
            expected = "hours as numbers" if name == "cp_time" else "a level in every cell"
            raise ValueError(f"X: column {name}: expected {expected}, found {wrong!r}")
        found[name] = ordered_levels(texts)
    return levels.taken(data, found)


def named(table: Any, names: np.ndarray | None) -> Any:
    """Returns new rows whose columns are called as those of the training rows.

    What a column is follows from its name. Where the training rows or the new ones had none, of
    which scikit-learn has warned, columns are the same by their places.

    Args:
      table: [N, columns] a data frame, or an array.
      names: [columns] of the training rows; None where these had no names that are all texts.
    """
    import pandas as pd

    if hasattr(table, "columns"):
        return table.set_axis(range(table.shape[1]) if names is None else names, axis=1)
    return table if names is None else pd.DataFrame(table, columns=names)


def _treatment(table: Any) -> dict[str, np.ndarray]:
    """Returns the columns of the treatment that a data frame has, by name."""
    if not hasattr(table, "columns"):
        return {}
    return {name: table[name].to_numpy(object) for name in TREATMENT if name in table.columns}


def rows(
    table: Any, of: GivenRows, config: RunConfig, is_trained: bool, estimator: Any = None
) -> Dataset:
    """Returns rows as those of a features file.

    Columns of the treatment are known by their names; of the others those that `cell_prefixes` fit
    are of cells, those that `ignore` fits are left out, and the rest are of genes.

    Args:
      table: [N, columns] a data frame, or an array, whose columns are called g-0, g-1, ...
      of: ids and groups of the rows.
      config: its levels, their encoding, and its prefixes.
      is_trained: whether the rows are for trained models, whose levels are settled.
      estimator: whose name messages have.

    Raises:
      ValueError: a cell is not what is expected.
    """
    encoding, prefixes = config.treatment.encoding, Prefixes.of(config.data)
    known, treatment = Levels.of(config.data, encoding), _treatment(table)
    if hasattr(table, "columns"):
        names = [str(name) for name in table.columns]
        if not all(isinstance(name, str) for name in table.columns):
            names = [f"g-{number}" for number in range(len(names))]
    else:
        names = [f"g-{number}" for number in range(table.shape[1])]
    group = {name: prefixes.group(name) for name in names if name not in treatment}
    cells = tuple(name for name in group if group[name] == "cells")
    genes = tuple(name for name in group if group[name] not in ("cells", "ignored"))
    naming = compound_names.column([] if is_trained else [*group], ())
    if naming is not None and group[naming] != "ignored":
        raise ValueError(
            f"X: column {naming}: names compounds, no feature: give groups={naming!r}, or "
            "leave it out"
        )
    place = {name: index for index, name in enumerate(names)}
    kept = [place[name] for name in (*genes, *cells)]
    if not kept:
        raise ValueError("X: expected columns of features, found none")
    values = table.iloc[:, kept] if hasattr(table, "iloc") else table[:, kept]
    for column, text in checks.texts(values):
        raise ValueError(
            f"X: column {(*genes, *cells)[column]}: expected numbers, found {text!r}; leave it "
            "out, or name it by groups where it holds compounds"
        )
    values = check_array(
        values, dtype=np.float64, estimator=estimator, input_name="X", order="C",
        ensure_all_finite=False,
    )  # fmt: skip
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        found = "NaN" if np.isnan(values[row, column]) else "inf"
        raise ValueError(
            f"X: column {(*genes, *cells)[column]}, row {row}: expected a number, found {found}; "
            "fill in what is missing, such as by the column's median, or leave out row or column"
        )
    checks.check_size(values, (*genes, *cells))
    ids = _ids(of.ids, len(values))
    texts = {name: pa.array([*map(str, cells)], pa.string()) for name, cells in treatment.items()}
    read = Columns(Path("X"), ids, pa.table(texts), is_trained)

    def level(name: str, allowed: Sequence[Any], field: str) -> np.ndarray:
        if name not in treatment:
            return np.full(len(values), allowed[0], object)
        is_open = is_trained and name in LEVELLED and encoding != "one_hot"
        try:
            return read.levels(name, allowed, f"data.{field}", encoding if is_open else None)
        except UserError as error:
            raise ValueError(str(error)) from None

    kinds = (known.treated, known.control, *known.others)
    is_control = level("cp_type", kinds, "treated_type or data.control_type") == known.control
    return Dataset(
        ids,
        genes,
        cells,
        features=values,
        cp_time=level("cp_time", known.cp_time, "cp_times").astype(known.time_dtype),
        cp_dose=level("cp_dose", known.cp_dose, "cp_doses"),
        is_control=is_control,
        drug_id=_groups(of.groups, is_control, known.control),
        treatment=tuple(name for name in TREATMENT if name in treatment),
    )


def _ids(found: np.ndarray | None, num_rows: int) -> np.ndarray:
    """Names of rows as texts; their numbers where there are none, or some stand twice."""
    if found is not None:
        texts = [id_of(str(one)) for one in found]
        if len({*texts}) == len(texts) and not any(map(is_missing, texts)):
            return np.array(texts, object)
    return np.array([str(number) for number in range(num_rows)], object)


def _groups(found: Any, is_control: np.ndarray, control: str) -> np.ndarray | None:
    if found is None:
        return None
    values = np.asarray(found, object)
    if values.shape != is_control.shape:
        raise ValueError(
            f"groups: expected one for each of {len(is_control)} rows, found shape {values.shape}"
        )
    texts = np.array([id_of(str(value)) for value in values], object)
    missing = np.array([is_missing(text) for text in texts], bool)
    if (wrong := missing & ~is_control).any():
        raise ValueError(
            f"groups: row {int(np.argmax(wrong))}: expected a name, found "
            f"{shown(values[np.argmax(wrong)])}; give each unknown one a name of its own"
        )
    texts[missing] = control
    return texts
