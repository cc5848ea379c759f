"""Tables: a folder of the competition's layout -> Dataset, every file joined by `sig_id`."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from absl import logging

from moa_jax.data import source
from moa_jax.errors import UserError

META = ("sig_id", "cp_type", "cp_time", "cp_dose")


@dataclasses.dataclass(frozen=True)
class Levels:
    """Values that the columns of the treatment may take.

    Attributes:
      cp_time: hours.
      cp_dose: names of the doses.
      treated, control: values of `cp_type`.
    """

    cp_time: tuple[int, ...] = (24, 48, 72)
    cp_dose: tuple[str, ...] = ("D1", "D2")
    treated: str = "trt_cp"
    control: str = "ctl_vehicle"


@dataclasses.dataclass(frozen=True)
class Targets:
    """Binary targets.

    Attributes:
      names: L names.
      values: [N, L] uint8, 0 or 1.
    """

    names: tuple[str, ...]
    values: np.ndarray


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Rows of profiles, for training or to be predicted.

    Attributes:
      ids: [N] unique `sig_id`.
      genes, cells: names of the gene and cell columns; either group may be empty.
      features: [N, genes + cells] float64, genes first.
      cp_time: [N] hours, int64.
      cp_dose: [N] names of doses.
      is_control: [N] bool.
      scored, nonscored: targets of the rows; None where there are none.
      drug_id: [N] drug of each row, or None.
      test: the rows to predict that came with training rows, or None.
      submission_ids: ids of the sample submission in its order, or None.
    """

    ids: np.ndarray
    genes: tuple[str, ...]
    cells: tuple[str, ...]
    features: np.ndarray
    cp_time: np.ndarray
    cp_dose: np.ndarray
    is_control: np.ndarray
    scored: Targets | None = None
    nonscored: Targets | None = None
    drug_id: np.ndarray | None = None
    test: Dataset | None = None
    submission_ids: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def gene_values(self) -> np.ndarray:
        """[N, genes], a view."""
        return self.features[:, : len(self.genes)]

    @property
    def cell_values(self) -> np.ndarray:
        """[N, cells], a view."""
        return self.features[:, len(self.genes) :]

    def take(self, rows: np.ndarray) -> Dataset:
        """Returns the rows at the given positions, without test rows and submission."""

        def targets(of: Targets | None) -> Targets | None:
            return None if of is None else Targets(of.names, of.values[rows])

        return Dataset(
            self.ids[rows],
            self.genes,
            self.cells,
            self.features[rows],
            self.cp_time[rows],
            self.cp_dose[rows],
            self.is_control[rows],
            targets(self.scored),
            targets(self.nonscored),
            None if self.drug_id is None else self.drug_id[rows],
        )


def sample_folder() -> Path:
    """Returns the folder of the embedded real data."""
    return Path(__file__).parent / "sample"


def load(folder: str | Path, levels: Levels | None = None) -> Dataset:
    """Reads a folder of the competition's layout.

    `train_features` and `train_targets_scored` are required; `train_targets_nonscored`,
    `train_drug`, `test_features` and `sample_submission` may be absent. Each is a .csv, .csv.gz,
    .csv.zip or .parquet file. Rows come in the order of `train_features`, whatever the order of
    the other files.

    Args:
      folder: the folder.
      levels: levels of time, dose and type.

    Raises:
      UserError: naming the file, the column or `sig_id`, what was expected and what was found.
    """
    folder, levels = Path(folder), levels or Levels()
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder with train_features, found none")
    paths = {
        stem: source.find(folder, stem)
        for stem in (
            "train_features",
            "train_targets_scored",
            "train_targets_nonscored",
            "train_drug",
            "test_features",
            "sample_submission",
        )
    }
    for stem in ("train_features", "train_targets_scored"):
        if paths[stem] is None:
            raise UserError(f"{folder}: expected a file {stem}.csv (or .gz, .zip, .parquet)")
    train = _whole(stream(paths["train_features"], levels=levels, rows=1 << 30))
    scored = _targets(paths["train_targets_scored"], train)
    test = submission_ids = nonscored = drug_id = None
    if path := paths["train_targets_nonscored"]:
        nonscored = _targets(path, train)
    if path := paths["train_drug"]:
        drug_id = _joined(path, train.ids, ("drug_id",))["drug_id"].to_numpy(object)
    if path := paths["test_features"]:
        test = _whole(stream(path, train.genes, train.cells, levels, rows=1 << 30))
        if shared := set(test.ids) & set(train.ids):
            raise UserError(f"{path}: sig_id {min(shared)} is in train_features too")
        if path := paths["sample_submission"]:
            submission_ids = _submission_ids(path, test.ids, scored.names)
    return dataclasses.replace(
        train,
        scored=scored,
        nonscored=nonscored,
        drug_id=drug_id,
        test=test,
        submission_ids=submission_ids,
    )


