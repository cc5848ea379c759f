"""Side tables: files of more columns about wells, plates, compounds or genes, joined by a key."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from absl import logging

from moa_jax.data import cells
from moa_jax.data.names import NUMBER, id_of
from moa_jax.errors import UserError
from moa_jax.prepare import lists, row_names, sources, text_tables
from moa_jax.prepare.presets import WELL_IDS, same
from moa_jax.prepare.sources import Screen

# What the Connectivity Map's files call the ids of genes.
GENE_IDS = ("pr_gene_id", "gene_id", "pr_id", "id", "rid")
# A well of a plate of up to 1,536.
_WELL = re.compile(r"(?P<row>[A-P]|A[A-F])0*(?P<column>\d{1,2})")
# Cells by which rows are joined, None for one that is missing.
_Key = tuple[str | None, ...]


def joined(source: Screen, files: Sequence[str], separator: str) -> Screen:
    """Returns a source with the columns of files about its wells.

    Each is joined by its first column that the source has too and the others that tell rows apart
    which have the same there, or by the wells' ids. Of several rows of a key, as of a compound with
    several mechanisms, the different texts are joined.

    Raises:
      UserError: a file cannot be read, or has no column in common.
    """
    for file in files:
        source = _with(source, Path(file), separator)
    return source


def with_genes(source: Screen, file: str) -> Screen:
    """Returns a source whose features are described by a file.

    Raises:
      UserError: the source has no features of its own, or the file none of their ids.
    """
    path = Path(file)
    if source.features is None:
        raise UserError(f"--genes: {source.path}: expected a file with a matrix, such as .gctx")
    table = text_tables.read(path)
    key = next((name for name in GENE_IDS if name in table.column_names), table.column_names[0])
    names = cells.texts(table.column(key))
    row_of = {id_of(name): row for row, name in enumerate(names) if name}
    rows = [row_of.get(id_of(name)) for name in source.features]
    if all(row is None for row in rows):
        raise UserError(
            f"{path}: --genes: expected ids such as {source.features[0]} in column {key}, found "
            "none of them"
        )
    about = {}
    for name in table.column_names:
        found = cells.texts(table.column(name))
        about[name] = np.array(["" if row is None else found[row] or "" for row in rows], object)
    return dataclasses.replace(source, about={**source.about, **about})


def _with(source: Screen, path: Path, separator: str) -> Screen:
    table = _in_words_of(source, text_tables.read(path))
    shared = [name for name in table.column_names if name in source.columns]
    # A column of the table in which nothing stands may be filled by the file.
    own_cells = source.wells(shared)
    empty = {name for name in shared if sources.is_empty(own_cells.column(name))}
    common = [
        name
        for name in shared
        if name not in empty
        and not any(pa.types.is_nested(one.column(name).type) for one in (table, own_cells))
    ]
    if row_names.COLUMN in common:  # rows of other kinds have other names
        both = ((table, path), (own_cells, source.path))
        one, other_one = ({*_ids(of, row_names.COLUMN, at)} - {None} for of, at in both)
        if one.isdisjoint(other_one):
            common.remove(row_names.COLUMN)
    own = next((name for name in (*WELL_IDS, *row_names.COLUMNS) if name in source.columns), None)
    other = None if common or own is None else _of_ids(source, own, table, path)
    if not common and other is None:
        raise UserError(
            f"{path}: --metadata: expected a column that {source.path.name} has too, found "
            + ", ".join(table.column_names[:5])
        )
    own_table = own_cells if common else source.wells([str(own)])
    here, there = {}, {}
    for name in common or [str(other)]:
        own_ids = _ids(own_table, name if common else str(own), source.path)
        here[name], there[name] = _of_wells(own_ids, _ids(table, name, path))
    by = _telling(there, {*next(iter(here.values()))} - {None})
    own_by = by if common else [str(own)]
    keys = list(zip(*(here[name] for name in by), strict=True))
    rows_of: dict[_Key, list[int]] = {}
    wanted = {key for key in keys if key[0] is not None}
    others: dict[str, str] = {}  # keys as they are there, by what of them is alike
    for row, key in enumerate(zip(*(there[name] for name in by), strict=True)):
        if key in wanted:
            rows_of.setdefault(key, []).append(row)
        elif key[0] is not None:
            others.setdefault(_plain(key), _shown(key))
    shown = " + ".join(by)
    lacking = [key for key in keys if key[0] is not None and key not in rows_of]
    logging.info("%s: joined by %s, %d of %d rows found", path, shown,
                 sum(key in rows_of for key in keys), len(keys))  # fmt: skip
    alike = next((key for key in lacking if _plain(key) in others), None)
    if not rows_of:
        found = others.get(_plain(alike)) if alike else next(iter(others.values()), None)
        raise UserError(
            f"{path}: --metadata: expected values of {' + '.join(own_by)} such as "
            f"{_shown(lacking[0]) if lacking else 'none'} in column {shown}, found none of them"
            + (f", but {found}" if found else "")
        )
    if alike:
        logging.warning(
            "%s: nothing is found for %d rows; %s of %s may be %s there: write them alike",
            path, len(lacking), _shown(alike), shown, others[_plain(alike)],
        )  # fmt: skip
    more = {
        name: _column(values, keys, rows_of, separator)
        for name in table.column_names
        if (name not in source.columns or name in empty)
        and name != row_names.COLUMN
        and (values := _texts(table.column(name), separator)) is not None
    }
    for name, column in more.items():
        _tell_numbers(path, name, column, separator)
    if len(by) == 1 and all(_WELL.fullmatch(str(key[0])) for key in rows_of):
        _tell_wells(path, shown, table, {_shown(key): rows for key, rows in rows_of.items()}, more)
    return _widened(source, more)


def _in_words_of(source: Screen, table: pa.Table) -> pa.Table:
    """Returns a file's columns under the names of those that are the same.

    Where it shares one, or both have ids of wells, names are as they are.
    """
    theirs = {*table.column_names}
    has_ids = not theirs.isdisjoint(WELL_IDS) and not {*source.columns}.isdisjoint(WELL_IDS)
    if has_ids or not theirs.isdisjoint(source.columns):
        return table
    own = {same(name): name for name in reversed(source.columns)}
    names = [own.get(same(name), name) for name in table.column_names]
    return table.rename_columns(names) if len({*names}) == len(names) else table


def _of_ids(source: Screen, own: str, table: pa.Table, path: Path) -> str | None:
    """Returns the column of a file that has ids of the wells, by its name or by what is in it."""
    if named := next((name for name in WELL_IDS if name in table.column_names), None):
        return named
    wanted = {*_ids(source.wells([own]), own, source.path)} - {None}
    if all(NUMBER.fullmatch(str(one)) for one in wanted):  # doses and counts are numbers, too
        return None
    plain = (n for n in table.column_names if not pa.types.is_nested(table.column(n).type))
    return next((n for n in plain if not wanted.isdisjoint(_ids(table, n, path))), None)


def _telling(
    there: Mapping[str, Sequence[str | None]], wanted: Collection[str | None]
) -> list[str]:
    """Returns the first of some columns, and those that tell rows apart which have the same there.

    A plate has many wells, which are found by plate and well; a compound that has a row for each
    mechanism is found by its name alone.

    Args:
      there: ids of each row, by column.
      wanted: what a row that counts has one of in the first column.
    """
    first, *others = there
    by, rows = [first], [row for row, one in enumerate(there[first]) if one in wanted]
    for name in others:
        values: dict[_Key, str | None] = {}
        for row in rows:
            one = there[name][row]
            if values.setdefault(tuple(there[n][row] for n in by), one) != one:
                by.append(name)
                break
    return by


def _ids(table: pa.Table, name: str, path: Path) -> list[str | None]:
    """Returns the cells of a column as ids are read, None for a missing one."""
    texts = sources.texts(path, name, table.column(name))
    of = {text: None if cells.is_missing(text) else id_of(text) for text in {*texts}}
    return [of[text] for text in texts]


def _of_wells(*columns: list[str | None]) -> Sequence[list[str | None]]:
    """Returns cells of columns, those of names of wells without zeros: A1 and A01 are one.

    Nothing is changed where a cell is another name, or two of a column would be one.
    """
    of = {cell: _WELL.fullmatch(cell) for column in columns for cell in {*column} if cell}
    if not all(of.values()):
        return columns
    bare = {cell: f"{found['row']}{found['column']}" for cell, found in of.items() if found}
    if any(len({bare[c] for c in {*one} if c}) < len({*one} - {None}) for one in columns):
        return columns
    return [[bare[cell] if cell else None for cell in one] for one in columns]


def _plain(key: Sequence[str | None]) -> str:
    """Returns what keys have in common that differ by case or zeros alone, as A01 and a1 do."""
    return " ".join(re.sub("(?<![0-9])0+(?=.)", "", (text or "").casefold()) for text in key)


def _shown(key: Sequence[str | None]) -> str:
    return " + ".join(text or "nothing" for text in key)


def _texts(column: pa.ChunkedArray, separator: str) -> np.ndarray | None:
    """Returns a column as texts, lists of them with the separator between; None of other values."""
    if separator and (listed := lists.texts(column, separator)) is not None:
        return listed
    return None if pa.types.is_nested(column.type) else cells.texts(column)


def _column(
    values: np.ndarray,
    keys: Sequence[_Key],
    rows_of: Mapping[_Key, Sequence[int]],
    separator: str,
) -> np.ndarray:
    text_of = {}
    for key, rows in rows_of.items():
        found = dict.fromkeys(values[row] for row in rows if not cells.is_missing(values[row]))
        text_of[key] = separator.join(found) or None
    return np.array([text_of.get(key) for key in keys], object)


def _tell_numbers(path: Path, name: str, column: np.ndarray, separator: str) -> None:
    """Logs where a key has several numbers, which are no number when they are joined as labels."""
    cells_of = {text for text in {*column} if text is not None}
    parts = {text: text.split(separator) if separator else [text] for text in cells_of}
    several = {text for text, one in parts.items() if len(one) > 1}
    if several and all(NUMBER.fullmatch(part) for one in parts.values() for part in one):
        logging.warning(
            "%s: column %s: %d rows have several numbers, which count as one text, such as %s",
            path, name, sum(text in several for text in column),
            next(text for text in column if text in several),
        )  # fmt: skip


def _tell_wells(
    path: Path,
    by: str,
    table: pa.Table,
    rows_of: Mapping[str, Sequence[int]],
    names: Collection[str],
) -> None:
    """Logs a well with several rows, which may be those of wells on different plates."""
    for well, rows in rows_of.items():
        if len(rows) < 2:
            continue
        for name in names:
            found = dict.fromkeys(filter(None, cells.texts(table.column(name).take(rows))))
            if len(found) > 1:
                logging.warning(
                    "%s: %s of %s has %d rows, whose texts are joined, such as %s in %s; if they "
                    "are of different plates, a column in common has to tell these apart",
                    path, well, by, len(rows), " and ".join([*found][:2]), name,
                )  # fmt: skip
                return


def _widened(source: Screen, more: Mapping[str, np.ndarray]) -> Screen:
    def wells(names: Sequence[str]) -> pa.Table:
        own = [name for name in names if name not in more]
        table = source.wells(own) if own else pa.table({})
        columns = {name: table.column(name) for name in own}
        for name in names:
            if name in more:
                columns[name] = pa.chunked_array([pa.array(more[name], pa.string())])
        return pa.table({name: columns[name] for name in names})

    return dataclasses.replace(
        source, columns=tuple(dict.fromkeys((*source.columns, *more))), wells=wells
    )
