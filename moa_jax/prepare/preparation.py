"""Preparation: a table and what the flags say of it -> a data folder and a page about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from moa_jax.data import prepared
from moa_jax.data.dataset import TREATMENT
from moa_jax.errors import UserError
from moa_jax.prepare import (
    findings,
    labels,
    layout,
    page,
    record,
    roles,
    side_tables,
    sources,
    wells,
)
from moa_jax.prepare.labels import Labels
from moa_jax.prepare.options import Options
from moa_jax.prepare.roles import Roles
from moa_jax.prepare.sources import Source
from moa_jax.prepare.survey import survey
from moa_jax.prepare.wells import Wells
from moa_jax.store import files


def prepare(table: Path, out: Path, options: Options) -> None:
    """Writes a data folder from a table.

    The table is read three times: what its rows are, what its features are, and both to write. No
    more than some rows' numbers are held at once.

    Raises:
      UserError: a flag, the table or the folder is not what is expected; nothing is written.
    """
    layout.check_new(out)
    source = opened(table, options)
    found_roles, groups = roles.find(source, options)
    rows = wells.read(source, found_roles)
    annotated = labels.read(source, found_roles.labels, options.label_separator)
    training, test = _sets(source, rows, annotated)
    if found_roles.cell_count:
        source = sources.with_column(source, found_roles.cell_count)
        groups = {**groups, record.CELL_COUNT: [found_roles.cell_count]}
    columns, groups = _named(source, found_roles, groups)
    treated = training & ~rows.is_control
    compounds = labels.counts(annotated, treated, rows.compound)
    own = None
    if rows.compound is not None:
        own = np.where(treated, rows.compound, None)
    used = survey(source, list(columns.values()), training, own)
    described = record.describe(
        source, options, found_roles, groups, annotated, compounds, rows, used
    )
    _check(source, options, described)
    found = findings.find(rows, annotated, training, test, used, described)
    for line in findings.lines(found, described):
        logging.info("%s", line)
    for line in found.warnings:
        logging.warning("%s", line)
    with layout.new_folder(out) as folder:
        _write(folder, source, rows, annotated, training, test, columns, described)
        files.write_json(folder / prepared.NAME, described)
        page.write(folder / "data.html", out.name, found, described)
    logging.info("%s: written; train with --config.data.folder=%s", out, out)


def opened(table: Path, options: Options) -> Source:
    """Returns the source of a table with what its side tables add."""
    source = sources.read(table)
    source = side_tables.joined(source, options.metadata, options.label_separator)
    return side_tables.with_genes(source, options.genes) if options.genes else source


def _sets(source: Source, rows: Wells, annotated: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Returns which rows are for training and which are to be predicted, each [N] bool."""
    unknown = ~annotated.known & ~rows.is_control
    to_predict = unknown if rows.split is None else unknown | rows.split
    training, test = ~rows.left_out & ~to_predict, ~rows.left_out & to_predict
    if not (training & ~rows.is_control).any():
        raise UserError(
            f"{source.path}: expected treated wells with labels to learn from, found none"
        )
    return training, test


