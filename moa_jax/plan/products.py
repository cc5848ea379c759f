"""Products: the FLOPs of a program's matrix products and convolutions, by the type of the units.

A GPU's program calls libraries for them, of which XLA's own analysis tells nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from moa_jax.plan.hlo import Array, Instruction

_TYPES = {"bf16": "bfloat16", "f16": "float16", "f64": "float64"}
_CONTRACTED = re.compile(r'lhs_contracting_dim(?:ension)?s"?[=:][\[{]([\d,"]*)')
_PRECISION = re.compile(r'operand_precision"?[=:][\[{]([^\]}]*)')
_LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")


def flops(instruction: Instruction, operands: Sequence[Array]) -> float:
    """Returns the FLOPs of one product, a multiplication and an addition counting as two; else 0.

    Args:
      instruction: of a program.
      operands: what it reads.
    """
    target = library(instruction)
    if instruction.opcode == "dot" or "matmul" in target or "gemm" in target:
        left = operands[0]
        axes = [int(axis) for axis in re.findall(r"\d+", _field(_CONTRACTED, instruction))]
        return 2.0 * instruction.outputs[0].size * math.prod(left.dims[axis] for axis in axes)
    labels = _LABELS.search(instruction.attributes)
    if labels and (instruction.opcode == "convolution" or "conv" in target):
        image, kernel = _of_forward_pass(target, instruction.outputs[0], operands)
        return 2.0 * image.size * kernel.size / kernel.dims[labels[2].index("o")]
    return 0.0


def _of_forward_pass(target: str, output: Array, operands: Sequence[Array]) -> tuple[Array, Array]:
    """Returns the output and the kernel of the convolution whose gradient this may be."""
    if target.endswith("convBackwardInput"):
        return operands[0], operands[1]
    if target.endswith("convBackwardFilter"):
        return operands[1], output
    return output, operands[1]


def kind(instruction: Instruction, operands: Sequence[Array]) -> str:
    """Returns the type that a product is done in, as `Card.peak` names them."""
    dtype = operands[0].dtype
    if dtype in _TYPES:
        return _TYPES[dtype]
    return "float32" if "high" in _field(_PRECISION, instruction).lower() else "tf32"


def library(instruction: Instruction) -> str:
    """Returns the function of a library that an instruction calls, or an empty text."""
    found = re.search(r'custom_call_target="([^"]*)"', instruction.attributes)
    return found[1] if found and instruction.opcode == "custom-call" else ""


def _field(pattern: re.Pattern, instruction: Instruction) -> str:
    found = pattern.search(instruction.attributes)
    return found[1] if found else ""
