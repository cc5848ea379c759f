"""Features of a fold: fitted on the host, read on the device."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from moa_jax.data.dataset import Dataset
from moa_jax.features.transforms import TRANSFORMS
from moa_jax.recipes.attribution_baseline import Ends
from moa_jax.recipes.context import Context
from moa_jax.recipes.origins import Traced
from moa_jax.recipes.stage_predictions import StagePredictions
from moa_jax.store.transform_files import Transform, Transforms
from moa_jax.training.made_rows import MadeRows
from moa_jax.training.members import Blocks, Member, MemberId


class Stored(Protocol):
    """The sets that a stage's members read, in the order in which `member_data` counts them."""

    @property
    def blocks(self) -> Sequence[Blocks]:
        """The blocks that each set's members leave out in a nested chain."""

    def __call__(self, stage: str) -> Sequence[Transforms]:
        """Returns the sets that a stage has stored."""


class Passage:
    """Rows on their way through a system's stages.

    Attributes:
      rows: the rows.
      predictions: what each stage so far predicts of them, by its name: out of fold where they
        are training rows.
    """

    def __init__(self, rows: Dataset):
        self.rows = rows
        self.predictions: dict[str, StagePredictions] = {}
        self._made: dict[str, Any] = {}

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Returns what `make` returns, which several stages read and the first one computes."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]


class Known(NamedTuple):
    """What there is to fit a stage's features on.

    Attributes:
      dataset: all training rows, controls and test rows included.
      rows: the rows that members train on.
      sets: for every set which of these rows, [N] bool, none of its members predicts; the names
        are in the order of first use.
      predictions: out-of-fold predictions of these rows, by the earlier stage's name.
      blocks: for every set of a nested chain the blocks that its members leave out.
    """

    dataset: Dataset
    rows: Dataset
    sets: Mapping[str, np.ndarray]
    predictions: Mapping[str, StagePredictions]
    blocks: Mapping[str, Blocks]


class Arrays(NamedTuple):
    """What a stage's members read, or its shapes.

    Attributes:
      table: [N, ...] what all members read, by row.
      member_data: arrays of each member, stacked along the first axis to one shape.
    """

    table: Any
    member_data: Any


class Features(abc.ABC):
    """What the rows of a fold become, on their way from a data set to a network.

    Transforms that are fitted together are a set. A member reads one set; several members may
    read the same. Sets are stored under their names, fitted where they are not there yet, and
    read again for test rows and for new ones.
    """

    # Classes of the transforms, by which stored ones are read back.
    classes: Sequence[type[Transform]] = TRANSFORMS
    # Name of the earlier stage whose predictions are read.
    predictions_of: str | None = None

    @property
    def reads_test(self) -> bool:
        """Whether transforms look at test rows where there are any."""
        return False

    @property
    def selects(self) -> bool:
        """Whether columns are left out by their values: `shapes` says how many there may be."""
        return False

    @abc.abstractmethod
    def set_of(self, member: MemberId) -> str:
        """Returns the name of the set that a member reads."""

    def folder(self, context: Context, stage: str) -> Path:
        """Returns the folder that a stage's sets are stored in, each in one of its name."""
        return context.folder / stage / "features"

    @abc.abstractmethod
    def fit(self, known: Known, missing: Sequence[str]) -> Iterator[tuple[str, Transforms]]:
        """Yields name and fitted transforms of the sets that are not stored, of at least one."""

    @abc.abstractmethod
    def table(self, passage: Passage, stage: str, stored: Stored) -> np.ndarray:
        """Returns what all members of a stage read of the rows, [N, ...], in the devices' dtype."""

    def made(self, passage: Passage, stage: str, stored: Stored) -> np.ndarray | MadeRows:
        """Returns `table`, or what makes parts of it where it is large."""
        return self.table(passage, stage, stored)

    def makes_rows(self, table: Any) -> bool:
        """Tells whether `made` returns what makes parts of a table of this shape and dtype."""
        return False

    @abc.abstractmethod
    def member_data(
        self, stored: Sequence[Transforms], numbers: np.ndarray, train_rows: Sequence[np.ndarray]
    ) -> Any:
        """Returns what each member reads beside the table, stacked along a first axis.

        Args:
          stored: the sets.
          numbers: [M] the set of each member.
          train_rows: each member's training rows; none in prediction.
        """

    @abc.abstractmethod
    def inputs(
        self, table: jax.Array, member_data: Any, rows: jax.Array, key: jax.Array, train: bool
    ) -> tuple[jax.Array, ...]:
        """Returns the network's inputs for a batch of one member: the `inputs` of a `Forward`."""

    def columns(self, table: jax.Array, member_data: Any) -> jax.Array:
        """Returns what one member reads of each row of a table, [N, F]."""
        return table

    def inputs_of(self, columns: jax.Array, member_data: Any) -> tuple[jax.Array, ...]:
        """Returns the network's inputs for what one member reads of a batch, [batch, F]."""
        rows = jnp.arange(len(columns))
        return self.inputs(columns, member_data, rows, jax.random.key(0), False)

    @abc.abstractmethod
    def origins(
        self, ends: Ends, table: np.ndarray, stage: str, stored: Stored, predicted: Sequence[str]
    ) -> list[Traced]:
        """Returns where what members read comes from, of each set; of one where all sets agree.

        Args:
          ends: rows and the baseline.
          table: [R + 1, ...] the stage's table of the R rows and, last, of the baseline.
          stage: the stage.
          stored: its sets.
          predicted: targets of the earlier stage whose predictions are read.
        """

    @abc.abstractmethod
    def shapes(self, known: Known, members: Sequence[Member], widths: Mapping[str, int]) -> Arrays:
        """Returns the `ShapeDtypeStruct`s of table and member data, without a fit.

        Args:
          known: what there will be to fit on, but for predictions.
          members: the stage's members.
          widths: number of targets of each earlier stage.
        """

    def num_inputs(self, arrays: Arrays) -> int:
        """Returns the number of columns of the network's first input."""
        return arrays.table.shape[-1]


def known_of(
    features: Features,
    members: Sequence[Member],
    dataset: Dataset,
    rows: Dataset,
    predictions: Mapping[str, StagePredictions],
) -> Known:
    """Returns what the members' features may be fitted on, see `Known`."""
    sets: dict[str, np.ndarray] = {}
    blocks: dict[str, Blocks] = {}
    for member in members:
        name = features.set_of(member.id)
        blocks[name] = member.blocks
        sets.setdefault(name, np.full(len(rows), True))[member.valid_rows] = False
    return Known(dataset, rows, sets, predictions, blocks)
