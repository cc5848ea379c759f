"""Chain: stages that follow one another, each handing its predictions on as the next's features."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from moa_jax.data.dataset import Dataset, Targets
from moa_jax.features.rank_gauss import RankGauss
from moa_jax.recipes import profile, recipe
from moa_jax.recipes.profile import Profile
from moa_jax.recipes.recipe import Context, RecipeResult
from moa_jax.store import files, transform_files
from moa_jax.store.predictions import Predictions
from moa_jax.store.transform_files import Transform
from moa_jax.training import members
from moa_jax.training.stage import Forward, Stage

PREDICTIONS = "predictions"


@dataclasses.dataclass(frozen=True)
class Link:
    """A stage of a chain, as its recipe decides it.

    Attributes:
      name: the stage's name, and that of its folder.
      network: makes the network for a number of outputs.
      stage: makes the `Stage` from name, forward, members, shared, member_data and targets.
      targets: the targets of treated rows.
      seeds: training seeds.
      folds: for every seed the fold of each treated row.
      inputs: puts a network's inputs together from rows, their profile's columns and the columns
        made of the earlier predictions; either is None where the stage has none.
      profile: the profile that the stage fits.
      profile_of: name of the earlier stage whose profile it reads instead.
      predictions_of: name of the earlier stage whose predictions it reads, through a rank-gauss
        that is fitted on the out-of-fold predictions of training rows.
      probabilities: maps the network's output to probabilities.
      inner: how one device runs its members, see `Forward`.
    """

    name: str
    network: Callable[[int], nn.Module]
    stage: Callable[..., Stage]
    targets: Callable[[Dataset], Targets]
    seeds: tuple[int, ...]
    folds: Callable[[Dataset], Mapping[int, np.ndarray]]
    inputs: Callable[[Dataset, np.ndarray | None, np.ndarray | None], np.ndarray]
    profile: Profile | None = None
    profile_of: str | None = None
    predictions_of: str | None = None
    probabilities: Callable[[Any], jax.Array] = jax.nn.sigmoid
    inner: str = "auto"


@dataclasses.dataclass(frozen=True)
class Chain:
    """The stages of a recipe; the last one's predictions are the recipe's.

    Attributes:
      links: the stages.
      num_folds: number of folds of every stage.
      pipelines: names of the sets of transforms, `all` alone or one per fold.
      select_on: the rows that decide a member's epoch, see `members.cross_validation`.
    """

    links: tuple[Link, ...]
    num_folds: int
    pipelines: tuple[str, ...] = ("all",)
    select_on: str = "fold"

    @classmethod
    def of(cls, links: tuple[Link, ...], transforms: str, select_on: str, folds: int) -> Chain:
        """Returns the chain for the switches `transforms` and `select_on` of a recipe."""
        per_fold = tuple(f"fold{fold}" for fold in range(folds))
        pipelines = ("all",) if transforms == "all" else per_fold
        return cls(links, folds, pipelines, select_on)

    def fit(
        self, dataset: Dataset, context: Context, needs_nonscored: bool = False
    ) -> RecipeResult:
        """Trains every stage and predicts training rows out of fold, and the test rows.

        Args:
          dataset: training rows; `dataset.test` may be absent.
          context: where and how it runs.
          needs_nonscored: whether it is worth a note that there are no non-scored targets.
        """
        notes = recipe.data_notes(dataset, needs_nonscored)
        training = _Training(self, dataset, context)
        for link in self.links:
            training.fit(link)
        test = None
        if dataset.test is not None:
            found = recipe.predict_rows(
                dataset.test, context.parallel.predict_rows, self._predictor(context)
            )
            for link in self.links:
                names = training.targets[link.name].names
                test = Predictions(dataset.test.ids, names, found[link.name])
                test.write(context.folder / link.name / "test.parquet")
        return RecipeResult(
            training.predictions[self.links[-1].name],
            test,
            tuple(link.name for link in self.links),
            notes,
        )

    def outline(self, dataset: Dataset, context: Context) -> tuple[Stage, ...]:
        """Returns the stages that `fit` would train, see `recipe.outline_folds`."""
        treated = np.flatnonzero(~dataset.is_control)
        rows, few = dataset.take(treated), dataset.take(treated[:1])
        columns, targets, stages = {}, {}, []
        for link in self.links:
            if link.profile is not None:
                columns[link.name] = profile.outline(link.profile, few, len(rows))
            targets[link.name] = link.targets(rows)
            previous = None
            if link.predictions_of is not None:
                previous = np.zeros((1, len(targets[link.predictions_of].names)))
            width = link.inputs(few, columns.get(link.profile_of or link.name), previous).shape[1]
            folds = recipe.outline_folds(len(rows), self.num_folds, link.seeds)
            inputs = recipe.zeros((len(rows), len(self.pipelines), width))
            stages.append(self.stage(link, context, folds, inputs, targets[link.name]))
        return tuple(stages)

    def stage(
        self,
        link: Link,
        context: Context,
        folds: Mapping[int, np.ndarray],
        inputs: np.ndarray,
        targets: Targets,
    ) -> Stage:
        """Returns what is to be fitted.

        Args:
          link: the stage's part of the chain.
          context: where and how it runs.
          folds: for every seed the fold of each treated row.
          inputs: the network's inputs by every pipeline, [N, pipelines, F].
          targets: the targets of treated rows.
        """
        stage_members = members.cross_validation(folds, context.base_seed, self.select_on)
        return link.stage(
            name=f"{context.model}/{link.name}",
            forward=_forward(link, len(targets.names)),
            members=tuple(stage_members),
            member_data=self.pipeline_of([member.fold for member in stage_members]),
            shared=inputs,
            targets=targets.values.astype(inputs.dtype),
        )

    def load(self, context: Context, targets: tuple[str, ...]) -> Callable[[Dataset], Predictions]:
        """Returns the function that predicts new rows; it needs the work folder only."""
        probabilities = self._predictor(context)
        last = self.links[-1].name

        def predict(rows: Dataset) -> Predictions:
            found = recipe.predict_rows(rows, context.parallel.predict_rows, probabilities)
            return Predictions(rows.ids, targets, found[last])

        return predict

    def _predictor(self, context: Context) -> Callable[[Dataset], dict[str, np.ndarray]]:
        """Returns the function from at most `predict_rows` rows to each stage's probabilities."""
        stored = {link.name: self.transforms(link, context) for link in self.links}
        predictors = {}
        for link in self.links:
            metrics = files.read_json(context.folder / link.name / "metrics.json")
            ids = recipe.member_ids(metrics)
            predictors[link.name] = recipe.stage_predictor(
                context,
                f"{context.model}/{link.name}",
                _forward(link, metrics["outputs"]),
                ids,
                self.pipeline_of([own.fold for own in ids]),
                share=1 / len(self.links),
            )

        def probabilities(rows: Dataset) -> dict[str, np.ndarray]:
            profiles, found = {}, {}
            for link in self.links:
                if link.profile is not None:
                    profiles[link.name] = _profiles(link.profile, stored[link.name], rows)
                inputs = _inputs(
                    link,
                    rows,
                    profiles.get(link.profile_of or link.name),
                    found.get(link.predictions_of),
                    stored[link.name],
                )
                found[link.name] = predictors[link.name].mean(
                    inputs, len(rows), context.parallel.predict_rows
                )
            return found

        return probabilities

    def transforms(self, link: Link, context: Context) -> list[dict[str, Transform]]:
        """Returns the stored transforms of a stage, by pipeline; none where it has none."""
        if link.profile is None and link.predictions_of is None:
            return [{} for _ in self.pipelines]
        return [transform_files.load(self.folder(link, name, context)) for name in self.pipelines]

    def folder(self, link: Link, pipeline: str, context: Context) -> Path:
        return context.folder / link.name / "features" / pipeline

    def pipeline_of(self, folds_of_members: list[int]) -> np.ndarray:
        """Returns which pipeline each member reads: the only one, or that of its fold."""
        own = np.asarray(folds_of_members, np.int32)
        return own if len(self.pipelines) > 1 else np.zeros_like(own)


