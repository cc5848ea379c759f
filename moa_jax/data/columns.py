"""Columns of a data file, CSV or parquet, read in parts; what is wrong with one is one line."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import difflib
import gzip
import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from moa_jax.errors import UserError

SUFFIXES = (".csv", ".csv.gz", ".csv.zip", ".parquet")
# Bytes of CSV that are parsed together, and of one parquet column that are read together.
CSV_BLOCK = 1 << 23
PARQUET_BUFFER = 1 << 16
# Bytes of a file as they are unpacked, which can be looked at before they are read.
Opened = gzip.GzipFile | zipfile.ZipExtFile | io.BufferedReader


@dataclasses.dataclass(frozen=True)
class Columns:
    """Columns of consecutive rows of a file.

    Attributes:
      path: the file.
      ids: [N] `sig_id` as str, in an object array; unique in the file.
      table: the N rows. Columns of CSV are text until `numbers` parses them, so that an id 0012
        is not 12, True is not 1 and a message shows what stands in the file.
    """

    path: Path
    ids: np.ndarray
    table: pa.Table

    @property
    def names(self) -> list[str]:
        """All columns but `sig_id`, in the file's order."""
        return [name for name in self.table.column_names if name != "sig_id"]

    def expect(self, names: Sequence[str]) -> None:
        """Raises a UserError unless the columns are `sig_id` and `names`, in any order."""
        missing, extra = _difference(self.names, names)
        if missing:
            close = difflib.get_close_matches(missing[0], extra, n=1)
            hint = f"; found {close[0]} instead?" if close else ""
            raise UserError(f"{self.path}: expected a column {_first(missing)}, found none{hint}")
        if extra:
            raise UserError(f"{self.path}: column {_first(extra)} is not expected")

    def rows_of(self, ids: np.ndarray, owner: str) -> np.ndarray:
        """Returns the row of each of `ids`.

        Raises:
          UserError: the rows are not those of `ids`, which are the ids of the file `owner`.
        """
        missing, extra = _difference(self.ids, ids)
        if missing:
            raise UserError(
                f"{self.path}: expected sig_id {_first(missing)} of {owner}, found none"
            )
        if extra:
            raise UserError(f"{self.path}: sig_id {_first(extra)} is not in {owner}")
        row = {sig_id: row for row, sig_id in enumerate(self.ids)}
        return np.array([row[sig_id] for sig_id in ids])

    def texts(self, name: str) -> np.ndarray:
        """Returns [N] str in an object array.

        Raises:
          UserError: a cell is empty.
        """
        values = _cast(self.table.column(name), "string")
        self.check(name, values.astype(bool), "a text")
        return values

    def numbers(self, names: Sequence[str]) -> np.ndarray:
        """Returns [N, names] float64.

        Raises:
          UserError: a cell is empty, not a number, NaN or infinite.
        """
        values = np.empty((len(self.ids), len(names)))
        for index, name in enumerate(names):
            column = _cast(self.table.column(name), "double")
            self.check(name, np.isfinite(column), "a finite number")
            values[:, index] = column
        return values

    def levels(self, name: str, allowed: Sequence[str | int], field: str) -> np.ndarray:
        """Returns [N] str in an object array, or float64 where the levels are numbers.

        Raises:
          UserError: a cell is none of `allowed`, which the configuration's `field` sets.
        """
        text = any(isinstance(level, str) for level in allowed)
        values = _cast(self.table.column(name), "string" if text else "double")
        self.check(
            name,
            np.isin(values, allowed),
            f"one of {', '.join(map(str, allowed))}",
            f"; set {field} to change them",
        )
        return values

    def check(self, name: str, fits: np.ndarray, expected: str, remedy: str = "") -> None:
        """Raises a UserError that shows the first cell of a column that does not fit."""
        if not fits.all():
            row = int(np.argmin(fits))
            cell = self.table.column(name)[row].as_py()
            found = "nothing" if cell is None or cell == "" else repr(cell)[:60]
            raise UserError(
                f"{self.path}: column {name}, sig_id {self.ids[row]}: "
                f"expected {expected}, found {found}{remedy}"
            )


