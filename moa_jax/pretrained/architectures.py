"""Names of the image networks whose published weights are read."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from moa_jax.models import efficientnet, resnest
from moa_jax.pretrained.efficientnet import efficientnet_from_torch
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
