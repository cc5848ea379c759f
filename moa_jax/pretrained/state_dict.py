"""State dicts of PyTorch's image networks -> Flax variables; names and shapes are strict."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from absl import logging
from flax import traverse_util

from moa_jax.errors import UserError
from moa_jax.models.types import VariablePath, Variables
from moa_jax.pretrained import tensors

HEAD = "head"

_LEAVES = {
    ("params", "kernel"): "weight",
    ("params", "scale"): "weight",
    ("params", "bias"): "bias",
    ("batch_stats", "mean"): "running_mean",
    ("batch_stats", "var"): "running_var",
}
# Other names that trainers give to a head of their own.
_OTHER_HEADS = ("classifier", "fc", "_fc", "head", "last_linear")
# Layers of the solution's head, a sequence of dense, ELU and dense.
_HEAD_LAYERS = {"dense1": "0", "dense2": "2"}
# Axes of our kernels in PyTorch's order: [outputs, inputs] and [outputs, inputs, height, width].
_AXES = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}
_SHOWN = 3


def image_network_from_torch(
    state_dict: Mapping[str, Any],
    network: Callable[..., nn.Module],
    torch_module: Callable[[VariablePath], str],
    first: str,
    head: str,
) -> Variables:
    """Returns the variables of an image network from the state dict of its PyTorch twin.

    Args:
      state_dict: arrays or tensors of any floating type, which is kept; counters of batches may
        be among them. What all names of the network begin with, such as `backbone.` or
        `module.model.`, is taken off, and what has another beginning left out: it is no part of
        the network. A head of one layer for any number of classes, as published checkpoints have
        it, is checked and left out; of other heads, whatever their names, only the solution's is
        taken.
      network: `network(num_outputs, head_width)` -> module.
      torch_module: PyTorch's name of the module at a path of our network, outside of the head.
      first: our name of the network's first layer.
      head: PyTorch's name of the head.

    Returns:
      `{params, batch_stats}`, with the head where the state dict has the solution's one.

    Raises:
      UserError: a name is missing or unknown, a shape does not fit, or a value is no finite
        floating number.
    """
    arrays = without_prefix(
        tensors.arrays(state_dict),
        f"{torch_module((first,))}.{_LEAVES['params', 'kernel']}",
    )
    others = {name for name in arrays if name.partition(".")[0] in _OTHER_HEADS}
    in_head = {name for name in others if name.startswith(f"{head}.")}
    others -= in_head
    layers = {name.removeprefix(f"{head}.").partition(".")[0] for name in in_head}
    solution, public = layers == set(_HEAD_LAYERS.values()), f"{head}.weight" in in_head
    # A layer without a bias is of another head than the published one.
    public = public and (in_head != {f"{head}.weight"})
    if not solution and not public and not in_head <= {f"{head}.bias"}:
        others |= in_head
    if others:
        logging.info("state dict: the head %s is left out", listed(others))
        arrays = {name: array for name, array in arrays.items() if name not in others}
    # The biases tell the widths of the head; what disagrees with them is named below.
    width, outputs = (
        arrays[name].size if name in arrays else 1
        for name in (f"{head}.{layer}.bias" for layer in _HEAD_LAYERS.values())
    )
    # They do not depend on the size of the images.
    shapes = variable_shapes(network(outputs, width), (1, 32, 32, 3))
    pooled = shapes["params", HEAD, "dense1", "kernel"][0]

    names: dict[str, VariablePath | None] = {}
    expected: dict[str, tuple[int, ...]] = {}
    for path, shape in shapes.items():
        if path[1] != HEAD:
            module = torch_module(path[1:-1])
        elif solution:
            module = f"{head}.{_HEAD_LAYERS[path[2]]}"
        else:
            continue
        name = f"{module}.{_LEAVES[path[0], path[-1]]}"
        names[name], expected[name] = path, _torch_shape(shape)
    if public:
        classes = arrays[f"{head}.bias" if f"{head}.bias" in arrays else f"{head}.weight"].shape[:1]
        for name, shape in (("weight", (*classes, pooled)), ("bias", classes)):
            names[f"{head}.{name}"], expected[f"{head}.{name}"] = None, shape

    counters = {
        n.replace("running_mean", tensors.COUNTER) for n in names if n.endswith("running_mean")
    }
    missing, unknown = names.keys() - arrays.keys(), arrays.keys() - names.keys() - counters
    if missing or unknown:
        raise UserError(f"state dict: missing {listed(missing)}, unknown {listed(unknown)}")
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            found = arrays[name].shape
            raise UserError(f"state dict: {name}: expected shape {shape}, found {found}")
    used = {name: path for name, path in names.items() if path is not None}
    for name in used:
        tensors.check(name, arrays[name])
    return traverse_util.unflatten_dict(
        {path: _flax_layout(arrays[name]) for name, path in used.items()}
    )


def without_prefix(arrays: Mapping[str, np.ndarray], first: str) -> Mapping[str, np.ndarray]:
    """Takes off what stands before the name of the network's first array, in all names with it."""
    prefixes = [
        name.removesuffix(first) for name in arrays if name == first or name.endswith(f".{first}")
    ]
    if len(prefixes) > 1:
        shown = ", ".join(repr(prefix.rstrip(".")) for prefix in prefixes)
        raise UserError(f"state dict: holds several networks, {shown}: choose one by --key")
    prefix = prefixes[0] if prefixes else ""
    others = [name for name in arrays if not name.startswith(prefix)]
    if others:
        logging.info("state dict: %s beside the network is left out", listed(others))
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def variable_shapes(
    network: nn.Module, *inputs: tuple[int, ...]
) -> dict[VariablePath, tuple[int, ...]]:
    """Returns the shapes of the variables by their paths, for float32 inputs of these shapes."""
    arrays = [jax.ShapeDtypeStruct(shape, np.float32) for shape in inputs]
    variables = jax.eval_shape(network.init, jax.random.key(0), *arrays)
    return {k: leaf.shape for k, leaf in traverse_util.flatten_dict(dict(variables)).items()}


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in _AXES[len(shape)])


def _flax_layout(array: np.ndarray) -> np.ndarray:
    return array.transpose(np.argsort(_AXES[array.ndim]))


def listed(names: Collection[str]) -> str:
    """One line also for a file of another network."""
    if not names:
        return "nothing"
    first = sorted(names)[:_SHOWN]
    rest = len(names) - len(first)
    return f"{first}" + (f" and {rest} more" if rest else "")
