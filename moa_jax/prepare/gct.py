"""GCT: the Connectivity Map's text format, versions 1.2 and 1.3; its rows are genes.

Line 1 is the version, line 2 the numbers of rows, columns and, from 1.3 on, of columns about the
rows and of rows about the columns. The header follows, the rows about the columns, the genes.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import re
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import pyarrow as pa

from moa_jax.data import signatures
from moa_jax.errors import UserError, joined_lines
from moa_jax.prepare import sources
from moa_jax.prepare.sources import Screen
from moa_jax.store import files

VERSIONS = ("#1.2", "#1.3")


def read(path: Path) -> Screen:
    """Returns the wells of a .gct or .gct.gz file, the columns of its matrix.

    Raises:
      UserError: the file is damaged or of another version.
    """
    with _opened(path) as text:
        genes, wells, about_genes, about_wells = _sizes(path, text)
        header = _line(path, text)
        lead = 1 + about_genes
        ids = _cells(path, header, lead, wells, "the header")
        columns = {"id": ids}
        for number in range(about_wells):
            line = _line(path, text)
            name = line.split("\t", 1)[0].strip()
            found = _cells(path, line, lead, wells, f"row {number + 1} about the columns")
            if columns.setdefault(name, found) != found:
                raise UserError(
                    f"{path}: row {number + 1} about the columns: {name!r} stands more than once, "
                    "or is what the ids are called; name it otherwise"
                )
        rows = [line.split("\t", lead)[:lead] for line in text if line.strip()]
    if len(rows) != genes:
        raise UserError(
            f"{path}: expected {genes} rows of genes, found {len(rows)}; is the file complete?"
        )
    for number, row in enumerate(rows, 1):
        if len(row) < lead:
            raise _wrong_cells(path, f"gene {number}", lead + wells, len(row))
    about = {
        name.strip(): np.array([row[column].strip() for row in rows], object)
        for column, name in enumerate(header.split("\t")[:lead])
    }
    about = {"id": next(iter(about.values())), **dict(list(about.items())[1:])}
    sources.check_names(path, "column", ids)
    sources.check_names(path, "row", list(about["id"]))
    row_of = {name: row for row, name in enumerate(about["id"])}
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})

    @functools.lru_cache(maxsize=1)
    def spooled(names: frozenset[str]) -> np.ndarray:
        return _spooled(path, 3 + about_wells, lead, wells, {n: row_of[n] for n in names})

    def values(names: Sequence[str]) -> Iterator[np.ndarray]:
        matrix = spooled(frozenset(names))
        stored = {row: place for place, row in enumerate(sorted(row_of[n] for n in names))}
        order = [stored[row_of[name]] for name in names]
        step = sources.block_rows(len(names), 8)
        for start in range(0, wells, step):
            yield np.ascontiguousarray(matrix[:, start : start + step][order].T)

    return Screen(path, tuple(columns), tuple(about["id"]), about, table.select, values)


def _spooled(path: Path, head: int, lead: int, wells: int, wanted: dict[str, int]) -> np.ndarray:
    """Returns the wanted genes in the file's order, [genes, wells] float64, out of memory.

    The text comes gene by gene, and wells are wanted: the numbers wait in a file without a name.

    Args:
      path: the file.
      head: lines before the genes.
      lead: cells before the numbers of a line.
      wells: numbers of a line.
      wanted: row by name of the genes.
    """
    names = {row: name for name, row in wanted.items()}
    folder = tempfile.gettempdir()
    with contextlib.ExitStack() as opened:
        with files.writing(folder):
            spool = opened.enter_context(tempfile.TemporaryFile())
        text = opened.enter_context(_opened(path))
        for _ in range(head):
            next(text)
        for row, line in enumerate(filter(str.strip, text)):
            if row not in names:
                continue
            found = _cells(path, line, lead, wells, f"row {names[row]}")
            column = pa.chunked_array([pa.array(found, pa.string())])
            numbers = sources.numbers(path, names[row], column)
            with files.writing(folder):
                spool.write(numbers.tobytes())
        with files.writing(folder):
            spool.flush()
        # The mapping keeps the file, which has no name, until it goes itself.
        return np.memmap(spool, np.float64, "r", shape=(len(names), wells))


def _sizes(path: Path, text: TextIO) -> list[int]:
    version = _line(path, text).strip()
    if version not in VERSIONS:
        raise UserError(
            f"{path}: expected GCT, whose first line is {' or '.join(VERSIONS)}, found "
            f"{version[:40]!r}"
        )
    words = _line(path, text).split()
    expected = 2 if version == "#1.2" else 4
    if len(words) < expected or not all(word.isdecimal() for word in words[:expected]):
        raise UserError(f"{path}: expected {expected} numbers in line 2, found {words}")
    sizes = [int(word) for word in words[:expected]]
    if not sizes[0] or not sizes[1]:
        raise UserError(f"{path}: expected rows and columns, found {sizes[0]} and {sizes[1]}")
    return sizes if expected == 4 else [*sizes, 1, 0]  # 1.2 has a description of each row


def _line(path: Path, text: TextIO) -> str:
    line = next(text, None)
    if line is None:
        raise UserError(f"{path}: expected GCT, found its end; is the file complete?")
    return line.rstrip("\r\n")


def _cells(path: Path, line: str, lead: int, wells: int, where: str) -> list[str]:
    found = [cell.strip() for cell in line.rstrip("\r\n").split("\t")[lead:]]
    if '"' in line:
        found = [cell[1:-1] if re.fullmatch('"[^"]*"', cell) else cell for cell in found]
    while len(found) > wells and not found[-1]:  # tabs at the ends of lines
        found.pop()
    if len(found) != wells:
        raise _wrong_cells(path, where, lead + wells, lead + len(found))
    return found


def _wrong_cells(path: Path, where: str, expected: int, found: int) -> UserError:
    return UserError(f"{path}: {where}: expected {expected} cells delimited by tabs, found {found}")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        opener = gzip.open if signatures.of_file(path) == "gzip" else open
        with opener(path, "rt", encoding="utf-8-sig", newline=None) as text:
            yield text
    except UnicodeDecodeError:
        raise UserError(
            f"{path}: cannot be read as GCT: found other bytes than UTF-8; save it as UTF-8"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read as GCT: {joined_lines(error)}") from None
