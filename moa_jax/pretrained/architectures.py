"""Image networks whose published weights are read, by name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from moa_jax.errors import UserError
from moa_jax.models.hyperparameters import EFFICIENTNETS, RESNESTS
from moa_jax.models.types import Variables
from moa_jax.pretrained.efficientnet import efficientnet_from_torch
from moa_jax.pretrained.hub import download
from moa_jax.pretrained.resnest import resnest_from_torch
from moa_jax.pretrained.weight_files import SAFETENSORS, Pretrained, read, read_state_dict
from moa_jax.store import files

HUB = "hub"


def converters() -> dict[str, Callable[[Mapping[str, Any]], Variables]]:
    """Returns for every network the function that turns its state dict into variables."""
    found: dict[str, Callable[[Mapping[str, Any]], Variables]] = {}
    for variant in EFFICIENTNETS:
        convert = functools.partial(efficientnet_from_torch, variant=variant)
        found[f"efficientnet_{variant}"] = convert
    for name, options in RESNESTS.items():
        found[name] = functools.partial(resnest_from_torch, **options)
    return found


def convert(architecture: str, path: str | Path, source: str) -> Pretrained:
    """Returns the variables of a file that PyTorch or safetensors wrote.

    Args:
      architecture: a name of `converters`.
      path: the file.
      source: what to record as its name.

    Raises:
      UserError: the file is not read, or holds another network.
    """
    arrays = read_state_dict(path)
    try:
        variables = converters()[architecture](arrays)
    except UserError as error:
        raise UserError(f"{path}: not {architecture}: {error}") from None
    return Pretrained(variables, architecture, source, files.sha256(path))


def find(architecture: str, source: str) -> Pretrained:
    """Returns the weights that a configuration names.

    Args:
      architecture: a name of `converters`.
      source: `hub` for the weights that the original starts from, in the repository of timm on
        the Hugging Face hub; or a file that PyTorch, safetensors or `weight_files.write` wrote.

    Raises:
      UserError: the hub has no such weights or is out of reach, or the file is not read or holds
        another network.
    """
    if source == HUB:
        variant = architecture.removeprefix("efficientnet_")
        if variant not in EFFICIENTNETS:
            raise UserError(
                f"pretrained: expected a file for {architecture}, found hub, which lacks it: its "
                "authors publish it at https://github.com/zhanghang1989/ResNeSt"
            )
        repository, name = f"timm/tf_efficientnet_{variant}.ns_jft_in1k", f"model{SAFETENSORS}"
        return convert(architecture, download(repository, name), f"{repository}/{name}")
    path = Path(source)
    if path.suffix != ".npz":
        return convert(architecture, path, path.name)
    found = read(path)
    if found.architecture != architecture:
        raise UserError(f"{path}: expected {architecture}, found {found.architecture}")
    return found
