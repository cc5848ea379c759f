"""Wells: what each row of a table is by the roles of its columns."""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from moa_jax.data import cells, columns
from moa_jax.data.names import id_of, level_key, name_of, on_one_line
from moa_jax.errors import UserError
from moa_jax.prepare import sources, units
from moa_jax.prepare.roles import Roles, value_key, values_of
from moa_jax.prepare.sources import Screen

# A number with a comma, and a unit or nothing after it.
_COMMA = re.compile(r"[+-]?\d+(,\d+)+(\.\d*)?\s*([^\W\d_]\S*)?$")
_OTHER_ID = "name a column, or several with commas between them, by --id, or none by --id="


@dataclasses.dataclass(frozen=True)
class Wells:
    """Rows of a table, N of them, in its order.

    Attributes:
      ids: [N] unique texts.
      is_control: [N] bool.
      compound, plate, cell_line, groups: [N] texts, None for one that is missing; None where no
        column has the role.
      cp_dose, cp_time: [N] texts as the table has them, None for a control's that is missing or
        that no treated row has; None where no column has the role.
      split: [N] bool, rows that a column says are to be predicted; None without one.
      left_out: [N] bool, rows that are none of the layout.
      reasons: how many rows are left out, by the reason.
      unit: that of the doses, in lower case; empty where they are without.
    """

    ids: np.ndarray
    is_control: np.ndarray
    compound: np.ndarray | None
    plate: np.ndarray | None
    cell_line: np.ndarray | None
    groups: np.ndarray | None
    cp_dose: np.ndarray | None
    cp_time: np.ndarray | None
    split: np.ndarray | None
    left_out: np.ndarray
    reasons: dict[str, int]
    unit: str

    def __len__(self) -> int:
        return len(self.ids)


def read(source: Screen, roles: Roles, like: Mapping[str, Any] | None = None) -> Wells:
    """Returns the rows of a source.

    Args:
      source: the table.
      roles: its columns.
      like: of new rows, what `columns.json` says of the training rows' treatment; every row is
        wanted then, so that one without a dose or a time is a mistake.

    Raises:
      UserError: an id is missing or stands twice; a time is no number; doses have another unit than
        the training rows'; there are no rows; a row is left out though all are wanted.
    """
    whole = like is not None
    names = roles.columns() or [source.columns[0]]
    table = source.wells(names)
    if not table.num_rows:
        raise UserError(f"{source.path}: expected rows, found only a header")
    text = {name: sources.texts(source.path, name, table.column(name)) for name in names}
    for column in {*names} - {*roles.id}:  # an id with a line break is told
        lines = {one: one and on_one_line(one) for one in {*text[column]}}
        text[column] = np.array([lines[one] for one in text[column]], object)
    other = "call one otherwise" if whole else _OTHER_ID
    ids = _ids(source, roles, text, table.num_rows, other)

    def of(name: str | None) -> np.ndarray | None:
        if name is None:
            return None
        known = {one: None if cells.is_missing(one) else id_of(one) for one in {*text[name]}}
        return np.array([known[one] for one in text[name]], object)

    is_control = _equals(of(roles.control_column), roles.control_values, table.num_rows)
    reason = np.full(table.num_rows, "", object)  # why a row is left out
    if roles.treated_values:
        is_treated = _equals(of(roles.control_column), roles.treated_values, table.num_rows)
        either = ", ".join((*roles.treated_values, *roles.control_values))
        reason[~is_treated & ~is_control] = f"{roles.control_column} is none of {either}"
    none = _equals(of(roles.compound), roles.untreated_values, table.num_rows)
    reason[none & ~is_control] = f"{roles.compound} is none"
    treatment: dict[str, np.ndarray | None] = {"cp_dose": None, "cp_time": None}
    unit = ""
    for level, name, of_unit in (
        ("cp_dose", roles.dose, roles.dose_unit), ("cp_time", roles.time, roles.time_unit),
    ):  # fmt: skip
        if name is None:
            continue
        counts, trained = ~is_control & (reason == ""), (like or {}).get(level)
        measured = units.joined(text[name], None if of_unit is None else text[of_unit])
        if level == "cp_time":
            found = _hours(measured, counts, trained)
            _check_hours(source, name, ids, found, counts)
        else:
            found, unit = _doses(source, name, measured, counts, trained)
        lacks = counts & np.array([cell is None for cell in found])
        if whole and lacks.any():
            raise UserError(
                f"{source.path}: column {name}, row {int(np.argmax(lacks)) + 1}: expected a "
                f"{level[3:]}, found none; fill it in, or take the row out"
            )
        reason[lacks] = f"no {level[3:]} in {name}"
        used = {level_key(cell) for cell in found[counts & ~lacks]}
        is_unused = [cell is not None and level_key(cell) not in used for cell in found]
        found[is_control & np.array(is_unused)] = None
        treatment[level] = found
    left_out = reason != ""
    reasons = dict(collections.Counter(reason[left_out].tolist()))
    for one, count in reasons.items():
        logging.warning("%s: %d rows are left out: %s", source.path, count, one)
    if left_out.all():
        raise UserError(f"{source.path}: expected rows to keep, found none: {next(iter(reasons))}")
    split = None
    if roles.split_column is not None:
        there = {cell for cell in text[roles.split_column] if cell}
        held_out = values_of(source, "split_test", roles.split_column, roles.split_test, there)
        split = _equals(of(roles.split_column), held_out, table.num_rows)
    return Wells(
        ids, is_control, of(roles.compound), of(roles.plate), of(roles.cell_line),
        of(roles.groups), **treatment, split=split, left_out=left_out, reasons=reasons, unit=unit,
    )  # fmt: skip


