"""Tensors and arrays of any framework -> numpy's arrays of floating numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from moa_jax.errors import UserError
from moa_jax.pretrained import wrappers

COUNTER = "num_batches_tracked"


def array(name: str, value: Any) -> np.ndarray:
    """Returns the values of a tensor or an array; types that numpy lacks are widened to float32.

    Raises:
      UserError: it is sparse or quantised, or has no values.
    """
    if not hasattr(value, "detach"):
        found = np.asarray(value)
        # Types of ml_dtypes, as bfloat16.
        return (
            found.astype(np.float32) if found.dtype.kind == "V" and not found.dtype.names else found
        )
    value = value.detach()
    if value.device.type == "meta":
        raise UserError(f"{name}: expected values, found a tensor of the device meta, without any")
    if str(value.layout) != "torch.strided":
        raise UserError(
            f"{name}: expected a dense tensor, found {value.layout}: save its to_dense()"
        )
    value = value.cpu()
    try:
        return value.numpy()
    except (TypeError, RuntimeError):
        if not value.is_floating_point():
            raise UserError(f"{name}: no array is of type {value.dtype}") from None
        return value.float().numpy()


def arrays(state_dict: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the arrays of a state dict, which may be inside of a trainer's mapping.

    Raises:
      UserError: there are several state dicts, or one with what is no array.
    """
    if any(isinstance(value, Mapping) for value in state_dict.values()):
        state_dict = wrappers.opened(Path("state dict"), state_dict, is_tensor, None)
    try:
        return {name: array(name, value) for name, value in state_dict.items()}
    except UserError as error:
        raise UserError(f"state dict: {error}") from None


def is_tensor(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "ndim")


def check(name: str, found: np.ndarray) -> None:
    """Checks that a weight is one.

    Raises:
      UserError: it is not of a floating type, or not finite.
    """
    if found.dtype.kind != "f":
        raise UserError(f"state dict: {name}: expected floating numbers, found {found.dtype}")
    if not np.isfinite(found).all():
        wrong = found[~np.isfinite(found)].flat[0]
        raise UserError(f"state dict: {name}: expected finite numbers, found {wrong}")
