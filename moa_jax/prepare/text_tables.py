"""Text tables: small files of any of the usual delimiters, as columns of text."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from moa_jax.data import formats, headers, packed, signatures
from moa_jax.data.columns import UNNAMED
from moa_jax.errors import UserError
from moa_jax.prepare import row_names


def read(path: Path) -> pa.Table:
    """Returns a whole file: texts with one of `headers.DELIMITERS`, or parquet.

    Columns without a name are left out, but for names of the rows, see `row_names.named`.

    Raises:
      UserError: the file is missing, empty, damaged, no table, or not UTF-8; a name stands more
        than once, or there is none.
    """
    found = _whole(path)
    names = row_names.named(found)
    return found.select(list(names)).rename_columns(list(names.values()))


def _whole(path: Path) -> pa.Table:
    formats.check_file(path)
    with formats.reading(path, "a table"):
        kind = signatures.of_file(path)
    if "parquet" in (kind, path.suffix.removeprefix(".")):
        parts = list(formats.tables(path, key=""))
        if not parts:
            raise UserError(f"{path}: expected rows, found none")
        return pa.concat_tables(parts)
    if kind not in (None, *packed.OPENERS):
        raise UserError(f"{path}: expected a table of texts, found {kind}; convert it to CSV")
    names: list[str] = []
    with formats.reading(path, "a table of texts in UTF-8", names):
        header, begin = headers.header(path, kind)
        delimiter = headers.delimiter(header)
        names += headers.index_named(headers.names_of(header, delimiter))
        formats.check_once(path, names)
        own = [name or f"Unnamed: {number}" for number, name in enumerate(names)]
        kept = [name for name in own if name == headers.INDEX or not UNNAMED.fullmatch(name)]
        if not {*kept} - {headers.INDEX}:
            raise UserError(f"{path}: expected names of columns, found none")
        with packed.unpacked(path, kind) as opened:
            opened.read(begin)
            if not opened.peek(1):
                return pa.table({name: pa.array([], pa.string()) for name in kept})
            return pa.csv.read_csv(
                opened,
                pa.csv.ReadOptions(column_names=own),
                pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(own, pa.string()), include_columns=kept
                ),
            )
