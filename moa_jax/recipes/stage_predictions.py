"""What an earlier stage predicts of rows, as each later network may know it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from moa_jax.store import arrays
from moa_jax.training.members import Blocks

FILE = "nested.npz"
KIND = "nested predictions"


@dataclasses.dataclass(frozen=True)
class StagePredictions:
    """Probabilities of rows by the members of a stage.

    Attributes:
      whole: [N, L] mean over the members; of training rows, over those that have not seen the row.
      nested: the same for blocks of a nested chain, over the members that leave out these too.
    """

    whole: np.ndarray
    nested: Mapping[Blocks, np.ndarray] = dataclasses.field(default_factory=dict)

    def without(self, blocks: Blocks) -> np.ndarray:
        """Returns what a network may know that leaves out these blocks; `whole` with none."""
        return self.nested[blocks] if blocks else self.whole


def write_nested(folder: Path, nested: Mapping[Blocks, np.ndarray]) -> None:
    """Writes nested predictions of training rows to a stage's folder."""
    named = {"-".join(map(str, blocks)): values for blocks, values in nested.items()}
    arrays.write(folder / FILE, KIND, named, {})


def read_nested(folder: Path) -> dict[Blocks, np.ndarray]:
    """Returns what `write_nested` wrote.

    Raises:
      UserError: the file is missing or damaged.
    """
    named, _ = arrays.read(folder / FILE, KIND)
    return {tuple(map(int, name.split("-"))): values for name, values in named.items()}
