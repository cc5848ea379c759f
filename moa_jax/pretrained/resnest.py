"""PyTorch's ResNeSt -> variables of `moa_jax.models.resnest.ResNeSt`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from moa_jax.models.resnest import ResNeSt
from moa_jax.models.types import Variables
from moa_jax.pretrained.state_dict import image_network_from_torch

_BLOCK = re.compile(r"stage(\d+)_block(\d+)")
# The stem and the shortcuts are sequences in PyTorch; places without parameters count too.
_SEQUENCES = {
    "stem_conv1": "conv1.0",
    "stem_bn1": "conv1.1",
    "stem_conv2": "conv1.3",
    "stem_bn2": "conv1.4",
    "stem_conv3": "conv1.6",
    "stem_bn3": "bn1",
    "downsample_conv": "downsample.1",
    "downsample_bn": "downsample.2",
}


def resnest_from_torch(
    state_dict: Mapping[str, Any],
    layers: Sequence[int],
    radix: int,
    cardinality: int,
    bottleneck_width: int,
    stem_width: int,
    avd_first: bool,
) -> Variables:
    """Returns the variables of a `ResNeSt` from a state dict of the authors' package.

    The names are `conv1.0.weight`, `layer1.0.conv2.fc1.bias`, `fc.bias` and so on.

    Args:
      state_dict: a backbone or a published checkpoint, which gives all but the head, or the
        solution's network (`backbone.conv1.0.weight`, ..., `backbone.fc.2.bias`), which gives
        everything; see `image_network_from_torch`. Values are arrays or tensors of any floating
        type, which is kept.
      layers, radix, cardinality, bottleneck_width, stem_width, avd_first: as in `ResNeSt`.

    Raises:
      UserError: a key is missing or unknown, or a shape does not fit.
    """

    def network(num_outputs: int, head_width: int) -> ResNeSt:
        return ResNeSt(
            tuple(layers),
            radix,
            cardinality,
            bottleneck_width,
            stem_width,
            avd_first,
            num_outputs,
            head_width,
        )

    return image_network_from_torch(state_dict, network, _torch_module, "stem_conv1", "fc")


def _torch_module(modules: tuple[str, ...]) -> str:
    """('stage1_block0', 'downsample_bn') -> layer1.0.downsample.2."""
    names = (_SEQUENCES.get(module, module) for module in modules)
    return _BLOCK.sub(r"layer\1.\2", ".".join(names))