def stream(
    file: str | Path,
    genes: Sequence[str] | None = None,
    cells: Sequence[str] | None = None,
    levels: Levels | None = None,
    rows: int = 8192,
) -> Iterator[Dataset]:
    """Yields the rows of a features file, at most `rows` at a time, in the file's order.

    Args:
      file: a .csv, .csv.gz, .csv.zip or .parquet file.
      genes, cells: the expected columns, whose order is kept; None takes those of the file whose
        names start with `g-` and `c-`.
      levels: levels of time, dose and type.
      rows: rows per part.

    Raises:
      UserError: as `load`.
    """
    file, levels = Path(file), levels or Levels()
    seen: set[str] = set()
    for frame in source.chunks(file, rows):
        if genes is None or cells is None:
            genes = tuple(name for name in frame.columns if name.startswith("g-"))
            cells = tuple(name for name in frame.columns if name.startswith("c-"))
            if not genes and not cells:
                raise UserError(f"{file}: expected columns g-... or c-..., found none")
        _check_columns(file, frame.columns, [*META, *genes, *cells])
        ids = _ids(file, frame, seen)
        yield Dataset(
            ids,
            tuple(genes),
            tuple(cells),
            _numbers(file, frame[[*genes, *cells]], ids),
            _times(file, frame["cp_time"], levels, ids),
            _level(file, frame["cp_dose"], levels.cp_dose, "config.data.cp_doses", ids),
            _level(
                file,
                frame["cp_type"],
                (levels.treated, levels.control),
                "config.data.treated_type or config.data.control_type",
                ids,
            )
            == levels.control,
        )


def _whole(parts: Iterable[Dataset]) -> Dataset:
    parts = list(parts)
    if len(parts) == 1:
        return parts[0]
    stacked = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("ids", "features", "cp_time", "cp_dose", "is_control")
    }
    return dataclasses.replace(parts[0], **stacked)


def _check_columns(file: Path, found: Iterable[str], expected: Sequence[str]) -> None:
    found, wanted = list(found), set(expected)
    missing = [name for name in expected if name not in set(found)]
    extra = [name for name in found if name not in wanted]
    if missing:
        close = difflib.get_close_matches(missing[0], extra, n=1)
        instead = f"; found {close[0]} instead?" if close else ""
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"{file}: expected a column {missing[0]}{more}, found none{instead}")
    if extra:
        more = f" and {len(extra) - 1} more" if len(extra) > 1 else ""
        raise UserError(f"{file}: column {extra[0]}{more} is not expected")


def _ids(file: Path, frame: pd.DataFrame, seen: set[str]) -> np.ndarray:
    ids = frame["sig_id"]
    if ids.isna().any():
        raise UserError(f"{file}: column sig_id: expected an id in row {ids.isna().argmax() + 1}")
    ids = ids.to_numpy(object)
    for sig_id in ids:
        if sig_id in seen:
            raise UserError(f"{file}: sig_id {sig_id} stands more than once")
        seen.add(sig_id)
    return ids


