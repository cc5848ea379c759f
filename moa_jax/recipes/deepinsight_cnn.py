"""DeepInsight CNNs: every profile an image, and EfficientNet or ResNeSt that classifies it."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from moa_jax.config import choice, number, switch
from moa_jax.data import folds
from moa_jax.data.dataset import Dataset
from moa_jax.deepinsight import inputs as deepinsight_inputs
from moa_jax.errors import UserError
from moa_jax.models import efficientnet, resnest
from moa_jax.models.efficientnet import EfficientNet
from moa_jax.models.resnest import ResNeSt
from moa_jax.pretrained import architectures
from moa_jax.recipes import recipe
from moa_jax.recipes.dense import smoothed_loss
from moa_jax.recipes.recipe import Context, RecipeResult
from moa_jax.store import files, transform_files
from moa_jax.store.predictions import Predictions
from moa_jax.training import losses, members, optimizers, rules, schedules
from moa_jax.training.members import Member
from moa_jax.training.stage import Forward, Stage, by_row

Tree = Any
SCORED = "scored"
HEAD = "head"
EFFICIENTNETS = tuple(f"efficientnet_{variant}" for variant in efficientnet.VARIANTS)
NETWORKS = (*EFFICIENTNETS, *resnest.VARIANTS)
# What the originals add to the norm that gradients are clipped by.
CLIP_EPSILON = 1e-5
# Images that are predicted together; more take memory and no less time.
PREDICTED_AT_ONCE = 32


@dataclasses.dataclass(frozen=True)
class Config:
    """A DeepInsight CNN; the defaults are the EfficientNet-B3 of both best blends.

    Control rows are rows like any other, with no target true.

    Attributes:
      version: which original the switches are compared with in the report.
      network: the image network.
      seeds: training seeds; every seed trains one member per fold.
      folds, fold_seed: number of folds and seed of their splitter, the same for every seed.
      resolution: height and width of an image in pixels.
      embedding: what places the columns in the plane: `tsne`, `umap` or `pca`.
      tsne: `legacy` for the affinities of scikit-learn before 1.0, `current` for today's.
      perplexity: of the t-SNE.
      closing_edge: try the hull's last edge too when turning the map into the smallest rectangle.
      swap_probability, swap_portion: share of the training rows that take values of another row,
        and share of all columns that they take.
      batch_size, epochs: rows per step and longest training.
      learning_rate, half_period: rate of the first epoch, and epochs in which it falls to zero on
        a cosine, to rise again in as many.
      weight_decay: decoupled, of RAdam.
      clip_norm: largest norm of all gradients together.
      label_smoothing: share of each training target replaced by one half.
      patience, min_delta: epochs without a loss lower by more than `min_delta` after which a
        member ends.
      head_width, drop_rate, drop_connect_rate: see the networks; no ResNeSt drops branches.
      pretrained: where weights start from: `none` for random ones, `hub` for the published ones
        of the Hugging Face hub, else a file of PyTorch's, of safetensors or of
        `python -m moa_jax.pretrained`.
      dtype: dtype of activations; weights, statistics and probabilities are float32.
      remat: compute activations again in the backward pass, for less memory on GPUs and TPUs;
        XLA for CPUs undoes it.
      select_on: the rows that decide epoch and stopping: the `fold` that is predicted, or a
        `holdout` of the training rows.
    """

    recipe: str = "deepinsight_cnn"
    version: str = choice("efficientnet_b3", "efficientnet_b3", "resnest_v1", "resnest_v2")
    network: str = choice("efficientnet_b3", *NETWORKS)
    seeds: tuple[int, ...] = number((1120,), 0, 2**31 - 1)
    folds: int = number(10, 2, 1000)
    fold_seed: int = number(1120, 0, 2**31 - 1)
    resolution: int = number(300, 8, 4096)
    embedding: str = choice("tsne", "tsne", "umap", "pca")
    tsne: str = switch(choice("legacy", "legacy", "current"))
    perplexity: float = number(5.0, 1.0)
    closing_edge: bool = switch(number(False))
    swap_probability: float = number(0.1, 0.0, 1.0)
    swap_portion: float = number(0.15, 0.0, 1.0)
    batch_size: int = number(48, 2)
    epochs: int = number(200, 1)
    learning_rate: float = number(3.52e-4, 1e-12)
    half_period: int = number(5, 1)
    weight_decay: float = number(1e-6, 0.0)
    clip_norm: float = number(10.0, 1e-12)
    label_smoothing: float = number(1e-3, 0.0, 0.999)
    patience: int = number(12, 0)
    min_delta: float = number(1e-6, 0.0)
    head_width: int = number(512, 1)
    drop_rate: float = number(0.3, 0.0, 0.999)
    drop_connect_rate: float = number(0.2, 0.0, 0.999)
    pretrained: str = "none"
    dtype: str = choice("float32", "float32", "bfloat16")
    remat: bool = False
    select_on: str = switch(choice("fold", "fold", "holdout"))

    def honest(self) -> Config:
        """Returns the configuration in which no row influences its own score."""
        return dataclasses.replace(self, select_on="holdout")

    def original(self) -> Config:
        """Returns the original that this configuration is compared with."""
        return ORIGINAL[self.version]

    def image_network(self, num_outputs: int) -> nn.Module:
        """Returns the network for a number of targets."""
        common = {
            "num_outputs": num_outputs,
            "head_width": self.head_width,
            "drop_rate": self.drop_rate,
            "dtype": jnp.dtype(self.dtype) if self.dtype != "float32" else None,
            "remat": self.remat,
        }
        if self.network in EFFICIENTNETS:
            variant = self.network.removeprefix("efficientnet_")
            return EfficientNet(variant, drop_connect_rate=self.drop_connect_rate, **common)
        return ResNeSt(**resnest.VARIANTS[self.network], **common)

    def stage(self, **parts) -> Stage:
        """Returns the stage that trains such networks; `parts` are its other attributes."""
        return Stage(
            loss=functools.partial(smoothed_loss, smoothing=self.label_smoothing),
            valid_loss=losses.binary_cross_entropy,
            valid_weights=by_row,
            optimizer=functools.partial(_optimizer, config=self),
            epochs=self.epochs,
            batch_size=self.batch_size,
            stop=rules.patience(self.patience, self.min_delta),
            share_init_across_folds=False,
            **parts,
        )


_RESNEST = Config(
    version="resnest_v1",
    network="resnest50_fast_2s2x40d",
    resolution=224,
    batch_size=128,
    patience=16,
    drop_rate=0.0,
    drop_connect_rate=0.0,
)
ORIGINAL = {
    "efficientnet_b3": Config(),
    "resnest_v1": _RESNEST,
    "resnest_v2": dataclasses.replace(_RESNEST, version="resnest_v2", drop_rate=0.2),
}


def check(dataset: Dataset, config: Config) -> None:
    """Checks that the data suit the configuration, before any model is trained.

    Raises:
      UserError: there are fewer treated rows than folds, a rate is set that the network has not,
        or the pretrained weights cannot be read.
    """
    recipe.check_folds(dataset, config.folds)
    if config.network not in EFFICIENTNETS and config.drop_connect_rate:
        raise UserError(
            f"drop_connect_rate: expected 0 for {config.network}, found {config.drop_connect_rate}"
        )
    if config.pretrained != "none":
        architectures.find(config.network, config.pretrained)


def fit(dataset: Dataset, config: Config, context: Context) -> RecipeResult:
    """Trains every member and predicts the training rows out of fold, and the test rows."""
    notes = recipe.data_notes(dataset, needs_nonscored=False, reads_test=False)
    training = _Training(dataset, config, context)
    oof = training.fit()
    test = None
    if dataset.test is not None:
        test = load(config, context, dataset.scored.names)(dataset.test)
        test.write(context.folder / SCORED / "test.parquet")
    treated = dataset.ids[~dataset.is_control]
    return RecipeResult(oof.aligned(treated), test, (SCORED,), (*notes, *training.notes()))


def outline(dataset: Dataset, config: Config, context: Context) -> tuple[Stage, ...]:
    """Returns the stage that `fit` would train, see `recipe.outline_folds`."""
    return (_Training(dataset, config, context).outline(),)


def load(
    config: Config, context: Context, targets: tuple[str, ...]
) -> Callable[[Dataset], Predictions]:
    """Returns the function that predicts new rows; it needs the work folder only."""
    metrics = files.read_json(context.folder / SCORED / "metrics.json")
    ids = recipe.member_ids(metrics)
    data = deepinsight_inputs.member_data(
        [_transforms(config, context, own.fold) for own in ids],
        config.resolution,
    )
    predictor = recipe.stage_predictor(
        context, f"{context.model}/{SCORED}", _forward(config, metrics["outputs"]), ids, data
    )

    def probabilities(rows: Dataset) -> dict[str, np.ndarray]:
        table = deepinsight_inputs.device_table(rows, context.levels)
        return {SCORED: predictor.mean(table, len(rows), context.parallel.predict_rows)}

    def predict(rows: Dataset) -> Predictions:
        found = recipe.predict_rows(rows, context.parallel.predict_rows, probabilities)
        return Predictions(rows.ids, targets, found[SCORED])

    return predict


class _Training:
    """The recipe being fitted: its rows, in the order of their ids, and its members."""

    def __init__(self, dataset: Dataset, config: Config, context: Context):
        self.config, self.context = config, context
        self.rows = dataset.take(np.argsort(dataset.ids, kind="stable"))
        self.pretrained = None
        if config.pretrained != "none":
            self.pretrained = architectures.find(config.network, config.pretrained)

    def notes(self) -> tuple[str, ...]:
        found = self.pretrained
        if found is None:
            note = (
                "Weights start at random. The original's start from a network trained on ImageNet, "
                "and its scores rest on that."
            )
        else:
            note = f"Weights start from {found.source}, SHA-256 {found.source_sha256}."
        logging.info("%s: %s", self.context.model, note)
        return (note, "Scores of folds count control rows too, as the original's do.")

    def fit(self) -> Predictions:
        """Fits the stage; one that an earlier run finished is read back."""
        context, rows = self.context, self.rows
        if (finished := recipe.finished_predictions(context, SCORED)) is not None:
            return finished
        start = time.monotonic()
        stage = self.stage()
        seconds = time.monotonic() - start
        columns = stage.shared.shape[1]
        logging.info(
            "%s: %d rows, %d columns, %d targets; feature maps took %.1f s",
            stage.name, len(rows), columns, len(rows.scored.names), seconds,
        )  # fmt: skip
        return recipe.fit_stage(context, stage, rows.ids, rows.scored, columns, seconds)

    def stage(self) -> Stage:
        """Returns what is to be fitted, its feature maps being stored."""
        context, config, rows = self.context, self.config, self.rows
        fold_of_row = folds.multilabel_stratified(
            rows.scored.values, config.folds, config.fold_seed, shuffle=True
        )
        self._fit_transforms(fold_of_row)
        stage_members = self._members(dict.fromkeys(config.seeds, fold_of_row))
        member_data = deepinsight_inputs.member_data(
            [_transforms(config, context, member.fold) for member in stage_members],
            config.resolution,
            [member.train_rows for member in stage_members],
        )
        table = deepinsight_inputs.device_table(rows, context.levels)
        return self._stage(stage_members, table, member_data)

    def outline(self) -> Stage:
        """Returns its outline: every column has a pixel of its own, while some share one."""
        config, rows = self.config, self.rows
        stage_members = self._members(recipe.outline_folds(len(rows), config.folds, config.seeds))
        first = deepinsight_inputs.device_table(rows.take(np.arange(1)), self.context.levels)
        member_data = deepinsight_inputs.member_data_outline(
            first.shape[1], config.resolution, [member.train_rows for member in stage_members]
        )
        table = recipe.zeros((len(rows), first.shape[1]))
        return self._stage(stage_members, table, member_data)

    def _members(self, folds_of_rows: Mapping[int, np.ndarray]) -> tuple[Member, ...]:
        base_seed, select_on = self.context.base_seed, self.config.select_on
        return tuple(members.cross_validation(folds_of_rows, base_seed, select_on))

    def _stage(
        self, stage_members: tuple[Member, ...], table: np.ndarray, member_data: Tree
    ) -> Stage:
        config, rows = self.config, self.rows
        return config.stage(
            name=f"{self.context.model}/{SCORED}",
            forward=_forward(config, len(rows.scored.names)),
            members=stage_members,
            shared=table,
            member_data=member_data,
            targets=rows.scored.values.astype(table.dtype),
            start=self._start(),
        )

    def _fit_transforms(self, fold_of_row: np.ndarray) -> None:
        """Fits what no earlier run and no other model of this one has stored."""
        table = deepinsight_inputs.raw_table(self.rows, self.context.levels)
        for fold in np.unique(fold_of_row).tolist():
            folder = deepinsight_inputs.folder(self.context.workdir.path, self.config, fold)
            if not transform_files.exists(folder):
                logging.info("%s: feature map of fold %d", self.context.model, fold)
                deepinsight_inputs.fit_fold(folder, table[fold_of_row != fold], self.config)

    def _start(self) -> Callable[[Member], Any] | None:
        if self.pretrained is None:
            return None
        num_outputs = len(self.rows.scored.names)
        variables = dict(self.pretrained.variables)
        head = variables["params"].get(HEAD)
        if head is not None:
            widths = head["dense1"]["bias"].size, head["dense2"]["bias"].size
            if widths != (self.config.head_width, num_outputs):
                logging.info("%s: the pretrained head is left out", self.context.model)
                variables["params"] = {k: v for k, v in variables["params"].items() if k != HEAD}
        return lambda member: variables


def _transforms(config: Config, context: Context, fold: int) -> deepinsight_inputs.Transforms:
    return transform_files.load(deepinsight_inputs.folder(context.workdir.path, config, fold))


def _forward(config: Config, num_outputs: int) -> Forward:
    inputs = functools.partial(
        deepinsight_inputs.images,
        resolution=config.resolution,
        swap_probability=config.swap_probability,
        swap_portion=config.swap_portion,
    )
    network = config.image_network(num_outputs)
    return Forward(
        network,
        inputs,
        inner="loop",
        rows_at_once=PREDICTED_AT_ONCE,
        shares_batches=True,
    )


def _optimizer(total_steps, scale, config: Config):
    moved = schedules.cosine(
        total_steps, config.epochs, config.learning_rate, half_period=config.half_period
    )
    return optax.chain(
        optimizers.clip_by_global_norm(config.clip_norm, CLIP_EPSILON),
        optimizers.radam(moved.scaled(scale).rate, weight_decay=config.weight_decay),
    )
