"""New rows predicted by finished runs, each system's networks loaded once.

A run of the size is trained first, see `finished`, where no other row has done it. What is timed is
how many rows are predicted: trees have predicted as many before as they are given tables after,
which takes a second or two of a process.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import finished
from benchmarks.row import Row, Side, Work

if TYPE_CHECKING:
    from moa_jax.data.dataset import Dataset
    from moa_jax.engine.prediction import LoadedEnsemble

# The quickstart's name of them.
TREES = "trees"
ROWS_PREDICTED = {"tiny": 20, "quick": 1_000, "full": 20_000}


@functools.lru_cache(1)
def loaded(name: str, size: str) -> tuple[LoadedEnsemble, Path]:
    from moa_jax import config as configurations
    from moa_jax.data import tables
    from moa_jax.engine.prediction import LoadedEnsemble
    from moa_jax.learners import trees
    from moa_jax.recipes import RECIPES
    from moa_jax.store import files
    from moa_jax.store.workdir import Workdir

    folder = finished.trained(name, size)
    config = configurations.parse(files.read_json(folder / "config.json")["config"], RECIPES)
    ensemble = LoadedEnsemble.load(config, Workdir(folder))
    if TREES in ensemble.predicts:
        sample = tables.load(tables.sample_folder())
        ensemble.predicts[TREES](ensemble.levelled(rows_like(sample, trees.MANY_ROWS)))
    return ensemble, folder


def rows_like(dataset: Dataset, count: int) -> Dataset:
    """Returns so many rows near those of a data set, no two alike."""
    rows = dataset.take(np.resize(np.arange(len(dataset)), count))
    noise = np.random.default_rng(0).normal(scale=1e-3, size=rows.features.shape)
    ids = np.array([f"new_{number}" for number in range(count)], object)
    return dataclasses.replace(rows, ids=ids, features=rows.features + noise)


def flops_of(folder: Path) -> float:
    """Returns the operations of the matrix products of one row in a model's networks.

    Of stages that only start others the networks predict no new rows, and do not count. Kernels are
    arrays of two axes; those of convolutions work on every pixel and are not counted, so that an
    image network has no bound here.
    """
    found = 0.0
    predicted = (path.parent for path in folder.glob("*/test.parquet"))
    for path in (path for stage in predicted for path in stage.glob("members/*.npz")):
        with np.load(path, allow_pickle=False) as stored:
            shapes = [stored[name].shape for name in stored.files]
        if any(len(shape) == 4 for shape in shapes):
            return 0.0
        found += 2.0 * sum(np.prod(shape) for shape in shapes if len(shape) == 2)
    return found


def predicts(name: str, model: str, size: str) -> Side:
    """Returns the side that predicts by one model of a run, or by all and their blend for none."""
    from moa_jax.data import tables

    ensemble, folder = loaded(name, size)
    dataset = tables.load(tables.sample_folder())
    rows = ensemble.levelled(rows_like(dataset, ROWS_PREDICTED[size]))
    run: Any = ensemble.predict if not model else ensemble.predicts[model]
    models = [model] if model else list(ensemble.predicts)
    flops = len(rows) * sum(flops_of(folder / one) for one in models)
    work = Work(flops, rows.features.nbytes) if flops else None
    return Side(lambda: run(rows), len(rows), work)


def _row(name: str, model: str, what: str, quick: bool) -> Row:
    last = model or name.removeprefix("deepinsight_")
    side = functools.partial(predicts, name, model)
    return Row(f"inference.{last}", what, "rows/s", side, most=3, quick=quick)


ROWS = (
    _row("quickstart", "", "all models of the quickstart", True),
    _row("quickstart", "profile_nn", "60 networks of the quickstart", True),
    _row("quickstart", "simple_nn_old", "10 networks of the quickstart", True),
    _row("quickstart", "logistic", "the quickstart's logistic regression", True),
    *(
        _row(name, "", "all its networks, at the size for the embedded data", False)
        for name in finished.SHORT
        if name != "quickstart"
    ),
)