def _ids(
    source: Screen, roles: Roles, text: Mapping[str, np.ndarray], count: int, other: str
) -> np.ndarray:
    if not roles.id:
        return np.array([f"row_{row}" for row in range(1, count + 1)], object)
    parts = [text[name] for name in roles.id]
    seen: set[str] = set()
    ids = np.empty(count, object)
    for row, words in enumerate(zip(*parts, strict=True)):
        if any(cells.is_missing(word) for word in words):
            raise UserError(
                f"{source.path}: column {' + '.join(roles.id)}, row {row + 1}: expected an id, "
                "found none; fill it in" + ", or name another column by --id" * (other == _OTHER_ID)
            )
        whole = "_".join(map(name_of, words))
        expected = columns.expected_of_id(whole)
        if expected or whole == "sig_id":
            expected = expected or "that is not what the layout calls ids"
            raise UserError(
                f"{source.path}: column {' + '.join(roles.id)}, row {row + 1}: expected an id "
                f"{expected}, found {whole[:60]!r}"
            )
        ids[row] = one = "_".join(map(id_of, words))
        if one in seen:
            raise UserError(
                f"{source.path}: column {' + '.join(roles.id)}: {one} stands more than once; "
                + other
            )
        seen.add(one)
    return ids


def _equals(found: np.ndarray | None, values: Sequence[str], count: int) -> np.ndarray:
    if found is None:
        return np.zeros(count, bool)
    keys = {value_key(value) for value in values}
    return np.array([cell is not None and value_key(cell) in keys for cell in found])


def _doses(
    source: Screen, name: str, texts: np.ndarray, counts: np.ndarray, like: Mapping[str, Any] | None
) -> tuple[np.ndarray, str]:
    """Returns doses as numbers of one unit where they can be had so, and what the unit is.

    Args:
      source, name: the table and the column.
      texts: [N] its cells.
      counts: [N] bool, rows whose doses count.
      like: what `columns.json` says of the training rows' doses; None for these themselves.

    Raises:
      UserError: they have a comma in a number, or a unit that is none of the training rows'.
    """
    rows, trained = np.flatnonzero(counts), () if like is None else like["levels"]
    for row in rows:
        if texts[row] is not None and _COMMA.match(texts[row]) and texts[row] not in trained:
            raise UserError(
                f"{source.path}: column {name}, row {row + 1}: expected a dose, found "
                f"{texts[row]!r}; decimals are written with a point, thousands without a comma"
            )
    if like is None:
        own = units.of(texts[counts], units.MOLAR)
        return units.bare(texts, units.MOLAR, own), own
    are_numbers = all(isinstance(level_key(level), float) for level in trained)
    if "unit" not in like:  # of an older record, which does not tell
        own = units.of(texts[counts], {}) if are_numbers else ""
        return units.bare(texts, {}, own), own
    wanted = like["unit"]
    found = units.bare(texts, units.MOLAR, wanted)
    are_bare = False
    for row in rows:
        cell = found[row]
        if cell is not None and are_numbers and units.of([cell], units.MOLAR):
            unit = f"in {wanted}" if wanted else "without a unit"
            raise UserError(
                f"{source.path}: column {name}, row {row + 1}: expected a dose {unit}, as the "
                f"training rows have it, found {cell!r}"
            )
        are_bare |= cell is not None and cell == texts[row] and level_key(cell) != 0
    if wanted and are_bare:
        logging.warning(
            "%s: column %s: doses without a unit are read as %s, that of the training rows",
            source.path, name, wanted,
        )  # fmt: skip
    return found, wanted


def _hours(texts: np.ndarray, counts: np.ndarray, like: Mapping[str, Any] | None) -> np.ndarray:
    """Returns times as hours where they can be had so; see `_doses` about the arguments."""
    if like is None or "unit" in like:
        return units.bare(texts, units.HOURS, units.HOUR)
    # Of an older record, whose times have the number of whatever unit they all had.
    return units.bare(texts, {}, units.of(texts[counts], {}))


def _check_hours(
    source: Screen, name: str, ids: np.ndarray, found: np.ndarray, counts: np.ndarray
) -> None:
    for row in np.flatnonzero(counts):
        hours = 0.0 if found[row] is None else level_key(found[row])
        if not (isinstance(hours, float) and math.isfinite(hours)):
            raise UserError(
                f"{source.path}: column {name}, row {row + 1} ({ids[row]}): expected hours as a "
                f"number, found {found[row]!r}; name another column by --time, or none by --time="
            )
