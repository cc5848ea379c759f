"""Images of rows: the mean, least and greatest of the features that share a pixel.

Where the pixels are is decided once, on the host; a batch is painted on the device within the
training step, so that images are never stored. Painting only gathers: scatters of floats are not
repeatable on GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

# With more features on one pixel a table of them would be mostly padding; sums run over the sorted
# features instead.
MAX_SHARED = 32


def pixel_tables(pixels: Sequence[np.ndarray], resolution: int) -> dict[str, np.ndarray]:
    """Returns what `paint` needs to know of the pixels of each fold, padded to one shape.

    Args:
      pixels: of each fold [F, 2], row and column of every feature, both below `resolution`.
      resolution: side of the image in pixels.

    Returns:
      Arrays stacked along their first axis, the folds. `slots` [folds, resolution^2] has the
      occupied pixel, of U, of each pixel of the image, U for an empty one; `counts` [folds, U]
      are the features of each. While few share a pixel, `features` [folds, U, K] lists them,
      repeating the first as padding. Otherwise `order` [folds, F] has the features sorted by
      pixel, `ranks` [folds, F] their places within their pixel and `ends` [folds, U] where in
      this order a pixel's last one is.

    Raises:
      ValueError: a pixel outside the image.
    """
    stacked = np.stack([np.asarray(fold, np.int32) for fold in pixels])
    if stacked.size and not (0 <= stacked.min() and stacked.max() < resolution):
        raise ValueError(
            f"pixels: expected 0 to {resolution - 1}, found {stacked.min()} to {stacked.max()}"
        )
    places = stacked[..., 0] * resolution + stacked[..., 1]
    order = np.argsort(places, axis=1, kind="stable").astype(np.int32)
    found = [np.unique(fold, return_counts=True) for fold in places]
    num_slots = max(len(occupied) for occupied, _ in found)
    most = max(counts.max() for _, counts in found)
    slots = np.full((len(stacked), resolution**2), num_slots, np.int32)
    counts = np.ones((len(stacked), num_slots), np.int32)
    first = np.zeros_like(counts)
    for fold, (occupied, numbers) in enumerate(found):
        slots[fold, occupied] = np.arange(len(occupied))
        counts[fold, : len(occupied)] = numbers
        first[fold, : len(occupied)] = np.cumsum(numbers) - numbers
    tables = {"slots": slots, "counts": counts}
    if most > MAX_SHARED:
        starts = np.zeros_like(order)
        np.put_along_axis(starts, first, first, axis=1)
        ranks = np.arange(order.shape[1], dtype=np.int32) - np.maximum.accumulate(starts, axis=1)
        return {**tables, "order": order, "ranks": ranks, "ends": first + counts - 1}
    within = np.arange(most)
    listed = first[..., None] + np.where(within < counts[..., None], within, 0)
    return {**tables, "features": np.take_along_axis(order[:, None], listed, axis=2)}


def paint(values: jax.Array, tables: Mapping[str, jax.Array], resolution: int) -> jax.Array:
    """Returns images [B, resolution, resolution, 3] with mean, minimum and maximum as channels.

    Values are clipped to [0, 1], and pixels without a feature are 0 (DeepInsight, Sharma et al.,
    2019, with the channels of the original). Differentiable in `values`; works under `jit` and
    `vmap`.

    >>> tables = pixel_tables([np.array([[0, 0], [0, 0], [1, 0]])], 2)
    >>> tables = {name: jnp.asarray(table[0]) for name, table in tables.items()}
    >>> image = paint(jnp.array([[0.0, 0.5, 1.0]]), tables, 2)[0]
    >>> mean, least, greatest = jnp.moveaxis(image, 2, 0)
    >>> mean.tolist(), greatest.tolist()
    ([[0.25, 0.0], [1.0, 0.0]], [[0.5, 0.0], [1.0, 0.0]])

    Args:
      values: [B, F] scaled rows.
      tables: one fold's part of `pixel_tables`.
      resolution: side of the image in pixels, as in `pixel_tables`.

    References:
      Sharma et al. (2019), DeepInsight: A methodology to transform a non-image data to an image
      for convolution neural network architecture, https://doi.org/10.1038/s41598-019-47765-6.
    """
    # Features along the first axis: what is gathered from here on are whole rows.
    features = jnp.clip(values, 0, 1).T
    statistics = _of_table if "features" in tables else _of_sorted
    total, least, greatest = statistics(features, tables)
    mean = total / tables["counts"][:, None].astype(total.dtype)
    batch = values.shape[0]
    painted = jnp.stack([mean, least, greatest], axis=-1).reshape(-1, batch * 3)
    painted = jnp.concatenate([painted, jnp.zeros_like(painted[:1])])
    image = painted[tables["slots"]].reshape(resolution, resolution, batch, 3)
    return image.transpose(2, 0, 1, 3)


def _of_table(features: jax.Array, tables: Mapping[str, jax.Array]) -> tuple[jax.Array, ...]:
    """Returns sum, minimum and maximum [U, B] of features [F, B]."""
    shared = features[tables["features"]]
    real = jnp.arange(shared.shape[1]) < tables["counts"][:, None]
    total = jnp.sum(jnp.where(real[..., None], shared, 0), axis=1)
    return total, jnp.min(shared, axis=1), jnp.max(shared, axis=1)


def _of_sorted(features: jax.Array, tables: Mapping[str, jax.Array]) -> tuple[jax.Array, ...]:
    """Returns the same, of twice as many neighbours in each of log2(F) steps."""
    ranks = tables["ranks"][:, None]
    total = least = greatest = features[tables["order"]]
    step = 1
    while step < len(features):
        inside = ranks >= step  # the neighbour is of the same pixel

        def join(operation, array, inside=inside, step=step):
            return jnp.where(inside, operation(array, jnp.roll(array, step, axis=0)), array)

        total, least = join(jnp.add, total), join(jnp.minimum, least)
        greatest = join(jnp.maximum, greatest)
        step *= 2
    return tuple(array[tables["ends"]] for array in (total, least, greatest))
