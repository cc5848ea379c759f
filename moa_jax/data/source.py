"""Files of a data folder, CSV or parquet, read whole or in chunks; what is wrong is one line."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from moa_jax.errors import UserError

SUFFIXES = (".csv", ".csv.gz", ".csv.zip", ".parquet")
# Columns that stay text however they look: an id 0012 is not the number 12.
_TEXT = {"sig_id": str, "cp_type": str, "cp_dose": str, "drug_id": str}


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


def read(path: Path) -> pd.DataFrame:
    """Returns a whole file.

    Raises:
      UserError: see `chunks`.
    """
    return pd.concat(chunks(path, rows=1 << 30), ignore_index=True)


def chunks(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    """Yields the rows of a file in order, at most `rows` at a time; never an empty frame.

    Raises:
      UserError: the file is missing, empty, damaged, has a repeated column or no rows, or is not
        delimited by commas.
    """
    if path.is_dir():
        raise UserError(f"{path}: expected a file, found a folder")
    if not path.exists():
        raise UserError(f"{path}: not found")
    if not path.name.endswith(SUFFIXES):
        raise UserError(f"{path}: expected one of {', '.join(SUFFIXES)}")
    with _one_line_errors(path):
        read_chunks = _parquet_chunks if path.suffix == ".parquet" else _csv_chunks
        empty = True
        for frame in read_chunks(path, rows):
            if len(frame):
                empty = False
                yield frame
    if empty:
        raise UserError(f"{path}: expected rows, found only a header")


def _csv_chunks(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    # pandas would silently rename a repeated column, so the header is read on its own first.
    header = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False)
    names = header.iloc[0].tolist()
    _check_header(path, names)
    options = {"dtype": {name: _TEXT[name] for name in names if name in _TEXT}}
    with pd.read_csv(path, chunksize=rows, low_memory=False, **options) as reader:
        for frame in reader:
            if not isinstance(frame.index, pd.RangeIndex):
                raise UserError(f"{path}: expected {len(names)} values in a row, found more")
            yield frame


def _parquet_chunks(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    with pa.parquet.ParquetFile(path) as opened:
        names = opened.schema_arrow.names
        _check_header(path, names)
        for batch in opened.iter_batches(batch_size=min(rows, 1 << 16)):
            frame = batch.to_pandas()
            yield frame.astype({name: _TEXT[name] for name in names if name in _TEXT})


def _check_header(path: Path, names: list[str]) -> None:
    if len(names) == 1 and len(names[0]) > 30:
        raise UserError(f"{path}: expected columns delimited by commas, found {names[0][:40]!r}...")
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if repeated:
        raise UserError(f"{path}: column {repeated[0]} stands more than once")
    if "sig_id" not in names:
        raise UserError(f"{path}: expected a column sig_id, found {', '.join(names[:3])}")


@contextlib.contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except pd.errors.EmptyDataError:
        raise UserError(f"{path}: expected a table, found an empty file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected UTF-8 text, found byte {error.object[error.start]:#x}") from None
    except (
        pd.errors.ParserError,
        pa.ArrowException,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        ValueError,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: damaged or truncated: {reason}") from None
