"""Simple NN: one dense network on quantile-transformed profiles; old or new (drug-aware) CV."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from absl import logging

from moa_jax.config import choice, number, switch
from moa_jax.data import folds
from moa_jax.data.tables import Dataset
from moa_jax.errors import UserError
from moa_jax.features import store
from moa_jax.models.mlp import MLP
from moa_jax.predictions import Predictions
from moa_jax.recipes import recipe
from moa_jax.recipes.profile import ProfileFeatures
from moa_jax.recipes.recipe import Context, RecipeResult
from moa_jax.training import losses, members, optimizers, rules, schedules
from moa_jax.training.stage import Forward, Stage

STAGE = "scored"
STAGES = (STAGE,)


@dataclasses.dataclass(frozen=True)
class Config:
    """The Simple NN; the defaults are the original with old CV, but for its six seeds' names.

    Attributes:
      cv: which original the switches are compared with in the report, `old` or `new`.
      split: `stratified` (row by row, unshuffled), `drug_aware` (rare drugs as a whole), or
        `k_fold`.
      split_seed: seed of the splitter.
      folds: number of folds.
      seeds: training seeds; every seed trains one member per fold.
      drop_first_gene: lose the first feature column after the first transform and shift the
        blocks of clusters and statistics by one, as the original with old CV does.
      transforms: fit transforms on `all` rows at hand, test rows included, or `per_fold` on the
        fold's training rows and the controls.
      select_on: the rows that decide the epoch: the `fold` that is predicted, or a `holdout` of
        the training rows.
      gene_factors, cell_factors: components of factor analysis.
      gene_clusters, cell_clusters: clusters of k-means; 0 for none.
      hidden: width of both hidden layers.
      dropout: rates after the three batch normalisations.
      epochs, batch_size: training length and rows per step; validation uses the same batches.
      max_learning_rate, pct_start: peak of the one-cycle schedule and the share before it.
      weight_decay: coupled L2 on every parameter.
      label_smoothing: share of each training target replaced by one half.
      patience: epochs without a better loss after which a member ends; 0 for never.
      share_init_across_folds: all folds of a seed share initial weights and random draws.
    """

    recipe: str = "simple_nn"
    cv: str = choice("old", "old", "new")
    split: str = switch(choice("stratified", "stratified", "drug_aware", "k_fold"))
    split_seed: int = number(42, 0, 2**31 - 1)
    folds: int = number(5, 2, 1000)
    seeds: tuple[int, ...] = number((940, 1513, 1269, 1392, 1119, 1303), 0, 2**31 - 1)
    drop_first_gene: bool = switch(number(True))
    transforms: str = switch(choice("all", "all", "per_fold"))
    select_on: str = switch(choice("fold", "fold", "holdout"))
    gene_factors: int = number(90, 1)
    cell_factors: int = number(50, 1)
    gene_clusters: int = number(45, 0)
    cell_clusters: int = number(15, 0)
    hidden: int = number(2048, 1)
    dropout: tuple[float, ...] = number((0.0, 0.25, 0.25), 0.0, 0.999)
    epochs: int = number(25, 1)
    batch_size: int = number(128, 2)
    max_learning_rate: float = number(1e-2, 1e-12)
    pct_start: float = number(0.1, 0.0, 1.0)
    weight_decay: float = number(1e-5, 0.0)
    label_smoothing: float = number(1e-3, 0.0, 0.999)
    patience: int = number(0, 0)
    share_init_across_folds: bool = switch(number(True))

    def honest(self) -> Config:
        """Returns the configuration in which no row influences its own score."""
        return dataclasses.replace(self, transforms="per_fold", select_on="holdout")


ORIGINAL = {
    "old": Config(),
    "new": Config(
        cv="new",
        split="drug_aware",
        split_seed=34,
        drop_first_gene=False,
        gene_clusters=0,
        cell_clusters=0,
    ),
}


def fidelity(config: Config) -> tuple[dict, dict]:
    """Returns the fidelity switches of the configuration and those of its original."""
    names = [f.name for f in dataclasses.fields(Config) if f.metadata.get("switch")]
    original = ORIGINAL[config.cv]
    return {n: getattr(config, n) for n in names}, {n: getattr(original, n) for n in names}


def check(dataset: Dataset, config: Config) -> None:
    """Checks that the data suit the configuration, before any model is trained.

    Raises:
      UserError: there are fewer treated rows than folds, or the split needs drug ids.
    """
    recipe.check_folds(dataset, config.folds)
    if config.split == "drug_aware" and dataset.drug_id is None:
        raise UserError(
            "train_drug: expected for split=drug_aware, found none; "
            "add the file or set split=stratified"
        )


def fit(dataset: Dataset, config: Config, context: Context) -> RecipeResult:
    """Trains every member and predicts the training rows out of fold, and the test rows.

    Args:
      dataset: training rows with scored targets; `dataset.test` may be absent.
      config: the recipe's configuration.
      context: where and how it runs.
    """
    start = time.monotonic()
    treated = np.flatnonzero(~dataset.is_control)
    rows = dataset.take(treated)
    targets = rows.scored
    fold_of_row = _split(rows, config)
    pipelines = _features(dataset, treated, fold_of_row, config, context)
    shared = _transform(pipelines, rows)
    stage_members = members.cross_validation(
        dict.fromkeys(config.seeds, fold_of_row),
        context.base_seed,
        honest=config.select_on == "holdout",
    )
    feature_seconds = time.monotonic() - start
    logging.info(
        "%s: %d treated rows, %d inputs, features took %.1f s",
        context.model,
        len(rows),
        shared.shape[-1],
        feature_seconds,
    )
    stage = Stage(
        name=f"{context.model}/{STAGE}",
        forward=_forward(config, len(targets.names)),
        members=tuple(stage_members),
        member_data=_pipeline_of([member.fold for member in stage_members], pipelines),
        shared=shared,
        targets=targets.values.astype(shared.dtype),
        loss=functools.partial(_smoothed_loss, smoothing=config.label_smoothing),
        valid_loss=losses.binary_cross_entropy,
        optimizer=functools.partial(_optimizer, config=config),
        epochs=config.epochs,
        batch_size=config.batch_size,
        stop=rules.patience(config.patience),
        share_init_across_folds=config.share_init_across_folds,
    )
    oof = recipe.fit_stage(
        context, stage, rows.ids, targets.names, targets.values, shared.shape[-1], feature_seconds
    )
    test = None
    if dataset.test is not None:
        test = load(config, context, targets.names)(dataset.test)
        test.write(context.folder / STAGE / "test.parquet")
    return RecipeResult(oof, test, recipe.data_notes(dataset))


def load(
    config: Config, context: Context, targets: tuple[str, ...]
) -> Callable[[Dataset], Predictions]:
    """Returns the function that predicts new rows; it needs the work folder only."""
    names = recipe.member_names(context.folder / STAGE)
    pipelines = _stored_features(config, context)
    predictor = recipe.stage_predictor(
        context,
        f"{context.model}/{STAGE}",
        _forward(config, len(targets)),
        names,
        _pipeline_of([int(name.split("_fold")[1]) for name in names], pipelines),
    )
    chunk_rows = context.parallel.predict_rows

    def probabilities(rows: Dataset) -> np.ndarray:
        return predictor.mean(_transform(pipelines, rows), len(rows), chunk_rows)

    return lambda dataset: recipe.predict_rows(dataset, targets, chunk_rows, probabilities)


def _split(rows: Dataset, config: Config) -> np.ndarray:
    labels = rows.scored.values
    if config.split == "drug_aware":
        return folds.drug_aware(labels, rows.drug_id, config.folds, config.split_seed)
    if config.split == "k_fold":
        return folds.k_fold(len(rows), config.folds, config.split_seed)
    return folds.multilabel_stratified(
        labels, config.folds, config.split_seed, always_true_label=True
    )


def _feature_folder(context: Context, name: str) -> Path:
    return context.folder / STAGE / "features" / name


def _pipeline_names(config: Config) -> list[str]:
    if config.transforms == "all":
        return ["all"]
    return [f"fold{fold}" for fold in range(config.folds)]


def _features(
    dataset: Dataset,
    treated: np.ndarray,
    fold_of_row: np.ndarray,
    config: Config,
    context: Context,
) -> list[ProfileFeatures]:
    """Fits and stores what an earlier run has not stored, and returns what is stored."""
    controls = np.flatnonzero(dataset.is_control)
    for fold, name in enumerate(_pipeline_names(config)):
        folder = _feature_folder(context, name)
        if store.exists(folder):
            continue
        if name == "all":
            train, test = dataset, dataset.test
        else:
            of_fold = np.sort(np.concatenate([treated[fold_of_row != fold], controls]))
            train, test = dataset.take(of_fold), None
        fitted = ProfileFeatures.fit(
            train,
            test,
            context.levels,
            factors=(config.gene_factors, config.cell_factors),
            clusters=(config.gene_clusters, config.cell_clusters),
            drop_first_column=config.drop_first_gene,
        )
        store.save(folder, fitted.transforms)
    return _stored_features(config, context)


def _stored_features(config: Config, context: Context) -> list[ProfileFeatures]:
    columns = context.workdir.read()["data"]["columns"]
    return [
        ProfileFeatures(
            len(columns["genes"]),
            len(columns["cells"]),
            context.levels,
            store.load(_feature_folder(context, name)),
            config.drop_first_gene,
        )
        for name in _pipeline_names(config)
    ]


def _transform(pipelines: list[ProfileFeatures], rows: Dataset) -> np.ndarray:
    """Returns inputs [N, pipelines, F] in the device's float dtype."""
    dtype = jnp.result_type(float)
    return np.stack([pipeline.transform(rows).astype(dtype) for pipeline in pipelines], axis=1)


def _pipeline_of(folds_of_members: list[int], pipelines: list[ProfileFeatures]) -> np.ndarray:
    """Returns which pipeline each member reads: the only one, or that of its fold."""
    own = np.asarray(folds_of_members, np.int32)
    return own if len(pipelines) > 1 else np.zeros_like(own)


def _inputs(shared, pipeline, rows, key, train):
    return (shared[rows, pipeline],)


def _forward(config: Config, num_outputs: int) -> Forward:
    return Forward(MLP(config.hidden, num_outputs, config.dropout), _inputs)


def _smoothed_loss(logits, targets, mask, smoothing):
    return losses.binary_cross_entropy(logits, losses.smoothed(targets, smoothing), mask)


def _optimizer(total_steps, scale, config: Config):
    rate, beta1 = schedules.one_cycle(total_steps, config.pct_start, config.max_learning_rate)
    return optimizers.adam(lambda step: scale * rate(step), beta1, config.weight_decay)
