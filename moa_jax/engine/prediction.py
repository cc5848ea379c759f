"""New rows predicted by a finished run: its models, and the weights of their blend."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from moa_jax.blend import combination, stored_weights
from moa_jax.blend.combination import Weight
from moa_jax.config import RunConfig
from moa_jax.data.dataset import Dataset
from moa_jax.errors import UserError
from moa_jax.recipes import system
from moa_jax.recipes.context import Context
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir
from moa_jax.training.parallel import Devices

# From some rows to predictions of them.
Predict = Callable[[Dataset], Predictions]


def load(config: RunConfig, workdir: Workdir) -> Predict:
    """Returns what predicts new rows by all models and their weights.

    Rows of a time or dose that no training row has are predicted at the nearest one.

    Raises:
      UserError: see `weights`, `finished` and `system.load`.
    """
    data = workdir.read()["data"]
    targets = tuple(data["columns"]["scored"])
    chosen, contexts = weights(config, workdir, targets), finished(config, workdir)
    predicts = loaded(config, contexts, targets)
    levels = next(iter(contexts.values())).levels

    def predict(rows: Dataset) -> Predictions:
        rows = rows.at_trained_levels(levels, data["levels"])
        found = {name: predict(rows) for name, predict in predicts.items()}
        return combination.bounded(combination.combine(found, chosen))

    return predict


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


def weights(config: RunConfig, workdir: Workdir, targets: tuple[str, ...]) -> dict[str, Weight]:
    """Returns the weights that the work folder's blend found, those of a single model if none.

    Raises:
      UserError: there are none, they are damaged or of another run, or some are of predictions from
        elsewhere.
    """
    models, files = list(config.models), list(config.blend.files)
    is_weighed = os.path.lexists(workdir.path / stored_weights.FILE)
    if len(models) == 1 and not files and not is_weighed:
        return {models[0]: 1.0}
    record = stored_weights.read(workdir.path, [*models, *files], targets)
    if files:
        raise UserError(
            f"{workdir.path / stored_weights.FILE}: expected weights of the models {models}, found "
            f"one of {files[0]}, whose predictions come from a file; new rows cannot be predicted"
        )
    stored_weights.check_origin(workdir.path, record, workdir.run, config.blend)
    return record["weights"]
