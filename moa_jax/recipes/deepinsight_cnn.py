"""DeepInsight CNNs: every profile an image, and EfficientNet or ResNeSt that classifies it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging

from moa_jax.config import WIDEST, choice, number, sized, switch
from moa_jax.data import folds
from moa_jax.data.dataset import Dataset, Levels
from moa_jax.data.folds import Split
from moa_jax.errors import UserError
from moa_jax.models.hyperparameters import AUTO, EFFICIENTNET_KINDS, HUB, NONE, RESNESTS
from moa_jax.recipes import optimisation
from moa_jax.recipes.recipe import Recipe
from moa_jax.training.names import LOSSES, OPTIMIZERS, SCHEDULES

if TYPE_CHECKING:
    import flax.linen as nn

    from moa_jax.deepinsight.inputs import Placement
    from moa_jax.pretrained.weight_files import Pretrained
    from moa_jax.recipes.context import Context
    from moa_jax.recipes.design import StageDesign
    from moa_jax.recipes.image_features import ImageFeatures
    from moa_jax.training.members import Member
    from moa_jax.training.stage import Stage

SCORED = "scored"
HEAD = "head"
NETWORKS = (*EFFICIENTNET_KINDS, *RESNESTS)
# What the originals add to the norm that gradients are clipped by.
CLIP_EPSILON = 1e-5
# Mean over the originals' ten folds of the epoch with the lowest loss, counted from 1.
BEST_EPOCH = {"efficientnet_b3": 25.3, "resnest_v1": 27.0, "resnest_v2": 34.0}
# Images that are predicted together; more take memory and no less time.
PREDICTED_AT_ONCE = 32


@dataclasses.dataclass(frozen=True)
class Config(Recipe):
    """A DeepInsight CNN; the defaults are the EfficientNet-B3 of both best blends.

    Control rows are rows like any other, with no target true.

    Attributes:
      version: which original the switches are compared with in the report.
      network: the image network.
      seeds: training seeds; every seed trains one member per fold.
      folds, fold_seed: number of folds and seed of their splitter, the same for every seed.
      resolution: height and width of an image in pixels.
      embedding: what places the columns in the plane: `tsne`, `umap` or `pca`.
      tsne: `legacy` for the affinities of scikit-learn before 1.0, `current` for today's; for
        thousands of columns `barnes_hut`, whose time grows nearly linearly.
      perplexity: of the t-SNE.
      closing_edge: try the hull's last edge too when turning the map into the smallest rectangle.
      swap_probability, swap_portion: share of the training rows that take values of another row,
        and share of all columns that they take.
      batch_size, epochs: rows per step and longest training.
      learning_rate, half_period: rate of the first epoch, and epochs in which it falls to zero on
        a cosine, to rise again in as many.
      weight_decay: of the optimiser; RAdam's is decoupled.
      loss, optimizer, schedule: by their names in `losses.LOSSES`, `optimizers.OPTIMIZERS` and
        `schedules.SCHEDULES`.
      clip_norm: largest norm of all gradients together.
      label_smoothing: share of each training target replaced by one half.
      patience, min_delta: epochs without a loss lower by more than `min_delta` after which a
        member ends.
      head_width, drop_rate, drop_connect_rate: see the networks; no ResNeSt drops branches.
      pretrained: where weights start from: `auto` for the published file that the original starts
        from, which is fetched once and checked; `hub` for the same weights of the Hugging Face
        hub, EfficientNets only; `none` for random ones; else a file of PyTorch's, of safetensors
        or of `python -m moa_jax.pretrained`.
      dtype: dtype of activations; weights, statistics and probabilities are float32. `auto` is
        what the work folder was made with, in a new one bfloat16 on GPUs since the A100 and on
        TPUs, float32 elsewhere.
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
    resolution: int = sized(number(300, 8, 4096))
    embedding: str = choice("tsne", "tsne", "umap", "pca")
    tsne: str = switch(choice("legacy", "legacy", "current", "barnes_hut"))
    perplexity: float = number(5.0, 1.0)
    closing_edge: bool = switch(number(False))
    swap_probability: float = number(0.1, 0.0, 1.0)
    swap_portion: float = number(0.15, 0.0, 1.0)
    batch_size: int = sized(number(48, 2, 2**20))
    epochs: int = sized(number(200, 1))
    learning_rate: float = number(3.52e-4, 1e-12, 1e3)
    half_period: int = sized(number(5, 1, 10**6))
    weight_decay: float = number(1e-6, 0.0, 1e3)
    loss: str = choice("binary_cross_entropy", *LOSSES)
    optimizer: str = choice("radam", *OPTIMIZERS)
    schedule: str = choice("cosine", *SCHEDULES)
    clip_norm: float = number(10.0, 1e-12)
    label_smoothing: float = number(1e-3, 0.0, 0.999)
    patience: int = number(12, 0)
    min_delta: float = number(1e-6, 0.0)
    head_width: int = number(512, 1, WIDEST)
    drop_rate: float = number(0.3, 0.0, 0.999)
    drop_connect_rate: float = number(0.2, 0.0, 0.999)
    pretrained: str = switch(dataclasses.field(default=AUTO))
    dtype: str = choice("auto", "auto", "float32", "bfloat16")
    remat: bool = False
    select_on: str = switch(choice("fold", "fold", "holdout"))

    convention = "epsilon_all"

    def honest(self) -> Config:
        return dataclasses.replace(self, select_on="holdout", **self.honest_split())

    def original(self) -> Config:
        return ORIGINAL[self.version]

    @property
    def recorded_score(self) -> float:
        return {"efficientnet_b3": 0.016016, "resnest_v1": 0.015819, "resnest_v2": 0.015756}[
            self.version
        ]

    def check(self, dataset: Dataset) -> None:
        """Checks as every recipe does, and that rates and pretrained weights suit the network."""
        super().check(dataset)
        optimisation.check(self, self.learning_rate, self.weight_decay)
        if self.network not in EFFICIENTNET_KINDS and self.drop_connect_rate:
            raise UserError(
                f"drop_connect_rate: expected 0 for {self.network}, found {self.drop_connect_rate}"
            )
        if self.pretrained in (AUTO, HUB):
            from moa_jax.pretrained import architectures

            # What is to be fetched is fetched when there will be training.
            architectures.check_source(self.network, self.pretrained)
        else:
            _ = self._weights

    def prepare(self) -> None:
        """Reads, or fetches, what weights start from."""
        source = "at random" if self._weights is None else f"from {self._weights.source}"
        logging.info("weights of %s start %s", self.network, source)

    def rows(self, dataset: Dataset) -> Dataset:
        """Returns all rows, controls too, in the order of their ids."""
        return dataset.take(np.argsort(dataset.ids, kind="stable"))

    def notes(self, rows: Dataset, context: Context) -> tuple[str, ...]:
        found = self._weights
        if found is None:
            note = (
                "Weights start at random. The original's start from a network trained on ImageNet, "
                "and its scores rest on that."
            )
        else:
            note = f"Weights start from {found.source}, SHA-256 {found.source_sha256}."
        return (note, "Scores of folds count control rows too, as the original's do.")

    def drawn_maps(self, workdir: Path) -> tuple[Path, ...]:
        from moa_jax.deepinsight import inputs

        return (inputs.folder(workdir, self.placement, fold=0),)

    @property
    def placement(self) -> Placement:
        """How columns are placed, which models may share."""
        from moa_jax.deepinsight.inputs import Placement

        return Placement(
            self.folds, self.fold_seed, self.embedding, self.tsne, self.perplexity,
            self.closing_edge, self.split, self.frequent_above,
        )  # fmt: skip

    def image_network(self, num_outputs: int) -> nn.Module:
        """Returns the network for a number of targets."""
        import jax.numpy as jnp

        from moa_jax.models.efficientnet import EfficientNet
        from moa_jax.models.resnest import ResNeSt

        common: dict[str, Any] = {
            "num_outputs": num_outputs,
            "head_width": self.head_width,
            "drop_rate": self.drop_rate,
            "dtype": jnp.bfloat16 if self.dtype == "bfloat16" else None,
            "remat": self.remat,
        }
        if self.network in EFFICIENTNET_KINDS:
            kind = EFFICIENTNET_KINDS[self.network]
            return EfficientNet(**kind, drop_connect_rate=self.drop_connect_rate, **common)
        return ResNeSt(**RESNESTS[self.network], **common)

    def stage(self, **parts) -> Stage:
        """Returns the stage that trains such networks; `parts` are its other attributes."""
        from moa_jax.training import losses, rules
        from moa_jax.training.stage import Stage, by_row

        return Stage(
            loss=optimisation.smoothed_loss(self.loss, self.label_smoothing),
            valid_loss=losses.LOSSES[self.loss],
            valid_weights=by_row,
            optimizer=optimisation.optimizer(
                self, self.learning_rate, self.weight_decay, self.clip_norm, CLIP_EPSILON
            ),
            epochs=self.epochs,
            batch_size=self.batch_size,
            stop=rules.patience(self.patience, self.min_delta),
            share_init_across_folds=False,
            **parts,
        )

    def features(self, levels: Levels) -> ImageFeatures:
        from moa_jax.recipes.image_features import ImageFeatures

        return ImageFeatures(
            levels, self.placement, self.resolution, self.swap_probability, self.swap_portion
        )

    def stages(self, levels: Levels, nonscored: bool) -> tuple[StageDesign, ...]:
        from moa_jax.recipes.design import StageDesign, scored

        return (
            StageDesign(
                name=SCORED,
                network=self.image_network,
                training=self.stage,
                targets=scored,
                split=self.split_rows,
                features=self.features(levels),
                select_on=self.select_on,
                start=self._start,
                inner="loop",
                shares_batches=True,
                rows_at_once=PREDICTED_AT_ONCE,
                expected_epochs=(
                    BEST_EPOCH[self.version] + self.patience if self.patience else None
                ),
            ),
        )

    def split_rows(self, rows: Dataset) -> Split:
        """Returns the fold of each row, the same for every seed."""
        labels = rows.targets.values

        def original(seed: int) -> np.ndarray:
            return folds.multilabel_stratified(labels, self.folds, seed, shuffle=True)

        return self.cut(rows, labels, dict.fromkeys(self.seeds, self.fold_seed), original)

    @functools.cached_property
    def _weights(self) -> Pretrained | None:
        """What weights start from, read once: the file may change while they are trained."""
        if self.pretrained == NONE:
            return None
        from moa_jax.pretrained import architectures

        return architectures.find(self.network, self.pretrained)

    def _start(self, context: Context, num_outputs: int) -> Callable[[Member], Any] | None:
        found = self._weights
        if found is None:
            return None
        variables = dict(found.variables)
        head = variables["params"].get(HEAD)
        if head is not None:
            widths = head["dense1"]["bias"].size, head["dense2"]["bias"].size
            if widths != (self.head_width, num_outputs):
                logging.info("%s: the pretrained head is left out", context.model)
                variables["params"] = {k: v for k, v in variables["params"].items() if k != HEAD}
        return lambda member: variables


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