class _Training:
    """A chain being fitted: the treated rows, and what the stages so far have made of them."""

    def __init__(self, chain: Chain, dataset: Dataset, context: Context):
        self.chain, self.dataset, self.context = chain, dataset, context
        self.treated = np.flatnonzero(~dataset.is_control)
        self.rows = dataset.take(self.treated)
        self.targets: dict[str, Targets] = {}
        self.predictions: dict[str, Predictions] = {}
        self._profiles: dict[str, np.ndarray] = {}

    def fit(self, link: Link) -> None:
        """Fits a stage; one that an earlier run finished is read back."""
        context, chain, name = self.context, self.chain, link.name
        targets = self.targets[name] = link.targets(self.rows)
        if (finished := recipe.finished_predictions(context, name)) is not None:
            self.predictions[name] = finished
            return
        start = time.monotonic()
        folds = link.folds(self.rows)
        self._fit_transforms(link, next(iter(folds.values())))
        shared = self._inputs(link)
        seconds = time.monotonic() - start
        logging.info(
            "%s/%s: %d treated rows, %d inputs, %d targets; features took %.1f s",
            context.model, name, len(self.rows), shared.shape[-1], len(targets.names), seconds,
        )  # fmt: skip
        stage = chain.stage(link, context, folds, shared, targets)
        self.predictions[name] = recipe.fit_stage(
            context, stage, self.rows.ids, targets, shared.shape[-1], seconds
        )

    def _fit_transforms(self, link: Link, fold_of_row: np.ndarray) -> None:
        """Fits and stores what an earlier run has not stored."""
        if link.profile is None and link.predictions_of is None:
            return
        for number, name in enumerate(self.chain.pipelines):
            folder = self.chain.folder(link, name, self.context)
            if transform_files.exists(folder):
                continue
            logging.info("%s/%s: fitting transforms: %s", self.context.model, link.name, name)
            train, test, kept = self.dataset, self.dataset.test, np.full(len(self.rows), True)
            if name != "all":
                kept = fold_of_row != number
                controls = np.flatnonzero(self.dataset.is_control)
                of_fold = np.sort(np.concatenate([self.treated[kept], controls]))
                train, test = self.dataset.take(of_fold), None
            fitted = {}
            if link.profile is not None:
                fitted |= profile.fit(link.profile, train, test)
            if link.predictions_of is not None:
                previous = self.predictions[link.predictions_of].values
                fitted[PREDICTIONS] = RankGauss().fit(previous[kept])
            transform_files.save(folder, fitted)

    def _inputs(self, link: Link) -> np.ndarray:
        previous = None
        if link.predictions_of is not None:
            previous = self.predictions[link.predictions_of].values
        stored = self.chain.transforms(link, self.context)
        return _inputs(link, self.rows, self._profile(link), previous, stored)

    def _profile(self, link: Link) -> np.ndarray | None:
        owner = link.profile_of or (link.name if link.profile is not None else None)
        if owner is not None and owner not in self._profiles:
            of = next(other for other in self.chain.links if other.name == owner)
            stored = self.chain.transforms(of, self.context)
            self._profiles[owner] = _profiles(of.profile, stored, self.rows)
        return self._profiles.get(owner)


def _profiles(described: Profile, stored: list[dict[str, Transform]], rows: Dataset) -> np.ndarray:
    """Returns the columns of a profile by every pipeline, [N, pipelines, F]."""
    dtype = jnp.result_type(float)
    return np.stack([profile.apply(described, t, rows).astype(dtype) for t in stored], axis=1)


def _inputs(
    link: Link,
    rows: Dataset,
    profiles: np.ndarray | None,
    previous: np.ndarray | None,
    stored: list[dict[str, Transform]],
) -> np.ndarray:
    """Returns a stage's inputs by every pipeline, [N, pipelines, F], in the device's dtype."""
    dtype = jnp.result_type(float)
    by_pipeline = []
    for number, transforms in enumerate(stored):
        columns = None if profiles is None else profiles[:, number]
        predicted = None if previous is None else transforms[PREDICTIONS].transform(previous)
        by_pipeline.append(link.inputs(rows, columns, predicted).astype(dtype))
    return np.stack(by_pipeline, axis=1)


def _take(shared, pipeline, rows, key, train):
    return (shared[rows, pipeline],)


def _forward(link: Link, num_outputs: int) -> Forward:
    return Forward(link.network(num_outputs), _take, link.probabilities, link.inner)
