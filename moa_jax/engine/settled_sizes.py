"""Settled sizes: those that models leave to the data, as a work folder has them or the rows say."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from absl import logging

from moa_jax.config import RunConfig, flat, plain
from moa_jax.data.dataset import Dataset
from moa_jax.recipes import sizes
from moa_jax.store.workdir import Workdir


def settled(config: RunConfig, workdir: Workdir, data: Dataset | Mapping[str, Any]) -> RunConfig:
    """Returns the configuration with the sizes that it leaves to the data, see `recipes.sizes`.

    Those that a work folder was made with count; for a new one they are of the treated rows, and
    the log tells them.

    Args:
      config: the run.
      workdir: its work folder, which need not be there.
      data: the training rows, or their description.

    Raises:
      UserError: `config.json` is damaged.
    """
    left_open = {
        name: places for name, m in config.models.items() if (places := sizes.left_open(m))
    }
    if not left_open:
        return config
    treated = (data.description() if isinstance(data, Dataset) else data)["treated"]
    made_with: Mapping[str, Any] = {}
    if os.path.lexists(workdir.path / "config.json"):
        made_with = workdir.read()["config"]["models"]
    models = dict(config.models)
    for name, places in left_open.items():
        stored = flat(made_with.get(name, {}))
        if stored.get("recipe") != models[name].recipe:  # another run's, which `bind` tells
            stored = {}
        known = {place: _frozen(stored[place]) for place in places if place in stored}
        models[name] = sizes.of_rows(models[name], treated, known)
        if not known:
            found = flat(plain(models[name]))
            told = ", ".join(f"{place} {found[place]}" for place in places)
            logging.info("config.models.%s: for %d treated rows: %s", name, treated, told)
    return dataclasses.replace(config, models=models)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
