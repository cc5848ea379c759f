"""Tables: a folder of the competition's layout -> Dataset, every file joined by `sig_id`."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from moa_jax.data import columns, compound_names, folder, formats, prepared
from moa_jax.data.cells import MISSING_MARK
from moa_jax.data.columns import Columns
from moa_jax.data.dataset import LEVELLED, ORIGINAL_LEVELS, TREATMENT, Dataset, Levels, Targets
from moa_jax.data.names import ORIGINAL_PREFIXES, PREFIX_FIELDS, Prefixes, fits, tell_alike
from moa_jax.errors import UserError
from moa_jax.schema import suggestion
from moa_jax.store import memory
from moa_jax.store.files import kind

NOT_MEASURED = (
    "; a missing value: fill it in, or set config.data.missing_targets=mask, with which losses and "
    "scores leave out what was not measured"
)
OF_FEATURES = (
    "; config.data.gene_prefixes and config.data.cell_prefixes tell columns to read, "
    "config.data.ignore those to leave out"
)


def sample_folder() -> Path:
    """Returns the folder of the embedded real data."""
    return Path(__file__).parent / "sample"


def load(
    path: str | Path,
    levels: Levels = ORIGINAL_LEVELS,
    prefixes: Prefixes = ORIGINAL_PREFIXES,
    missing_targets: str = "error",
) -> Dataset:
    """Reads a folder of the competition's layout.

    `train_features` and `train_targets_scored` are required; `train_targets_nonscored`,
    `train_drug`, `test_features` and, where that is, `test_drug` and `sample_submission` are read
    if they are there, of any of `formats.SUFFIXES`. Rows come in the order of `train_features`,
    whatever the order of the other files. Controls that have no row in the targets have none of
    them, and without one in `train_drug` their own type for a drug.

    Args:
      path: the folder.
      levels: values that time, dose and type may take.
      prefixes: which columns of the features are which.
      missing_targets: what an empty cell of the targets is: an `error`, or, with `mask`, a label
        that was not measured.

    Raises:
      UserError: naming the file, the column or `sig_id`, what was expected and what was found.
    """
    path = Path(path)
    if (found := kind(path)) != "a folder":
        raise UserError(f"{path}: expected a folder with train_features, found {found}")
    files = folder.known(path)
    for stem in ("train_features", "train_targets_scored"):
        if stem not in files:
            raise UserError(f"{path}: expected a file {stem} ({formats.KNOWN}), found none")
    bounded = functools.partial(read_features, largest=columns.LARGEST_NUMBER)
    train = bounded(files["train_features"], levels, prefixes=prefixes)
    scored = _targets(files["train_targets_scored"], train, missing_targets)
    tell_alike(files["train_targets_scored"], scored.names)
    nonscored = drug_id = test = submission_ids = None
    if file := files.get("train_targets_nonscored"):
        nonscored = _targets(file, train, missing_targets)
        scored_names = set(scored.names)
        if common := next((name for name in nonscored.names if name in scored_names), None):
            raise UserError(
                f"{file}: column {common} is in {files['train_targets_scored'].name} too; take it "
                "out of one of them"
            )
        tell_alike(file, nonscored.names, scored.names)
    if file := files.get("train_drug"):
        drug_id = _drugs(file, train, levels.control)
    if file := files.get("test_features"):
        test = bounded(file, levels, train.genes, train.cells, prefixes)
        _check_treatment(files["train_features"], train.treatment, file, test.treatment, levels)
        _check_treatment(file, test.treatment, files["train_features"], train.treatment, levels)
        if shared := set(test.ids) & set(train.ids):
            logging.warning("%s: %d sig_ids are in train_features too", file, len(shared))
    if file := files.get("test_drug"):
        if test is None:
            logging.warning("%s: not read, there is no test_features", file)
        else:
            drugs = _drugs(file, test, levels.control, "test_features")
            test = dataclasses.replace(test, drug_id=drugs)
    if file := files.get("sample_submission"):
        if test is None:
            logging.warning("%s: not read, there is no test_features", file)
        else:
            submission = columns.read(file)
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
        prepared=prepared.read(path),
    )


def read_groups(file: str | Path, train: Dataset) -> np.ndarray:
    """Returns the group of each training row, [N] texts; empty for controls without one.

    Args:
      file: a table of `sig_id` and `group`, in any order, of at least the treated rows.
      train: the training rows.

    Raises:
      UserError: naming the file and what was expected and found.
    """
    if not str(file) or kind(Path(file)).startswith("none"):
        raise UserError(
            f"config.data.groups: expected auto, none, compound or a file, found {str(file)!r}"
            + suggestion(str(file), ("auto", "none", "compound"))
        )
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
    prefixes: Prefixes = ORIGINAL_PREFIXES,
    largest: float = np.inf,
) -> Dataset:
    """Reads a whole features file; arguments and errors as for `stream`."""
    parts, blocks, held = [], [], 0
    for part in stream(file, genes, cells, levels, prefixes=prefixes, largest=largest):
        memory.check_held(Path(file), held := held + part.features.nbytes)
        blocks.append(part.features)
        parts.append(dataclasses.replace(part, features=part.features[:0].copy()))
    stacked: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("ids", "cp_time", "cp_dose", "is_control", "drug_id")
        if getattr(parts[0], name) is not None
    }
    return dataclasses.replace(parts[0], features=_stacked(blocks), **stacked)


def _stacked(blocks: list[np.ndarray]) -> np.ndarray:
    """Returns the rows of blocks in one array, and takes each out of the list that is there.

    So there is one table of all rows, and not two: memory is taken as rows are written.
    """
    stacked = np.empty((sum(map(len, blocks)), blocks[0].shape[1]), blocks[0].dtype)
    start = 0
    blocks.reverse()
    while blocks:
        block = blocks.pop()
        stacked[start : start + len(block)] = block
        start += len(block)
    return stacked


def stream(
    file: str | Path,
    genes: Sequence[str] | None = None,
    cells: Sequence[str] | None = None,
    levels: Levels = ORIGINAL_LEVELS,
    rows: int = 8192,
    prefixes: Prefixes = ORIGINAL_PREFIXES,
    treatment: Sequence[str] | None = None,
    largest: float = np.inf,
) -> Generator[Dataset, None, None]:
    """Yields the rows of a features file, `rows` at a time, in the file's order.

    A column of the treatment that is left out counts as one level, the first, or as treated. Rows
    to predict may name their compounds in a column `drug_id` or `compound`; one without a name is
    its own.

    Args:
      file: a file of one of `formats.SUFFIXES`.
      genes, cells: the expected columns, which come in this order whatever the file's, and however
        a character of theirs is coded; None takes those of the file that the prefixes tell.
      levels: values that time, dose and type may take.
      rows: rows per part; the last may have fewer.
      prefixes: which columns are which.
      treatment: the columns of the treatment that the training rows had; None where these are they.
      largest: how far from 0 a feature may be; of rows for trained models, what networks can
        compute with.

    Raises:
      UserError: as `load`, when the part with the mistake is reached.
    """
    had: tuple[str, ...] = ()
    ignored: list[str] = []
    compound: str | None = None
    is_marked = False
    if treatment is not None:
        largest = min(largest, columns.LARGEST_NUMBER)
    for number, part in enumerate(columns.parts(Path(file), rows)):
        # Names of a data frame that was trained on, or of an older work folder, are as they were.
        part = part.called([*(genes or ()), *(cells or ())])
        part = dataclasses.replace(part, is_trained=treatment is not None)
        if not number:
            had = tuple(name for name in TREATMENT if name in part.names)
            if genes is not None:
                ignored = [name for name in part.names if prefixes.group(name) == "ignored"]
                compound = compound_names.column(part.names, {*genes, *(cells or ()), *ignored})
            named = (*had, compound)
            of = {name: prefixes.group(name) for name in part.names if name not in named}
            kept = [name for name, group in of.items() if group != "ignored"]
            columns.check_numbering(part, kept)
            tell_alike(part.path, kept)
            _tell(part.path, had, of, levels, prefixes, genes is None)
            if treatment is not None:
                trained = "the training rows"
                _check_treatment(part.path, had, trained, treatment, levels, "add it")
                out = f"take it out of {part.path.name}"
                _check_treatment(trained, treatment, part.path, had, levels, out)
            if genes is None:
                genes = [name for name in of if of[name] == "genes"]
            if cells is None:
                cells = [name for name in of if of[name] == "cells"]
            if not genes and not cells:
                raise _no_features(part.path, of, prefixes)
            ignored = [n for n in of if of[n] == "ignored" and n not in {*genes, *cells}]
        expected = tuple(genes or ()), tuple(cells or ())
        drugs = None if compound is None else compound_names.of(part, compound)
        part = part.without(ignored if compound is None else [*ignored, compound])
        part.expect([*had, *expected[0], *expected[1]], _of_unknown(part, had, expected))
        found = _dataset(part, *expected, had, levels, largest)
        found = dataclasses.replace(found, drug_id=drugs)
        if not is_marked and (found.features == MISSING_MARK).any():
            is_marked = True
            _tell_mark(part, found)
        yield found


def _no_features(file: Path, of: dict[str, str | None], prefixes: Prefixes) -> UserError:
    prefix = " or ".join(f"{p}..." for p in (*prefixes.genes, *prefixes.cells))
    others = f"; found {', '.join(list(of)[:3])}" if of else ""
    return UserError(f"{file}: expected columns {prefix}, found none{OF_FEATURES}{others}")


def _of_unknown(
    part: Columns, had: Sequence[str], expected: tuple[Sequence[str], Sequence[str]]
) -> str:
    """Returns what to do about the first column that is none of those expected."""
    known = {*had, *expected[0], *expected[1]}
    unknown = next((name for name in part.names if name not in known), "")
    absent = [name for name in TREATMENT if name not in had]
    if close := difflib.get_close_matches(unknown.lower(), absent, n=1):
        return f"; did you mean {close[0]}?"
    if part.is_trained:
        return "; the models were trained without it, take it out"
    return OF_FEATURES


def _tell(
    file: Path,
    had: Sequence[str],
    of: dict[str, str | None],
    levels: Levels,
    prefixes: Prefixes,
    is_training: bool,
) -> None:
    """Logs which columns are left out, and which prefixes fit none."""
    counted = {
        "cp_type": levels.treated,
        "cp_time": f"{levels.cp_time[0]}, the first of config.data.cp_times",
        "cp_dose": f"{levels.cp_dose[0]}, the first of config.data.cp_doses",
    }
    for name in TREATMENT:
        if name not in had:
            logging.warning("%s: no column %s, every row counts as %s", file, name, counted[name])
    if ignored := [name for name in of if of[name] == "ignored"]:
        logging.info("%s: columns left out: %d, such as %s", file, len(ignored), ignored[0])
    for field, given in zip(PREFIX_FIELDS, dataclasses.astuple(prefixes), strict=True):
        for prefix in given:
            is_original = prefix in (*ORIGINAL_PREFIXES.genes, *ORIGINAL_PREFIXES.cells)
            if is_training and not is_original and not any(fits(prefix, name) for name in of):
                logging.warning("%s: config.data.%s: no column is %s...", file, field, prefix)


def _tell_mark(part: Columns, rows: Dataset) -> None:
    marked = rows.features == MISSING_MARK
    row, column = np.argwhere(marked)[0]
    logging.warning(
        "%s: column %s, sig_id %s: found %d, the Connectivity Map's mark of a missing value, in %d "
        "cells of %d rows; it is read as a number: fill it in, or leave rows %sout",
        part.path, (rows.genes + rows.cells)[column], rows.ids[row], MISSING_MARK, marked.sum(),
        len(rows), "" if part.is_trained else "or columns ",
    )  # fmt: skip


def _check_treatment(
    owner: object,
    had: Sequence[str],
    other: object,
    others: Sequence[str],
    levels: Levels,
    remedy: str = "add it, or take it from both",
) -> None:
    """Checks that some rows have every column of the treatment of several levels that others have.

    Rows without types are treated ones, whatever others are.
    """
    for name, choices in (("cp_time", levels.cp_time), ("cp_dose", levels.cp_dose)):
        if len(choices) > 1 and name not in had and name in others:
            raise UserError(
                f"{owner}: expected a column {name}, found none, while {other} had one; {remedy}"
            )


def _dataset(
    part: Columns,
    genes: tuple[str, ...],
    cells: tuple[str, ...],
    had: tuple[str, ...],
    levels: Levels,
    largest: float,
) -> Dataset:
    def of(name: str, allowed: Sequence[Any], field: str) -> np.ndarray:
        if name not in had:
            return np.full(len(part.ids), allowed[0], object)
        is_open = part.is_trained and name in LEVELLED and levels.encoding != "one_hot"
        return part.levels(name, allowed, field, levels.encoding if is_open else None)

    both = "config.data.treated_type or config.data.control_type"
    types = levels.treated, *levels.others, levels.control
    return Dataset(
        part.ids,
        genes,
        cells,
        features=part.numbers([*genes, *cells], largest, keeps_float32=True),
        cp_time=of("cp_time", levels.cp_time, "config.data.cp_times").astype(levels.time_dtype),
        cp_dose=of("cp_dose", levels.cp_dose, "config.data.cp_doses"),
        is_control=of("cp_type", types, both) == levels.control,
        treatment=had,
    )


def _drugs(file: Path, dataset: Dataset, control: str, owner: str = "train_features") -> np.ndarray:
    table = columns.read(file)
    table.expect(["drug_id"])
    rows = table.rows_of(dataset.ids, owner, optional=dataset.is_control)
    if absent := int((rows < 0).sum()):
        logging.info("%s: %d controls have no row, their drug is %s", file, absent, control)
    return np.where(rows < 0, control, table.texts("drug_id")[rows])


def _targets(file: Path, train: Dataset, missing: str) -> Targets:
    table = columns.read(file)
    rows = table.rows_of(train.ids, "train_features", optional=train.is_control)
    if absent := int((rows < 0).sum()):
        logging.info("%s: %d controls have no row, which counts as all 0", file, absent)
    if not table.names:
        raise UserError(f"{file}: expected target columns beside sig_id, found none")
    cells = table.binaries(table.names, missing == "mask", NOT_MEASURED)
    values, known = (each[rows] for each in cells)
    values[rows < 0] = 0
    known[train.is_control] = True  # a control has no mechanism
    _check_known(file, table.names, known[~train.is_control])
    empty = [name for name, some in zip(table.names, values.any(0), strict=True) if not some]
    if empty:
        logging.info("%s: %d targets have no positive row, such as %s", file, len(empty), empty[0])
    if labelled := int(values[train.is_control].any(1).sum()):
        logging.warning("%s: %d control rows have targets, which are ignored", file, labelled)
    return Targets(tuple(table.names), values, known)


def _check_known(file: Path, names: Sequence[str], known: np.ndarray) -> None:
    """Checks that each target is known of a treated row, and logs how many cells are not."""
    if known.all():
        return
    unknown = [name for name, some in zip(names, np.any(known, axis=0), strict=True) if not some]
    if unknown:
        raise UserError(
            f"{file}: column {unknown[0]}: expected labels of treated rows, found none but empty "
            "cells; leave the column out"
        )
    logging.info(
        "%s: %d of %d cells are empty, which counts as not measured; %d rows have nothing else",
        file, (~known).sum(), known.size, (~known).all(1).sum(),
    )  # fmt: skip
