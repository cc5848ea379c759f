"""Participation: which optional models of a configuration take part in a run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from moa_jax.config import RunConfig
from moa_jax.data.dataset import Dataset
from moa_jax.engine import activation_types, settled_sizes
from moa_jax.errors import UserError
from moa_jax.store.workdir import Workdir

WITHOUT = "the work folder was made without it"


def of(
    config: RunConfig, workdir: Workdir, data: Dataset | Mapping[str, Any]
) -> tuple[RunConfig, dict[str, str]]:
    """Returns the configuration of the models that take part, and why others do not.

    An optional model takes part where its recipe finds nothing against it. Once a work folder is
    made it has the models that it was made with, whatever is installed later.

    Args:
      config: the run, its optional models included.
      workdir: its work folder, which need not be there.
      data: the training rows, or their description.

    Returns:
      The run without the others and their weights, sizes that were left to the data and image
      networks' types being settled, and a reason for each of the others.

    Raises:
      UserError: no model is left; the weights of those that are cannot be applied; `config.json` is
        damaged.
    """
    config = activation_types.settled(config, workdir)
    config = settled_sizes.settled(config, workdir, data)
    optional = [name for name, model in config.models.items() if model.optional]
    if not optional:
        return config, {}
    description = data.description() if isinstance(data, Dataset) else data
    made_with = None
    if os.path.lexists(workdir.path / "config.json"):
        made_with = workdir.read()["config"]["models"]
    reasons = {}
    for name in optional:
        reason = config.models[name].left_out(description)
        if made_with is not None:
            reason = "" if name in made_with else reason or WITHOUT
        if reason:
            reasons[name] = reason
    if not reasons:
        return config, {}
    models = {name: model for name, model in config.models.items() if name not in reasons}
    if not models and not config.blend.files:
        told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise UserError(f"config.models: expected a model that applies to the data, found {told}")
    weights = {name: w for name, w in config.blend.weights.items() if name not in reasons}
    blend = dataclasses.replace(config.blend, weights=weights)
    blend.check(tuple(models))
    return dataclasses.replace(config, models=models, blend=blend), reasons
