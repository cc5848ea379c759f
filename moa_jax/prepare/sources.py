"""Sources: a table of wells in any of the formats, its metadata and its numbers read apart."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from absl import logging

from moa_jax.data import cells, formats, remedies, signatures
from moa_jax.errors import UserError, joined_lines
from moa_jax.prepare import list_columns, row_names

# Suffixes of files that hold a matrix of features beside the columns about wells.
ANNDATA = ".h5ad"
MATRICES = {
    ".gct": "moa_jax.prepare.gct",
    ".gct.gz": "moa_jax.prepare.gct",
    ".gctx": "moa_jax.prepare.gctx",
    ANNDATA: "moa_jax.prepare.h5ad",
}
_INFINITE = [f"{sign}{word}" for sign in "+-" for word in ("inf", "infinity")]
_MISSING = pa.array(["", *sorted(cells.MISSING)])
# Rows whose numbers are held together, as bytes.
BLOCK_BYTES = 1 << 26


@dataclasses.dataclass(frozen=True)
class Screen:
    """Wells, one a row, in the file's order.

    Attributes:
      path: the file.
      columns: names of the columns that may have roles.
      features: names of the columns of the matrix; None where any column may be one.
      about: columns about the features, `[F]` texts by name; empty where there are none.
      wells: returns columns by name, all rows.
      values: yields consecutive rows of the features by name, `[n, names]` float, NaN for what is
        missing; `n` is as many as suit the file.
    """

    path: Path
    columns: tuple[str, ...]
    features: tuple[str, ...] | None
    about: dict[str, np.ndarray]
    wells: Callable[[Sequence[str]], pa.Table]
    values: Callable[[Sequence[str]], Iterator[np.ndarray]]


def read(path: Path, layer: str = "") -> Screen:
    """Returns the source that a file is.

    Columns of lists of numbers are apart, see `list_columns.apart`, and a first one without a name
    is called as `row_names.named` does.

    Args:
      path: the file.
      layer: what of an AnnData file holds the features, see `h5ad.read`; of others there is none.

    Raises:
      UserError: the file is missing, of no known format, or not what its suffix says; the extra
        that reads it is not installed; a layer is asked for that is not there.
    """
    formats.check_file(path)
    suffix = next((s for s in MATRICES if path.name.lower().endswith(s)), None)
    if suffix is not None:
        with reading(path, suffix):
            kind = signatures.of_file(path)
        if kind not in (None, "gzip" if ".gct" in suffix and suffix != ".gctx" else "HDF5"):
            raise UserError(f"{path}: {kind} file named {suffix}; unpack or convert it")
    if suffix == ANNDATA:
        return importlib.import_module(MATRICES[suffix]).read(path, layer)
    if layer:
        raise UserError(f"{path}: --layer={layer}: expected an {ANNDATA} file, which has layers")
    if suffix is not None:
        return importlib.import_module(MATRICES[suffix]).read(path)
    if not path.name.endswith(formats.SUFFIXES):
        known = f"{', '.join(MATRICES)}, {formats.KNOWN}"
        found = "".join(path.suffixes) or "no suffix"
        is_packed = path.with_suffix("").name.lower().endswith((*MATRICES,))
        what = "unpack it" if is_packed else "rename or convert it"
        raise UserError(f"{path}: expected a name that ends in {known}, found {found}; {what}")
    first = next(formats.tables(path, key=""), None)
    if first is None or not first.num_rows:
        raise UserError(f"{path}: expected rows, found only a header")
    widths = list_columns.widths(first)
    for name, width in widths.items():
        logging.info("%s: column %s: lists of numbers are columns %s_1 to %s_%d",
                     path, name, name, name, width)  # fmt: skip

    def tables() -> Iterator[pa.Table]:
        row = 0
        for table in formats.tables(path, key=""):
            yield list_columns.apart(path, table, widths, row)
            row += table.num_rows

    first = next(tables())
    own = {name: stored for stored, name in row_names.named(first).items()}

    def parts(names: Sequence[str]) -> Iterator[pa.Table]:
        for table in tables():
            yield table.select([own[name] for name in names]).rename_columns(list(names))

    # What describes wells is wanted again and again, and small: it is read once.
    describing = [
        name
        for name, stored in own.items()
        if name.startswith("Metadata_") or row_names.is_text(first.column(stored).slice(0, 100))
    ]
    kept: dict[str, pa.ChunkedArray] = {}

    def wells(names: Sequence[str]) -> pa.Table:
        if not set(names) <= kept.keys():
            wanted = list(dict.fromkeys((*names, *(describing if not kept else ()))))
            found = pa.concat_tables(parts(wanted))
            kept.update(zip(wanted, found.columns, strict=True))
        return pa.table({name: kept[name] for name in names})

    def values(names: Sequence[str]) -> Iterator[np.ndarray]:
        row = 0
        for table in parts(names):
            block = np.empty((table.num_rows, len(names)))
            for index, name in enumerate(names):
                block[:, index] = numbers(path, name, table.column(name), row)
            row += table.num_rows
            yield block

    return Screen(path, tuple(own), None, {}, wells, values)


def numbers(path: Path, name: str, column: pa.ChunkedArray, first: int = 0) -> np.ndarray:
    """Returns [N] float64, NaN for what is missing: empty, a word for it, infinite, or -666.

    Args:
      path, name: the file and the column.
      column: its cells.
      first: the number of rows before them.

    Raises:
      UserError: a cell is neither a number nor missing.
    """
    if pa.types.is_string(column.type):  # one that is no number makes a cast go cell by cell
        is_word = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(column)), _MISSING)
        column = pc.if_else(is_word, pa.scalar(None, pa.string()), column)
    values = cells.numbers(column)
    values = np.where(np.isfinite(values) & (values != cells.MISSING_MARK), values, np.nan)
    (unread,) = np.nonzero(np.isnan(values))
    if len(unread) and column.null_count < len(unread):
        texts = cells.texts(column.take(pa.array(unread)))
        # What has no text may be a list, or other bytes than those of one.
        hides = not (pa.types.is_floating(column.type) or pa.types.is_string(column.type))
        for row, text in zip(unread.tolist(), texts, strict=True):
            is_hidden = hides and text is None and cells.shown(column, row) != "nothing"
            is_none = text is None or cells.is_missing(text) or text.lower() in _INFINITE
            if is_hidden or not is_none:
                remedy = remedies.of_number(column, row)
                if text == name:
                    remedy = "; the header once more, as of files that were joined: take it out"
                raise UserError(
                    f"{path}: column {name}, row {first + row + 1}: expected a number, found "
                    f"{cells.shown(column, row)}{remedy}"
                )
    return values


def is_empty(column: pa.ChunkedArray) -> bool:
    """Tells whether nothing stands in a column, of texts or of lists."""
    if pa.types.is_nested(column.type):
        return column.null_count == len(column)
    return all(map(cells.is_missing, cells.texts(column)))


def texts(path: Path, name: str, column: pa.ChunkedArray) -> np.ndarray:
    """Returns what stands in the cells of a column, as `cells.texts` does.

    Raises:
      UserError: a cell holds several values, or bytes that are no text.
    """
    is_list = pa.types.is_nested(column.type) and column.null_count < len(column)
    found = np.array([], object) if is_list else cells.texts(column)
    row = column.is_valid().index(True).as_py() if is_list else -1
    if not is_list and _holds_bytes(column.type):
        unread = np.array([text is None for text in found]) & column.is_valid().to_numpy()
        row = int(np.argmax(unread)) if unread.any() else -1
    if row >= 0:
        remedy = remedies.of_kind(column, row) or "; write it in UTF-8"
        raise UserError(
            f"{path}: column {name}, row {row + 1}: expected a text, found "
            f"{cells.shown(column, row)}{remedy}"
        )
    return found


def _holds_bytes(kind: pa.DataType) -> bool:
    is_binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return is_binary or pa.types.is_fixed_size_binary(kind)


def extra(package: str, name: str, path: Path) -> ModuleType:
    """Returns a package of an extra.

    Raises:
      UserError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        raise UserError(
            f"{path}: is read by {package}, which is not installed; python -m pip install "
            f"'moa-jax[{name}]'"
        ) from None