def find(folder: Path, stem: str) -> Path | None:
    """Returns the file `stem` of a folder, whatever its suffix, or None.

    Raises:
      UserError: there are several.
    """
    found = [path for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").exists()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise UserError(f"{folder}: expected one file {stem}, found {names}")
    return found[0] if found else None


def read(path: Path) -> Columns:
    """Returns a whole file.

    Raises:
      UserError: see `parts`.
    """
    found = list(parts(path, rows=8192))
    return Columns(
        path,
        np.concatenate([part.ids for part in found]),
        pa.concat_tables([part.table for part in found]),
    )


def parts(path: Path, rows: int) -> Iterator[Columns]:
    """Yields a file's rows in order, `rows` at a time, fewer in the last part.

    Memory does not grow with the file, except for the ids, which are kept to find repeated ones.

    Raises:
      UserError: the file is missing, empty, damaged, not delimited by commas or not UTF-8, has no
        rows, or a column or a `sig_id` stands in it more than once.
    """
    if path.is_dir():
        raise UserError(f"{path}: expected a file, found a folder")
    if not path.exists():
        raise UserError(f"{path}: expected a file, found none")
    if not path.name.endswith(SUFFIXES):
        raise UserError(f"{path}: expected one of {', '.join(SUFFIXES)}, found another suffix")
    tables = _parquet(path) if path.suffix == ".parquet" else _csv(path)
    seen: set[str] = set()
    for table in _regrouped(tables, rows):
        yield Columns(path, _ids(path, table, seen), table)
    if not seen:
        raise UserError(f"{path}: expected rows, found only a header")


def _csv(path: Path) -> Iterator[pa.Table]:
    with _reading(path, "CSV in UTF-8"), _opened(path) as opened:
        names = next(csv.reader([opened.readline().decode("utf-8-sig")]), [])
        _check_header(path, names)
        if not opened.peek(1):
            return
        with pa.csv.open_csv(
            opened,
            pa.csv.ReadOptions(column_names=names, block_size=CSV_BLOCK),
            convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(names, "string")),
        ) as batches:
            for batch in batches:
                yield pa.Table.from_batches([batch])


def _parquet(path: Path) -> Iterator[pa.Table]:
    # Only the two options together keep pyarrow from holding a whole row group.
    buffering = {"buffer_size": PARQUET_BUFFER, "pre_buffer": False}
    with _reading(path, "parquet"), pa.parquet.ParquetFile(path, **buffering) as opened:
        # pandas writes the numbering of rows that were sorted or selected as a column.
        names = [n for n in opened.schema_arrow.names if not n.startswith("__index_level_")]
        _check_header(path, names)
        for batch in opened.iter_batches(batch_size=8192, columns=names):
            yield pa.Table.from_batches([batch])


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Opened]:
    if path.suffix == ".gz":
        with gzip.open(path) as unpacked:
            yield unpacked
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(names) != 1:
                raise UserError(f"{path}: expected one file within, found {len(names)}")
            with archive.open(names[0]) as member:
                yield cast(zipfile.ZipExtFile, member)  # declared as less than it is
    else:
        with open(path, "rb") as plain:
            yield plain


@contextlib.contextmanager
def _reading(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except (
        OSError,
        EOFError,
        UnicodeDecodeError,
        RuntimeError,  # an encrypted archive
        csv.Error,
        zlib.error,
        zipfile.BadZipFile,
        pa.ArrowException,
    ) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read as {kind}: {reason}") from None


def _regrouped(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    held = None
    for table in tables:
        held = table if held is None else pa.concat_tables([held, table])
        while held.num_rows >= rows:
            yield held.slice(0, rows)
            held = held.slice(rows)
    if held is not None and held.num_rows:
        yield held


def _check_header(path: Path, names: Sequence[str]) -> None:
    if not names:
        raise UserError(f"{path}: expected a table, found an empty file")
    if repeated := next((n for n in dict.fromkeys(names) if names.count(n) > 1), None):
        raise UserError(f"{path}: column {repeated} stands more than once")
    if "sig_id" not in names:
        for delimiter in (";", "\t", "|"):
            if delimiter in names[0]:
                raise UserError(
                    f"{path}: expected columns delimited by commas, "
                    f"found {delimiter!r} in {names[0][:40]!r}"
                )
        raise UserError(f"{path}: expected a column sig_id, found {', '.join(names[:3])}")


def _ids(path: Path, table: pa.Table, seen: set[str]) -> np.ndarray:
    ids = _cast(table.column("sig_id"), "string")
    for sig_id in ids:
        if not sig_id:
            raise UserError(
                f"{path}: column sig_id, row {len(seen) + 1}: expected an id, found nothing"
            )
        if sig_id in seen:
            raise UserError(f"{path}: sig_id {sig_id} stands more than once")
        seen.add(sig_id)
    return ids


def _cast(column: pa.ChunkedArray, kind: str) -> np.ndarray:
    """Returns the cells as `kind`; None or NaN for those that are empty or cannot be cast."""

    def cast_cell(cell: pa.Scalar) -> str | float | None:
        try:
            return cell.cast(kind).as_py()
        except pa.ArrowException:
            return None

    try:
        cells = column.cast(kind)
    except pa.ArrowException:
        cells = pa.chunked_array([pa.array([cast_cell(cell) for cell in column], kind)])
    return cells.to_numpy()


def _difference(found: Iterable[str], expected: Iterable[str]) -> tuple[list[str], list[str]]:
    """Returns what is missing from `found` and what it has beside `expected`, in their orders."""
    found, expected = dict.fromkeys(found), dict.fromkeys(expected)
    return [n for n in expected if n not in found], [n for n in found if n not in expected]


def _first(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
