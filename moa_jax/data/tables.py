"""Tables: a folder of the competition's layout -> Dataset, every file joined by `sig_id`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from moa_jax.data import columns
from moa_jax.data.columns import Columns
from moa_jax.data.dataset import ORIGINAL_LEVELS, Dataset, Levels, Targets
from moa_jax.errors import UserError

TREATMENT = ("cp_type", "cp_time", "cp_dose")


def sample_folder() -> Path:
    """Returns the folder of the embedded real data."""
    return Path(__file__).parent / "sample"


def load(folder: str | Path, levels: Levels = ORIGINAL_LEVELS) -> Dataset:
    """Reads a folder of the competition's layout.

    `train_features` and `train_targets_scored` are required; `train_targets_nonscored`,
    `train_drug`, `test_features` and, where that is, `sample_submission` are read if they are
    there. Each is a .csv, .csv.gz, .csv.zip or .parquet file. Rows come in the order of
    `train_features`, whatever the order of the other files.

    Args:
      folder: the folder.
      levels: values that time, dose and type may take.

    Raises:
      UserError: naming the file, the column or `sig_id`, what was expected and what was found.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "none"
        raise UserError(f"{folder}: expected a folder with train_features, found {found}")
    train = read_features(_required(folder, "train_features"), levels)
    scored = _targets(_required(folder, "train_targets_scored"), train)
    nonscored = drug_id = test = submission_ids = None
    if path := columns.find(folder, "train_targets_nonscored"):
        nonscored = _targets(path, train)
    if path := columns.find(folder, "train_drug"):
        drugs = columns.read(path)
        drugs.expect(["drug_id"])
        drug_id = drugs.texts("drug_id")[drugs.rows_of(train.ids, "train_features")]
    if path := columns.find(folder, "test_features"):
        test = read_features(path, levels, train.genes, train.cells)
        if shared := set(test.ids) & set(train.ids):
            logging.warning("%s: %d sig_ids are in train_features too", path, len(shared))
        if path := columns.find(folder, "sample_submission"):
            submission = columns.read(path)
            submission.expect(scored.names)
            submission.rows_of(test.ids, "test_features")
            submission_ids = submission.ids
    return dataclasses.replace(
        train,
        scored=scored,
        nonscored=nonscored,
        drug_id=drug_id,
        test=test,
        submission_ids=submission_ids,
    )


def read_groups(file: str | Path, train: Dataset) -> np.ndarray:
    """Returns the group of each training row, [N] texts; empty for controls without one.

    Args:
      file: a table of `sig_id` and `group`, in any order, of at least the treated rows.
      train: the training rows.

    Raises:
      UserError: naming the file and what was expected and found.
    """
    table = columns.read(Path(file))
    table.expect(["group"])
    known = dict(zip(table.ids, table.texts("group"), strict=True))
    for sig_id, control in zip(train.ids, train.is_control, strict=True):
        if not control and sig_id not in known:
            raise UserError(f"{file}: expected sig_id {sig_id} of train_features, found none")
    return np.array([known.get(sig_id, "") for sig_id in train.ids], object)


def read_features(
    file: str | Path,
    levels: Levels = ORIGINAL_LEVELS,
    genes: Sequence[str] | None = None,
    cells: Sequence[str] | None = None,
) -> Dataset:
    """Reads a whole features file; arguments and errors as for `stream`."""
    parts = list(stream(file, genes, cells, levels))
    stacked: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("ids", "features", "cp_time", "cp_dose", "is_control")
    }
    return dataclasses.replace(parts[0], **stacked)


def stream(
    file: str | Path,
    genes: Sequence[str] | None = None,
    cells: Sequence[str] | None = None,
    levels: Levels = ORIGINAL_LEVELS,
    rows: int = 8192,
) -> Iterator[Dataset]:
    """Yields the rows of a features file, `rows` at a time, in the file's order.

    Args:
      file: a .csv, .csv.gz, .csv.zip or .parquet file.
      genes, cells: the expected columns, which come in this order whatever the file's; None takes
        those of the file whose names start with `g-` or `c-`.
      levels: values that time, dose and type may take.
      rows: rows per part; the last may have fewer.

    Raises:
      UserError: as `load`, when the part with the mistake is reached.
    """
    for part in columns.parts(Path(file), rows):
        genes = tuple(_starting("g-", part) if genes is None else genes)
        cells = tuple(_starting("c-", part) if cells is None else cells)
        if not genes and not cells:
            raise UserError(f"{file}: expected columns g-... or c-..., found none")
        part.expect([*TREATMENT, *genes, *cells])
        yield _dataset(part, genes, cells, levels)


def _starting(prefix: str, part: Columns) -> list[str]:
    return [name for name in part.names if name.startswith(prefix)]


def _dataset(
    part: Columns, genes: tuple[str, ...], cells: tuple[str, ...], levels: Levels
) -> Dataset:
    types = part.levels(
        "cp_type",
        (levels.treated, levels.control),
        "config.data.treated_type or config.data.control_type",
    )
    return Dataset(
        part.ids,
        genes,
        cells,
        features=part.numbers([*genes, *cells]),
        cp_time=part.levels("cp_time", levels.cp_time, "config.data.cp_times").astype(np.int64),
        cp_dose=part.levels("cp_dose", levels.cp_dose, "config.data.cp_doses"),
        is_control=types == levels.control,
    )


def _required(folder: Path, stem: str) -> Path:
    path = columns.find(folder, stem)
    if path is None:
        raise UserError(
            f"{folder}: expected a file {stem}.csv (or .gz, .zip, .parquet), found none"
        )
    return path


def _targets(path: Path, train: Dataset) -> Targets:
    table = columns.read(path)
    rows = table.rows_of(train.ids, "train_features")
    if not table.names:
        raise UserError(f"{path}: expected target columns beside sig_id, found none")
    values = table.numbers(table.names)
    binary = (values == 0) | (values == 1)
    for name, fits in zip(table.names, binary.T, strict=True):
        table.check(name, fits, "0 or 1")
    values = values[rows].astype(np.uint8)
    empty = [name for name, some in zip(table.names, values.any(0), strict=True) if not some]
    if empty:
        logging.info("%s: %d targets have no positive row, such as %s", path, len(empty), empty[0])
    if labelled := int(values[train.is_control].any(1).sum()):
        logging.warning("%s: %d control rows have targets, which are ignored", path, labelled)
    return Targets(tuple(table.names), values)
