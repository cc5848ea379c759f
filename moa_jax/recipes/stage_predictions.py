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
SEEDS_FILE = "seeds.npz"
SEEDS_KIND = "predictions of seeds"
WHOLE = "whole"


@dataclasses.dataclass(frozen=True)
class StagePredictions:
    """Probabilities of rows by the members of a stage.

    Attributes:
      whole: [N, L] mean over the members; of training rows, over those that have not seen the row.
      nested: the same for blocks of a nested chain, over the members that leave out these too.
      by_seed: both of each seed alone, `()` standing for the whole, where a stage keeps them.
    """

    whole: np.ndarray
    nested: Mapping[Blocks, np.ndarray] = dataclasses.field(default_factory=dict)
    by_seed: Mapping[int, Mapping[Blocks, np.ndarray]] = dataclasses.field(default_factory=dict)

    def without(self, blocks: Blocks) -> np.ndarray:
        """Returns what a network may know that leaves out these blocks; `whole` with none."""
        return self.nested[blocks] if blocks else self.whole


def write_nested(folder: Path, nested: Mapping[Blocks, np.ndarray]) -> None:
    """Writes nested predictions of training rows to a stage's folder."""
    arrays.write(folder / FILE, KIND, _named(nested), {})


def read_nested(folder: Path) -> dict[Blocks, np.ndarray]:
    """Returns what `write_nested` wrote.

    Raises:
      UserError: the file is missing or damaged.
    """
    return _by_blocks(arrays.read(folder / FILE, KIND)[0])


def write_seeds(folder: Path, by_seed: Mapping[int, Mapping[Blocks, np.ndarray]]) -> None:
    """Writes each seed's predictions of training rows to a stage's folder."""
    named = {str(seed): _named(views) for seed, views in by_seed.items()}
    arrays.write(folder / SEEDS_FILE, SEEDS_KIND, named, {})


def read_seeds(folder: Path) -> dict[int, dict[Blocks, np.ndarray]]:
    """Returns what `write_seeds` wrote.

    Raises:
      UserError: the file is missing or damaged.
    """
    named, _ = arrays.read(folder / SEEDS_FILE, SEEDS_KIND)
    return {int(seed): _by_blocks(views) for seed, views in named.items()}


def _named(views: Mapping[Blocks, np.ndarray]) -> dict[str, np.ndarray]:
    return {"-".join(map(str, blocks)) or WHOLE: values for blocks, values in views.items()}


def _by_blocks(named: Mapping[str, np.ndarray]) -> dict[Blocks, np.ndarray]:
    return {
        () if name == WHOLE else tuple(map(int, name.split("-"))): values
        for name, values in named.items()
    }
