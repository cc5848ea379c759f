"""Image networks whose published weights are read, by name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from moa_jax import files
from moa_jax.errors import UserError
from moa_jax.models import efficientnet, resnest
from moa_jax.pretrained.efficientnet import efficientnet_from_torch
from moa_jax.pretrained.files import Pretrained, read_state_dict
from moa_jax.pretrained.resnest import resnest_from_torch


def converters() -> dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]]:
    """Returns for every network the function that turns its state dict into variables."""
    found: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {}
    for variant in efficientnet.VARIANTS:
        convert = functools.partial(efficientnet_from_torch, variant=variant)
        found[f"efficientnet_{variant}"] = convert
    for name, options in resnest.VARIANTS.items():
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
