"""The data of a run: its levels, its training rows, and the rows to predict that came with them."""

from __future__ import annotations

import dataclasses

from absl import logging

from moa_jax.config import RunConfig, is_group_file
from moa_jax.data import leaks, levels, tables
from moa_jax.data.dataset import Dataset, Levels
from moa_jax.data.names import Prefixes


def settled(config: RunConfig) -> RunConfig:
    """Returns the configuration with the levels that it leaves to the data, see `levels.settled`.

    Raises:
      UserError: a file of the data folder cannot be read, or a time in it is no number.
    """
    data = levels.settled(config.data, config.data.folder or tables.sample_folder())
    return dataclasses.replace(config, data=data)


def load_data(config: RunConfig) -> Dataset:
    """Returns the training data that the configuration names, its test rows within."""
    dataset = _read_data(config)
    if answers := leaks.telling(dataset):
        logging.warning(
            "features that are an answer, from which nothing is learned about rows without one: "
            "%d, such as %s; config.data.ignore leaves them out", len(answers), answers[0],
        )  # fmt: skip
    return with_groups(config, dataset)


def with_groups(config: RunConfig, dataset: Dataset) -> Dataset:
    """Returns training rows with the groups of the file that `data.groups` names, if it does."""
    if not is_group_file(config.data.groups):
        return dataset
    groups = tables.read_groups(config.data.groups, dataset)
    return dataclasses.replace(dataset, groups=groups)


def known_levels(config: RunConfig) -> Levels:
    """Returns the levels of treatment that a run's networks read."""
    return Levels.of(config.data, config.treatment.encoding)


def _read_data(config: RunConfig) -> Dataset:
    data = config.data
    if data.source == "simulated":
        from moa_jax.data import simulate
        from moa_jax.engine import limits

        limits.check_simulated(data)
        return simulate.make(
            rows=data.rows,
            seed=data.seed,
            genes=data.genes,
            cells=data.cells,
            scored=data.scored,
            nonscored=data.nonscored,
        )
    folder = data.folder or tables.sample_folder()
    return tables.load(folder, known_levels(config), Prefixes.of(data), data.missing_targets)
