"""pytorch-tabnet's state dict <-> variables of `moa_jax.models.tabnet.TabNet`."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from moa_jax.errors import UserError
from moa_jax.models.tabnet import Table, TabNet, embedding_tables
from moa_jax.models.types import VariablePath, Variables
from moa_jax.pretrained import tensors
from moa_jax.pretrained.state_dict import variable_shapes, without_prefix

_BATCH_NORM = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}
_NETWORK_FILE, _PARAMS_FILE = "network.pt", "model_params.json"


def tabnet_from_torch(state_dict: Mapping[str, Any], model: TabNet) -> Variables:
    """Returns the variables of `model` from the state dict of its pytorch-tabnet twin.

    Args:
      state_dict: names of pytorch-tabnet 2.0.0, or of 3.x, which says `tabnet.encoder.` instead
        of `tabnet.`; values are arrays or tensors of any floating type, which is kept. Of the
        several names of a shared matrix one is enough.
      model: the network; it has the shapes, but for the number of input columns.

    Raises:
      UserError: a name is missing or unknown, a shape does not fit the model, a value is no
        finite floating number, or two names of a shared matrix differ.
    """
    given = {
        name.replace("tabnet.encoder.", "tabnet.", 1): array
        for name, array in tensors.arrays(state_dict).items()
        if not name.endswith(tensors.COUNTER)
    }
    given = dict(without_prefix(given, "tabnet.initial_bn.weight"))
    paths = {name: path for name, path in _names(model) if path}
    found = {paths[name] for name in given.keys() & paths.keys()}
    names = {path: name for name, path in reversed(paths.items())}
    missing = [name for path, name in reversed(names.items()) if path not in found]
    unknown = sorted(given.keys() - paths.keys())
    if missing or unknown:
        raise UserError(
            f"state dict: missing {missing or 'nothing'}, unknown {unknown or 'nothing'}"
        )
    shapes = _shapes(model, given["tabnet.initial_bn.weight"])
    variables: dict[VariablePath, np.ndarray] = {}
    first: dict[VariablePath, str] = {}
    for name, path in paths.items():
        if name not in given:
            continue
        array, expected = given[name], shapes[path]
        if path[-1] == "kernel":
            expected = expected[::-1]
        if array.shape != expected:
            raise UserError(f"state dict: {name}: expected shape {expected}, found {array.shape}")
        tensors.check(name, array)
        if not np.array_equal(array, given[first.setdefault(path, name)]):
            raise UserError(f"state dict: {name}: expected the values of {first[path]}")
        variables[path] = _turned(array, path)
    return traverse_util.unflatten_dict(variables)


def tabnet_to_torch(variables: Variables, model: TabNet) -> dict[str, np.ndarray]:
    """Returns the state dict of pytorch-tabnet 2.0.0 in its own order, counters at zero."""
    flat = traverse_util.flatten_dict(variables)
    return {
        name: _turned(np.asarray(flat[path]), path) if path else np.zeros((), np.int64)
        for name, path in _names(model)
    }


def read_tabnet_zip(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads the archive that pytorch-tabnet's `save_model` writes; no code in it is run.

    Returns:
      the state dict and the content of `model_params.json`.

    Raises:
      UserError: the file is missing or damaged, or PyTorch, which reads its format, is.
    """
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path}: reading it needs PyTorch; install it with pip install 'moa-jax[torch]'"
        ) from None
    try:
        with zipfile.ZipFile(path) as archive:
            params = json.loads(archive.read(_PARAMS_FILE))
            network = io.BytesIO(archive.read(_NETWORK_FILE))
        state_dict = torch.load(network, map_location="cpu", weights_only=True)
        arrays = {name: tensors.array(name, tensor) for name, tensor in state_dict.items()}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # torch.load fails in as many ways as files can be damaged
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"{path}: expected an archive of {_PARAMS_FILE} and {_NETWORK_FILE}: {reason}"
        ) from None
    return arrays, params


def _names(model: TabNet) -> Iterator[tuple[str, VariablePath]]:
    """Yields every name of the state dict with the path of its variable.

    The names of a shared matrix have one path; counters have an empty one.
    """

    def batch_norm(prefix: str, *module: str) -> Iterator[tuple[str, VariablePath]]:
        for leaf, (collection, ours) in _BATCH_NORM.items():
            yield f"{prefix}.{leaf}", (collection, *module, ours)
        yield f"{prefix}.{tensors.COUNTER}", ()

    def feature_transformer(prefix: str, module: str) -> Iterator[tuple[str, VariablePath]]:
        shared: list[VariablePath] = [
            ("params", f"shared_{i}", "kernel") for i in range(model.n_shared)
        ]
        own: list[VariablePath] = [
            ("params", module, f"independent_{i}", "kernel") for i in range(model.n_independent)
        ]
        for i, kernel in enumerate(shared):
            yield f"{prefix}.shared.shared_layers.{i}.weight", kernel
        for block, ours, kernels in (
            ("shared", "shared", shared),
            ("specifics", "independent", own),
        ):
            for i, kernel in enumerate(kernels):
                layer = f"{prefix}.{block}.glu_layers.{i}"
                yield f"{layer}.fc.weight", kernel
                yield from batch_norm(f"{layer}.bn.bn", module, f"{ours}_{i}_norm")

    for i in range(len(_tables(model))):
        yield f"embedder.embeddings.{i}.weight", ("params", "embedder", f"table_{i}")
    yield from batch_norm("tabnet.initial_bn", "initial_norm")
    yield from feature_transformer("tabnet.initial_splitter", "splitter")
    for step in range(model.n_steps):
        yield from feature_transformer(f"tabnet.feat_transformers.{step}", f"transformer_{step}")
    for step in range(model.n_steps):
        prefix, module = f"tabnet.att_transformers.{step}", f"attention_{step}"
        yield f"{prefix}.fc.weight", ("params", module, "projection", "kernel")
        yield from batch_norm(f"{prefix}.bn.bn", module, "norm")
    yield "tabnet.final_mapping.weight", ("params", "final", "kernel")


def _tables(model: TabNet) -> list[Table]:
    return embedding_tables(model.cat_idxs, model.cat_dims, model.cat_emb_dim)


def _shapes(model: TabNet, initial_scale: np.ndarray) -> dict[VariablePath, tuple[int, ...]]:
    """Returns the shapes of the model's variables; the first normalisation tells its width."""
    tables = _tables(model)
    inputs = initial_scale.size - sum(table.width - 1 for table in tables)
    least = 1 + max((table.column for table in tables), default=0)
    if inputs < least:
        raise UserError(
            f"state dict: tabnet.initial_bn.weight: expected at least {least} input columns, "
            f"found {inputs}"
        )
    return variable_shapes(model, (2, inputs))


def _turned(array: np.ndarray, path: VariablePath) -> np.ndarray:
    # Linear layers keep [outputs, inputs] in PyTorch.
    return array.T if path[-1] == "kernel" else array
