"""Formats: a file, CSV or parquet, as tables of Arrow; what cannot be read is one line."""

from __future__ import annotations

import contextlib
import csv
import gzip
import lzma
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from absl import logging

from moa_jax.data import signatures
from moa_jax.data.headers import BLANK, DELIMITERS, INDEX, delimiter, header, index_named, names_of
from moa_jax.data.names import CONTROL, name_of
from moa_jax.data.packed import ENDINGS, OPENERS, unpacked
from moa_jax.errors import UserError, joined_lines
from moa_jax.store import files

# How names of tables end, those of texts also packed; and how messages say that.
TEXTS = (".csv", ".tsv", ".txt")
SUFFIXES = (*(text + end for text in TEXTS for end in ("", *ENDINGS)), ".parquet")
KNOWN = f"{', '.join(TEXTS)}, these packed ({', '.join(ENDINGS)}), or .parquet"
# Bytes of CSV that are parsed together, and of one parquet column that are read together.
CSV_BLOCK = 1 << 23
PARQUET_BUFFER = 1 << 16


def tables(path: Path, key: str = "sig_id") -> Iterator[pa.Table]:
    """Yields consecutive rows of a file; columns of CSV are text.

    What a file is follows from its first bytes, whatever its suffix, and what delimits its cells
    from its header, above which lines of comments may stand. Names of columns are without spaces
    around them.

    Args:
      path: the file.
      key: a column that it must have; empty where any will do, and the first one, in which pandas
        and R write their names of the rows, needs no name: it is called `INDEX`.

    Raises:
      UserError: the file is missing, empty, damaged, of another format, not delimited by one of
        `DELIMITERS` or not UTF-8; a column has no name, a name stands more than once, or none is
        `key`; a row of CSV has more or fewer cells than the header. Blank rows of CSV are left out.
    """
    check_file(path)
    if not path.name.endswith(SUFFIXES):
        raise UserError(
            f"{path}: expected a name that ends in {KNOWN}, found "
            f"{''.join(path.suffixes) or 'no suffix'}; rename or convert it"
        )
    named = "parquet" if path.suffix == ".parquet" else ENDINGS.get(path.suffix)
    expected = "parquet" if named == "parquet" else "CSV in UTF-8"
    with reading(path, expected), open(path, "rb") as opened:
        head = opened.read(signatures.HEAD)
        found = signatures.of_bytes(head)
        signatures.check_impostor(path, head)
    if named == "parquet":
        if found not in (None, "parquet"):
            raise UserError(f"{path}: cannot be read as parquet: {found} file named .parquet")
        if not head:
            raise UserError(f"{path}: expected a table, found an empty file")
        if found is None and signatures.is_text(head):
            raise UserError(
                f"{path}: cannot be read as parquet: found text; is it CSV, name it .csv"
            )
    elif found != named:
        if found is None and path.stat().st_size:
            raise UserError(
                f"{path}: cannot be read as CSV in UTF-8: File is not a {named} file; is it plain "
                "text, name it .csv"
            )
        if found not in (None, "parquet", *OPENERS):
            raise UserError(
                f"{path}: {found} file named {path.suffix}; convert it to CSV or parquet"
            )
        if found is not None:  # an empty one is told of where its header is looked for
            logging.info("%s: %s file named %s, read as what it is", path, found, path.suffix)
    return _parquet(path, key) if "parquet" in (named, found) else _csv(path, found, key)


def check_file(path: Path) -> None:
    """Raises a UserError unless there is a file."""
    if (found := files.kind(path)) != "a file":
        remedy = "; mend or remove it" if found.startswith("a symbolic link") else ""
        if str(path).startswith("~"):
            remedy = "; write $HOME for '~', which shells leave alone after '='"
        raise UserError(f"{path}: expected a file, found {found}{remedy}")


