"""The other score: models on folds of the other question, in a work folder within the run's own.

Folds that keep compounds whole score how new compounds are predicted, folds that part them how new
wells of known compounds are. A run's folds are of one kind; on the other kind some of its models,
or all, are trained for their out-of-fold predictions alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from moa_jax.answers import compounds
from moa_jax.answers import mechanism_scores as scores
from moa_jax.blend import sources, weighing
from moa_jax.config import RunConfig
from moa_jax.data.dataset import Dataset
from moa_jax.errors import UserError
from moa_jax.recipes import baseline
from moa_jax.recipes.recipe import Recipe
from moa_jax.recipes.splitting import COMPOUNDS, ROWS
from moa_jax.store import model_files
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import OTHER_FOLDS, Workdir

# The blend's name among models, whose names are not empty.
BLEND = ""
# Values of `answers.both_scores`.
LOGISTIC, ALL = "logistic", "all"
# What is left to score.
POSSIBLE, COMPLETE, IMPOSSIBLE = "possible", "complete", "impossible"


class OtherFolds(NamedTuple):
    """What is trained for the other score.

    Attributes:
      whole: what its folds keep whole.
      config: all models of the run, on such folds.
      models: names of those that are trained.
      workdir: where.
      dataset: on what; the rows to predict are none of it.
    """

    whole: str
    config: RunConfig
    models: tuple[str, ...]
    workdir: Workdir
    dataset: Dataset


def of(config: RunConfig, workdir: Workdir, dataset: Dataset) -> OtherFolds | None:
    """Returns what is trained for the other score; None where none is wanted, or there is none.

    There is none without compounds of several wells, or of fewer of them than folds, and where
    models differ in what their folds keep whole.

    Args:
      config: the run, its models being those that apply to the data.
      workdir: its work folder.
      dataset: its data.
    """
    asked = config.answers.both_scores
    names = [name for name, model in config.models.items() if asked == ALL or _is_quick(model)]
    if not names or asked not in (LOGISTIC, ALL):
        return None
    found = {model.kept(dataset).whole for model in config.models.values()}
    whole = next(iter(found)) if len(found) == 1 else ""
    if dataset.drug_id is None or not (whole == ROWS or whole.startswith(COMPOUNDS)):
        return None
    _, counts = np.unique(dataset.drug_id[~dataset.is_control], return_counts=True)
    most_folds = max(model.folds for model in config.models.values())
    if counts.max(initial=0) < 2 or len(counts) < most_folds:
        return None
    fields: dict[str, Any] = {"split": "stratified"}
    if whole == ROWS:
        fields = {"split": "compound", "frequent_above": 0}
    models = {name: dataclasses.replace(model, **fields) for name, model in config.models.items()}
    # As the work folder's own configuration says, whoever reads it: every split is set.
    data = dataclasses.replace(config.data, groups="none")
    other = dataclasses.replace(config, models=models, data=data)
    within = Workdir(workdir.path / OTHER_FOLDS)
    kept = next(iter(models.values())).kept(dataset).whole
    alone = dataclasses.replace(dataset, test=None, submission_ids=None)
    return OtherFolds(kept, other, tuple(names), within, alone)


def left_to_score(
    config: RunConfig, workdir: Workdir, dataset: Dataset, found: Mapping[str, Any] | None
) -> str:
    """Returns whether `answers.both_scores=all` would score what has no other score yet.

    Args:
      config, workdir, dataset: as for `of`.
      found: the `record` of what has one.

    Returns:
      `possible`; `complete` where all that can have one have it; `impossible` where none can.
    """
    every = dataclasses.replace(config.answers, both_scores=ALL)
    other = of(dataclasses.replace(config, answers=every), workdir, dataset)
    if other is None:
        return IMPOSSIBLE
    try:
        for name in other.models:
            other.config.models[name].check_split(other.dataset)
    except UserError:
        return IMPOSSIBLE
    scored = {one["name"] for one in found["scores"]} if found else set()
    blends = () if config.blend.files else (BLEND,)
    return POSSIBLE if {*other.models, *blends} - scored else COMPLETE


def read(other: OtherFolds | None) -> dict[str, Predictions]:
    """Returns the out-of-fold predictions of the models that are finished on the other folds.

    Where these are all of the run's, their blend is among them, by weights that are found on these
    predictions as the run's are on its own.

    Raises:
      UserError: a file is not as it was written, or is of other rows or targets.
    """
    if other is None:
        return {}
    found: dict[str, Predictions] = {}
    for name in other.models:
        manifest = other.workdir.manifest(name)
        if manifest.lists(manifest.folder / model_files.METRICS):
            oof = sources.of_model(manifest, other.dataset).oof
            assert oof is not None
            found[name] = oof
    config, rows = other.config, _treated(other.dataset)
    if found and len(found) == len(config.models) and not config.blend.files:
        labels, num_controls = rows.targets, len(other.dataset) - len(rows)
        units = next(iter(config.models.values())).kept(rows).units(rows)
        weighed = weighing.weigh(
            config.blend, found, labels.values, num_controls, config.seed, config.honest, units,
            labels.known,
        )  # fmt: skip
        assert weighed.oof is not None
        found[BLEND] = weighed.oof
    return found


def record(other: OtherFolds | None) -> dict[str, Any] | None:
    """Returns what `blend/answers.json` holds of the other score; None where there is none.

    Returns:
      `whole`, what the folds keep whole, and `scores`: for each model that is finished on them, and
      for their blend, its name, log loss and the interval over the compounds, from the same
      resamples as the run's own scores.

    Raises:
      UserError: see `read`.
    """
    found = read(other)
    if other is None or not found:
        return None
    rows = _treated(other.dataset)
    assert rows.drug_id is not None
    resamples = scores.Resamples.draw(compounds.numbered(rows.drug_id)[0], seed=other.config.seed)
    entries = []
    for name, oof in found.items():
        losses = scores.overall(rows.targets.values, oof.values, resamples, rows.targets.known)
        loss, low, high = scores.interval(losses)
        entries.append({"name": name, "log_loss": loss, "low": low, "high": high})
    return {"whole": other.whole, "scores": entries}


def told(found: Mapping[str, Any]) -> str:
    """Returns what a `record` says, for the log."""
    what = "new wells of known compounds" if found["whole"] == ROWS else "new compounds"
    losses = (f"{one['name'] or 'blend'} {one['log_loss']:.5f}" for one in found["scores"])
    return f"beside that, log loss of {what}: {', '.join(losses)}"


def _is_quick(model: Recipe) -> bool:
    """Tells whether a model is a logistic regression, which takes least time."""
    return isinstance(model, baseline.Config) and model.model != baseline.TREES


def _treated(dataset: Dataset) -> Dataset:
    return dataset.take(np.flatnonzero(~dataset.is_control))
