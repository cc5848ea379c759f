"""Side tables: files of more columns about wells, plates, compounds or genes, joined by a key."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from absl import logging

from moa_jax.data import cells, formats
from moa_jax.errors import UserError, joined_lines
from moa_jax.prepare.presets import WELL_IDS
from moa_jax.prepare.sources import Screen

# What the Connectivity Map's files call the ids of genes.
GENE_IDS = ("pr_gene_id", "gene_id", "pr_id", "id", "rid")


def joined(source: Screen, files: Sequence[str], separator: str) -> Screen:
    """Returns a source with the columns of files about its wells.

    Each is joined by its first column that the source has too, or by the wells' ids. Of several
    rows of a key, as of a compound with several mechanisms, the different texts are joined.

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
    table = _read(path)
    key = next((name for name in GENE_IDS if name in table.column_names), table.column_names[0])
    row_of = {name: row for row, name in enumerate(cells.texts(table.column(key)))}
    rows = [row_of.get(name) for name in source.features]
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
    table = _read(path)
    common = next((name for name in table.column_names if name in source.columns), None)
    own = next((name for name in WELL_IDS if name in source.columns), None)
    key = common or next((name for name in WELL_IDS if name in table.column_names), None)
    here = common or own
    if key is None or here is None:
        raise UserError(
            f"{path}: --metadata: expected a column that {source.path.name} has too, found "
            + ", ".join(table.column_names[:5])
        )
    keys = cells.texts(source.wells([here]).column(here))
    rows_of: dict[str, list[int]] = {}
    wanted = {*keys} - {None}
    for row, name in enumerate(cells.texts(table.column(key))):
        if name in wanted:
            rows_of.setdefault(name, []).append(row)
    logging.info("%s: joined by %s, %d of %d rows found", path, key,
                 sum(name in rows_of for name in keys), len(keys))  # fmt: skip
    if not rows_of:
        raise UserError(
            f"{path}: --metadata: expected values of {here} such as {keys[0]} in column {key}, "
            "found none of them"
        )
    more = {
        name: _column(cells.texts(table.column(name)), keys, rows_of, separator)
        for name in table.column_names
        if name not in source.columns
    }
    return _widened(source, more)


def _column(
    values: np.ndarray, keys: np.ndarray, rows_of: Mapping[str, Sequence[int]], separator: str
) -> np.ndarray:
    text_of = {}
    for key, rows in rows_of.items():
        found = dict.fromkeys(values[row] for row in rows if not cells.is_missing(values[row]))
        text_of[key] = separator.join(found) or None
    return np.array([text_of.get(key) for key in keys], object)


def _widened(source: Screen, more: Mapping[str, np.ndarray]) -> Screen:
    def wells(names: Sequence[str]) -> pa.Table:
        own = [name for name in names if name not in more]
        table = source.wells(own) if own else pa.table({})
        columns = {name: table.column(name) for name in own}
        for name in names:
            if name in more:
                columns[name] = pa.chunked_array([pa.array(more[name], pa.string())])
        return pa.table({name: columns[name] for name in names})

    return dataclasses.replace(source, columns=(*source.columns, *more), wells=wells)


def _read(path: Path) -> pa.Table:
    formats.check_file(path)
    if path.suffix == ".parquet":
        return pa.concat_tables(formats.tables(path, key=""))
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            head = stream.read(1 << 16).decode("utf-8", "replace").splitlines()[:1]
        delimiter = "\t" if head and "\t" in head[0] else ","
        names = [name.strip().strip('"') for name in head[0].split(delimiter)] if head else []
        with pa.input_stream(str(path), compression="detect") as stream:
            return pa.csv.read_csv(
                stream,
                parse_options=pa.csv.ParseOptions(delimiter=delimiter),
                convert_options=pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string())
                ),
            )
    except (OSError, pa.ArrowException) as error:
        reason = joined_lines(error)[:200]
        raise UserError(f"{path}: cannot be read as a table of texts: {reason}") from None