def _csv(path: Path, packed: str | None, key: str) -> Iterator[pa.Table]:
    names: list[str] = []
    with reading(path, "CSV in UTF-8", names):
        text, begin = header(path, packed)
        mark = delimiter(text, key)
        (literal,) = csv.reader([text], delimiter=mark)
        names += names_of(text, mark)
        if not key:
            names[:] = index_named(names)
        _check_names(path, names, key)
        spaced = any(name != name.lstrip() for name in literal)
        with unpacked(path, packed) as opened, _rows_judged(path, mark) as judge:
            opened.read(begin)
            if not opened.peek(1):
                return
            with pa.csv.open_csv(
                opened,
                pa.csv.ReadOptions(column_names=names, block_size=CSV_BLOCK),
                parse_options=pa.csv.ParseOptions(delimiter=mark, invalid_row_handler=judge),
                convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(names, "string")),
            ) as batches:
                for batch in batches:
                    table = pa.Table.from_batches([batch])
                    yield _filled(path, _unquoted(table) if spaced else table)


@contextlib.contextmanager
def _rows_judged(path: Path, mark: str) -> Iterator[Callable[[pa.csv.InvalidRow], str]]:
    """Gives what judges a row of another number of cells: a blank one is skipped, others are told.

    Raises:
      UserError: a row has other cells than the header.
    """
    wrong: list[pa.csv.InvalidRow] = []

    def judge(row: pa.csv.InvalidRow) -> str:
        if not row.text.strip(BLANK):
            return "skip"
        wrong.append(row)
        return "error"

    try:
        yield judge
    except pa.ArrowInvalid:
        if not wrong:
            raise
        expected, found, text = wrong[0].expected_columns, wrong[0].actual_columns, wrong[0].text
        if text.count('"') % 2:
            remedy = "a quote is not closed"
        elif found < expected:
            remedy = "the row is cut short; is the file complete?"
        elif not text.split(mark, expected)[-1].strip(BLANK):
            remedy = f"take the {DELIMITERS[mark]}s off the ends of the rows"
        else:
            remedy = f"a text with a {DELIMITERS[mark]} needs quotes around it"
            if found == expected + 1:
                remedy += ", or R's names of the rows a column in the header (col.names=NA)"
        shown = " ".join(text.split())
        shown = f"{shown[:80]} ..." if len(shown) > 80 else shown
        raise UserError(
            f"{path}: cannot be read as CSV in UTF-8: Expected {expected} columns, got {found}: "
            f"{shown}; {remedy}"
        ) from None


def _filled(path: Path, table: pa.Table) -> pa.Table:
    """Returns the rows in which something stands; Excel writes rows of commas alone."""

    def is_blank(name: str) -> pa.ChunkedArray:
        return pc.equal(pc.utf8_trim(table.column(name), BLANK), "")

    blank = is_blank(table.column_names[0])
    if not pc.any(blank).as_py():
        return table
    for name in table.column_names:
        blank = pc.and_(blank, is_blank(name))
    if count := pc.sum(blank).as_py():
        logging.info("%s: %d rows in which nothing stands are left out", path, count)
    return table.filter(pc.invert(blank))


def _unquoted(table: pa.Table) -> pa.Table:
    """Returns cells without the quotes that a parser does not take off after a space."""
    pattern = r'^\s+"(.*)"\s*$'
    return pa.table(
        {
            name: pc.replace_substring_regex(table.column(name), pattern, r"\1")
            for name in table.column_names
        }
    )


def _parquet(path: Path, key: str) -> Iterator[pa.Table]:
    # Only the two options together keep pyarrow from holding a whole row group.
    buffering = {"buffer_size": PARQUET_BUFFER, "pre_buffer": False}
    with reading(path, "parquet"), pa.parquet.ParquetFile(path, **buffering) as opened:
        # pandas writes names of rows, and the numbering of selected ones, as a column.
        stored = opened.schema_arrow.names
        kept_index = not key and INDEX not in stored
        called = {"__index_level_0__": INDEX} if kept_index else {}
        stored = [n for n in stored if n in called or not n.startswith("__index_level_")]
        names = [name_of(called.get(name, name)) for name in stored]
        _check_names(path, names, key)
        for batch in opened.iter_batches(batch_size=8192, columns=stored):
            batch.validate(full=True)  # texts of other bytes than UTF-8 are found nowhere else
            yield pa.Table.from_batches([batch]).rename_columns(names)


