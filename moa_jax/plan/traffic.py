"""Traffic: the bytes that the kernels of a compiled program read and write, and their products.

Every instruction that is left after XLA's optimisation is a kernel, and what it reads and writes
goes through the device's memory. Caches are not thought of. What XLA keeps in a TPU's vector memory
moves nothing: weights that stay there through a loop are read from memory before it, and written
after it.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from moa_jax.plan import products, reads
from moa_jax.plan.hlo import Array, Computation, Instruction, Module

# They name, regroup or reinterpret what lies in memory.
_FREE = frozenset(
    "parameter constant get-tuple-element tuple bitcast after-all partition-id replica-id "
    "opt-barrier add-dependency domain".split()
)
_SLICES = ("dynamic-slice", "slice", "gather")
# A TPU's name for slices that were read one by one and lie where their whole is wanted.
_JOINS = "ConcatBitcast"
# Passes of a loop whose end depends on its values: Newton's method for sparse activations.
UNKNOWN_TRIPS = 6


class Traffic(NamedTuple):
    """What a program does in one call.

    Attributes:
      num_bytes: read from and written to memory.
      kernels: how many are started.
      flops: of the products, by their type.
    """

    num_bytes: float = 0.0
    kernels: float = 0.0
    flops: Mapping[str, float] = {}

    def times(self, factor: float) -> Traffic:
        flops = {kind: factor * count for kind, count in self.flops.items()}
        return Traffic(factor * self.num_bytes, factor * self.kernels, flops)


def together(parts: Sequence[Traffic]) -> Traffic:
    """Returns the sum of what several programs do."""
    flops = collections.Counter[str]()
    for part in parts:
        for kind, count in part.flops.items():
            flops[kind] += count  # type: ignore[assignment]
    return Traffic(
        sum(part.num_bytes for part in parts), sum(part.kernels for part in parts), dict(flops)
    )


def of_program(program: Module) -> Traffic:
    """Returns what one call of a program does."""
    return _Counter(program).of(program.entry)


class _Counter:
    """Counts each computation once."""

    def __init__(self, program: Module):
        self._computations = program.computations
        self._counted: dict[str, Traffic] = {}

    def of(self, name: str) -> Traffic:
        if name not in self._counted:
            own = self._computations[name]
            self._counted[name] = together(
                [self._of_instruction(own, one) for one in own.instructions.values()]
            )
        return self._counted[name]

    def _of_instruction(self, own: Computation, one: Instruction) -> Traffic:
        opcode = one.opcode
        if opcode in _FREE or opcode.endswith("-done") or products.library(one) == _JOINS:
            return Traffic()
        if opcode == "while":
            return self.of(one.named("body")).times(self._trips(one))
        if opcode == "conditional":
            return max(map(self.of, one.branches), key=lambda branch: branch.num_bytes)
        if opcode == "call":
            return self.of(one.named("to_apply"))
        if opcode == "async-start":
            return self.of(one.named("calls"))
        if opcode == "fusion":
            body = self._computations[one.named("calls")]
            flops = together([_products(body, inner) for inner in body.instructions.values()]).flops
            return Traffic(_of_fusion(body, one, own.operands(one)), 1, flops)
        return Traffic(_moved(own, one), 1, _products(own, one).flops)

    def _trips(self, loop: Instruction) -> int:
        """Returns how often a loop runs its body: as XLA says, or up to its counter's bound."""
        if loop.trips is not None:
            return loop.trips
        condition = self._computations[loop.named("condition")]
        root = condition.root
        bounds = [read for read in condition.operands(root) if read.opcode == "constant"]
        if root.opcode == "compare" and "direction=LT" in root.attributes and bounds:
            return int(bounds[0].literal)
        return UNKNOWN_TRIPS


def _products(own: Computation, one: Instruction) -> Traffic:
    read = [array for operand in own.operands(one) for array in operand.outputs[:1]]
    count = products.flops(one, read)
    return Traffic(flops={products.kind(one, read): count}) if count else Traffic()


def _moved(own: Computation, one: Instruction) -> int:
    """Returns the bytes that an instruction outside a fusion reads and writes."""
    operands = own.operands(one)
    read = [operand.num_bytes for operand in operands]
    if one.opcode.removesuffix("-start") in _SLICES:
        # What is started returns what it reads before what it makes.
        cut = one.outputs[len(operands) if one.opcode.endswith("-start") else 0]
        return operands[0].outputs[0].bytes_of(cut.size) + cut.num_bytes
    if one.opcode == "dynamic-update-slice":
        return read[1] + _updated(one, operands[1])
    if one.opcode == "scatter":
        return read[-1] + _updated(one, operands[-1]) + read[1]
    if one.opcode == "copy-start":
        return read[0] + one.outputs[0].num_bytes
    if one.opcode.endswith("-start"):
        return 2 * sum(read)
    if products.library(one):
        return sum(read) + sum(array.num_bytes for array in _without_workspace(one))
    return sum(read) + one.num_bytes


def _updated(one: Instruction, part: Instruction) -> int:
    """Returns the bytes that are written where a part of an array is replaced."""
    return one.outputs[0].bytes_of(part.outputs[0].size)


def _without_workspace(one: Instruction) -> Sequence[Array]:
    """Returns the results of a library's function without the memory that it works in."""
    return [a for a in one.outputs if len(one.outputs) == 1 or a.dtype not in ("u8", "s8")]


def _of_fusion(body: Computation, fusion: Instruction, operands: Sequence[Instruction]) -> int:
    """Returns the bytes that a fusion reads and writes; between its instructions there are none."""

    def written(one: Instruction) -> int:
        if one.opcode == "dynamic-update-slice":
            return _updated(one, body.operands(one)[1])
        if one.opcode in ("bitcast", "tuple"):
            return sum(map(written, body.operands(one)))
        return one.num_bytes

    total = min(fusion.num_bytes, written(body.root))
    for name, size in reads.sizes(body).items():
        one = body.instructions[name]
        total += operands[int(one.literal)].outputs[0].bytes_of(size)
    return total
