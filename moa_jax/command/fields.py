"""Fields of a configuration: name, type, value, range and meaning of each, as `--fields` prints."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from moa_jax.config import RunConfig
from moa_jax.schema import FROM_DATA, bounds

WIDTH = 100
_ENTRY = re.compile(r"(\w+(?:, \w+)*): (.+)", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Field:
    """A field as a reader needs it.

    Attributes:
      name: dotted, as after `--config.`.
      type: of the value, or of the values of a tuple.
      value: in this configuration, as a flag takes it.
      allowed: its range or choices; empty for none.
      meaning: what the docstring of its section says; empty where it says nothing.
    """

    name: str
    type: str
    value: str
    allowed: str
    meaning: str


def text(config: RunConfig) -> str:
    """Returns the page: a line of facts for each field, and its meaning below."""
    found = list(listed(config))
    name, kind = (max(len(getattr(f, part)) for f in found) for part in ("name", "type"))
    lines = ["Every field is set by --config.NAME=VALUE; what stands here are the values now.", ""]
    for field in found:
        facts = f"{field.name:{name}}  {field.type:{kind}}  {field.value}"
        lines.append(facts + (f"  ({field.allowed})" if field.allowed else ""))
        lines += textwrap.wrap(
            field.meaning, WIDTH, initial_indent="    ", subsequent_indent="    "
        )
    return "\n".join(lines)


def listed(config: RunConfig) -> Iterator[Field]:
    """Yields every field, in the order in which the sections declare them."""
    return _of_section(config, "")


def meanings(section: type) -> dict[str, str]:
    """Returns what the `Attributes:` of a class and of its bases say, by field.

    An entry of several names is the meaning of each.
    """
    found: dict[str, str] = {}
    for cls in reversed(section.__mro__):
        _, _, entries = inspect.cleandoc(cls.__doc__ or "").partition("\nAttributes:\n")
        # They end where something stands at the margin.
        entries = re.split(r"\n(?=\S)", entries)[0]
        for entry in re.split(r"\n(?=  \S)", entries):
            if match := _ENTRY.fullmatch(entry.strip()):
                found |= dict.fromkeys(match[1].split(", "), " ".join(match[2].split()))
    return found


def _of_section(section: Any, prefix: str) -> Iterator[Field]:
    hints, known = typing.get_type_hints(type(section)), meanings(type(section))
    for field in dataclasses.fields(section):
        yield from _of_value(
            prefix + field.name,
            getattr(section, field.name),
            hints[field.name],
            field.metadata,
            known.get(field.name, ""),
        )


def _of_value(
    name: str, value: Any, hint: Any, metadata: Mapping[str, Any], meaning: str
) -> Iterator[Field]:
    if dataclasses.is_dataclass(value):
        yield from _of_section(value, f"{name}.")
    elif isinstance(value, Mapping) and value:
        element = typing.get_args(hint)[1]
        for key, inner in value.items():
            yield from _of_value(f"{name}.{key}", inner, element, metadata, meaning)
    else:
        yield Field(name, _type(hint), _shown(value), _allowed(metadata), meaning)


def _type(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if origin is tuple:
        return f"{typing.get_args(hint)[0].__name__}, ..."
    return "by name" if origin is not None else hint.__name__


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        # A flag would take texts joined by commas for one text.
        quoted = not value or any(isinstance(item, str) for item in value)
        return f'"{value}"' if quoted else ",".join(map(str, value))
    if isinstance(value, Mapping):
        return "none"
    return "''" if value == "" else str(value)


def _allowed(metadata: Mapping[str, Any]) -> str:
    parts = [f"{metadata['length']} values"] if "length" in metadata else []
    parts += [bounds(metadata)] if bounds(metadata) else []
    parts += [" | ".join(metadata["options"])] if metadata.get("options") else []
    parts += [f"{FROM_DATA} for what suits the rows"] if metadata.get("sized") else []
    parts += ["a fidelity switch"] if metadata.get("switch") else []
    return "; ".join(parts)
