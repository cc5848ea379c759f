"""Inputs of the DeepInsight CNNs: scale and map per fold on the host, images on the device."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from moa_jax.data.dataset import Dataset, Levels
from moa_jax.deepinsight.feature_map import FeatureMap
from moa_jax.deepinsight.images import paint, pixel_tables
from moa_jax.deepinsight.log_scale import LogScale
from moa_jax.deepinsight.swap_noise import swap_noise
from moa_jax.store import transform_files
from moa_jax.store.transform_files import Transforms

# Columns before the genes: type, dose and time.
NUM_TREATMENT = 3
SCALE, MAP = "scale", "map"


def raw_table(rows: Dataset, levels: Levels) -> np.ndarray:
    """Returns the columns of an image, [N, F] float64: type, dose, time, genes and cells.

    Type is 1 for treated rows; dose and time go from 0 for their first level to 1 for their last.
    """
    dose = _share(rows.cp_dose, levels.cp_dose)
    time = _share(rows.cp_time, levels.cp_time)
    return np.column_stack([~rows.is_control, dose, time, rows.features])


def _share(values: np.ndarray, levels: Sequence) -> np.ndarray:
    index = (np.asarray(values)[:, None] == np.asarray(levels)).argmax(axis=1)
    return index / max(len(levels) - 1, 1)


def device_table(rows: Dataset, levels: Levels) -> np.ndarray:
    """Returns the `raw_table` in the dtype of the devices."""
    return raw_table(rows, levels).astype(jnp.result_type(float))


@dataclasses.dataclass(frozen=True)
class Placement:
    """How the columns of a fold are placed; models that agree in it share their maps.

    Attributes:
      folds, fold_seed: number of folds and seed of their splitter, which is the map's too.
      embedding, tsne, perplexity, closing_edge: see `FeatureMap`.
      split, frequent_above: what the splitter keeps whole.
    """

    folds: int
    fold_seed: int
    embedding: str
    tsne: str
    perplexity: float
    closing_edge: bool
    split: str
    frequent_above: int


def folder(workdir: Path, placement: Placement, fold: int) -> Path:
    """Returns where a fold's transforms lie: once for all models that place columns alike."""
    settings = json.dumps(dataclasses.asdict(placement))
    digest = hashlib.sha256(settings.encode()).hexdigest()[:8]
    return workdir / "feature_maps" / f"{placement.embedding}_{digest}" / f"fold{fold}"


def fit_fold(table: np.ndarray, placement: Placement) -> dict[str, LogScale | FeatureMap]:
    """Returns scale and map of a fold, fitted to the [N, F] raw table of its training rows."""
    scale = LogScale().fit(table)
    feature_map = FeatureMap(
        placement.embedding,
        placement.tsne,
        placement.closing_edge,
        placement.perplexity,
        placement.fold_seed,
    ).fit(scale.transform(table))
    return {SCALE: scale, MAP: feature_map}


def load_fold(folder: Path) -> Transforms:
    """Returns what `fit_fold` stored: `LogScale` and `FeatureMap` by name.

    Raises:
      UserError: a file is missing or damaged.
    """
    return transform_files.load(folder, (LogScale, FeatureMap))


def member_data(
    folds: Sequence[Transforms], resolution: int, train_rows: Sequence[np.ndarray] = ()
) -> dict[str, Any]:
    """Returns what a member's images need, as arrays stacked along a first axis.

    Args:
      folds: the transforms of each member.
      resolution: height and width of the images.
      train_rows: positions of each member's training rows, from which noise is drawn; none for
        prediction.
    """
    dtype = jnp.result_type(float)
    data = {
        "minimum": np.stack([fold[SCALE].minimum_ for fold in folds]).astype(dtype),
        "maximum": np.array([fold[SCALE].maximum_ or 1.0 for fold in folds], dtype),
        "pixels": pixel_tables([fold[MAP].pixels(resolution) for fold in folds], resolution),
    }
    return data | (_donors(train_rows) if len(train_rows) else {})


def _donors(train_rows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    most = max(len(rows) for rows in train_rows)
    padded = [np.pad(rows, (0, most - len(rows))) for rows in train_rows]
    return {
        "train_rows": np.stack(padded).astype(np.int32),
        "num_train_rows": np.array([len(rows) for rows in train_rows], np.int32),
    }


def member_data_outline(
    num_columns: int, resolution: int, train_rows: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Returns what stands for `member_data` without a fit: every column has its own pixel.

    Args:
      num_columns: columns of the raw table.
      resolution, train_rows: as in `member_data`.
    """
    dtype, folds = jnp.result_type(float), len(train_rows)
    places = np.arange(num_columns) % resolution**2
    pixels = np.stack([places // resolution, places % resolution], axis=1)
    return {
        "minimum": np.broadcast_to(np.zeros((), dtype), (folds, num_columns)),
        "maximum": np.ones(folds, dtype),
        "pixels": pixel_tables([pixels] * folds, resolution),
        **_donors(train_rows),
    }


def images(
    table: jax.Array,
    member: Mapping[str, Any],
    rows: jax.Array,
    key: jax.Array,
    train: bool,
    *,
    resolution: int,
    swap_probability: float,
    swap_portion: float,
) -> tuple[jax.Array]:
    """Builds the images of a batch: the `inputs` of a `Forward`.

    Args:
      table: [N, F] the raw table.
      member: one member's part of `member_data`.
      rows: [batch] positions in the table.
      key: draws the noise.
      train: with swap noise: some rows take some values of other training rows.
      resolution, swap_probability, swap_portion: see the recipe's `Config`.

    Returns:
      [batch, resolution, resolution, 3]: mean, smallest and largest value of each pixel's columns.
    """
    values = _scaled(table[rows], member)
    if train and swap_probability > 0:
        donor_key, noise_key = jax.random.split(key)
        drawn = jax.random.randint(donor_key, rows.shape, 0, member["num_train_rows"])
        donors = _scaled(table[member["train_rows"][drawn]], member)
        values = swap_noise(
            values, donors, noise_key, NUM_TREATMENT, swap_probability, swap_portion
        )
    return (paint(values, member["pixels"], resolution),)


def _scaled(values: jax.Array, member: Mapping[str, Any]) -> jax.Array:
    """The `LogScale` of a fold on the device."""
    minimum = member["minimum"]
    logarithms = jnp.log(jnp.maximum(values, minimum) + jnp.abs(minimum) + 1)
    return jnp.clip(logarithms / member["maximum"], 0, 1)
