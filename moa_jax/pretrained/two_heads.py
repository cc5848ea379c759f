"""Keras's weights of the 2-heads network -> variables of `moa_jax.models.two_heads.TwoHeads`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from moa_jax.errors import UserError
from moa_jax.models.two_heads import HEAD, TwoHeads
from moa_jax.models.types import VariablePath, Variables
from moa_jax.pretrained import tensors
from moa_jax.pretrained.state_dict import variable_shapes

_PARAMETERS = {
    ("params", "scale"): "gamma",
    ("params", "bias"): "beta",
    ("batch_stats", "mean"): "moving_mean",
    ("batch_stats", "var"): "moving_variance",
}
# The network has one head at a time; Keras's names tell which.
_HEADS = ("head_scored", "head_nonscored")


def two_heads_from_keras(weights: Mapping[str, Any]) -> Variables:
    """Returns the variables of a `TwoHeads` from the arrays of its Keras twin.

    Args:
      weights: keys `<block>.<layer>.<param>`, such as `output1.bn0.gamma`, `answer4.dense1.kernel`
        and, for either head, `head_scored.dense0.bias` or `head_nonscored.dense0.bias`; batch
        normalisations and dense layers are counted from 0 within their block. Values are arrays
        of any floating type, which is kept; kernels are [inputs, outputs], as in Flax.

    Raises:
      UserError: a key is missing or unknown, a shape does not fit, or a value is no finite
        floating number.
    """
    arrays = tensors.arrays(weights)
    head = max(_HEADS, key=lambda head: sum(name.startswith(f"{head}.") for name in arrays))
    # Names do not depend on the widths of inputs and output.
    template = _shapes(1, 0, 1)
    names = {_keras_name(path, head) for path in template}
    missing, unknown = names - arrays.keys(), arrays.keys() - names
    if missing or unknown:
        raise UserError(
            f"weights: missing {sorted(missing) or 'nothing'}, "
            f"unknown {sorted(unknown) or 'nothing'}"
        )
    # The kernels tell the widths of both inputs; what disagrees with them is named.
    width1 = _num_inputs(arrays["output1.dense0.kernel"])
    joined = _num_inputs(arrays["answer1.dense0.kernel"])
    width2 = max(joined - template["params", "answer1", "dense0", "kernel"][0], 0)
    shapes = _shapes(width1, width2, arrays[f"{head}.dense0.bias"].size)
    variables = {}
    for path, expected in shapes.items():
        name = _keras_name(path, head)
        array = variables[path] = arrays[name]
        if array.shape != expected:
            raise UserError(f"weights: {name}: expected shape {expected}, found {array.shape}")
        tensors.check(name, array)
    return traverse_util.unflatten_dict(variables)


def _shapes(width1: int, width2: int, num_outputs: int) -> dict[VariablePath, tuple[int, ...]]:
    return variable_shapes(TwoHeads(num_outputs), (1, width1), (1, width2))


def _num_inputs(kernel: np.ndarray) -> int:
    return kernel.shape[0] if kernel.ndim else 0


def _keras_name(path: VariablePath, head: str) -> str:
    collection, block, layer, leaf = path
    parameter = _PARAMETERS[collection, leaf] if layer.startswith("bn") else leaf
    return f"{head if block == HEAD else block}.{layer}.{parameter}"
