"""Cells of a column as texts, numbers or truth, alike from CSV, where all are text, and parquet."""

from __future__ import annotations

import contextlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from moa_jax.data.names import DASHES as DASHES
from moa_jax.data.names import MISSING as MISSING
from moa_jax.data.names import MISSING_MARK as MISSING_MARK
from moa_jax.data.names import is_missing as is_missing

TRUTH = {"true": 1.0, "false": 0.0}
# What stands in a cell without a value: infinity is a result of a computation that went wrong.
EMPTY = MISSING - {"inf", "infinity"} | {"", "nan"}


def texts(column: pa.ChunkedArray) -> np.ndarray:
    """Returns what stands in a CSV of the same cells, [N] str in an object array.

    It is without spaces around it, and None where nothing stands: null, NaN and what is no text.
    """
    column = _decoded(column)
    if pa.types.is_floating(column.type):
        # As pandas writes it: 12.0, where pyarrow has 12, and 0.04 for the float32 nearest to it.
        values = column.to_numpy()
        cells = [
            None if missing else str(cell)
            for missing, cell in zip(np.isnan(values), values, strict=True)
        ]
        return np.array(cells, object)
    if pa.types.is_boolean(column.type):
        names = {True: "True", False: "False", None: None}
        return np.array([names[cell] for cell in column.to_pylist()], object)
    if pa.types.is_duration(column.type):  # where a cast to text gives a count of its unit
        column = pa.chunked_array(
            [pa.array([None if c is None else str(c) for c in column.to_pylist()], pa.string())]
        )
    found = _cast(column, pa.string())
    return pc.utf8_trim_whitespace(found).to_numpy()


def numbers(column: pa.ChunkedArray) -> np.ndarray:
    """Returns [N] float64, NaN where a cell is missing or no number; truth is none."""
    if pa.types.is_float64(column.type):
        return column.to_numpy()
    column = _decoded(column)
    if pa.types.is_boolean(column.type):
        return np.full(len(column), np.nan)
    if pa.types.is_string(column.type):
        with contextlib.suppress(pa.ArrowInvalid):
            return column.cast(pa.float64()).to_numpy()
        column = pc.utf8_trim_whitespace(column)
    return _cast(column, pa.float64()).to_numpy()


def binaries(column: pa.ChunkedArray) -> np.ndarray:
    """Returns `numbers`, and 1 and 0 for true and false."""
    values = numbers(column)
    if np.isfinite(values).all():
        return values
    words = [TRUTH.get((text or "").lower(), np.nan) for text in texts(column)]
    return np.where(np.isnan(values), words, values)


def are_empty(column: pa.ChunkedArray) -> np.ndarray:
    """Returns [N] bool, cells with nothing in them or a word for a missing value."""

    def is_empty(row: int, text: str | None) -> bool:
        return shown(column, row) == "nothing" if text is None else text.lower() in EMPTY

    return np.array([is_empty(row, text) for row, text in enumerate(texts(column))], bool)


def shown(column: pa.ChunkedArray, row: int) -> str:
    """Returns a cell as messages quote it, cut where it is long."""
    found = column.slice(row, 1)
    (text,) = texts(found)
    if text:
        return repr(text)[:60]
    cell = found[0].as_py()
    is_value = isinstance(cell, (str, float)) or cell is None
    return "nothing" if is_value else repr(cell)[:60]


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_string(kind):
        return column
    if pa.types.is_dictionary(kind):
        return _decoded(column.cast(kind.value_type))
    # A decimal is divided when it is cast to a number, which its digits in a CSV are not.
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_decimal(kind):
        return column.cast(pa.string())
    if (
        pa.types.is_binary(kind)  # as Spark writes texts
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
    ):
        return _cast(column, pa.string(), safe=True)
    return column


def _cast(column: pa.ChunkedArray, kind: pa.DataType, safe: bool = False) -> pa.ChunkedArray:
    """Returns the cells as `kind`, null where they cannot be cast; bytes need `safe` for that."""

    def cast_cell(cell: pa.Scalar) -> str | float | None:
        try:
            return cell.cast(kind, safe=safe).as_py()
        except pa.ArrowException:
            return None

    try:
        # An integer above 2^53 is rounded, as its digits in a CSV are.
        return column.cast(kind, safe=safe)
    except pa.ArrowException:
        return pa.chunked_array([pa.array([cast_cell(cell) for cell in column], kind)])