@contextlib.contextmanager
def reading(path: Path, kind: str, names: Sequence[str] = ()) -> Iterator[None]:
    """Turns what is raised by a table of some kind, of columns `names`, into one line."""
    try:
        yield
    except (
        OSError,
        EOFError,
        UnicodeDecodeError,
        RuntimeError,  # an encrypted archive
        csv.Error,
        zlib.error,
        lzma.LZMAError,
        zipfile.BadZipFile,
        pa.ArrowException,
    ) as error:
        reason = joined_lines(error)
        if found := re.match(r"In CSV column #(\d+): .*invalid UTF8", reason):
            name = names[int(found[1])]
            reason = f"column {name} has other bytes, as those of Latin-1; save it as UTF-8"
        elif re.search("out of sync with chunker|straddling", reason):
            reason = (
                "a quote is not closed, a cell has a line break, or a row has more than "
                f"{CSV_BLOCK >> 20} MiB; mend the row"
            )
        elif "magic bytes not found" in reason or "Parquet file size is" in reason:
            reason = "its end is not that of parquet; is the file complete? Copy it again"
        elif "encrypt" in reason:
            reason += "; pack it without a password"
        elif isinstance(error, NotImplementedError):
            reason += "; pack it anew with deflate, or as .csv.gz"
        elif isinstance(error, PermissionError):
            reason += "; make it readable"
        elif isinstance(
            error, (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile)
        ):
            reason += "; is the file complete? Copy it again"
        raise UserError(f"{path}: cannot be read as {kind}: {reason}") from None


def unnamed(path: Path, position: int, count: int, shown: str) -> UserError:
    """Returns what is wrong with a column without a name, of `count`, the first of which is 1."""
    reason, what = "", "name it"
    if position == 1:
        reason, what = "; pandas writes its index so", "write it with index=False"
    elif position == count:
        reason, what = "; the header ends with a delimiter", "take the last one off each line"
    return UserError(f"{path}: column {position} ({shown}{reason}) is not expected; {what}")


def check_once(path: Path, names: Sequence[str]) -> None:
    """Raises a UserError for the first name of a column that stands more than once."""
    counts = Counter(name for name in names if name)
    several = [name for name, count in counts.items() if count > 1]
    if several:
        is_levelled = len(several) > 1 or counts[several[0]] > 2
        remedy = "; has the header several rows, write one of whole names" * is_levelled
        raise UserError(f"{path}: column {several[0]} stands more than once{remedy}")


def _check_names(path: Path, names: Sequence[str], key: str) -> None:
    if not names:
        raise UserError(f"{path}: expected a table, found no columns")
    if names[0].startswith("sep="):
        raise UserError(f"{path}: expected names of columns, found Excel's line sep=; take it out")
    for position, name in enumerate(names, 1):
        if not name:
            # Beside more names than one, or the key, empty ones are what Excel writes at the end.
            if position == 2 < len(names) and names[0] != key and not any(names[1:]):
                raise UserError(
                    f"{path}: expected names of columns in the first line, found only "
                    f"{names[0][:60]}; is it a title, take it out"
                )
            raise unnamed(path, position, len(names), "no name")
    check_once(path, names)
    if key not in names if key else len(names) == 1:
        if "|" in names[0]:
            marks = " or ".join(f"{name}s" for name in DELIMITERS.values())
            raise UserError(
                f"{path}: expected columns delimited by {marks}, found '|' in {names[0][:40]!r}"
            )
        expected = f"a column {key}" if key else "several columns"
        raise UserError(f"{path}: expected {expected}, found {', '.join(names[:3])}")
    if odd := next((name for name in names if CONTROL.search(name)), None):
        raise UserError(f"{path}: column {odd!r:.60} has control characters; take them out")
