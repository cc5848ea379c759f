"""Roles: which columns of a table are what, by flags, then by the preset's conventions."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from moa_jax.data import cells
from moa_jax.data.levels import looks_like_control
from moa_jax.data.names import level_key, name_of
from moa_jax.errors import UserError
from moa_jax.prepare import row_names
from moa_jax.prepare.options import Options
from moa_jax.prepare.presets import NONE, PRESETS, SYMBOLS, Preset
from moa_jax.prepare.sources import Screen, is_empty, texts
from moa_jax.schema import suggestion

# Names that a message shows.
SHOWN = 5
SINGLE = (
    "compound", "dose", "time", "dose_unit", "time_unit", "plate", "cell_line", "groups",
    "cell_count", "split_column",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Roles:
    """Columns of a table by what they are; None or empty for a role that none has.

    Attributes:
      id: columns whose texts joined by `_` name a well; empty where it is the row's number.
      labels: the column of texts, or those of 0 and 1.
      control_column: what tells controls, by one of `control_values`; where `treated_values` are
        given, rows of neither are left out.
      untreated_values: compounds that are none, whose rows are left out.
      split_column: what tells rows to predict, by the value `split_test`.
      symbols: column about the features whose texts name them, in place of their ids.
      The others are columns: of compounds, doses, hours, units of both, plates, cell lines, other
        groups and numbers of cells.
    """

    id: tuple[str, ...] = ()
    compound: str | None = None
    labels: tuple[str, ...] = ()
    control_column: str | None = None
    control_values: tuple[str, ...] = ()
    treated_values: tuple[str, ...] = ()
    untreated_values: tuple[str, ...] = ()
    dose: str | None = None
    time: str | None = None
    dose_unit: str | None = None
    time_unit: str | None = None
    plate: str | None = None
    cell_line: str | None = None
    groups: str | None = None
    cell_count: str | None = None
    split_column: str | None = None
    split_test: str = "test"
    symbols: str | None = None

    @classmethod
    def restored(cls, stored: Mapping[str, Any]) -> Roles:
        """Returns the roles that `dataclasses.asdict` made JSON of."""
        lists = {name: tuple(v) for name, v in stored.items() if isinstance(v, list)}
        return cls(**{**stored, **lists})

    def columns(self) -> list[str]:
        """Returns all columns but those of labels and features."""
        single = (getattr(self, name) for name in (*SINGLE, "control_column"))
        return list(dict.fromkeys([*self.id, *(name for name in single if name)]))


def find(source: Screen, options: Options) -> tuple[Roles, dict[str, list[str]]]:
    """Returns the roles of a source's columns, and its features by group.

    Features have the names under which the source knows them, see `named`.

    Raises:
      UserError: naming the flag, what was expected and what was found.
    """
    preset = PRESETS.get(options.preset, NONE)
    single: dict[str, Any] = {name: _single(source, options, preset, name) for name in SINGLE}
    for role in ("dose", "time"):
        if single[role] is not None and f"{role}_unit" not in options.columns:
            single[f"{role}_unit"] = _first(source, [f"{single[role]}_unit{s}" for s in ("", "s")])
    if "id" in options.columns:
        given = options.columns["id"]
        id_columns = _listed(source, "id", given) if given else ()
    else:
        choices = (tuple(text.split(",")) for text in preset.roles.get("id", ()))
        default: tuple[str, ...]
        default = tuple(n for n in ("obs_names", "id", "sig_id") if n in source.columns)[:1]
        default = default or _row_names(source)
        id_columns = next((c for c in choices if set(c) <= set(source.columns)), default)
    for flag, of in (("dose_unit", "dose"), ("time_unit", "time")):
        if options.columns.get(flag) and single[of] is None:
            raise UserError(f"--{flag}: given, but no --{of}; found {options.columns[flag]!r}")
    if options.split_test != Options.split_test and single["split_column"] is None:
        raise UserError(f"--split_test: given, but no --split_column; found {options.split_test!r}")
    controls = _controls(source, options, preset)
    known = {*id_columns, *filter(None, single.values()), controls.get("control_column")}
    labels = _labels(source, options, preset, known)
    for role in ("dose", "time", "cell_count"):  # which models read
        if single[role] in labels:
            raise UserError(
                f"{source.path}: --labels: expected another column than that of --{role}, found "
                f"{single[role]!r}, from which nothing would be learned; --{role}= leaves that out"
            )
    symbols = next((name for name in SYMBOLS if _is_unique(source.about.get(name))), None)
    features = _features(source, options, preset, {*known, *labels}, named(source, symbols))
    roles = Roles(
        id=id_columns, labels=labels, split_test=options.split_test, symbols=symbols,
        untreated_values=preset.untreated,
        **single, **controls,
    )  # fmt: skip
    for role, found in {**single, "id": " + ".join(id_columns), "labels": ", ".join(labels[:3]),
                        "control": controls.get("control_column")}.items():  # fmt: skip
        if found or not role.endswith("_unit"):
            logging.info("%s: %s", role, found or "none")
    if source.features is None:
        read = {*known, *labels, *itertools.chain.from_iterable(features.values())}
        if others := [n for n in source.columns if n not in read and n[:9] != "Metadata_"]:
            logging.info("not read: %d columns, such as %s", len(others), few(others))
    return roles, features


def _row_names(source: Screen) -> tuple[str, ...]:
    """Returns the column of the rows' names, if there is one by which they can be told apart."""
    if row_names.COLUMN not in source.columns:
        return ()
    column = source.wells([row_names.COLUMN]).column(row_names.COLUMN)
    is_named = row_names.is_text(column) and _is_unique(cells.texts(column))
    return (row_names.COLUMN,) if is_named else ()


