"""Layout: the files of a data folder, from a source's rows, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from absl import logging

from moa_jax.data.columns import NUMBERING, UNNAMED
from moa_jax.data.dataset import ORIGINAL_LEVELS, TREATMENT
from moa_jax.data.names import CONTROL, name_of
from moa_jax.errors import UserError
from moa_jax.prepare import record
from moa_jax.prepare.sources import Screen
from moa_jax.prepare.wells import Wells
from moa_jax.store import files, lock


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yields a folder beside `out`, renamed to it when the block succeeds, removed otherwise.

    Raises:
      UserError: `out` is there and not an empty folder, or cannot be written.
    """
    check_new(out)
    out = out.absolute()
    _remove_leftovers(out)
    temporary = out.with_name(f".{out.name}.tmp-{os.getpid()}")
    held = None
    try:
        with files.writing(out):
            temporary.mkdir(parents=True)
            with contextlib.suppress(UserError):  # of a file system without locks
                held = lock.hold(temporary)
            yield temporary
            (temporary / lock.NAME).unlink(missing_ok=True)
            os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if held is not None:
            held.close()


def _remove_leftovers(out: Path) -> None:
    """Removes what killed preparations of the same folder left beside it.

    One that goes on, on whatever machine, holds the lock of its folder.
    """
    begin = f".{out.name}.tmp-"
    try:
        found = [path for path in out.parent.iterdir() if path.name.startswith(begin)]
    except OSError:  # there is no such folder yet, or what is wrong with it is told later
        return
    for path in found:
        # Only what a preparation made: a folder of such a name with a lock.
        if path.is_symlink() or not path.name.removeprefix(begin).isdecimal():
            continue
        if not (path / lock.NAME).is_file():
            continue
        with contextlib.suppress(UserError):
            held = lock.hold(path)
            shutil.rmtree(path, ignore_errors=True)
            held.close()


def check_new(out: Path) -> None:
    """Raises a UserError unless `out` is not there, or an empty folder."""
    found = "a link" if os.path.islink(out) else files.kind(out)
    if found == "a folder" and out.samefile("."):  # another would take its place
        found = "the one that you are in"
    elif found == "a folder":
        try:
            found = "a folder with files" if any(out.iterdir()) else "none"
        except OSError as error:
            found = f"one that cannot be read: {error.strerror}"
    if found != "none":
        raise UserError(f"--out: {out}: expected a new or an empty folder, found {found}")


def check_names(table: Path, flag: str, names: Iterable[str]) -> None:
    """Raises a UserError for the first name of a column that no run could read.

    Args:
      table: the file that has them.
      flag: what names them.
      names: the columns of one file of the folder, beside `sig_id`.
    """
    seen: set[str] = set()
    for name in names:
        problem = ""
        if CONTROL.search(name):
            problem = "has a line break or another control character"
        elif UNNAMED.fullmatch(name) or NUMBERING.fullmatch(name):
            problem = "is how pandas calls its numbering of the rows"
        elif name_of(name) == "sig_id":
            problem = "is what the layout calls the ids of wells"
        elif name_of(name) in seen:
            problem = "is another one, but for spaces around it"
        if problem:
            raise UserError(f"{table}: {flag}: {name!r:.60} {problem}; name it otherwise")
        seen.add(name_of(name))


def profiles(
    source: Screen,
    wells: Wells,
    columns: Mapping[str, str],
    described: Mapping[str, Any],
    chosen: Sequence[np.ndarray],
    compound: str | None = None,
) -> Iterator[list[pa.Table]]:
    """Yields parts of the features tables of some rows, in the source's order.

    The log tells where many numbers are missing, at the end.

    Args:
      source: the table.
      wells: its N rows.
      columns: the source's name of each feature, by the layout's.
      described: what `columns.json` holds.
      chosen: the rows of each table, [N] bool.
      compound: name of a column of the wells' compounds; None for none.
    """
    medians = record.medians(described)
    fill = np.array(list(medians.values()))
    levels = {name: one["levels"][0] for name, one in described["treatment"].items()}
    start, missing, wanted = 0, np.zeros(len(medians), int), np.logical_or.reduce(chosen)
    for block in source.values([columns[name] for name in medians]):
        stop = start + len(block)
        missing += np.isnan(block[wanted[start:stop]]).sum(0)
        block = np.where(np.isnan(block), fill.astype(block.dtype), block)
        parts = []
        for mask in chosen:
            mine = start + np.flatnonzero(mask[start:stop])
            table = _table(wells, mine, block[mine - start], list(medians), levels, described)
            if compound is not None and wells.compound is not None:
                table = table.append_column(compound, texts(wells.compound[mine]))
            parts.append(table)
        yield parts
        start = stop
    lacking = np.flatnonzero(missing > record.MOST_MISSING * wanted.sum())
    if len(lacking):
        logging.warning(
            "%s: %d columns lack numbers in more than %g %% of the rows, such as %s in %d of %d; "
            "the training rows' medians stand for them",
            source.path, len(lacking), 100 * record.MOST_MISSING, list(medians)[lacking[0]],
            missing[lacking[0]], wanted.sum(),
        )  # fmt: skip


def _table(
    wells: Wells,
    rows: np.ndarray,
    values: np.ndarray,
    names: Sequence[str],
    levels: Mapping[str, str],
    described: Mapping[str, Any],
) -> pa.Table:
    table = {"sig_id": texts(wells.ids[rows])}
    if described["roles"]["control_column"]:
        kinds = np.array([ORIGINAL_LEVELS.treated, ORIGINAL_LEVELS.control], object)
        table["cp_type"] = texts(kinds[wells.is_control[rows].astype(int)])
    for name in TREATMENT[1:]:
        if name in levels:
            found = getattr(wells, name)[rows]
            table[name] = texts([levels[name] if cell is None else cell for cell in found])
    for name, column in zip(names, np.ascontiguousarray(values.T), strict=True):
        table[name] = pa.array(column)
    return pa.table(table)


@contextlib.contextmanager
def writing(paths: Sequence[Path]) -> Iterator[Callable[[Sequence[pa.Table]], None]]:
    """Yields what appends a table to each of some new .csv or .parquet files.

    Tables of a file have one schema.
    """
    opened: list[Any] = []

    def append(parts: Sequence[pa.Table]) -> None:
        for number, (path, table) in enumerate(zip(paths, parts, strict=True)):
            with files.writing(path):
                if number == len(opened):
                    opened.append(_writer(path, table))
                opened[number].write_table(table)

    try:
        yield append
    finally:
        for path, writer in zip(paths, opened, strict=False):
            with files.writing(path):
                writer.close()


def _writer(path: Path, table: pa.Table) -> Any:
    if path.suffix != ".parquet":
        return pa.csv.CSVWriter(path, table.schema)
    words = [name for name in TREATMENT if name in table.column_names]
    return pa.parquet.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=words)


def write_columns(path: Path, columns: Mapping[str, Any]) -> None:
    """Writes a small .csv file of columns by name."""
    with writing([path]) as append:
        append([pa.table(dict(columns))])


def write_targets(path: Path, ids: np.ndarray, names: Sequence[str], values: np.ndarray) -> None:
    """Writes targets, [n, L] 0 or 1, an empty cell for -1."""
    columns = {
        name: pa.array(values[:, index], mask=values[:, index] < 0)
        for index, name in enumerate(names)
    }
    write_columns(path, {"sig_id": texts(ids), **columns})


def texts(values: Sequence[str] | np.ndarray) -> pa.Array:
    """Returns texts as a column of Arrow."""
    return pa.array(list(values), pa.string())
