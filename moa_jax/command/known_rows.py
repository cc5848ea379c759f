"""Known rows: new ones that are called as training rows are, from which models may have learned."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from absl import logging

from moa_jax.data.dataset import Dataset
from moa_jax.store import model_files


class KnownRows:
    """Which new rows are called as training rows are, counted part by part."""

    def __init__(self, folders: Iterable[Path], prepared: Mapping[str, Any] | None):
        """Takes the folders of the models, and what `columns.json` of the training rows held.

        Rows that were numbered for want of ids are called alike in every table.
        """
        paths = [folder / model_files.OOF for folder in folders]
        is_numbered = prepared is not None and not prepared["roles"]["id"]
        path = next((path for path in paths if path.is_file() and not is_numbered), None)
        self._known: set[str] = set()
        # What is wrong with the file is for those to tell who need it.
        with contextlib.suppress(OSError, KeyError, pa.ArrowException):
            if path is not None:
                ids = pa.parquet.read_table(path, columns=["sig_id"]).column("sig_id")
                self._known = set(ids.to_pylist())
        self._found, self._first = 0, ""

    def add(self, rows: Dataset) -> None:
        """Counts the known ones of some rows."""
        known = [sig_id for sig_id in rows.ids if sig_id in self._known]
        self._found += len(known)
        self._first = self._first or next(iter(known), "")

    def tell(self) -> None:
        """Logs how many there were."""
        if self._found:
            logging.warning(
                "inference: %d rows are called as training rows are, such as %s; models predict "
                "what they have learned from better than new rows",
                self._found, self._first,
            )  # fmt: skip
