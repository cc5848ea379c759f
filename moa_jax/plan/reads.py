"""Reads: how much of each of its arguments a fused kernel takes from memory.

A fusion computes what its result depends on and nothing else. Of an argument that is cut into
slices, whatever happens to it before, it reads the slices only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from moa_jax.plan.hlo import Array, Computation, Instruction

# How much they read of their first operand is known, where it lies is not.
_DYNAMIC = ("dynamic-slice", "gather")
_ELEMENTWISE = frozenset(
    "abs add and cbrt ceil clamp compare convert copy cosine divide exponential "
    "exponential-minus-one floor is-finite log log-plus-one logistic maximum minimum multiply "
    "negate not or power remainder round-nearest-even rsqrt select sign sine sqrt subtract tan "
    "tanh xor".split()
)
# An element of the result is one of an operand's.
_ONE_BY_ONE = ("bitcast", "broadcast", "concatenate", "reshape", "reverse", "slice", "transpose")
_RANGE = re.compile(r"\[(\d+):(\d+)(?::(\d+))?\]")


class Box(NamedTuple):
    """A part of an array: along each axis the places from `starts` to before `stops`."""

    starts: tuple[int, ...]
    stops: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(max(stop - start, 0) for start, stop in zip(*self, strict=True))


# A number of elements stands for those that lie anywhere.
Part = Box | int


def sizes(body: Computation) -> Mapping[str, int]:
    """Returns how many elements a fusion reads of its parameters, by their names."""
    parts: dict[str, Part] = {}
    for one in reversed(body.instructions.values()):
        if one.is_root:
            parts[one.name] = _whole(one.outputs[0])
        if one.name not in parts:
            continue
        for place, operand in enumerate(body.operands(one)):
            part = _needed(body, one, parts[one.name], place)
            if _size(part):
                parts[operand.name] = (
                    _together(parts[operand.name], part) if operand.name in parts else part
                )
    return {
        one.name: min(_size(parts.get(one.name, 0)), one.outputs[0].size)
        for one in body.instructions.values()
        if one.opcode == "parameter"
    }


def _needed(body: Computation, one: Instruction, part: Part, place: int) -> Part:
    """Returns what of an operand a part of an instruction's result depends on."""
    operands = body.operands(one)
    operand, result = operands[place].outputs[0], one.outputs[0]
    if place == 0 and one.opcode in _DYNAMIC:
        return _size(part)
    if place == 0 and one.opcode == "dynamic-update-slice":
        return 0  # written in place
    if one.opcode in (*_ELEMENTWISE, "bitcast", "reshape") and operand.dims == result.dims:
        return part
    if isinstance(part, Box) and one.opcode == "slice":
        return _before_slice(one, part)
    if isinstance(part, Box) and one.opcode == "concatenate":
        axis = int(_numbers(one, "dimensions")[0])
        before = sum(other.outputs[0].dims[axis] for other in operands[:place])
        return _piece(part, axis, before, operand.dims[axis])
    if one.opcode in _ONE_BY_ONE:
        return _size(part)
    return _whole(operand) if _size(part) else 0


def _before_slice(one: Instruction, part: Box) -> Box:
    found = re.search(r"slice=\{([^}]*)\}", one.attributes)
    ranges = _RANGE.findall(found[1] if found else "")
    starts, stops = [], []
    for (first, _, step), start, stop in zip(ranges, *part, strict=True):
        starts.append(int(first) + int(step or 1) * start)
        stops.append(int(first) + int(step or 1) * (stop - 1) + 1)
    return Box(tuple(starts), tuple(stops))


def _piece(part: Box, axis: int, before: int, length: int) -> Box:
    """Returns a part of a concatenation as places of the array that begins at `before`."""
    starts, stops = map(list, part)
    starts[axis] = max(starts[axis] - before, 0)
    stops[axis] = max(min(stops[axis] - before, length), starts[axis])
    return Box(tuple(starts), tuple(stops))


def _together(first: Part, second: Part) -> Part:
    """Returns what has both parts: of two boxes the one around them."""
    if isinstance(first, Box) and isinstance(second, Box):
        return Box(
            tuple(map(min, first.starts, second.starts)),
            tuple(map(max, first.stops, second.stops)),
        )
    return _size(first) + _size(second)


def _size(part: Part) -> int:
    return part.size if isinstance(part, Box) else part


def _whole(array: Array) -> Box:
    return Box((0,) * len(array.dims), array.dims)


def _numbers(one: Instruction, attribute: str) -> list[str]:
    found = re.search(rf"\b{attribute}=\{{([\d,]*)\}}", one.attributes)
    return found[1].split(",") if found else []
