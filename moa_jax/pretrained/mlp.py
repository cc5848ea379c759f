"""PyTorch's state dicts of the dense networks -> variables of `moa_jax.models.mlp`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flax import traverse_util

from moa_jax.errors import UserError
from moa_jax.models.types import Variables
from moa_jax.pretrained import tensors
from moa_jax.pretrained.state_dict import listed, without_prefix

_BATCH_NORM = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}
# Linear layers keep [outputs, inputs] in PyTorch.
_WEIGHT_NORM = {"weight_v": "v", "weight_g": "g", "bias": "bias"}
_DENSE = {"weight": "kernel", "bias": "bias"}
# The weight normalisation of PyTorch 2 has other names for its parts.
_PARTS = {
    ".parametrizations.weight.original0": ".weight_g",
    ".parametrizations.weight.original1": ".weight_v",
}


def mlp_from_torch(state_dict: Mapping[str, Any]) -> Variables:
    """Returns the variables of an `MLP` from the state dict of its PyTorch twin.

    Args:
      state_dict: keys `batch_norm1.weight`, `dense1.weight_g`, `dense2.weight` and so on, also
        behind a prefix such as `module.`, with PyTorch 2's names of a weight normalisation, or
        inside of a trainer's mapping; values are arrays or tensors of any floating type, which is
        kept, but for those that numpy lacks.

    Raises:
      UserError: a key is missing or unknown, shapes do not fit each other, or a value is no
        finite floating number.
    """
    return _variables(state_dict, {1: _WEIGHT_NORM, 2: _DENSE, 3: _WEIGHT_NORM})


def two_layer_mlp_from_torch(state_dict: Mapping[str, Any]) -> Variables:
    """Returns the variables of a `TwoLayerMLP`; its layers are numbered 1 and 3.

    Arguments and errors are those of `mlp_from_torch`.
    """
    return _variables(state_dict, {1: _WEIGHT_NORM, 3: _WEIGHT_NORM})


def _variables(state_dict: Mapping[str, Any], layers: Mapping[int, Mapping[str, str]]) -> Variables:
    """Reads dense layers, given by number with their names, each behind a batch normalisation."""
    arrays = {
        name: array
        for name, array in without_prefix(tensors.arrays(state_dict), "batch_norm1.weight").items()
        if tensors.COUNTER not in name
    }
    for theirs, ours in _PARTS.items():
        arrays = {name.replace(theirs, ours): array for name, array in arrays.items()}
    names = {}
    for layer, dense in layers.items():
        for name, (collection, leaf) in _BATCH_NORM.items():
            names[f"batch_norm{layer}.{name}"] = (collection, f"batch_norm{layer}", leaf)
        for name, leaf in dense.items():
            names[f"dense{layer}.{name}"] = ("params", f"dense{layer}", leaf)
    missing, unknown = names.keys() - arrays.keys(), arrays.keys() - names.keys()
    if missing or unknown:
        raise UserError(f"state dict: missing {listed(missing)}, unknown {listed(unknown)}")
    widths_in = {layer: arrays[f"batch_norm{layer}.weight"].size for layer in layers}
    last = arrays[f"dense{max(layers)}.bias"].size
    widths_out = dict(zip(layers, [*list(widths_in.values())[1:], last], strict=True))
    variables = {}
    for name, path in names.items():
        width_in, width_out = (widths[int(path[1][-1])] for widths in (widths_in, widths_out))
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
        tensors.check(name, array)
        variables[path] = array[:, 0] if path[2] == "g" else array.T
    return traverse_util.unflatten_dict(variables)
