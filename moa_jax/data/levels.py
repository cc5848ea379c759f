"""Levels of the treatment that are left to the data: those that the files of a folder have."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import logging

from moa_jax import schema
from moa_jax.config import LEVELS_OF_FILES, DataConfig
from moa_jax.data import cells, columns, formats, remedies
from moa_jax.data.dataset import ORIGINAL_LEVELS, TREATMENT
from moa_jax.data.names import VEHICLES, level_key, ordered_levels
from moa_jax.errors import UserError

STEMS = ("train_features", "test_features")
COLUMN_OF = {
    "cp_times": "cp_time",
    "cp_doses": "cp_dose",
    **dict.fromkeys(("treated_type", "control_type", "other_types"), "cp_type"),
}
# Names of a control's type beside those by which screens tell a vehicle.
_CONTROLS = frozenset(
    re.sub(r"[\W_]+", "", name)
    for name in (*VEHICLES, "ctl", "ctrl", "mock", "untreated", "negative control",
                 "vehicle control", "solvent")
)  # fmt: skip
# And those of a guide's, which beside a vehicle is a treatment.
_GUIDES = frozenset(("nontargeting", "nontargetingcontrol", "ntc"))


def settled(data: DataConfig, folder: str | Path) -> DataConfig:
    """Returns the section with the levels that it leaves to the data.

    Levels are those of training and test rows, numbers in their order, then texts in theirs. A
    column that is left out has the original's first one. The control's type is the one that is
    called as controls are, such as DMSO, and where no such one is, that of guides without a target;
    where none is, or several are, all rows are treated. Of numbers and truth, which name nothing,
    somebody has to say it.

    Args:
      data: the section; fields that name levels stay.
      folder: the data folder; what is wrong with it, and with ids, is for `tables.load` to say.

    Raises:
      UserError: a file cannot be read; see `taken`; a time is no number.
    """
    unset = [field for field in LEVELS_OF_FILES if not getattr(data, field)]
    if not unset:
        return data
    if data.source == "simulated":
        return dataclasses.replace(data, **{f: getattr(DataConfig(), f) for f in unset})
    return taken(data, _in_files(Path(folder), {COLUMN_OF[field] for field in unset}))


def taken(data: DataConfig, levels_of: Mapping[str, Sequence[str]]) -> DataConfig:
    """Returns the section with the levels that it leaves to the data, as `settled` does.

    Args:
      data: the section; fields that name levels stay.
      levels_of: levels of the columns of the treatment that there are, in their order, as texts.

    Raises:
      UserError: there are more levels than a field takes; types are several numbers or truth, of
        which none is said to be the control; or one control is written in two ways.
    """
    unset = [field for field in LEVELS_OF_FILES if not getattr(data, field)]
    found: dict[str, Sequence[str]] = {**dict.fromkeys(TREATMENT, ()), **levels_of}
    fields: dict[str, object] = {}
    if "cp_times" in unset:
        times = [float(level_key(level)) for level in found["cp_time"]]
        fields["cp_times"] = tuple(times) or ORIGINAL_LEVELS.cp_time[:1]
    if "cp_doses" in unset:
        fields["cp_doses"] = tuple(found["cp_dose"]) or ORIGINAL_LEVELS.cp_dose[:1]
    if {"treated_type", "control_type"} & set(unset):
        fields |= _types(found["cp_type"], data)
    checked = schema.build(DataConfig, fields, "config.data")
    for field in fields:
        value = getattr(checked, field)
        if found[COLUMN_OF[field]] and value:
            shown = ", ".join(map(str, value)) if isinstance(value, tuple) else value
            logging.info("config.data.%s: %s, as in the files", field, shown)
    return dataclasses.replace(data, **{name: getattr(checked, name) for name in fields})


def looks_like_control(level: str) -> bool:
    """Tells whether a type is called as a control without a compound is.

    >>> [looks_like_control(level) for level in ("ctl_vehicle", "DMSO", "neg control", "trt_cp")]
    [True, True, True, False]
    """
    return _plain(level) in _CONTROLS | _GUIDES


def _is_name(level: str) -> bool:
    """Tells whether a type is more than a number or truth, by which no control is known."""
    return not isinstance(key := level_key(level), float) and key not in ("true", "false")


def _plain(level: str) -> str:
    return re.sub(r"[\W_]+", "", level.casefold())


def _types(found: Sequence[str], data: DataConfig) -> dict[str, object]:
    """Returns the fields of the types, of the levels that the column has."""
    named = {level_key(name) for name in (data.treated_type, data.control_type) if name}
    left = [level for level in found if level_key(level) not in named]
    control, treated = data.control_type, data.treated_type
    if not control:
        like = [level for level in left if _plain(level) in _CONTROLS]
        like = like or [level for level in left if _plain(level) in _GUIDES]
        if len(like) == 1 and (len(left) > 1 or treated):
            control = like[0]
            left.remove(control)
        elif found:
            if like[1:] and len({*map(_plain, like)}) == 1:
                raise UserError(
                    "column cp_type: expected one name of the control, found "
                    f"{' and '.join(like)}, which differ by case or spaces alone; write them alike"
                )
            if len(found) > 1 and not any(map(_is_name, found)):
                raise UserError(
                    "column cp_type: expected names of types, such as trt_cp and ctl_vehicle, "
                    f"found {schema.shown(list(found))}: set config.data.control_type to the "
                    "control's, or to another text where all rows are treated"
                )
            line = "cp_type: no control, for %s: all rows are treated; see config.data.control_type"
            if like[1:]:
                logging.warning(line, f"of {', '.join(like)} it could be each")
            elif len(found) > 1:
                logging.warning(line, f"none of {', '.join(found)} is called so")
            else:
                logging.info(line, "none is called so")
    others: list[str] = []
    if not treated:
        treated, *others = left or [_unused(found, ORIGINAL_LEVELS.treated, "treated")]
    # New rows may have a type that training rows lack.
    control = control or _unused([*found, treated], ORIGINAL_LEVELS.control, *VEHICLES)
    return {"treated_type": treated, "control_type": control, "other_types": tuple(others)}


def _unused(found: Sequence[str], *names: str) -> str:
    keys = {level_key(level) for level in found}
    return next(name for name in names if level_key(name) not in keys)


def _in_files(folder: Path, wanted: set[str]) -> Mapping[str, Sequence[str]]:
    """Returns the levels in columns of the treatment, by column."""
    paths = [folder / f"{stem}{suffix}" for stem in STEMS for suffix in formats.SUFFIXES]
    texts: dict[str, dict[str, None]] = {name: {} for name in wanted}
    for path in paths:
        if not path.is_file():
            continue
        for part in columns.parts(path, rows=8192):
            for name in wanted & set(part.names):
                column = part.table.column(name)
                for row, text in enumerate(cells.texts(column)):
                    if cells.is_missing(text) or text in texts[name]:
                        continue
                    if name == "cp_time" and not isinstance(level_key(text), float):
                        raise UserError(
                            f"{path}: column cp_time, sig_id {part.ids[row]}: expected hours as a "
                            f"number, found {text!r}{remedies.of_number(column, row)}"
                        )
                    texts[name][text] = None
    return {name: ordered_levels(found) for name, found in texts.items()}