def named(source: Screen, symbols: str | None) -> dict[str, str]:
    """Returns the name of each of a matrix's features, by the id that the source knows it by."""
    ids = source.features or ()
    names = ids if symbols is None else source.about.get(symbols, ids)
    return dict(zip(ids, names, strict=True))


def _single(source: Screen, options: Options, preset: Preset, role: str) -> str | None:
    if role in options.columns:
        name = options.columns[role]
        return _listed(source, role, name)[0] if name else None
    return _first(source, preset.roles.get(role, ()))


def _first(source: Screen, names: Sequence[str]) -> str | None:
    """Returns the first of some columns in which something stands, the last that is there else."""
    there = [name for name in names if name in source.columns]
    if len(there) > 1:
        columns = source.wells(there)  # all at once: a file is read anew for others
        there = [name for name in there[:-1] if not is_empty(columns.column(name))] + there[-1:]
    return there[0] if there else None


def _listed(source: Screen, role: str, text: str) -> tuple[str, ...]:
    """Returns the columns that a flag names, one or several with commas between them."""
    if text in source.columns:
        return (text,)
    names = _separate(source, text)
    for name in names:
        if name not in source.columns:
            raise UserError(
                f"{source.path}: --{role}: expected a column of the table, found {name!r}"
                + (suggestion(name, source.columns) or f"; it has {few(source.columns)}")
            )
    return names


def _separate(source: Screen, text: str) -> tuple[str, ...]:
    """Returns the names in a text with commas between them, as the table has them or has none."""
    stripped = (name.strip() for name in text.split(","))
    return tuple(name if name in source.columns else name_of(name) for name in stripped)


def _controls(source: Screen, options: Options, preset: Preset) -> dict[str, Any]:
    value = options.control_value
    given = options.columns.get("control_column")
    if given:
        (column,) = _listed(source, "control_column", given)[:1]
        found = _values(source, column)
        values = values_of(source, "control_value", column, value, found) if value else ()
        values = values or tuple(sorted(filter(looks_like_control, found)))
        if not values:
            raise UserError(
                f"{source.path}: --control_value: expected a value of column {column}, found none, "
                f"and no cell is called as controls are; it has {few(sorted(found))}"
            )
        logging.info("controls: %s of column %s", ", ".join(values), column)
        return {"control_column": column, "control_values": values}
    if value and not given:
        raise UserError(f"--control_value: given, but no --control_column; found {value!r}")
    if given is None:
        for column, words in preset.controls:
            if column not in source.columns:
                continue
            found = _values(source, column)
            if values := tuple(sorted(text for text in found if text.lower() in words)):
                return {
                    "control_column": column,
                    "control_values": values,
                    "treated_values": preset.treated,
                }
            if preset.treated and found & set(preset.treated):
                return {
                    "control_column": column,
                    "control_values": words,
                    "treated_values": preset.treated,
                }
    return {}


def values_of(
    source: Screen, flag: str, column: str, text: str, found: Collection[str]
) -> tuple[str, ...]:
    """Returns the values of a column that a flag names, one or several with commas between them.

    Args:
      source: the table.
      flag: the flag.
      column: the column.
      text: what the flag says.
      found: what stands in the column.

    Raises:
      UserError: none of them stands there; the log tells where one does not.
    """
    keys = {value_key(one) for one in found}
    values = (text,) if value_key(text) in keys else tuple(v.strip() for v in text.split(","))
    absent = [value for value in values if value_key(value) not in keys]
    if len(absent) == len(values):
        raise _no_value(source, flag, column, text, found)
    if absent:
        logging.warning("%s: --%s: no cell of column %s is %r, it has %s",
                        source.path, flag, column, absent[0], few(sorted(found)))  # fmt: skip
    return values