@contextlib.contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turns what a library raises that reads a file of a kind into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # HDF5 fails in as many ways as files can be damaged
        reason = joined_lines(error).strip("'\"")[:200]
        raise UserError(
            f"{path}: cannot be read as {kind}: {reason}; is the file complete?"
        ) from None


def block_rows(width: int, itemsize: int) -> int:
    """Returns how many rows of a matrix fit a block, at least one."""
    return max(1, BLOCK_BYTES // max(1, width * itemsize))


def check_names(path: Path, kind: str, names: Sequence[str], remedy: str = "") -> None:
    """Raises a UserError for the first name that is none, or stands twice, with the remedy."""
    seen: set[str] = set()
    for name in names:
        if cells.is_missing(name):
            raise UserError(f"{path}: expected a name for every {kind}, found one without")
        if name in seen:
            raise UserError(f"{path}: {kind} {name} stands more than once{remedy}")
        seen.add(name)


def with_column(source: Screen, name: str) -> Screen:
    """Returns a source one of whose columns about wells can be read as a feature too, the last."""
    column = numbers(source.path, name, source.wells([name]).column(name))

    def values(names: Sequence[str]) -> Iterator[np.ndarray]:
        if name not in names:  # a constant one, or one of missing values, was left out
            yield from source.values(names)
            return
        others, start = [other for other in names if other != name], 0
        if not others:  # where all that was measured is constant or missing
            yield column[:, None]
            return
        for block in source.values(others):
            stop = start + len(block)
            yield np.column_stack((block, column[start:stop].astype(block.dtype)))
            start = stop

    return dataclasses.replace(source, values=values)
