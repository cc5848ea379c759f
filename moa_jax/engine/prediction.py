"""New rows predicted by a finished run: its models, and the weights of their blend."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from moa_jax.answers.rule import AnswerRule
from moa_jax.blend import combination, stored_weights
from moa_jax.blend.combination import Weight
from moa_jax.config import RunConfig
from moa_jax.data.dataset import Dataset, Levels
from moa_jax.engine import answers
from moa_jax.errors import UserError
from moa_jax.recipes import system
from moa_jax.recipes.context import Context
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir
from moa_jax.training.means import MEANS, PROBABILITIES, Mean
from moa_jax.training.parallel import Devices

if TYPE_CHECKING:
    import pandas as pd

# From some rows to predictions of them.
Predict = Callable[[Dataset], Predictions]


class Chosen(NamedTuple):
    """What the work folder's blend found.

    Attributes:
      weights: weight of each model.
      mean: what their weighted mean is of.
      rules: rules of answers.
      listed: mechanisms of each row that the CSV of answers lists.
      record: what the rules come from, as JSON has it.
    """

    weights: Mapping[str, Weight]
    mean: Mean
    rules: Mapping[str, AnswerRule]
    listed: int
    record: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class LoadedEnsemble:
    """All models of a finished run, in memory.

    Rows of a time or dose that no training row has are predicted at the nearest one.

    Attributes:
      chosen: what the blend found.
      predicts: what predicts by each model.
      levels: the levels that there are.
      trained: those that training rows have.
    """

    chosen: Chosen
    predicts: Mapping[str, Predict]
    levels: Levels
    trained: Mapping[str, Any]

    @classmethod
    def load(cls, config: RunConfig, workdir: Workdir) -> LoadedEnsemble:
        """Reads the models of a work folder.

        Raises:
          UserError: see `chosen`, `finished` and `system.load`.
        """
        data = workdir.read()["data"]
        targets = tuple(data["columns"]["scored"])
        return cls.of(config, data, chosen(config, workdir, targets), finished(config, workdir))

    @classmethod
    def of(
        cls,
        config: RunConfig,
        data: Mapping[str, Any],
        found: Chosen,
        contexts: Mapping[str, Context],
    ) -> LoadedEnsemble:
        """Reads the models of what was found to be finished.

        Args:
          config: the run.
          data: what the work folder tells of its training rows.
          found: what the blend found.
          contexts: where each model was fitted.

        Raises:
          UserError: see `system.load`.
        """
        predicts = loaded(config, contexts, tuple(data["columns"]["scored"]))
        levels = Levels.of(config.data, config.treatment.encoding)
        return cls(found, predicts, levels, data["levels"])

    def levelled(self, rows: Dataset) -> Dataset:
        """Returns rows at times and doses that training rows have, as all that predicts wants."""
        return rows.at_trained_levels(self.levels, self.trained)

    def predict(self, rows: Dataset) -> tuple[Predictions, dict[str, Predictions]]:
        """Returns the blend's predictions of levelled rows, and those of each model."""
        found = {name: predict(rows) for name, predict in self.predicts.items()}
        blended = combination.combine(found, self.chosen.weights, self.chosen.mean)
        return combination.bounded(blended), found

    def compounds(self, rows: Dataset, drugs: np.ndarray) -> pd.DataFrame:
        """Returns the answers about the compounds of treated rows, see `table.long_table`.

        Args:
          rows: N rows.
          drugs: [N] compound of each.
        """
        import pandas as pd

        rows = self.levelled(rows)
        blended, parts = self.of_treated(rows, *self.predict(rows))
        answering = answers.Answering(self.chosen.rules, blended.targets)
        answering.add(drugs[~rows.is_control], blended, parts)
        return pd.concat(list(answering.compounds()), ignore_index=True)

    def of_treated(
        self, rows: Dataset, blended: Predictions, found: Mapping[str, Predictions]
    ) -> tuple[Predictions, dict[str, Predictions]]:
        """Returns what answers are made of: predictions of treated rows, by blend and its parts."""
        ids = rows.ids[~rows.is_control]
        parts = answers.weighed(found, self.chosen.weights)
        return blended.aligned(ids), {name: part.aligned(ids) for name, part in parts.items()}


def finished(config: RunConfig, workdir: Workdir) -> dict[str, Context]:
    """Returns where each model was fitted.

    Raises:
      UserError: a model is not finished.
    """
    devices = Devices.available(config.parallel.strategy)
    contexts = {name: Context(name, workdir, devices, config) for name in config.models}
    for context in contexts.values():
        if not system.is_finished(context):
            raise UserError(f"{context.folder}: expected a finished model, found none; train first")
    return contexts


def loaded(
    config: RunConfig, contexts: Mapping[str, Context], targets: tuple[str, ...]
) -> dict[str, Predict]:
    """Returns what predicts by each model, all of them in memory together."""
    num_stages = sum(
        len(system.finished_outcome(config.models[name], context).designs)
        for name, context in contexts.items()
    )
    return {
        name: system.load(config.models[name], context, targets, num_stages)
        for name, context in contexts.items()
    }


def chosen(config: RunConfig, workdir: Workdir, targets: tuple[str, ...]) -> Chosen:
    """Returns what the work folder's blend found; of a single model it need not be there.

    Raises:
      UserError: it is missing, damaged or of another run, or weighs predictions from elsewhere.
    """
    models, files = list(config.models), list(config.blend.files)
    rules, listed = {answers.WELLS: AnswerRule.none(len(targets))}, config.answers.listed
    is_weighed = os.path.lexists(workdir.path / stored_weights.FILE)
    if len(models) == 1 and not files and not is_weighed:
        return Chosen({models[0]: 1.0}, PROBABILITIES, rules, listed, {})
    record = stored_weights.read(workdir.path, [*models, *files], targets)
    if files:
        raise UserError(
            f"{workdir.path / stored_weights.FILE}: expected weights of the models {models}, found "
            f"one of {files[0]}, whose predictions come from a file; new rows cannot be predicted"
        )
    stored_weights.check_origin(workdir.path, record, workdir.run, config.blend)
    mean = MEANS[config.blend.mean]
    if learned := record.get("answers"):
        found = answers.read(workdir.path, learned, len(targets))
        return Chosen(record["weights"], mean, *found)
    return Chosen(record["weights"], mean, rules, listed, {})
