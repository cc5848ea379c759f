"""Lists of texts in the cells of a column: those of parquet, and written ones, as texts."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import warnings
from typing import Any

import numpy as np
import pyarrow as pa

from moa_jax.data import cells

# Texts, as those of pandas, and of AnnData, which makes categories of them.
_TEXTS = (
    pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_dictionary,
)  # fmt: skip


LISTS = (
    pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view,
)  # fmt: skip
# Of numpy's arrays of texts, between which it writes spaces.
_QUOTED = "'([^']*)'|\"([^\"]*)\""
_ONE = f"(?:{_QUOTED}|None|nan)"
_OF_NUMPY = re.compile(rf"\[{_ONE}(?:\s+{_ONE})*\]")


def texts(column: pa.ChunkedArray, separator: str) -> np.ndarray | None:
    """Returns the texts of each cell's list in one text; None of a column without lists.

    Lists are those of parquet, and what Python, JSON and numpy write of them into a table of texts,
    as of tuples and sets.

    Args:
      column: [N] cells.
      separator: what stands between the texts of a list.

    Returns:
      [N] texts, None for a cell without a list.
    """
    if any(is_kind(column.type) for is_kind in LISTS):
        with contextlib.suppress(pa.ArrowException):
            return _joined(column.cast(pa.list_(pa.string())).to_pylist(), separator)
        return None
    if not any(is_kind(column.type) for is_kind in _TEXTS):
        return None
    given = [None if cells.is_missing(text) else text for text in cells.texts(column)]
    if not any(text is not None and text.startswith(("[", "(", "{")) for text in given):
        return None
    with warnings.catch_warnings():  # of Python, about what would be escapes in its own texts
        warnings.simplefilter("ignore")
        found = [None if text is None else _written(text) for text in given]
    is_other = [one is None and text is not None for text, one in zip(given, found, strict=True)]
    return None if any(is_other) or not any(found) else _joined(found, separator)


def _joined(lists: list[list[str | None] | None], separator: str) -> np.ndarray:
    found = [None if one is None else separator.join(filter(None, one)) for one in lists]
    return np.array(found, object)


def _written(text: str) -> list[str | None] | None:
    """Returns the texts of a list, tuple or set as Python, JSON or numpy write it, else None.

    >>> [_written(text) for text in ("['a', 'b']", '["a"]', "('a',)", "['a' 'b']", "{'a' 'b'}")]
    [['a', 'b'], ['a'], ['a'], ['a', 'b'], None]
    """
    if text[:1] + text[-1:] not in ("[]", "()", "{}"):
        return None
    if _OF_NUMPY.fullmatch(text):
        return [one or other or None for one, other in re.findall(_QUOTED, text)]
    try:
        node = ast.parse(text, mode="eval").body
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(node, ast.List | ast.Tuple | ast.Set):
        return None
    found: list[Any] = [one.value for one in node.elts if isinstance(one, ast.Constant)]
    shown = repr(tuple(found)) if isinstance(node, ast.Tuple) else repr(found)
    if isinstance(node, ast.Set):
        shown = f"{{{shown[1:-1]}}}"
    # Texts that nothing parts are one to Python.
    if text not in (shown, json.dumps(found)):
        return None
    return found if all(one is None or isinstance(one, str) for one in found) else None
