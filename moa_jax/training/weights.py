"""Weights of finished members: one file of arrays per member, readable without JAX."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from moa_jax.errors import UserError
from moa_jax.store import arrays
from moa_jax.training.trees import Variables

KIND = "a member's weights"


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
    record = weights._asdict()
    arrays.write(path, KIND, record.pop("variables"), record)


def num_bytes(path: Path) -> int:
    """Returns about how much memory a member's weights take.

    Raises:
      UserError: the file is missing.
    """
    return arrays.num_bytes(path)


def read_record(path: Path) -> dict[str, float]:
    """Returns epoch, epochs run and loss of a member, without reading its variables."""
    return arrays.read_record(path, KIND)


def read(path: Path) -> MemberWeights:
    """Reads what `write` wrote; nothing in the file is executed.

    Raises:
      UserError: the file is missing or damaged.
    """
    variables, record = arrays.read(path, KIND)
    try:
        return MemberWeights(variables, **record)
    except TypeError:
        raise UserError(f"{path}: damaged, expected the record of {KIND}") from None
