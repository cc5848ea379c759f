"""Inputs of the 2-heads network: fitted per fold on the host, applied to a batch on the device.

A fold's table differs from another's by scaling and by rotation only. So the raw table lies on
the devices once, and every member builds its two inputs from the rows of a batch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from moa_jax.data.dataset import Dataset, Levels
from moa_jax.features.constant import smallest_scale
from moa_jax.features.factors import PrincipalComponents
from moa_jax.features.one_hot import one_hot
from moa_jax.features.standard_scale import StandardScale
from moa_jax.store.transform_files import Transforms

GROUPS = ("gene", "cell")
PREDICTORS = "predictors"


def raw_table(rows: Dataset, levels: Levels | None) -> np.ndarray:
    """Returns the columns that a fold scales, [N, F] float64.

    In order: genes, cells, one-hot time and dose, the mean of each row's genes and of its cells.
    An absent group has no mean.

    Args:
      rows: N rows.
      levels: levels of time and dose; None leaves the one-hot columns out.
    """
    indicators = []
    if levels is not None:
        indicators = [one_hot(rows.cp_time, levels.cp_time), one_hot(rows.cp_dose, levels.cp_dose)]
    groups = [values for values in (rows.gene_values, rows.cell_values) if values.shape[1]]
    means = [values.mean(axis=1, keepdims=True) for values in groups]
    return np.concatenate([rows.values, *indicators, *means], axis=1)


def device_table(rows: Dataset, levels: Levels | None) -> np.ndarray:
    """Returns the `raw_table` in the dtype of the devices."""
    return raw_table(rows, levels).astype(jnp.result_type(float))


def predictor_names() -> list[str]:
    """Returns the names of the original's 447 predictors."""
    return json.loads(Path(__file__).with_name("main_predictors.json").read_text("utf-8"))


def main_predictors(rows: Dataset) -> np.ndarray:
    """Returns the positions in the table of the second input's columns, [P] int32.

    They are the 447 columns that a t-test against the targets chose for the original; the ones
    that the data lack are left out.
    """
    names = predictor_names()
    position = {name: index for index, name in enumerate(rows.genes + rows.cells)}
    return np.array([position[name] for name in names if name in position], np.int32)


def has_listed_predictors(rows: Dataset) -> bool:
    """Tells whether the data have every column that the original's second input reads."""
    return len(main_predictors(rows)) == len(predictor_names())


def fit_fold(
    table: np.ndarray,
    train_rows: np.ndarray,
    sizes: tuple[int, int],
    components: tuple[int, int],
) -> dict[str, StandardScale | PrincipalComponents]:
    """Fits a fold's transforms on its training rows.

    Principal components are those of the scaled columns, so that a fold needs one scaler: the
    second input's columns are scaled as they are in the first.

    Args:
      table: [N, F] raw table of all rows.
      train_rows: positions of the fold's training rows.
      sizes: number of gene and of cell columns, with which the table begins; 0 for an absent group.
      components: number of gene and of cell components, see `allowed_components`.

    Returns:
      `scale`, and `gene_components` and `cell_components` of the groups that there are.
    """
    train = table[train_rows]
    scale = StandardScale().fit(train)
    transforms: dict[str, StandardScale | PrincipalComponents] = {"scale": scale}
    scaled, start = scale.transform(train), 0
    for group, size, count in zip(GROUPS, sizes, components, strict=True):
        if size:
            block = scaled[:, start : start + size]
            transforms[f"{group}_components"] = PrincipalComponents(count).fit(block)
        start += size
    return transforms


def allowed_components(
    wanted: tuple[int, int], sizes: tuple[int, int], fewest_rows: int
) -> tuple[int, int]:
    """Returns how many components every fold can have.

    Args:
      wanted: number of gene and of cell components.
      sizes: number of gene and of cell columns.
      fewest_rows: training rows of the smallest fold.
    """
    genes, cells = (min(*pair, fewest_rows - 1) for pair in zip(wanted, sizes, strict=True))
    return genes, cells


def member_data(folds: Sequence[Transforms], predictors: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the fitted transforms of every member as arrays stacked along a first axis.

    Args:
      folds: the transforms of each member, as `fit_fold` returns them.
      predictors: positions of the second input's columns, [P] or of each member [M, P].
    """
    arrays = {
        f"{name}/{key}": np.stack([fold[name].state()[key] for fold in folds])
        for name, transform in folds[0].items()
        for key in transform.state()
    }
    dtype = jnp.result_type(float)
    # What varies by less than the devices' precision is rounded there, and no scale.
    smallest = smallest_scale(np.abs(arrays["scale/mean"]), dtype)
    arrays["scale/scale"] = np.where(arrays["scale/scale"] > smallest, arrays["scale/scale"], 1.0)
    arrays = {name: array.astype(dtype) for name, array in arrays.items()}
    of_each = np.broadcast_to(predictors, (len(folds), np.shape(predictors)[-1]))
    return {**arrays, PREDICTORS: of_each}


def member_data_shapes(
    num_columns: int, sizes: tuple[int, int], components: tuple[int, int]
) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of one member's `member_data`, without the predictors.

    Args:
      num_columns: columns of the raw table.
      sizes, components: as in `fit_fold`.
    """
    shapes: dict[str, tuple[int, ...]] = {
        "scale/mean": (num_columns,),
        "scale/scale": (num_columns,),
    }
    for group, size, count in zip(GROUPS, sizes, components, strict=True):
        if size:
            shapes[f"{group}_components/components"] = (count, size)
            shapes[f"{group}_components/mean"] = (size,)
    return shapes


def width(table: np.ndarray, member_data: Mapping[str, np.ndarray]) -> int:
    """Returns the number of columns of the first input."""
    loadings = (member_data.get(f"{group}_components/components") for group in GROUPS)
    return table.shape[1] + sum(array.shape[1] for array in loadings if array is not None)


def two_inputs(
    table: jax.Array, member: Mapping[str, jax.Array], rows: jax.Array, key: jax.Array, train: bool
) -> tuple[jax.Array, jax.Array]:
    """Builds both inputs of a batch: the `inputs` of a `Forward`.

    Args:
      table: [N, F] the raw table.
      member: one member's part of `member_data`.
      rows: [batch] positions in the table.
      key, train: not used.

    Returns:
      The scaled table with its gene and cell components, not scaled again,
      [batch, F + components], and the scaled columns of the predictors, [batch, P].
    """
    scaled = (table[rows] - member["scale/mean"]) / member["scale/scale"]
    blocks, start = [scaled], 0
    for group in GROUPS:
        loadings = member.get(f"{group}_components/components")
        if loadings is not None:
            stop = start + loadings.shape[1]
            centred = scaled[:, start:stop] - member[f"{group}_components/mean"]
            # Features keep float32's digits on accelerators whose products default to fewer.
            blocks.append(jnp.matmul(centred, loadings.T, precision=jax.lax.Precision.HIGHEST))
            start = stop
    return jnp.concatenate(blocks, axis=-1), scaled[:, member[PREDICTORS]]
