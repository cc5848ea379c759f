"""Lists of texts in the cells of a column: those of parquet, and written ones, as texts."""

from __future__ import annotations

import ast
import contextlib
import json

import numpy as np
import pyarrow as pa

from moa_jax.data import cells

# Texts, as those of pandas, and of AnnData, which makes categories of them.
_TEXTS = (
    pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_dictionary,
)  # fmt: skip


def texts(column: pa.ChunkedArray, separator: str) -> np.ndarray | None:
    """Returns the texts of each cell's list in one text; None of a column without lists.

    Lists are those of parquet, and what Python and JSON write of them into a table of texts.

    Args:
      column: [N] cells.
      separator: what stands between the texts of a list.

    Returns:
      [N] texts, None for a cell without a list.
    """
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        with contextlib.suppress(pa.ArrowException):
            return _joined(column.cast(pa.list_(pa.string())).to_pylist(), separator)
        return None
    if not any(is_kind(column.type) for is_kind in _TEXTS):
        return None
    given = [None if cells.is_missing(text) else text for text in cells.texts(column)]
    if not any(text is not None and text.startswith("[") for text in given):
        return None
    found = [None if text is None else _written(text) for text in given]
    is_other = [one is None and text is not None for text, one in zip(given, found, strict=True)]
    return None if any(is_other) or not any(found) else _joined(found, separator)


def _joined(lists: list[list[str | None] | None], separator: str) -> np.ndarray:
    found = [None if one is None else separator.join(filter(None, one)) for one in lists]
    return np.array(found, object)


def _written(text: str) -> list[str | None] | None:
    """Returns the texts of a list that Python or JSON wrote, None of another text.

    >>> [_written(text) for text in ("['a', 'b']", '["a"]', "['a' 'b']", "[a, b]", "a")]
    [['a', 'b'], ['a'], None, None, None]
    """
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    # Texts that nothing parts, as numpy writes them, are one to Python.
    if not isinstance(found, list) or text not in (repr(found), json.dumps(found)):
        return None
    return found if all(isinstance(one, str) for one in found) else None
