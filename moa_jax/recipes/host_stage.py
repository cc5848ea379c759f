"""Host stage: a model for every seed and fold, fitted on the host one after another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from moa_jax.errors import UserError
from moa_jax.learners import learner as learners
from moa_jax.learners.learner import Learner, Model
from moa_jax.store import arrays, processes, signals
from moa_jax.store.manifest import Manifest
from moa_jax.training import waiting
from moa_jax.training.members import Member, MemberId
from moa_jax.training.predict import MemberPredictor

KIND = "a member's model"


@dataclasses.dataclass(frozen=True)
class HostTraining:
    """Members that a learner fits on the host, in the place of networks and their training.

    Attributes:
      learner: what is fitted.
      inner_folds: number of the inner folds that choose a member's strength.
      seed: seed of the inner folds.
    """

    learner: Learner
    inner_folds: int
    seed: int


@dataclasses.dataclass(frozen=True)
class HostStage:
    """What a learner fits, in the place of a `training.Stage`.

    Attributes:
      name: name in logs, `<model>/<stage>`.
      training: what is fitted, and how.
      inputs: `inputs(shared, member_data, rows, key, train)` -> one matrix, see `Features`.
      members: the (seed, fold) pairs with their rows.
      shared: what all members read.
      member_data: arrays of each member, stacked along the first axis.
      targets: [N, L] targets of the training rows.
      units: [N] unit of each of these rows, which inner folds keep whole; None where every row is
        its own.
      known: [N, L] which targets were measured; None for all.
    """

    name: str
    training: HostTraining
    inputs: Callable[..., tuple]
    members: tuple[Member, ...]
    shared: Any
    member_data: Any
    targets: np.ndarray
    units: np.ndarray | None
    known: np.ndarray | None = None

    def fit(self, folder: Path, manifest: Manifest) -> None:
        """Fits every member whose model is not stored whole, to `members/` of a folder.

        Raises:
          UserError: a file cannot be written.
        """
        with signals.watched(), waiting.told(self.name) as begin:
            for number, member in enumerate(self.members):
                path = folder / "members" / f"{member.name}.npz"
                if manifest.is_whole(path):
                    continue
                begin(f"fitting {member.name}, {number + 1} of {len(self.members)}")
                fit = self._fitted(number, member)
                record = {"chosen": fit.chosen, "loss": fit.loss}
                arrays.write(path, KIND, fit.model.arrays(), record)
                manifest.add([path])
                logging.info(
                    "%s: %s: %s %g%s", self.name, member.name,
                    self.training.learner.strength, fit.chosen,
                    "" if fit.loss is None else f", log loss of inner folds {fit.loss:.5f}",
                )  # fmt: skip
                _, signal = processes.agree(False, signals.received())
                if signal:
                    raise signals.Interrupted(signal, f"{self.name}, after {member.name}")

    def _fitted(self, number: int, member: Member) -> learners.Fit:
        rows, units, labels = member.train_rows, self.units, self.targets
        if self.known is not None:
            labels = np.where(self.known, labels, np.nan)
        own = jax.tree.map(lambda a: np.asarray(a)[number], self.member_data)
        (x,) = self.inputs(self.shared, own, rows, None, False)
        return learners.fit(
            self.training.learner,
            x,
            labels[rows],
            None if units is None else units[rows],
            self.training.inner_folds,
            self.training.seed,
        )

    @property
    def num_bytes(self) -> int:
        """About how much memory fitting takes: what is read, and a member's rows in float64."""
        width = self.shared.shape[-1]
        most = max((len(member.train_rows) for member in self.members), default=0)
        return self.shared.size * self.shared.dtype.itemsize + 3 * 8 * most * width


class HostPredictor(MemberPredictor):
    """The fitted models of a host stage, ready to predict.

    Attributes:
      rows_at_once: see `MemberPredictor`.
      num_parameters: see `Model`; of the first member.
    """

    rows_at_once = 128

    def __init__(
        self,
        learner: Learner,
        inputs: Callable[..., tuple],
        folder: Path,
        members: Sequence[MemberId],
        member_data: Any,
    ):
        """Reads the models.

        Args:
          learner, inputs, member_data: as those of a `HostStage`.
          folder: the stage's, where `members/` lies.
          members: who they are, in the order of `member_data`.

        Raises:
          UserError: a file is missing or damaged, or the learner's library is.
        """
        self._inputs, self._data = inputs, member_data
        self._models = [_read(learner, folder / "members" / f"{m.name}.npz") for m in members]
        self.num_parameters = self._models[0].num_parameters

    def __call__(
        self, inputs: Any, rows: Callable[[Sequence[int]], np.ndarray], steps: int
    ) -> Iterator[tuple[Sequence[int], np.ndarray]]:
        for number, model in enumerate(self._models):
            own = jax.tree.map(lambda a, n=number: np.asarray(a)[n], self._data)
            (table,) = rows([number])
            (x,) = self._inputs(inputs, own, table[:steps].ravel(), None, False)
            predicted = model.predict(np.asarray(x, np.float64))
            found = np.zeros((1, *table.shape, predicted.shape[1]))
            found[0, :steps] = predicted.reshape(steps, table.shape[1], -1)
            yield [number], found


def read_record(path: Path) -> dict[str, float | None]:
    """Returns the chosen strength and its loss of a member, without reading its arrays."""
    return arrays.read_record(path, KIND)


def _read(learner: Learner, path: Path) -> Model:
    stored, _ = arrays.read(path, KIND)
    try:
        return learner.restored(stored)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged, expected {KIND}: {error!r}") from None
