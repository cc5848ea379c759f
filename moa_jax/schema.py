"""Schema: dataclass fields with ranges and choices, and values checked against them."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from moa_jax.errors import UserError


def number(default, low=None, high=None, **metadata):
    """A dataclass field whose value, or whose elements, lie in [low, high]."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high, **metadata})


def choice(default: str, *options: str, **metadata):
    """A dataclass field that takes one of the options."""
    return dataclasses.field(default=default, metadata={"options": options, **metadata})


def switch(field):
    """Marks a field as a fidelity switch: a documented quirk of the original behind a name."""
    field.metadata = types.MappingProxyType({**field.metadata, "switch": True})
    return field


def build(cls: type[Any], values: Any, where: str) -> Any:
    """Returns the dataclass `cls` of nested values by name, every one of them checked.

    Fields take at least one value where they take several, unless their metadata say `empty`, and
    texts only, unless these say `numbers`: numbers then count as texts.

    Raises:
      UserError: naming the field, whose section is `where`, what was expected and what was found.
    """
    if isinstance(values, cls):
        return values
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: expected a section, found {values!r}")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name in values:
        if name not in fields:
            raise UserError(f"{where}.{name}: unknown field" + suggestion(name, fields))
    hints = typing.get_type_hints(cls)
    checked = {
        name: _check(value, hints[name], fields[name].metadata, f"{where}.{name}")
        for name, value in values.items()
    }
    return cls(**checked)


def _check(value: Any, hint: Any, metadata: Mapping, where: str) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    origin = typing.get_origin(hint)
    if origin is tuple:
        may_be_empty = metadata.get("empty", False)
        if not isinstance(value, (tuple, list)) or not (value or may_be_empty):
            raise UserError(f"{where}: expected at least one value, found {value!r}")
        length = metadata.get("length", len(value))
        if len(value) != length:
            raise UserError(f"{where}: expected {length} values, found {len(value)}")
        element = typing.get_args(hint)[0]
        return tuple(_check(item, element, metadata, where) for item in value)
    if origin is not None:  # a mapping; its entries are checked where they are understood
        return dict(value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is float and is_number:
        value = float(value)
    if hint is str and is_number and metadata.get("numbers"):
        value = str(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise UserError(f"{where}: expected {hint.__name__}, found {value!r}")
    options = metadata.get("options")
    if options and value not in options:
        expected = ", ".join(options)
        raise UserError(f"{where}: expected one of {expected}; found {value!r}")
    if hint is float and not math.isfinite(value):
        raise UserError(f"{where}: expected a finite number, found {value}")
    low, high = metadata.get("low"), metadata.get("high")
    if (low is not None and value < low) or (high is not None and value > high):
        raise UserError(f"{where}: expected {bounds(metadata)}, found {value}")
    return value


def bounds(metadata: Mapping) -> str:
    """Returns the range of a field as words, or nothing where it has none."""
    low, high = metadata.get("low"), metadata.get("high")
    if low is None:
        return ""
    return f"at least {low}" if high is None else f"between {low} and {high}"


def suggestion(name: str, known) -> str:
    """Returns `; did you mean X?` for a misspelt name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
