"""Weights of finished members: one npz per member, readable without JAX."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from flax import traverse_util

from moa_jax.errors import UserError
from moa_jax.store import files
from moa_jax.training.types import Variables

RECORD = ("epoch", "epochs_run", "loss")


class MemberWeights(NamedTuple):
    """What a member keeps of its training.

    Attributes:
      variables: `{params, batch_stats}` of the kept epoch.
      epoch: the kept epoch, from 1.
      epochs_run: epochs the member trained.
      loss: validation loss of the kept epoch.
    """

    variables: Variables
    epoch: int
    epochs_run: int
    loss: float


def write(path: Path, weights: MemberWeights) -> None:
    """Writes arrays under their path in the network, such as `params/dense1/bias`."""
    arrays = traverse_util.flatten_dict(dict(weights.variables), sep="/")
    record = {name: getattr(weights, name) for name in RECORD}
    with files.replacing(path) as temporary:
        np.savez(temporary, **arrays, **record)


def num_bytes(path: Path) -> int:
    """Returns about how much memory a member's weights take.

    Raises:
      UserError: the file is missing.
    """
    try:
        return path.stat().st_size
    except FileNotFoundError:
        raise _missing(path) from None


def read_record(path: Path) -> dict[str, float]:
    """Returns epoch, epochs run and loss of a member, without reading its variables."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name].item() for name in RECORD}


def read(path: Path) -> MemberWeights:
    """Reads what `write` wrote; nothing in the file is executed.

    Raises:
      UserError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        record = {name: arrays.pop(name).item() for name in RECORD}
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: damaged, expected a member's weights: {reason}") from None
    return MemberWeights(traverse_util.unflatten_dict(arrays, sep="/"), **record)


def _missing(path: Path) -> UserError:
    return UserError(f"{path}: not found, the work folder is not complete")
