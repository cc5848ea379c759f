"""Columns of pandas' dtype `category`: codes in place of what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from moa_jax.estimators import checks
from moa_jax.schema import shown

# What JSON keeps as it is; intervals, periods and their like go by how they are written.
_PLAIN = (str, int, float, bool)
# What a column without a code holds in place of one.
_NONE = -1


def of_table(X: Any) -> dict[int, list[Any]]:
    """Returns the categories of the columns that have them, by the numbers of the columns.

    Args:
      X: a data frame of pandas; any other table has none.

    Raises:
      ValueError: a column has no category.
    """
    found = {}
    for number, dtype in enumerate(_dtypes(X)):
        if str(dtype) != "category":
            continue
        found[number] = [_plain(value) for value in dtype.categories]
        if not found[number]:
            raise ValueError(f"X: column {_name(X, number)}: expected categories, found none")
    return found


def coded(X: Any, categories: Mapping[int, Sequence[Any]]) -> Any:
    """Returns a table with codes in place of the values of its columns of categories.

    Values decide, not the order that the categories have in this table.

    Args:
      X: a data frame of pandas, whose columns of categories are coded; any other table is returned
        as it is, and has codes already.
      categories: as `of_table` returned them of the table that was fitted.

    Raises:
      ValueError: a value is missing or none of the categories, or a column has categories that
        had none.
    """
    dtypes = _dtypes(X)
    for number, dtype in enumerate(dtypes):
        if str(dtype) == "category" and number not in categories:
            raise ValueError(
                f"X: column {_name(X, number)}: expected numbers, as in fit, found categories"
            )
    if not dtypes:
        return X
    X = checks.dense(X.copy(deep=False))
    for number, known in categories.items():
        # Another number of columns is told by who counts them.
        if number < len(dtypes):
            codes = _codes(X.iloc[:, number], known, _name(X, number))
            X.isetitem(number, codes)
    _check_numbers(X, categories)
    return X


def _codes(column: Any, known: Sequence[Any], name: str) -> np.ndarray:
    code = {value: float(number) for number, value in enumerate(known)}
    missing = np.asarray(column.isna())
    if missing.any():
        raise ValueError(
            f"X: column {name}: expected a category in every row, found none in "
            f"{missing.sum()}: name what is missing, such as by a category of its own"
        )
    values = list(map(_plain, column))
    found = np.array([code.get(value, _NONE) for value in values])
    if (found == _NONE).any():
        unknown = values[int(np.argmax(found == _NONE))]
        raise ValueError(
            f"X: column {name}: expected one of {shown(list(known))}, found {unknown!r}"
        )
    return found


def _check_numbers(X: Any, categories: Mapping[int, Any]) -> None:
    """Names a column of text, which would be told without its name."""
    for number, text in checks.texts(X):
        if number not in categories:
            raise ValueError(
                f"X: column {_name(X, number)}: expected numbers, found {text!r}; where it "
                "holds categories, say so: X.astype({...: 'category'})"
            )


def _dtypes(X: Any) -> list[Any]:
    """Of pandas' data frames, which alone have columns that are set by their number."""
    return list(X.dtypes) if hasattr(X, "isetitem") else []


def _name(X: Any, number: int) -> str:
    return str(X.columns[number])


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, _PLAIN) else str(value)