def _no_value(
    source: Screen, flag: str, column: str, text: str, found: Collection[str]
) -> UserError:
    return UserError(
        f"{source.path}: --{flag}: expected a value of column {column}, found {text!r}; it has "
        f"{few(sorted(found))}"
    )


def _values(source: Screen, column: str) -> set[str]:
    cells_of = texts(source.path, column, source.wells([column]).column(column))
    return {text for text in cells_of if text is not None}


def _features(
    source: Screen,
    options: Options,
    preset: Preset,
    known: set[str | None],
    symbols: Mapping[str, str],
) -> dict[str, list[str]]:
    """Returns the columns of features by group, whose names are the data's own.

    Args:
      source: the table.
      options: the flags.
      preset: the conventions.
      known: columns that are something else.
      symbols: other names of features, by which they are found too.
    """
    pattern = options.features or preset.features
    if source.features is not None and not options.features:
        for column, value, group in preset.groups:
            if column in source.about:
                keys = {value_key(value), *(["true"] if value == "1" else [])}
                chosen = np.array([value_key(cell) in keys for cell in source.about[column]])
                if chosen.any():
                    names = np.array(source.features, object)[chosen].tolist()
                    logging.info("%s: %d of %d features are %s", source.path, len(names),
                                 len(chosen), group)  # fmt: skip
                    return {group: names}
        if not preset.features:
            return {"genes": list(source.features)}
    if not pattern:
        raise UserError(
            f"{source.path}: --features: expected a regular expression for the columns of "
            f"features, such as '^(Cells|Nuclei)_', or a --preset; it has {few(source.columns)}"
        )
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--features: {pattern!r} is no regular expression: {error}") from None
    names = source.columns if source.features is None else source.features
    # What describes a well is no feature unless it is meant.
    skips_metadata = source.features is None and "Metadata" not in pattern
    found = [
        name
        for name in names
        if name not in {*known, row_names.COLUMN}
        and (expression.search(name) or expression.search(symbols.get(name, name)))
        and not (skips_metadata and name.startswith("Metadata_"))
    ]
    if not found:
        raise UserError(
            f"{source.path}: --features: expected columns that {pattern!r} finds, found none; it "
            f"has {few(names)}"
        )
    return _grouped(found)


def _grouped(names: Sequence[str]) -> dict[str, list[str]]:
    """Returns names by what stands before their first `_` or `-`, where that makes a few groups.

    >>> _grouped(["Cells_Area", "Nuclei_Area", "Cells_Form", "Nuclei_Form"])
    {'Cells': ['Cells_Area', 'Cells_Form'], 'Nuclei': ['Nuclei_Area', 'Nuclei_Form']}
    >>> _grouped(["TP53", "MYC"])
    {'features': ['TP53', 'MYC']}
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        begin = re.match(r"[A-Za-z]+(?=[_-])", name)
        groups.setdefault(begin[0] if begin else "", []).append(name)
    if "" in groups or len(groups) > max(1, min(8, len(names) // 2)):
        return {"features": list(names)}
    return groups


def _labels(
    source: Screen, options: Options, preset: Preset, known: set[str | None]
) -> tuple[str, ...]:
    text = options.columns.get("labels")
    if text is None:
        found = _first(source, preset.roles.get("labels", ()))
        if found is None:
            raise UserError(
                f"{source.path}: --labels: expected the column of labels, or those of 0 and 1; the "
                f"table has {few(source.columns)}" + suggestion("Metadata_moa", source.columns)
            )
        return (found,)
    if not text:
        raise UserError("--labels: expected a column, found an empty text")
    if text in source.columns or {*_separate(source, text)} & {*source.columns}:
        return _listed(source, "labels", text)
    try:
        matched = [n for n in source.columns if re.search(text, n) and n not in known]
    except re.error:
        matched = []
    if not matched:
        _listed(source, "labels", text)  # says that there is no such column
    return tuple(matched)


def value_key(text: str) -> str | float:
    """Returns what two spellings of one value of a control's or split's column have in common.

    >>> [value_key(text) for text in ("DMSO", "dmso ", "1.0")]
    ['dmso', 'dmso', 1.0]
    """
    key = level_key(text)
    return key.casefold() if isinstance(key, str) else key


def _is_unique(names: np.ndarray | None) -> bool:
    if names is None or any(cells.is_missing(name) for name in names):
        return False
    return len(set(names)) == len(names)


def few(names: Sequence[str]) -> str:
    """Returns the first few of some names, as messages and warnings show them.

    >>> few(["a", "b"]), few(list("abcdefgh"))
    ('a, b', 'a, b, c, d, e, ...')
    """
    return ", ".join(list(names)[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
