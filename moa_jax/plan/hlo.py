"""HLO: a compiled program as XLA prints it, read into instructions."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

_BITS = {"pred": 8, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\](\{[^}]*\})?")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"\s*(ROOT )?%?([\w.\-]+) = (.*)$")
_NAME = re.compile(r"%([\w.\-]+)")
# Memory spaces other than the device's main memory, as a TPU's vector memory.
_ON_CHIP = re.compile(r"S\([1-9]\d*\)")
# Axes from the one whose entries lie next to each other on, and the tiles that a TPU cuts them to.
_TILED = re.compile(r"\{([\d,]*):T\(([\d,]+)\)")


class Array(NamedTuple):
    """An array of a shape.

    Attributes:
      dtype: XLA's name of its type.
      dims: its dimensions.
      on_chip: whether it lies elsewhere than in the device's main memory.
      room: entries that there is memory for, which a TPU cuts into tiles and fills up.
    """

    dtype: str
    dims: tuple[int, ...]
    on_chip: bool
    room: int

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.dims)

    @property
    def num_bytes(self) -> int:
        """Bytes in the device's main memory, those that fill up tiles included."""
        return 0 if self.on_chip else -(-self.room * _bits(self.dtype) // 8)

    def bytes_of(self, size: int) -> int:
        """Returns the bytes of main memory that so many of its entries take."""
        return -(-self.num_bytes * size // max(self.size, 1))


def _room(dims: Sequence[int], layout: str) -> int:
    """Returns how many entries there is memory for in a layout, such as `{1,0:T(8,128)S(1)}`."""
    tiled = _TILED.match(layout)
    if not tiled:
        return math.prod(dims)
    order, tile = ([int(size) for size in part.split(",") if size] for part in tiled.groups())
    sizes = [dims[axis] for axis in reversed(order)]
    sizes = [1] * (len(tile) - len(sizes)) + sizes
    outer = len(sizes) - len(tile)
    filled = (-(-size // edge) * edge for size, edge in zip(sizes[outer:], tile, strict=True))
    return math.prod(sizes[:outer]) * math.prod(filled)


def _bits(dtype: str) -> int:
    if dtype in _BITS:
        return _BITS[dtype]
    # f8e4m3fn, bf16, s4, c64: the first number is that of the bits.
    found = re.search(r"\d+", dtype)
    return int(found[0]) if found else 0


def arrays(shape: str) -> Iterator[Array]:
    """Yields the arrays of a shape's text, those of a tuple one after another.

    >>> [array.num_bytes for array in arrays("(f32[2,3]{1,0}, pred[4], bf16[8]{0:T(128)S(1)})")]
    [24, 4, 0]
    >>> [array.num_bytes for array in arrays("(bf16[3,206]{1,0:T(8,128)(2,1)}, s32[]{:T(128)})")]
    [4096, 512]
    """
    for dtype, listed, layout in _ARRAY.findall(shape):
        dims = tuple(int(size) for size in listed.split(",") if size)
        yield Array(
            dtype,
            dims,
            bool(_ON_CHIP.search(layout)),
            _room(dims, layout),
        )


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      name, opcode: its own name, and what it does.
      outputs: what it computes.
      operands: names of what it reads.
      literal: the text between its parentheses, as the number of a parameter.
      attributes: the text after them.
      is_root: whether it is what its computation returns.
    """

    name: str
    opcode: str
    outputs: tuple[Array, ...]
    operands: tuple[str, ...]
    literal: str
    attributes: str
    is_root: bool

    @property
    def num_bytes(self) -> int:
        return sum(array.num_bytes for array in self.outputs)

    def named(self, attribute: str) -> str:
        """Returns the computation that an attribute names, such as `body` or `calls`."""
        found = re.search(rf"\b{attribute}=%?([\w.\-]+)", self.attributes)
        if not found:
            raise ValueError(f"{self.name}: expected {attribute} in {self.attributes[:200]}")
        return found[1]

    @property
    def branches(self) -> Sequence[str]:
        """The computations one of which a conditional runs."""
        listed = re.search(r"branch_computations=\{([^}]*)\}", self.attributes)
        if listed:
            return [name.strip().lstrip("%") for name in listed[1].split(",")]
        return [self.named("true_computation"), self.named("false_computation")]

    @property
    def trips(self) -> int | None:
        """How often a loop runs its body; None where XLA does not know."""
        found = re.search(r'known_trip_count"?:\{"n":"(\d+)"', self.attributes)
        return int(found[1]) if found else None


class Computation:
    """A function of a program.

    Attributes:
      instructions: by name, in order.
    """

    def __init__(self) -> None:
        self.instructions: dict[str, Instruction] = {}

    @property
    def root(self) -> Instruction:
        return next(one for one in self.instructions.values() if one.is_root)

    def operands(self, instruction: Instruction) -> list[Instruction]:
        """Returns what an instruction reads, those of its operands that are of this function."""
        named = self.instructions
        return [named[name] for name in instruction.operands if name in named]


class Module(NamedTuple):
    """A whole program: its computations by name, and the one that is called."""

    computations: Mapping[str, Computation]
    entry: str


def parse(text: str) -> Module:
    """Reads what `jax.stages.Compiled.as_text` returns.

    Raises:
      ValueError: there is no entry.
    """
    computations: dict[str, Computation] = {}
    current, entry = None, None
    for line in text.splitlines():
        if line.endswith("{") and (head := _COMPUTATION.match(line)):
            current = computations[head[2]] = Computation()
            entry = head[2] if head[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (found := _INSTRUCTION.match(line)):
            one = _instruction(bool(found[1]), found[2], found[3])
            current.instructions[one.name] = one
    if entry is None:
        raise ValueError("expected the text of a compiled program, found no ENTRY")
    return Module(computations, entry)


def _instruction(is_root: bool, name: str, rest: str) -> Instruction:
    end = _closing(rest, 0) if rest.startswith("(") else rest.index(" ")
    shape, call = rest[:end], rest[end:].strip()
    start = call.index("(")
    stop = _closing(call, start)
    literal = call[start + 1 : stop - 1]
    return Instruction(
        name,
        call[:start],
        tuple(arrays(shape)),
        tuple(_NAME.findall(literal)),
        literal,
        call[stop:],
        is_root,
    )


def _closing(text: str, start: int) -> int:
    """Returns the position after the parenthesis that closes the one at `start`."""
    depth = 0
    for found in re.compile(r"[()]").finditer(text, start):
        depth += 1 if found[0] == "(" else -1
        if depth == 0:
            return found.end()
    raise ValueError(f"expected a closing parenthesis in {text[:200]}")
