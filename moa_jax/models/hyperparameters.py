"""Hyperparameters of networks: published variants by name, and TabNet's ranges; without JAX."""

from __future__ import annotations

import dataclasses
from typing import Any

from moa_jax.config import WIDEST, choice, number

# Factors on width and depth.
EFFICIENTNETS = {
    "b0": (1.0, 1.0),
    "b1": (1.0, 1.1),
    "b2": (1.1, 1.2),
    "b3": (1.2, 1.4),
    "b4": (1.4, 1.8),
    "b5": (1.6, 2.2),
    "b6": (1.8, 2.6),
    "b7": (2.0, 3.1),
}

# Arguments of `EfficientNet` by the network's name. TensorFlow's networks, from which the original
# starts, differ from PyTorch's of the same shapes in where zeros are put around an image, and in
# the epsilon of the normalisation: weights of one kind give other features in the other.
SAME, SYMMETRIC = "SAME", "symmetric"
TORCH_EPSILON = 1e-5
_KINDS = {"": (SAME, 1e-3), "torch_": (SYMMETRIC, TORCH_EPSILON)}
EFFICIENTNET_KINDS: dict[str, dict[str, Any]] = {
    f"{kind}efficientnet_{variant}": {"variant": variant, "padding": padding, "epsilon": epsilon}
    for kind, (padding, epsilon) in _KINDS.items()
    for variant in EFFICIENTNETS
}

# Where pretrained weights of image networks come from, beside a file.
AUTO, HUB, NONE = "auto", "hub", "none"

# The networks that the authors published, as arguments of `ResNeSt`.
_FAST = {"layers": (3, 4, 6, 3), "stem_width": 32, "avd_first": True}
_DEEP = {"radix": 2, "cardinality": 1, "bottleneck_width": 64, "avd_first": False}
RESNESTS: dict[str, dict[str, Any]] = {
    "resnest50": {**_DEEP, "layers": (3, 4, 6, 3), "stem_width": 32},
    "resnest101": {**_DEEP, "layers": (3, 4, 23, 3), "stem_width": 64},
    "resnest200": {**_DEEP, "layers": (3, 24, 36, 3), "stem_width": 64},
    "resnest269": {**_DEEP, "layers": (3, 30, 48, 8), "stem_width": 64},
}
for _radix, _cardinality, _width in (
    (1, 1, 64),
    (2, 1, 64),
    (4, 1, 64),
    (1, 2, 40),
    (2, 2, 40),
    (4, 2, 40),
    (1, 4, 24),
):
    RESNESTS[f"resnest50_fast_{_radix}s{_cardinality}x{_width}d"] = {
        **_FAST,
        "radix": _radix,
        "cardinality": _cardinality,
        "bottleneck_width": _width,
    }

# The fields of `TabNet` that configurations and estimators have under the same name, with their
# ranges and options, and pytorch-tabnet's defaults.
TABNET = {
    "n_d": number(8, 1, WIDEST),
    "n_a": number(8, 1, WIDEST),
    # Every one of these layers is compiled; published networks have at most ten.
    "n_steps": number(3, 1, 50),
    "gamma": number(1.3, 1.0),
    "n_independent": number(2, 0, 50),
    "n_shared": number(2, 0, 50),
    "virtual_batch_size": number(128, 2),
    "momentum": number(0.02, 0.0, 1.0),
    "mask_type": choice("sparsemax", "sparsemax", "entmax"),
}


def tabnet_field(name: str, default: Any = None) -> Any:
    """Returns a dataclass field with the range or the options of TabNet's.

    >>> tabnet_field("n_d", 32).metadata["low"]
    1

    Args:
      name: one of `TABNET`.
      default: another default than there.
    """
    field = TABNET[name]
    return dataclasses.field(
        default=field.default if default is None else default, metadata=field.metadata
    )
