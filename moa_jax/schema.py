"""Schema: dataclass fields with ranges and choices, and values checked against them."""

from __future__ import annotations

import dataclasses
import difflib
import math
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any

from moa_jax.errors import UserError

# The largest value of a field without a bound of its own, either way from 0, and the most values of
# one that takes several: devices count in 32 bits, and sums and powers of more overflow float32.
LARGEST = {int: 2**31 - 1, float: 1e9}
MOST_VALUES = 10_000
# The widest layer, and the longest side of a table of weights.
WIDEST = 2**20
# The value of a size that the data decide, see `sized`.
FROM_DATA = -1


def number(default, low=None, high=None, **metadata):
    """A dataclass field whose value, or whose elements, lie in [low, high].

    A bound that is None is that of `LARGEST`.
    """
    return dataclasses.field(default=default, metadata={"low": low, "high": high, **metadata})


def choice(default, *options: str, **metadata):
    """A dataclass field that takes one of the options, or whose elements do."""
    return dataclasses.field(default=default, metadata={"options": options, **metadata})


def switch(field):
    """Marks a field as a fidelity switch: a documented quirk of the original behind a name."""
    field.metadata = types.MappingProxyType({**field.metadata, "switch": True})
    return field


def sized(field):
    """Marks a field of numbers that may be `FROM_DATA`: a run then has what suits its rows."""
    field.metadata = types.MappingProxyType({**field.metadata, "sized": True})
    return field


def build(cls: type[Any], values: Any, where: str) -> Any:
    """Returns the dataclass `cls` of nested values by name, every one of them checked.

    Fields take at least one value where they take several, unless their metadata say `empty`, and
    texts only, unless these say `numbers`: numbers then count as texts. Those that are `sized` take
    `FROM_DATA`, too.

    Raises:
      UserError: naming the field, whose section is `where`, what was expected and what was found.
    """
    if isinstance(values, cls):
        return values
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: expected a section, found {shown(values)}")
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
            raise UserError(f"{where}: expected at least one value, found {shown(value)}")
        length = metadata.get("length", len(value))
        if len(value) != length:
            raise UserError(f"{where}: expected {length} values, found {len(value)}")
        if len(value) > MOST_VALUES:
            raise UserError(f"{where}: expected at most {MOST_VALUES} values, found {len(value)}")
        if metadata.get("sized") and tuple(value) == (FROM_DATA,):
            return (FROM_DATA,)
        element, metadata = typing.get_args(hint)[0], {**metadata, "sized": False}
        return tuple(_check(item, element, metadata, where) for item in value)
    if origin is not None:  # a mapping; its entries are checked where they are understood
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: expected values by name, found {shown(value)}")
        return dict(value)
    if hint is float and is_number(value) and abs(value) <= sys.float_info.max:
        value = float(value)
    if hint is str and is_number(value) and metadata.get("numbers"):
        value = str(value)
    is_kind = isinstance(value, hint) or (hint is float and is_number(value))
    if not is_kind or (hint is not bool and isinstance(value, bool)):
        raise UserError(f"{where}: expected {hint.__name__}, found {shown(value)}")
    options = metadata.get("options")
    if options and value not in options:
        expected = ", ".join(options)
        raise UserError(f"{where}: expected one of {expected}; found {shown(value)}")
    if hint is float and isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: expected a finite number, found {value}")
    if metadata.get("sized") and value == FROM_DATA:
        return value
    if hint in LARGEST:
        low, high = limits(hint, metadata)
        if not low <= value <= high:
            given = bounds(metadata) if value < low else ""
            raise UserError(
                f"{where}: expected {given or f'between {low} and {high}'}, found {shown(value)}"
            )
    return value


def limits(kind: type, metadata: Mapping) -> tuple[float, float]:
    """Returns the smallest and the largest value of a field of numbers of a kind."""
    low, high = metadata.get("low"), metadata.get("high")
    most = LARGEST[kind]
    return -most if low is None else low, most if high is None else high


def is_number(value: Any) -> bool:
    """Tells whether a value is an integer or a float; truth is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """Returns a value as messages quote it, cut where it is long.

    >>> shown(10**400), shown([0] * 100)
    ('about 10^400', '[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...')
    """
    if isinstance(value, int) and abs(value) > 10**40:
        return f"about {'-' * (value < 0)}10^{round(math.log10(abs(value)))}"
    if isinstance(value, (tuple, list)):
        value = value[:30]
    try:
        text = repr(value)
    except ValueError:  # an integer within is too long for Python to write
        text = type(value).__name__
    return text if len(text) <= 64 else f"{text[:60]} ..."


def bounds(metadata: Mapping) -> str:
    """Returns the range of a field as words, or nothing where it has none."""
    low, high = metadata.get("low"), metadata.get("high")
    if low is None:
        return ""
    return f"at least {low}" if high is None else f"between {low} and {high}"


def suggestion(name: str, known) -> str:
    """Returns `; did you mean X?` for a misspelt name, or nothing."""
    known = list(known)
    close = [one for one in known if one.casefold() == name.casefold()]
    close = close or difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