def _named(
    source: Source, found: Roles, groups: Mapping[str, Sequence[str]]
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Returns the source's name of each feature by the layout's, and the groups of the latter."""
    names = roles.named(source, found.symbols)
    in_layout = {group: [names.get(n, n) for n in members] for group, members in groups.items()}
    columns = {
        name: own
        for group, members in groups.items()
        for name, own in zip(in_layout[group], members, strict=True)
    }
    if taken := {"sig_id", *TREATMENT} & columns.keys():
        raise UserError(
            f"{source.path}: --features: {taken.pop()} is no name for a feature; it is the "
            "layout's own"
        )
    return columns, in_layout


def _check(source: Source, options: Options, described: Mapping[str, Any]) -> None:
    dropped = described["labels"]["dropped"]
    if not described["labels"]["kept"]:
        unit = described["labels"]["counted"]
        most = max(one[unit] for one in dropped.values())
        raise UserError(
            f"{source.path}: --min_compounds={options.min_compounds}: no label has so many "
            f"{unit}, the most is {most}"
        )
    if not described["features"]:
        raise UserError(f"{source.path}: every column of features is constant or mostly missing")
    for name, one in dropped.items():
        logging.info("label %s is left out: %s", name, one["why"])


def _write(
    folder: Path,
    source: Source,
    rows: Wells,
    annotated: Labels,
    training: np.ndarray,
    test: np.ndarray,
    columns: Mapping[str, str],
    described: Mapping[str, Any],
) -> None:
    suffix = ".parquet" if source.features is not None or source.path.suffix == ".parquet" else ".csv"
    chosen = {"train_features": training, **({"test_features": test} if test.any() else {})}
    paths = [folder / f"{stem}{suffix}" for stem in chosen]
    with layout.writing(paths) as append:
        for parts in layout.profiles(source, rows, columns, described, list(chosen.values())):
            append(parts)
    treated = training & ~rows.is_control
    kept = record.kept_columns(annotated, described)
    names = [annotated.names[index] for index in kept]
    layout.write_targets(
        folder / "train_targets_scored.csv", rows.ids[treated], names,
        annotated.values[np.ix_(treated, kept)],
    )  # fmt: skip
    held = test & annotated.known & ~rows.is_control
    if held.any():
        layout.write_targets(
            folder / "held_out_targets.csv", rows.ids[held], names,
            annotated.values[np.ix_(held, kept)],
        )  # fmt: skip
    for stem, name, of in (
        ("train_drug", "drug_id", rows.compound),
        ("plate", "group", rows.plate),
        ("cell_line", "group", rows.cell_line),
    ):
        if of is not None:
            ids = rows.ids[treated]
            own = [one or f"unknown_{i}" for one, i in zip(of[treated], ids, strict=True)]
            found = {"sig_id": layout.texts(ids), name: layout.texts(own)}
            layout.write_columns(folder / f"{stem}.csv", found)


def apply(table: Path, described: Mapping[str, Any], out: Path) -> None:
    """Writes the features file of new rows of a raw table, every one of them.

    Args:
      table: in any of the formats, with at least the columns that `described` names for ids,
        controls, doses, times and features.
      described: what `columns.json` of the training rows' folder holds.
      out: a .csv or .parquet file.

    Raises:
      UserError: a column is missing, or a cell is not what is expected.
    """
    if out.suffix not in (".csv", ".parquet"):
        raise UserError(f"--out: {out}: expected a name that ends in .csv or .parquet")
    options = Options(
        metadata=tuple(described["metadata"]),
        genes=described["genes"],
        label_separator=described["label_separator"],
    )
    source = opened(table, options)
    found = _present(source, Roles.restored(described["roles"]), described)
    if found.cell_count:
        source = sources.with_column(source, found.cell_count)
    own = {name: known for known, name in roles.named(source, found.symbols).items()}
    medians = record.medians(described)
    known = {*(source.features or source.columns), found.cell_count}
    columns = {name: own.get(name, name) for name in medians}
    if missing := [name for name, here in columns.items() if here not in known]:
        more = f", nor {len(missing) - 1} others" if len(missing) > 1 else ""
        raise UserError(
            f"{table}: expected a column {missing[0]}, found none{more}; the models were trained "
            "with it"
        )
    rows = wells.read(source, found, whole=True)
    with files.replacing(out) as temporary, layout.writing([temporary]) as append:
        everything = ~rows.left_out
        for parts in layout.profiles(source, rows, columns, described, [everything]):
            append(parts)


def _present(source: Source, trained: Roles, described: Mapping[str, Any]) -> Roles:
    """Returns the roles that new rows need, which may lack what is asked of training rows only."""

    def expect(name: str) -> None:
        if name not in source.columns:
            raise UserError(
                f"{source.path}: expected a column {name}, found none; the models were trained "
                "with it"
            )

    for name in trained.id:
        expect(name)
    for name in (trained.cell_count, trained.dose, trained.time):
        if name is not None:
            expect(name)
    has_type = trained.control_column in source.columns
    return dataclasses.replace(
        trained,
        compound=None,
        plate=None,
        cell_line=None,
        labels=(),
        split_column=None,
        control_column=trained.control_column if has_type else None,
        treated_values=(),
    )
