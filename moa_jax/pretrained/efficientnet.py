"""PyTorch's EfficientNet -> variables of `moa_jax.models.efficientnet.EfficientNet`."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from moa_jax.models.efficientnet import EfficientNet
from moa_jax.models.hyperparameters import EFFICIENTNETS
from moa_jax.models.types import Variables
from moa_jax.pretrained import torchvision
from moa_jax.pretrained.state_dict import image_network_from_torch

_BLOCK = re.compile(r"stage(\d+)_block(\d+)")


def efficientnet_from_torch(state_dict: Mapping[str, Any], variant: str) -> Variables:
    """Returns the variables of an `EfficientNet` from a state dict of geffnet, timm or torchvision.

    The names are `conv_stem.weight`, `blocks.0.0.conv_dw.weight`, `classifier.bias` and so on, or
    torchvision's `features.0.0.weight`, `features.1.0.block.0.0.weight`. They do not tell which
    padding and epsilon the weights were trained with: see `architectures.convert`.

    Args:
      state_dict: a backbone or a published checkpoint, which gives all but the head, or the
        solution's network (`backbone.conv_stem.weight`, ..., `backbone.classifier.2.bias`), which
        gives everything; see `image_network_from_torch`. Values are arrays or tensors of any
        floating type, which is kept.
      variant: `b0` to `b7`.

    Raises:
      UserError: a key is missing or unknown, or a shape does not fit.
    """
    if variant not in EFFICIENTNETS:
        raise ValueError(f"variant: expected one of {list(EFFICIENTNETS)}, found {variant!r}")
    network = functools.partial(EfficientNet, variant)
    if torchvision.prefix(state_dict) is not None:
        state_dict = torchvision.renamed(state_dict)
    return image_network_from_torch(state_dict, network, _torch_module, "conv_stem", "classifier")


def _torch_module(modules: tuple[str, ...]) -> str:
    """('stage0_block1', 'se', 'conv_reduce') -> blocks.0.1.se.conv_reduce."""
    return _BLOCK.sub(r"blocks.\1.\2", ".".join(modules))
