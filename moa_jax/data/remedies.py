"""Remedies: what to do about a cell that is not what its column expects, as messages end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from moa_jax.data import cells
from moa_jax.data.names import NUMBER, is_nearly, level_key

# A number and what follows it: a word after a space, or letters, such as h, µM or mg/ml.
_UNIT = re.compile(
    rf"(?P<number>{NUMBER.pattern})(?:\s+[^\s\d].*|%|[^\W\d_]+(?:/[^\W\d_]+)?)", re.ASCII
)
_GROUPED = re.compile(r"[+-]?\d{1,3}(?P<mark>[,'_\s])\d{3}(?:(?P=mark)\d{3})*(?P<rest>\.\d*)?")
_EXCEL = re.compile(r"#[A-Z0-9/_]+[!?]?", re.IGNORECASE)


def of_number(column: pa.ChunkedArray, row: int, is_trained: bool = False) -> str:
    """Returns what to do about a cell that is no finite number; empty where there is no telling.

    Args:
      column: [N] cells.
      row: the one.
      is_trained: whether the columns are those of trained models, which cannot be left out.
    """
    if found := of_kind(column, row):
        return found
    (text,) = cells.texts(column.slice(row, 1))
    text = text or ""
    bare = text.lstrip("+" + cells.DASHES)
    if not bare or bare.lower() in cells.MISSING:
        return "; a missing value: fill it in, or leave the row" + (
            " out" if is_trained else " or the column out"
        )
    if _EXCEL.fullmatch(text):
        return "; Excel's mark of an error: mend its formula, or fill it in"
    if text[0] in cells.DASHES[1:] and NUMBER.fullmatch(bare):
        return "; its minus sign is another character: write it as -"
    if text[0] in "'\"":
        return "; take the quotes off"
    if grouped := _GROUPED.fullmatch(text):
        if grouped["mark"] != "," or grouped["rest"] or text.count(",") > 1:
            return "; thousands are written without anything between them"
        if bare[0] != "0":
            return "; decimals are written with a point, thousands without a comma"
    if NUMBER.fullmatch(text.replace(".", "").replace(",", ".")) and "," in text:
        return "; decimals are written with a point" + (
            ", thousands without one" if "." in text else ""
        )
    if NUMBER.fullmatch(text):
        return "; it is greater than a double can be"
    return "; write it without its unit" if _UNIT.fullmatch(text) else ""


def of_level(column: pa.ChunkedArray, row: int, allowed: Sequence[Any]) -> str:
    """Returns what to do about a cell that is none of `allowed`, as `of_number` does."""
    if found := of_kind(column, row):
        return found
    (text,) = cells.texts(column.slice(row, 1))
    if cells.is_missing(text):
        return "; a missing value: fill it in, or leave the row out"
    if same := next((level for level in map(str, allowed) if _plain(level) == _plain(text)), None):
        return f"; write it as {same}"
    keys = [level_key(str(level)) for level in allowed]
    number = level_key(text)
    for level, key in zip(allowed, keys, strict=True):
        if isinstance(number, float) and isinstance(key, float) and is_nearly(number, key):
            return f"; write it as {level}"
    if (match := _UNIT.fullmatch(text)) and all(isinstance(key, float) for key in keys):
        is_same = level_key(match["number"]) in keys
        return "; write it without its unit" + ("" if is_same else ", in that of the others")
    return ""


def of_kind(column: pa.ChunkedArray, row: int) -> str:
    """Returns what to do about a cell of a kind that a table of texts has not; empty for others."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if column[row].as_py() is not None:
        if pa.types.is_temporal(kind):
            return "; a date or a span of time: write it as a number"
        if pa.types.is_nested(kind):
            return "; write one value in each cell"
    return ""


def _plain(text: str) -> str:
    """Returns a level as people write it alike: the letter u stands for the micro sign."""
    return re.sub(r"\s+", "", str(level_key(text))).casefold().replace("\u03bc", "u")
