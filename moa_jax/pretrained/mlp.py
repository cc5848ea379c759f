"""PyTorch's state dict of the dense network -> variables of `moa_jax.models.mlp.MLP`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from moa_jax.errors import UserError

_BATCH_NORM = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}
# Linear layers keep [outputs, inputs] in PyTorch.
_WEIGHT_NORM = {"weight_v": "v", "weight_g": "g", "bias": "bias"}
_DENSE = {"weight": "kernel", "bias": "bias"}
_IGNORED = "num_batches_tracked"


def mlp_from_torch(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the variables of an `MLP` from the state dict of its PyTorch twin.

    Args:
      state_dict: keys `batch_norm1.weight`, `dense1.weight_g`, `dense2.weight` and so on; values
        are arrays or tensors of any floating type, which is kept.

    Raises:
      UserError: a key is missing or unknown, or shapes do not fit each other.
    """
    arrays = {name: np.asarray(value) for name, value in state_dict.items() if _IGNORED not in name}
    names = {}
    for layer in (1, 2, 3):
        for name, (collection, leaf) in _BATCH_NORM.items():
            names[f"batch_norm{layer}.{name}"] = (collection, f"batch_norm{layer}", leaf)
        for name, leaf in (_DENSE if layer == 2 else _WEIGHT_NORM).items():
            names[f"dense{layer}.{name}"] = ("params", f"dense{layer}", leaf)
    missing, unknown = names.keys() - arrays.keys(), arrays.keys() - names.keys()
    if missing or unknown:
        raise UserError(
            f"state dict: missing {sorted(missing) or 'nothing'}, "
            f"unknown {sorted(unknown) or 'nothing'}"
        )
    inputs = arrays["batch_norm1.weight"].shape[0]
    hidden, outputs = arrays["dense2.bias"].shape[0], arrays["dense3.bias"].shape[0]
    widths = {1: (inputs, hidden), 2: (hidden, hidden), 3: (hidden, outputs)}
    variables = {}
    for name, path in names.items():
        width_in, width_out = widths[int(path[1][-1])]
        expected = {
            "weight_v": (width_out, width_in),
            "weight_g": (width_out, 1),
            "weight": (width_out, width_in),
        }.get(name.split(".")[1], (width_out,))
        if path[1].startswith("batch_norm"):
            expected = (width_in,)
        array = arrays[name]
        if array.shape != expected:
            raise UserError(f"state dict: {name}: expected shape {expected}, found {array.shape}")
        variables[path] = array[:, 0] if path[2] == "g" else array.T
    return traverse_util.unflatten_dict(variables)
