"""Files of weights: other frameworks' are read without executing them, ours are npz."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from moa_jax.errors import UserError
from moa_jax.models.types import Variables
from moa_jax.store import arrays

PICKLED = (".pth", ".pt", ".bin", ".ckpt")
SAFETENSORS = ".safetensors"
# What Lightning's checkpoints hold the state dict in.
_STATE_DICT = "state_dict"
_KIND = "converted weights"


class Pretrained(NamedTuple):
    """Variables of a network and where they come from.

    Attributes:
      variables: `{params, batch_stats}`, without a head if the source has another one.
      architecture: name of the network, such as `efficientnet_b3`.
      source: name of the file that was converted.
      source_sha256: its SHA-256 as hexadecimal digits.
    """

    variables: Variables
    architecture: str
    source: str
    source_sha256: str


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a `.safetensors` file, or of one that PyTorch wrote, by their names.

    Files of PyTorch are read with its unpickler for weights, which executes nothing.

    Raises:
      UserError: the file is missing, damaged, of another kind, or holds more than weights, or the
        library that reads it is not installed.
    """
    path = Path(path)
    if path.suffix not in (SAFETENSORS, *PICKLED):
        expected = ", ".join((SAFETENSORS, *PICKLED))
        raise UserError(f"{path}: expected one of {expected}, found {path.suffix or 'no suffix'!r}")
    if not path.is_file():
        raise UserError(f"{path}: not found")
    return _read_safetensors(path) if path.suffix == SAFETENSORS else _read_pickled(path)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        import safetensors.numpy
    except ImportError:
        raise UserError(
            f"{path}: reading it needs safetensors: pip install 'moa-jax[safetensors]'"
        ) from None
    try:
        return safetensors.numpy.load_file(path)
    # KeyError and TypeError: a floating type that numpy does not have.
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, "tensors", error) from None


def _read_pickled(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise UserError(f"{path}: reading it needs PyTorch: pip install 'moa-jax[torch]'") from None
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise _damaged(path, "PyTorch's state dict", error) from None
    # The unpickler's own error, whose text advises to execute what is in the file.
    except Exception:
        raise UserError(
            f"{path}: expected a state dict, found a damaged file or one with more than weights, "
            "which is not read"
        ) from None
    if isinstance(loaded, Mapping) and isinstance(loaded.get(_STATE_DICT), Mapping):
        loaded = loaded[_STATE_DICT]
    if not isinstance(loaded, Mapping):
        raise UserError(f"{path}: expected a state dict, found {type(loaded).__name__}")
    found = {}
    for name, tensor in loaded.items():
        if not isinstance(tensor, torch.Tensor):
            raise UserError(f"{path}: {name}: expected a tensor, found {type(tensor).__name__}")
        try:
            found[name] = tensor.detach().numpy()
        except TypeError:
            raise UserError(f"{path}: {name}: no array is of type {tensor.dtype}") from None
    return found


def write(path: str | Path, pretrained: Pretrained) -> None:
    """Writes arrays under their path in the network, such as `params/conv_stem/kernel`."""
    record = pretrained._asdict()
    arrays.write(path, _KIND, record.pop("variables"), record)


def read(path: str | Path) -> Pretrained:
    """Reads what `write` wrote; nothing in the file is executed.

    Raises:
      UserError: the file is missing or damaged.
    """
    variables, record = arrays.read(path, _KIND)
    return Pretrained(variables, **record)


def _damaged(path: str | Path, expected: str, error: Exception) -> UserError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(f"{path}: damaged, expected {expected}: {reason}")
