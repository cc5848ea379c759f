"""What is blended: predictions of the run's own models, and of models from elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from moa_jax.config import PredictionFiles
from moa_jax.data import columns
from moa_jax.data.dataset import Dataset
from moa_jax.errors import UserError
from moa_jax.store.files import read_json
from moa_jax.store.manifest import Manifest
from moa_jax.store.model_files import METRICS, OOF, TEST, TEST_SPREAD
from moa_jax.store.predictions import Predictions


@dataclasses.dataclass(frozen=True)
class Source:
    """A model's predictions, the targets in the data's order.

    Attributes:
      oof: out-of-fold predictions of the treated training rows in the data's order, or None.
      test: predictions of the test rows, or None.
      controls: out-of-fold predictions of the control rows, or None.
    """

    oof: Predictions | None
    test: Predictions | None
    controls: Predictions | None = None


def of_model(manifest: Manifest, dataset: Dataset) -> Source:
    """Returns the predictions that a finished model left in its folder.

    All but its networks is verified, because the report reads what is told of each stage.

    Raises:
      UserError: the model is not finished; a file is missing, is not as it was written, or is of
        other rows or targets than the data's.
    """
    folder = manifest.folder
    metrics = folder / METRICS
    if not manifest.lists(metrics):
        raise UserError(f"{metrics}: expected those of a finished model, found none; train first")
    manifest.verify(*(path for path in manifest.paths if path.parent.name != "members"))
    treated, controls = dataset.ids[~dataset.is_control], dataset.ids[dataset.is_control]
    oof = _finished(manifest, OOF, dataset)
    oof = oof.aligned(treated, str(folder / OOF))
    test = _finished(manifest, TEST, dataset) if dataset.test else None
    spread = folder / TEST_SPREAD
    if test is not None and manifest.lists(spread):
        test = test.with_spread(spread)
    every = _finished(manifest, f"{read_json(metrics)['reported']}/{OOF}", dataset)
    return Source(oof, test, every.if_any(controls))


def of_files(files: PredictionFiles, dataset: Dataset) -> Source:
    """Returns predictions from elsewhere, checked and aligned by `sig_id` and target.

    Out-of-fold predictions are of the treated rows, or of all; controls are kept apart.
    Where the data have test rows, test predictions are of these; else of whatever rows they name.

    Raises:
      UserError: a file cannot be read; its rows or targets are not those of the data; a cell is
        not a number between 0 and 1.
    """
    oof = test = controls = None
    if files.oof:
        table = columns.read(Path(files.oof))
        treated, control_ids = dataset.ids[~dataset.is_control], dataset.ids[dataset.is_control]
        with_controls = np.isin(control_ids, table.ids).any()
        expected = dataset.ids if with_controls else treated
        every = _probabilities(table, dataset, expected, "train_features")
        oof, controls = every.aligned(treated), every.if_any(control_ids)
    if files.test:
        table = columns.read(Path(files.test))
        expected = dataset.test.ids if dataset.test else table.ids
        test = _probabilities(table, dataset, expected, "test_features")
    return Source(oof, test, controls)


def check_tests(sources: Mapping[str, Source], others: Sequence[str] = ()) -> None:
    """Checks that all models predict the test rows, or none does.

    Args:
      sources: predictions by model.
      others: models that predict them, or will.

    Raises:
      UserError: naming a model that does not and one that does.
    """
    having = [*others] + [name for name, source in sources.items() if source.test is not None]
    for name, source in sources.items():
        if having and source.test is None:
            raise UserError(
                f"config.blend.files.{name}.test: expected a file, because {having[0]} has test "
                "predictions, found none"
            )


def _finished(manifest: Manifest, name: str, dataset: Dataset) -> Predictions:
    path = manifest.folder / name
    manifest.verify(path)
    predictions = Predictions.read(path)
    if predictions.targets != dataset.targets.names:
        raise UserError(
            f"{path}: expected the {len(dataset.targets.names)} targets of train_targets_scored, "
            f"found {len(predictions.targets)} others; the model was trained on other data"
        )
    return predictions


def _probabilities(
    table: columns.Columns, dataset: Dataset, ids: np.ndarray, owner: str
) -> Predictions:
    targets = dataset.targets.names
    table.expect(targets)
    rows = table.rows_of(ids, owner)
    values = table.numbers(targets)
    for name, column in zip(targets, values.T, strict=True):
        table.check(name, (column >= 0) & (column <= 1), "a probability between 0 and 1")
    return Predictions(ids, targets, values[rows])
