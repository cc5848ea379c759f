"""Explanation: what drives the predictions of a run's best networks, into files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from absl import logging

from moa_jax.config import RunConfig, plain
from moa_jax.data.dataset import Dataset
from moa_jax.errors import UserError
from moa_jax.recipes import attribution, attribution_baseline
from moa_jax.recipes.context import Context
from moa_jax.schema import suggestion
from moa_jax.store import files
from moa_jax.store.model_files import METRICS
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir
from moa_jax.training.parallel import Devices

FILE = "attributions.parquet"
# Where the schema of the file tells how its numbers came about, as JSON.
METADATA = b"attributions"


def check(config: RunConfig, dataset: Dataset) -> None:
    """Checks that what is to be explained is there, before any model is trained.

    Raises:
      UserError: naming the field.
    """
    explain, scored = config.explain, dataset.targets.names
    if explain.model == "none":
        return
    for name in explain.mechanisms:
        if name not in scored:
            raise UserError(
                f"config.explain.mechanisms: expected some of the {len(scored)} scored targets, "
                f"found {name!r}" + suggestion(name, scored)
            )
    if explain.per_compound and dataset.drug_id is None:
        raise UserError("config.explain.per_compound: expected compounds in train_drug, found none")


def explained(config: RunConfig, workdir: Workdir) -> Context | None:
    """Returns the finished model that is to be explained; None for none, of which the log tells.

    Raises:
      UserError: a model's metrics are not as they were written.
    """
    if config.explain.model == "none":
        return None
    devices, losses = Devices.available(config.parallel.strategy), {}
    for name, model in config.models.items():
        context = Context(name, workdir, devices, config)
        if not model.has_networks(context.levels):
            continue
        if not context.manifest.lists(context.folder / attribution_baseline.FILE):
            logging.warning(
                "%s: not explained: it was trained by a version that kept no %s",
                name, attribution_baseline.FILE,
            )  # fmt: skip
            continue
        context.manifest.verify(context.folder / METRICS)
        losses[name] = files.read_json(context.folder / METRICS)["scores"]["treated"]
    if not losses:
        logging.info("attributions: no model with networks to explain")
        return None
    return Context(min(losses, key=lambda name: losses[name]), workdir, devices, config)


def of_training_rows(
    config: RunConfig, workdir: Workdir, dataset: Dataset, oof: Mapping[str, Predictions]
) -> None:
    """Writes the attributions of the training rows by the best model, and removes earlier ones.

    Args:
      config: the run's configuration.
      workdir: the work folder.
      dataset: the training rows.
      oof: out-of-fold predictions of the treated rows, by model.
    """
    path = workdir.path / "blend" / FILE
    files.remove(path)
    context = explained(config, workdir)
    if context is None:
        return
    rows = dataset.take(np.flatnonzero(~dataset.is_control))
    by = "compound" if config.explain.per_compound else "mechanism"
    found = table(context, rows, oof[context.model], by, config.explain.mechanisms or None)
    _write_table(path, found)


def new_rows(config: RunConfig, workdir: Workdir, scored: Sequence[str]) -> MostLikely | None:
    """Returns what explains new rows as they come; None where nothing is to be explained.

    Args:
      config: the run's configuration.
      workdir: the work folder.
      scored: names of the scored targets.
    """
    context = explained(config, workdir)
    return None if context is None else MostLikely(context, scored)


class MostLikely:
    """Of new rows, which come part by part, those in which some mechanism is most likely.

    Attributes:
      model: the model that is explained.
      rows: these rows; None before the first.
      predictions: the model's of them.
    """

    def __init__(self, context: Context, scored: Sequence[str]):
        """`context` is that of the model, `scored` are the names of the scored targets."""
        self._context, self._explain = context, context.config.explain
        names = self._explain.mechanisms or scored
        self._columns = [list(scored).index(name) for name in names]
        self.rows: Dataset | None = None
        self.predictions: Predictions | None = None

    @property
    def model(self) -> str:
        return self._context.model

    @property
    def question(self) -> str:
        """A hash of what was asked for."""
        return files.content_hash(plain(self._explain))

    def add(self, rows: Dataset, predictions: Predictions) -> None:
        """Sees some rows and the model's predictions of them."""
        treated = np.flatnonzero(~rows.is_control)
        rows, predictions = rows.take(treated), predictions.aligned(rows.ids[treated])
        if self.rows is not None and self.predictions is not None:
            rows = attribution_baseline.joined(self.rows, rows)
            values = np.concatenate([self.predictions.values, predictions.values])
            predictions = Predictions(rows.ids, predictions.targets, values)
        order = np.argsort(-predictions.values[:, self._columns], axis=0, kind="stable")
        kept = np.unique(order[: self._explain.most_rows])
        self.rows = rows.take(kept)
        self.predictions = Predictions(self.rows.ids, predictions.targets, predictions.values[kept])

    def write(self, folder: Path) -> None:
        """Writes the rows' attributions to the folder of their predictions."""
        if self._explain.per_compound:
            logging.info("attributions: those of new rows are not told by compound")
        found = attribution.nothing()
        if self.rows is not None and self.predictions is not None and len(self.rows):
            targets = self._explain.mechanisms or None
            found = table(self._context, self.rows, self.predictions, "mechanism", targets)
        _write_table(folder / FILE, found)


def table(
    context: Context,
    rows: Dataset,
    predictions: Predictions | None,
    by: str,
    targets: Sequence[str] | None,
) -> pd.DataFrame:
    """Returns the attributions of rows, as far as the configuration asks; see `attributions`."""
    explain = context.config.explain
    return attribution.attributions(
        context.config.models[context.model],
        context,
        rows,
        targets,
        by=by,
        predictions=predictions,
        most_rows=explain.most_rows,
        steps=explain.steps,
    )


def _write_table(path: Path, table: pd.DataFrame) -> None:
    made = pa.Table.from_pandas(table, preserve_index=False)
    told = {METADATA: json.dumps(table.attrs).encode()}
    made = made.replace_schema_metadata({**(made.schema.metadata or {}), **told})
    with files.replacing(path) as temporary:
        pa.parquet.write_table(made, temporary, write_page_checksum=True)