def _numbers(file: Path, frame: pd.DataFrame, ids: np.ndarray) -> np.ndarray:
    try:
        values = frame.to_numpy(np.float64)
    except (TypeError, ValueError):
        for name in frame.columns:
            bad = pd.to_numeric(frame[name], errors="coerce").isna() & frame[name].notna()
            if bad.any():
                row = bad.argmax()
                raise UserError(
                    f"{file}: column {name}, sig_id {ids[row]}: expected a number, "
                    f"found {frame[name].iloc[row]!r}"
                ) from None
        values = frame.apply(pd.to_numeric).to_numpy(np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise UserError(
            f"{file}: column {frame.columns[column]}, sig_id {ids[row]}: "
            f"expected a finite number, found {values[row, column]}"
        )
    return values


def _times(file: Path, column: pd.Series, levels: Levels, ids: np.ndarray) -> np.ndarray:
    numbers = pd.to_numeric(column, errors="coerce")
    allowed = numbers.isin(levels.cp_time)
    _check_level(file, column, allowed, levels.cp_time, "config.data.cp_times", ids)
    return numbers.to_numpy(np.int64)


def _level(
    file: Path, column: pd.Series, allowed: Sequence[str], field: str, ids: np.ndarray
) -> np.ndarray:
    _check_level(file, column, column.isin(allowed), allowed, field, ids)
    return column.to_numpy(object)


def _check_level(
    file: Path, column: pd.Series, fits: pd.Series, allowed: Sequence, field: str, ids: np.ndarray
) -> None:
    if not fits.all():
        row = int((~fits).to_numpy().argmax())
        raise UserError(
            f"{file}: column {column.name}, sig_id {ids[row]}: expected one of "
            f"{', '.join(map(str, allowed))}, found {column.iloc[row]}; set {field} to change them"
        )


def _joined(path: Path, ids: np.ndarray, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Reads a file and returns its rows in the order of `ids`, which it must hold exactly."""
    frame = source.read(path)
    if columns is not None:
        _check_columns(path, frame.columns, ["sig_id", *columns])
    found = pd.Index(_ids(path, frame, set()))
    position = found.get_indexer(pd.Index(ids))
    if (position < 0).any():
        raise UserError(f"{path}: expected sig_id {ids[(position < 0).argmax()]}, found none")
    if len(found) != len(ids):
        extra = found.difference(pd.Index(ids))[0]
        raise UserError(f"{path}: sig_id {extra} has no features")
    frame = frame.iloc[position].drop(columns="sig_id")
    if columns is not None and frame.isna().any(axis=None):
        row = frame.isna().any(axis=1).argmax()
        raise UserError(f"{path}: sig_id {ids[row]}: expected a value, found none")
    return frame


def _targets(path: Path, train: Dataset) -> Targets:
    frame = _joined(path, train.ids)
    if not len(frame.columns):
        raise UserError(f"{path}: expected target columns beside sig_id, found none")
    values = _numbers(path, frame, train.ids)
    binary = (values == 0) | (values == 1)
    if not binary.all():
        row, column = np.argwhere(~binary)[0]
        raise UserError(
            f"{path}: column {frame.columns[column]}, sig_id {train.ids[row]}: "
            f"expected 0 or 1, found {values[row, column]:g}"
        )
    values = values.astype(np.uint8)
    empty = [name for name, some in zip(frame.columns, values.any(0), strict=True) if not some]
    if empty:
        logging.info("%s: %d targets have no positive row, such as %s", path, len(empty), empty[0])
    if labelled := int(values[train.is_control].any(1).sum()):
        logging.warning("%s: %d control rows have targets, which are ignored", path, labelled)
    return Targets(tuple(frame.columns), values)


def _submission_ids(path: Path, test_ids: np.ndarray, targets: Sequence[str]) -> np.ndarray:
    frame = source.read(path)
    _check_columns(path, frame.columns, ["sig_id", *targets])
    ids = _ids(path, frame, set())
    known = set(test_ids)
    for sig_id in ids:
        if sig_id not in known:
            raise UserError(f"{path}: sig_id {sig_id} is not in test_features")
    if len(ids) != len(known):
        absent = min(known - set(ids))
        raise UserError(f"{path}: expected sig_id {absent} of test_features, found none")
    return ids
