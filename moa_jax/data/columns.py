"""Columns of a data file, CSV or parquet, read in parts; what is wrong with one is one line."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from absl import logging

from moa_jax.data import cells, formats, remedies
from moa_jax.data.names import CONTROL, alike, id_of, level_key, name_of, plain
from moa_jax.errors import UserError
from moa_jax.store import memory

# A column without a name as pandas reads it, and once more where it is written and read again; and
# the names that it gives its numbering of the rows.
UNNAMED = re.compile(r"Unnamed: ?\d+(\.\d+)*(_level_\d+)?")
NUMBERING = re.compile(r"index|level_\d+|__index_level_\d+__")
# Networks compute with numbers up to this: squares of greater ones, summed over the rows of a
# column, overflow float32.
LARGEST_NUMBER = 1e15
# An id stands in messages, tables and names of rows: longer ones are texts of another kind.
LONGEST_ID = 1000
# Columns of numbers that are looked at together, in memory one after another.
TOGETHER = 64


@dataclasses.dataclass(frozen=True)
class Columns:
    """Columns of consecutive rows of a file.

    Attributes:
      path: the file.
      ids: [N] `sig_id` as str, in an object array, a whole number without its `.0`; unique in the
        file.
      table: the N rows. Columns of CSV are text until they are asked for, so that an id 0012 is
        not 12 and a message shows what stands in the file.
      is_trained: whether the rows are for trained models, whose columns and levels are settled;
        messages then name no remedy that is refused.
    """

    path: Path
    ids: np.ndarray
    table: pa.Table
    is_trained: bool = False

    @property
    def names(self) -> list[str]:
        """All columns but `sig_id`, in the file's order."""
        return [name for name in self.table.column_names if name != "sig_id"]

    def without(self, names: Sequence[str]) -> Columns:
        """Returns the other columns."""
        return dataclasses.replace(self, table=self.table.drop_columns(list(names)))

    def called(self, names: Iterable[str]) -> Columns:
        """Returns the columns under these names, where their own are the same, see `name_of`."""
        given = {name_of(name): name for name in names}
        own = [given.get(name, name) for name in self.table.column_names]
        return dataclasses.replace(self, table=self.table.rename_columns(own))

    def expect(self, names: Sequence[str], remedy: str = "") -> None:
        """Raises a UserError unless the columns are `sig_id` and `names`, in any order.

        Args:
          names: the expected columns.
          remedy: what the message says about a column that is not among them.
        """
        missing, extra = _difference(self.names, names)
        if missing:
            close = difflib.get_close_matches(missing[0], extra, n=1)
            hint = f"; found {close[0]} instead?" if close else ""
            raise UserError(f"{self.path}: expected a column {_first(missing)}, found none{hint}")
        if extra:
            raise UserError(f"{self.path}: column {_first(extra)} is not expected{remedy}")

    def rows_of(
        self, ids: np.ndarray, owner: str, optional: np.ndarray | None = None
    ) -> np.ndarray:
        """Returns the row of each of `ids`, and -1 for one that has none and need not.

        Args:
          ids: [M] ids of the file `owner`.
          owner: its name.
          optional: [M] whether an id may have no row; None where each must.

        Raises:
          UserError: the rows are not those of `ids`.
        """
        required = ids if optional is None else ids[~optional]
        missing, _ = _difference(self.ids, required)
        if missing:
            near = next((i for i in self.ids if _bare(i) == _bare(missing[0])), None)
            counts = "Zeros at the beginning"
            if near is not None and plain(near) == plain(missing[0]):
                counts = "Case and spaces"
            hint = "" if near is None else f"; found {near} instead? {counts} count"
            raise UserError(
                f"{self.path}: expected sig_id {_first(missing)} of {owner}, found none{hint}"
            )
        _, extra = _difference(self.ids, ids)
        if extra:
            raise UserError(f"{self.path}: sig_id {_first(extra)} is not in {owner}")
        row = {sig_id: row for row, sig_id in enumerate(self.ids)}
        return np.array([row.get(sig_id, -1) for sig_id in ids])

    def texts(self, name: str) -> np.ndarray:
        """Returns names of compounds or groups, see `names.id_of`, [N] str in an object array.

        Raises:
          UserError: a cell is empty or marks a missing value, which unlike rows would share.
        """
        values = cells.texts(self.table.column(name))
        is_there = np.array([not cells.is_missing(text) for text in values])
        self.check(
            name,
            is_there,
            "a text",
            remedies.of_kind(self.table.column(name), int(np.argmin(is_there)))
            or "; a missing value: fill it in, with a name of its own for each unknown one; "
            "controls need no row",
        )
        found = np.array([id_of(text) for text in values], object)
        if several := alike(found):
            line = "%s: column %s: names differ by case or spaces alone, and count as several: %s"
            logging.warning(line, self.path, name, several[0])
        return found

    def numbers(
        self, names: Sequence[str], largest: float = np.inf, keeps_float32: bool = False
    ) -> np.ndarray:
        """Returns [N, names] float64, none of them farther from 0 than `largest`.

        Args:
          names: the columns.
          largest: the limit.
          keeps_float32: return float32 where all of the columns are.

        Raises:
          UserError: a cell is empty, not a number, NaN, infinite or greater.
        """
        kinds = {self.table.schema.field(name).type for name in names}
        dtype = np.float32 if keeps_float32 and kinds == {pa.float32()} else np.float64
        values = np.empty((len(self.ids), len(names)), dtype)
        for start in range(0, len(names), TOGETHER):
            some = names[start : start + TOGETHER]
            found = np.array([cells.numbers(self.table.column(name)) for name in some])
            self._check_within(some, found, largest)
            values[:, start : start + TOGETHER] = found.T
        return values

    def _check_within(self, names: Sequence[str], values: np.ndarray, largest: float) -> None:
        """Checks values [names, N], one column after another where one is wrong."""
        limit = min(largest, float(np.finfo(np.float64).max))
        # What is no number is on neither side of a limit.
        if not values.size or (-limit <= values.min() and values.max() <= limit):
            return
        for name, column in zip(names, values, strict=True):
            self._finite(name, column)
            expected = f"a number between {-largest:g} and {largest:g}"
            remedy = "; networks cannot compute with greater ones"
            self.check(name, np.abs(column) <= largest, expected, remedy)

    def binaries(
        self, names: Sequence[str], may_be_empty: bool = False, remedy: str = ""
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns cells that are 0 or 1, true or false, [N, names] uint8, and which are not empty.

        Args:
          names: the columns.
          may_be_empty: whether cells may be empty; they count as 0 then.
          remedy: what the message says about an empty cell.

        Raises:
          UserError: a cell is none of them.
        """
        values = np.empty((len(self.ids), len(names)), np.uint8)
        known = np.ones(values.shape, bool)
        for index, name in enumerate(names):
            column = cells.binaries(self.table.column(name))
            if not np.isfinite(column).all():
                empty = cells.are_empty(self.table.column(name))
                if may_be_empty:
                    column = np.where(empty, 0, column)
                else:
                    self.check(name, ~empty, "a finite number", remedy)
                column = self._finite(name, column, "0 or 1")
                known[:, index] = ~empty
            mark = "; a label that was not measured is an empty cell" * bool((column < 0).any())
            self.check(name, (column == 0) | (column == 1), "0 or 1", mark)
            values[:, index] = column
        return values, known

    def levels(
        self, name: str, allowed: Sequence[Any], field: str, encoding: str | None = None
    ) -> np.ndarray:
        """Returns [N] of `allowed` in an object array.

        Args:
          name: the column.
          allowed: the levels.
          field: the configuration's, which sets them.
          encoding: of a column that may have others: with `log10` numbers that are not negative,
            which stay as they are; with `none`, where nothing reads it, all count as the first.

        Raises:
          UserError: a cell is none of them.
        """
        level_of = {level_key(str(level)): level for level in allowed}
        column = self.table.column(name)
        texts = cells.texts(column)
        found = {text: level_of.get(level_key(text)) for text in set(texts) if text}
        for text in [text for text, level in found.items() if level is None and encoding]:
            number = level_key(text)
            if encoding == "none" and not cells.is_missing(text):
                found[text] = allowed[0]
            elif isinstance(number, float) and 0 <= number <= LARGEST_NUMBER:
                found[text] = number if isinstance(allowed[0], (int, float)) else text
        known = np.array([found.get(text) is not None for text in texts])
        if not known.all():
            remedy = remedies.of_level(column, int(np.argmin(known)), allowed)
            settled = "; the models know no others"
            expected = f"one of {', '.join(map(str, allowed))}"
            if encoding == "log10":
                expected, settled = f"{expected} or another number that is not negative", ""
            remedy = remedy or (settled if self.is_trained else f"; set {field} to change them")
            self.check(name, known, expected, remedy)
        return np.array([found[text] for text in texts], object)

    def check(self, name: str, fits: np.ndarray, expected: str, remedy: str = "") -> None:
        """Raises a UserError that shows the first cell of a column that does not fit."""
        if not fits.all():
            row = int(np.argmin(fits))
            found = cells.shown(self.table.column(name), row)
            raise UserError(
                f"{self.path}: column {name}, sig_id {self.ids[row]}: "
                f"expected {expected}, found {found}{remedy}"
            )

    def _finite(
        self, name: str, values: np.ndarray, expected: str = "a finite number"
    ) -> np.ndarray:
        finite = np.isfinite(values)
        if not finite.all():
            column, row = self.table.column(name), int(np.argmin(finite))
            if cells.shown(column, row) == "nothing":
                expected = "a finite number"
            self.check(name, finite, expected, remedies.of_number(column, row, self.is_trained))
        return values


def read(path: Path) -> Columns:
    """Returns a whole file.

    Raises:
      UserError: see `parts`; a column has the name that pandas gives one without.
    """
    found, held = [], 0
    for part in parts(path, rows=8192):
        found.append(part)
        memory.check_held(path, held := held + part.table.nbytes)
    check_numbering(found[0], found[0].names)
    return Columns(
        path,
        np.concatenate([part.ids for part in found]),
        pa.concat_tables([part.table for part in found]),
    )


def check_numbering(columns: Columns, names: Sequence[str]) -> None:
    """Raises a UserError if one of `names` is what pandas makes of a column without a name."""
    if name := next((name for name in names if UNNAMED.fullmatch(name)), None):
        position = columns.table.column_names.index(name) + 1
        raise formats.unnamed(columns.path, position, len(columns.table.column_names), name)
    if name := next((name for name in names if NUMBERING.fullmatch(name)), None):
        raise UserError(
            f"{columns.path}: column {name}, pandas' numbering of the rows, is not expected; write "
            "it with index=False, or take it out"
        )


def parts(path: Path, rows: int) -> Iterator[Columns]:
    """Yields a file's rows in order, `rows` at a time, fewer in the last part.

    Memory does not grow with the file, except for the ids, which are kept to find repeated ones.

    Raises:
      UserError: the file cannot be read, see `formats.tables`; it has no rows, or a `sig_id` is
        missing or stands in it more than once.
    """
    seen: set[str] = set()
    for table in _regrouped(formats.tables(path), rows):
        yield Columns(path, _ids(path, table, seen), table)
    if not seen:
        raise UserError(f"{path}: expected rows, found only a header")


def _regrouped(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    held = None
    for table in tables:
        held = table if held is None else pa.concat_tables([held, table])
        while held.num_rows >= rows:
            yield held.slice(0, rows)
            held = held.slice(rows)
    if held is not None and held.num_rows:
        yield held


def _ids(path: Path, table: pa.Table, seen: set[str]) -> np.ndarray:
    column = table.column("sig_id")
    ids = cells.texts(column)
    for row, sig_id in enumerate(ids):
        if cells.is_missing(sig_id):
            raise UserError(
                f"{path}: column sig_id, row {len(seen) + 1}: expected an id, "
                f"found {cells.shown(column, row)}; a missing value: fill it in"
            )
        if sig_id == "sig_id":
            raise UserError(
                f"{path}: row {len(seen) + 1} is the header once more, as of files that were "
                "joined; take it out"
            )
        if expected := expected_of_id(sig_id):
            raise UserError(
                f"{path}: column sig_id, row {len(seen) + 1}: expected an id {expected}, found "
                f"{cells.shown(column, row)}"
            )
        ids[row] = sig_id = id_of(sig_id)
        if sig_id in seen:
            raise UserError(f"{path}: sig_id {sig_id} stands more than once")
        seen.add(sig_id)
    return ids


def expected_of_id(text: str) -> str:
    """Returns what an id is expected to be that a text is not; empty for one that can be one."""
    if len(text) > LONGEST_ID:
        return f"of at most {LONGEST_ID} characters"
    return "without line breaks and control characters" if CONTROL.search(text) else ""


def _bare(sig_id: str) -> str:
    return plain(sig_id).lstrip("0")


def _difference(found: Iterable[str], expected: Iterable[str]) -> tuple[list[str], list[str]]:
    """Returns what is missing from `found` and what it has beside `expected`, in their orders."""
    found, expected = dict.fromkeys(found), dict.fromkeys(expected)
    return [n for n in expected if n not in found], [n for n in found if n not in expected]


def _first(names: Sequence[str]) -> str:
    first = " ".join(names[0].split())  # a cell may have a line break
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more"
