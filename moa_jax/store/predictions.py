"""Predictions: probabilities of rows by name, joined on `sig_id` and never by position."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from moa_jax.errors import UserError, first_line
from moa_jax.store import files


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Probabilities of `targets` for `ids`, out-of-fold and test alike.

    Attributes:
      ids: [N] unique `sig_id` strings.
      targets: L target names, the columns of `values`.
      values: [N, L] float64 probabilities.
      spread: [N, L] standard deviation over members of the log odds; None where it is not known.
    """

    ids: np.ndarray
    targets: tuple[str, ...]
    values: np.ndarray
    spread: np.ndarray | None = None

    def __post_init__(self):
        if self.values.shape != (len(self.ids), len(self.targets)):
            raise ValueError(
                f"values {self.values.shape} for {len(self.ids)} ids, {len(self.targets)} targets"
            )

    def aligned(self, ids: Sequence[str] | np.ndarray, source: str = "predictions") -> Predictions:
        """Returns the rows `ids`, in that order.

        Raises:
          UserError: an id is not among the predictions; `source` names them in the message.
        """
        position = pd.Index(self.ids).get_indexer(pd.Index(ids))
        if (missing := position < 0).any():
            raise UserError(
                f"{source}: {missing.sum()} of {len(missing)} expected sig_ids are missing, "
                f"the first is {np.asarray(ids)[missing][0]!r}"
            )
        spread = None if self.spread is None else self.spread[position]
        return Predictions(np.asarray(ids), self.targets, self.values[position], spread)

    def if_any(self, ids: np.ndarray) -> Predictions | None:
        """Returns the rows `ids`, in that order; None where the predictions are of none of them.

        Raises:
          UserError: they are of some of them.
        """
        return self.aligned(ids) if np.isin(ids, self.ids).any() else None

    def write_spread(self, path: Path) -> None:
        """Writes the spread as `write` does the probabilities; nothing where it is not known."""
        if self.spread is not None:
            Predictions(self.ids, self.targets, self.spread).write(path)

    def with_spread(self, path: Path) -> Predictions:
        """Returns the predictions with the spread that `write_spread` wrote.

        Raises:
          UserError: the file is missing, damaged, or of other rows or targets.
        """
        with _reading(path):
            found = _table(pa.parquet.read_table(path, page_checksum_verification=True), path)
        if found.targets != self.targets or (found.values < 0).any():
            raise UserError(f"{path}: damaged: expected the spread of {len(self.targets)} targets")
        return dataclasses.replace(self, spread=found.aligned(self.ids, str(path)).values)

    def write(self, path: str | Path) -> None:
        """Writes `sig_id` and one column per target; CSV or parquet by the suffix."""
        with Predictions.writer(path) as append:
            append(self)

    @staticmethod
    @contextlib.contextmanager
    def writer(path: str | Path) -> Iterator[Callable[[Predictions], None]]:
        """Yields a function that appends predictions to a new file, CSV or parquet by its suffix.

        The file appears when the block succeeds and holds the rows in the order they came.
        """
        appender = _append_parquet if Path(path).suffix == ".parquet" else _append_csv
        with files.replacing(path) as temporary, appender(temporary) as append:
            yield append

    @classmethod
    def read(cls, path: str | Path) -> Predictions:
        """Reads a parquet file with `sig_id` and one column of probabilities per target.

        Raises:
          UserError: the file is missing, damaged, not of that layout, or has a value that is not
            between 0 and 1.
        """
        path = Path(path)
        with _reading(path):
            table = pa.parquet.read_table(path, page_checksum_verification=True)
            predictions = _table(table, path)
            _check_range(predictions, path)
        if len(set(predictions.ids)) != len(predictions.ids):
            raise UserError(f"{path}: sig_id: expected unique ids, found repeated ones")
        return predictions


def _table(table: pa.Table, path: str | Path) -> Predictions:
    """Returns the numbers of a table of `sig_id` and columns of numbers, whatever they are."""
    if "sig_id" not in table.column_names:
        raise UserError(f"{path}: expected a column sig_id, found {table.column_names[:3]}")
    if table.column("sig_id").null_count:
        raise UserError(f"{path}: sig_id: expected ids, found an empty one")
    ids = table.column("sig_id").cast(pa.string()).to_numpy()
    table = table.drop_columns("sig_id")
    values = np.empty((len(ids), table.num_columns))
    for index, name in enumerate(table.column_names):
        column = table.column(index)
        if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
            raise UserError(f"{path}: column {name}: expected numbers, found {column.type}")
        values[:, index] = column.to_numpy()
    return Predictions(ids, tuple(table.column_names), values)


def _check_range(predictions: Predictions, path: Path) -> None:
    values = predictions.values
    # NaN is not within the range either.
    if not (within := (values >= 0) & (values <= 1)).all():
        row, column = np.argwhere(~within)[0]
        raise UserError(
            f"{path}: column {predictions.targets[column]}: sig_id {predictions.ids[row]}: "
            f"expected a probability between 0 and 1, found {values[row, column]:g}"
        )


@contextlib.contextmanager
def _append_parquet(path: Path) -> Iterator[Callable[[Predictions], None]]:
    with contextlib.ExitStack() as stack:
        output = None

        def append(predictions: Predictions) -> None:
            nonlocal output
            columns = {name: predictions.values[:, i] for i, name in enumerate(predictions.targets)}
            table = pa.table({"sig_id": pa.array(predictions.ids, pa.string()), **columns})
            if output is None:
                writer = pa.parquet.ParquetWriter(path, table.schema, write_page_checksum=True)
                output = stack.enter_context(writer)
            output.write_table(table)

        yield append


@contextlib.contextmanager
def _append_csv(path: Path) -> Iterator[Callable[[Predictions], None]]:
    with open(path, "w", encoding="utf-8", newline="") as opened:

        def append(predictions: Predictions) -> None:
            # pandas quotes only where it must; pyarrow would quote every sig_id.
            table = pd.DataFrame(predictions.values, columns=list(predictions.targets))
            table.insert(0, "sig_id", predictions.ids)
            table.to_csv(opened, index=False, header=opened.tell() == 0, lineterminator="\n")

        yield append


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    files.check_regular(path)
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # pyarrow fails in as many ways as files can be damaged
        raise UserError(f"{path}: damaged: {first_line(error)}") from None
