"""What an earlier stage predicts of rows, as each later network may know it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
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


class SeedPredictions(Mapping[Blocks, np.ndarray]):
    """Predictions of training rows by one seed, read whenever they are looked up.

    Those of a whole population are some gigabytes, of which a choice looks at a part at a time.
    """

    def __init__(self, path: Path, names: Mapping[Blocks, str]):
        """Describes the file, where arrays have these names."""
        self._path, self._names = path, names

    def __getitem__(self, blocks: Blocks) -> np.ndarray:
        """Returns [N, L] probabilities.

        Raises:
          UserError: the file is missing or damaged.
        """
        return arrays.read_array(self._path, SEEDS_KIND, self._names[blocks])

    def __contains__(self, blocks: object) -> bool:
        return blocks in self._names

    def __iter__(self) -> Iterator[Blocks]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def read_seeds(folder: Path) -> dict[int, SeedPredictions]:
    """Returns what `write_seeds` wrote, of each seed.

    Raises:
      UserError: the file is missing or damaged.
    """
    path, names = folder / SEEDS_FILE, dict[int, dict[Blocks, str]]()
    for name in arrays.read_names(path, SEEDS_KIND):
        seed, blocks = name.split(arrays.SEPARATOR)
        names.setdefault(int(seed), {})[_blocks_of(blocks)] = name
    return {seed: SeedPredictions(path, own) for seed, own in names.items()}


def _named(views: Mapping[Blocks, np.ndarray]) -> dict[str, np.ndarray]:
    return {"-".join(map(str, blocks)) or WHOLE: values for blocks, values in views.items()}


def _by_blocks(named: Mapping[str, np.ndarray]) -> dict[Blocks, np.ndarray]:
    return {_blocks_of(name): values for name, values in named.items()}


def _blocks_of(name: str) -> Blocks:
    return () if name == WHOLE else tuple(map(int, name.split("-")))
