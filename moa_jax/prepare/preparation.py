"""Preparation: a table and what the flags say of it -> a data folder and a page about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from moa_jax import schema
from moa_jax.config import DataConfig
from moa_jax.data import prepared
from moa_jax.data.columns import LARGEST_NUMBER
from moa_jax.data.dataset import TREATMENT, Levels
from moa_jax.data.names import Prefixes
from moa_jax.errors import UserError
from moa_jax.prepare import (
    findings,
    labels,
    layout,
    page,
    question,
    record,
    roles,
    side_tables,
    sources,
    wells,
)
from moa_jax.prepare.labels import Labels
from moa_jax.prepare.options import Options
from moa_jax.prepare.roles import Roles
from moa_jax.prepare.sources import Screen
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
    source = sources.read(table, options.layer)
    source = side_tables.joined(source, options.metadata, options.label_separator)
    if options.genes:
        source = side_tables.with_genes(source, options.genes)
    found_roles, groups = roles.find(source, options)
    rows = wells.read(source, found_roles)
    annotated = labels.read(source, found_roles.labels, options.label_separator)
    training, test = _sets(source, rows, annotated)
    if found_roles.cell_count:
        source = sources.with_column(source, found_roles.cell_count)
        groups = {**groups, record.CELL_COUNT: [found_roles.cell_count]}
    columns, groups = _named(source, found_roles, groups)
    treated = training & ~rows.is_control
    asked = question.find(options.predict, rows.compound, treated, test & ~rows.is_control)
    compounds = labels.counts(annotated, treated, rows.compound)
    of_treated = None if rows.compound is None else rows.compound.copy()
    if of_treated is not None:
        of_treated[~treated] = None
    used = survey(
        source, list(columns.values()), training, of_treated, annotated.values == 1, treated
    )
    described = record.describe(
        source, options, found_roles, groups, annotated, compounds, rows, used, columns
    )
    _check(source, options, described, dict(zip(columns, used.largest, strict=True)))
    kept = record.kept_columns(annotated, described)
    if (annotated.values[np.ix_(treated, kept)] < 0).any():
        described["config"]["data"]["missing_targets"] = "mask"
    if asked is not None:
        described["config"]["data"]["predict"] = asked.predict
    told = "" if asked is None else question.line(asked)
    answers = [name for name, one in zip(columns, used.telling, strict=True) if one]
    found = findings.find(rows, annotated, training, test, used, described, told, answers)
    for line in findings.lines(found, described):
        logging.info("%s", line)
    for line in found.warnings:
        logging.warning("%s", line)
    with layout.new_folder(out) as folder:
        _write(folder, source, rows, annotated, training, test, columns, described)
        files.write_json(folder / prepared.NAME, described)
        page.write(folder / "data.html", out.resolve().name, found, described)
    logging.info("%s: written; train with --config.data.folder=%s", out, out)


def _sets(source: Screen, rows: Wells, annotated: Labels) -> tuple[np.ndarray, np.ndarray]:
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
    source: Screen, found: Roles, groups: Mapping[str, Sequence[str]]
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


def _check(
    source: Screen, options: Options, described: Mapping[str, Any], largest: Mapping[str, float]
) -> None:
    """Checks that something is left to learn, and that a run can read it.

    Args:
      source: the table.
      options: the flags.
      described: what `columns.json` is to hold.
      largest: the greatest distance of a value from 0, by feature.
    """
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
    kept = record.medians(described)
    layout.check_names(source.path, "--features", kept)
    layout.check_names(source.path, "--labels", described["labels"]["kept"])
    if beyond := [name for name in kept if largest[name] > LARGEST_NUMBER]:
        raise UserError(
            f"{source.path}: column {beyond[0]}: expected numbers between {-LARGEST_NUMBER:g} and "
            f"{LARGEST_NUMBER:g}, found {largest[beyond[0]]:g}; networks cannot compute with "
            "greater ones"
        )
    try:
        data = schema.build(DataConfig, dict(described["config"]["data"]), "config.data")
        Levels.of(data), Prefixes.of(data)
    except UserError as error:
        raise UserError(f"{source.path}: no run could read what is written: {error}") from None
    for name, one in dropped.items():
        logging.info("label %s is left out: %s", name, one["why"])


def _write(
    folder: Path,
    source: Screen,
    rows: Wells,
    annotated: Labels,
    training: np.ndarray,
    test: np.ndarray,
    columns: Mapping[str, str],
    described: Mapping[str, Any],
) -> None:
    suffix = (
        ".parquet" if source.features is not None or source.path.suffix == ".parquet" else ".csv"
    )
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
    to_predict = test & ~rows.is_control
    for stem, name, of, mask in (
        ("train_drug", "drug_id", rows.compound, treated),
        ("test_drug", "drug_id", rows.compound, to_predict),
        ("plate", "group", rows.plate, treated),
        ("cell_line", "group", rows.cell_line, treated),
        ("groups", "group", rows.groups, treated),
    ):
        if of is not None and mask.any():
            ids = rows.ids[mask]
            own = [one or f"unknown_{i}" for one, i in zip(of[mask], ids, strict=True)]
            found = {"sig_id": layout.texts(ids), name: layout.texts(own)}
            layout.write_columns(folder / f"{stem}.csv", found)
