"""Labels: texts of several, classes, or columns of 0 and 1 -> which of them every well has."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from absl import logging

from moa_jax.data import cells
from moa_jax.data.names import level_key, name_of, on_one_line
from moa_jax.errors import UserError
from moa_jax.prepare import lists, sources
from moa_jax.prepare.sources import Screen

# Words for a mechanism that nobody knows, beside the marks of a missing value.
UNKNOWN = frozenset(
    ("unknown", "unannotated", "unclassified", "undetermined", "unspecified", "n.d.",
     "not known", "not annotated", "not determined", "not available")
)  # fmt: skip
_WHOLE = re.compile(r"\d+\.0+")
_BRACKETED = re.compile(r"\[.*\]|\{.*\}|\(.*,.*\)")
# What parts the labels of a cell that holds a list: no text has it.
_BETWEEN = "\x1f"
BINARY = frozenset(("0", "1", "0.0", "1.0", "true", "false"))


@dataclasses.dataclass(frozen=True)
class Labels:
    """What wells are annotated with.

    Attributes:
      names: L names.
      values: [N, L] int8, 0 or 1, and -1 where a column of 0 and 1 has nothing.
      known: [N] bool, whether a well has an annotation at all.
    """

    names: tuple[str, ...]
    values: np.ndarray
    known: np.ndarray


def read(source: Screen, columns: Sequence[str], separator: str) -> Labels:
    """Returns the labels of a source's rows.

    One column holds texts, labels of a row with a separator between them, lists of labels, or
    classes; several hold 0 and 1, as may one. A row without any is not annotated.

    Raises:
      UserError: one of several columns has other values than 0 and 1; no row is annotated.
    """
    table = source.wells(columns)
    listed = lists.texts(table.column(columns[0]), _BETWEEN) if len(columns) == 1 else None
    if listed is None:
        texts = [sources.texts(source.path, name, table.column(name)) for name in columns]
        binary = [_is_binary(column) for column in texts]
    else:
        texts, binary, separator = [listed], [False], _BETWEEN
    if len(columns) > 1 and not all(binary):
        name, column = next((n, c) for n, c, b in zip(columns, texts, binary, strict=True) if not b)
        row = next(
            r for r, t in enumerate(column) if not cells.is_missing(t) and not _is_binary([t])
        )
        raise UserError(
            f"{source.path}: --labels: column {name}, row {row + 1}: expected 0 or 1 in each of "
            f"{len(columns)} columns, found {column[row]!r}; texts stand in one column, a label "
            "that was not measured is an empty cell"
        )
    if all(binary):
        values = np.stack([_zeros_and_ones(table.column(name)) for name in columns], 1)
        names, known = tuple(columns), np.asarray((values >= 0).any(1))
    else:
        if listed is None:
            _check_classes(source, columns[0], texts[0])
        names, values, known = _of_texts(texts[0], separator)
        if listed is None:
            _tell_separator(source, columns[0], texts[0], names, separator)
    if not known.any() or not names:
        raise UserError(f"{source.path}: --labels: no row of {', '.join(columns[:3])} has one")
    logging.info("%d labels; %d rows have an annotation, %d none", len(names), known.sum(),
                 (~known).sum())  # fmt: skip
    return Labels(names, values, known)


def _check_classes(source: Screen, column: str, texts: np.ndarray) -> None:
    """Checks that a column of numbers holds classes, of which none is a fraction.

    The log tells where one number of three may stand for what was not measured.
    """
    numbers = {level_key(text) for text in {*texts} if not cells.is_missing(text)}
    if not all(isinstance(number, float) for number in numbers):
        return
    if any(float(number) % 1 for number in numbers):
        row = next(
            r for r, t in enumerate(texts) if not cells.is_missing(t) and float(level_key(t)) % 1
        )
        raise UserError(
            f"{source.path}: --labels: column {column}, row {row + 1}: expected a class, found the "
            f"number {texts[row]!r}; make classes of what was measured, such as 0 and 1 by a limit"
        )
    if numbers == {-1.0, 0.0, 1.0}:
        logging.warning(
            "%s: column %s: -1, 0 and 1 are read as three classes; where -1 is a label that was "
            "not measured, leave its cells empty", source.path, column,
        )  # fmt: skip


def _tell_separator(
    source: Screen, column: str, texts: np.ndarray, names: Sequence[str], separator: str
) -> None:
    """Logs where what may be several labels was read as one, or a separator parts nothing.

    Of marks that names of labels have, too, those are told between whole labels.
    """
    known = {*names}
    if separator not in ("", "|") and not any(separator in text for text in texts if text):
        logging.warning("%s: column %s: no cell has --label_separator=%r", source.path, column,
                        separator)  # fmt: skip
    if bracketed := [name for name in names if _BRACKETED.fullmatch(name)]:
        logging.warning(
            "%s: column %s: %d labels in brackets, such as %s, are read as one each; write what is "
            "a list as one text with %s between its labels",
            source.path, column, len(bracketed), bracketed[0], separator or "|",
        )  # fmt: skip
    for other in ("|", ";", ",", "/", "+", "&"):
        holding = [name for name in names if other in name]
        if other not in "|;":
            holding = [name for name in holding if {*map(str.strip, name.split(other))} <= known]
        if separator != other and holding:
            logging.warning(
                "%s: column %s: %d labels hold %r, such as %s, and are read as one each; "
                "--label_separator='%s' parts them",
                source.path, column, len(holding), other, holding[0], other,
            )  # fmt: skip


def counts(labels: Labels, rows: np.ndarray, compound: np.ndarray | None) -> list[int]:
    """Returns the number of compounds with each label among some rows; of rows without compounds.

    Args:
      labels: those of all N rows.
      rows: [N] bool, which rows count.
      compound: [N] names, or None.
    """
    found = []
    for index in range(len(labels.names)):
        having = np.flatnonzero(rows & (labels.values[:, index] == 1))
        found.append(len(having if compound is None else {compound[r] or r for r in having}))
    return found


def _of_texts(column: np.ndarray, separator: str) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    parts = [_parts(text, separator) for text in column]
    present = {name for found in parts for name in found}
    if all(_WHOLE.fullmatch(name) for name in present):  # classes that a missing one made 1.0
        parts = [[name.partition(".")[0] for name in found] for found in parts]
    names = tuple(sorted({name for found in parts for name in found}))
    place = {name: index for index, name in enumerate(names)}
    values = np.zeros((len(parts), len(names)), np.int8)
    for row, found in enumerate(parts):
        values[row, [place[name] for name in found]] = 1
    return names, values, np.array([bool(found) for found in parts])


def _parts(text: str | None, separator: str) -> list[str]:
    if text is None or cells.is_missing(text):
        return []
    parts = text.split(separator) if separator else [text]
    found = [on_one_line(name_of(part)) for part in parts]
    # Brackets and quotes with nothing in them are what is written of an empty list or text.
    named = [part for part in found if part.strip("[](){}\"' ")]
    return [p for p in named if not cells.is_missing(p) and p.lower() not in UNKNOWN]


def _zeros_and_ones(column: pa.ChunkedArray) -> np.ndarray:
    values = cells.binaries(column)
    return np.where((values == 0) | (values == 1), values, -1).astype(np.int8)


def _is_binary(column: Iterable[str | None]) -> bool:
    found = {text.lower() for text in column if text is not None and not cells.is_missing(text)}
    return bool(found) and found <= BINARY
