"""List columns: as many numbers in each cell, as of an embedding, as columns of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from moa_jax.data import cells
from moa_jax.errors import UserError
from moa_jax.prepare.lists import LISTS


def widths(table: pa.Table) -> dict[str, int]:
    """Returns how many numbers the lists of a column have, of each column of such lists.

    >>> widths(pa.table({"x": [[0.5, 2.0], None], "moa": [["a"], ["b"]], "class": [[3], [1, 2]]}))
    {'x': 2}
    """
    found = {}
    for name in table.column_names:
        column = table.column(name)
        if any(is_kind(column.type) for is_kind in LISTS):
            kind = column.type.value_type
            lengths = pc.min_max(pc.list_value_length(column)).as_py()
            width = lengths["max"] or 0
            # Whole numbers, now more of them and now fewer, are labels.
            is_matrix = pa.types.is_integer(kind) and lengths["min"] == width > 1
            if width and (pa.types.is_floating(kind) or is_matrix):
                found[name] = width
    return {
        name: width
        for name, width in found.items()
        if {*table.column_names}.isdisjoint(_names(name, width))
    }


def apart(path: Path, table: pa.Table, widths: Mapping[str, int], first: int) -> pa.Table:
    """Returns rows with a column for each number of a list, numbered from 1, in the lists' place.

    Args:
      path: the file.
      table: consecutive rows of it.
      widths: how many numbers the lists of a column have.
      first: the number of rows before these.

    Raises:
      UserError: a list has more or fewer numbers.
    """
    if not widths:
        return table
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name)
        if name in widths:
            values = _matrix(path, name, column, widths[name], first)
            columns |= dict(zip(_names(name, widths[name]), values.T, strict=True))
        else:
            columns[name] = column
    return pa.table(columns)


def _names(name: str, width: int) -> list[str]:
    """Returns names as those of the columns of a matrix in AnnData's `obsm` are."""
    return [f"{name}_{number + 1}" for number in range(width)]


def _matrix(path: Path, name: str, column: pa.ChunkedArray, width: int, first: int) -> np.ndarray:
    """Returns the numbers, [N, width], NaN where there is no list or number."""
    lengths = pc.fill_null(pc.list_value_length(column), width).to_numpy()
    if len(wrong := np.flatnonzero(lengths != width)):
        row = int(wrong[0])
        raise UserError(
            f"{path}: column {name}, row {first + row + 1}: expected {width} numbers, found "
            f"{lengths[row]}: {cells.shown(column, row)}"
        )
    is_there = column.is_valid().to_numpy()
    values = pc.list_flatten(column.filter(pa.array(is_there))).to_numpy().reshape(-1, width)
    found = np.full((len(column), width), np.nan, np.result_type(values.dtype, np.float32))
    found[is_there] = values
    return found
