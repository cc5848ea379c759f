"""Images of rows, painted on the device beside one row at a time on the host.

Random rows with pixels of a crowded cloud. The host makes its images as a data loader of PyTorch
does, row by row: with pandas, the way of the original, a frame of pixels and values is grouped by
pixel once for each of mean, minimum and maximum, and the results are written into an empty image;
with numpy, a faster way than the original's, features are sorted by pixel beforehand and reduced in
runs. Ours paints every row in one device call as in training: the rows are on the device already,
and the images of a batch take the place of those of the one before. A call per batch would return a
new array each time, and on a CPU requesting that memory can take longer than painting.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.row import Peer, Row, Side, Work


class Sizes(NamedTuple):
    """Rows, features, side of an image, rows of a batch, and rows that the host paints."""

    rows: int = 21_433
    features: int = 875
    resolution: int = 224
    batch: int = 128
    sample: int = 300


SIZES = {"tiny": Sizes(50, 30, 9, 16, 20), "quick": Sizes(rows=1_024, sample=60), "full": Sizes()}


def cloud(features: int, resolution: int, generator: np.random.Generator) -> np.ndarray:
    """Returns pixels like those of a map of real data: most in a cloud, a few far out."""
    places = generator.normal(0.5, 0.12, (features, 2))
    places[:6] = generator.random((min(6, features), 2))
    return (places.clip(0, 1) * (resolution - 1)).astype(np.int32)


def data(sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows and their pixels."""
    generator = np.random.default_rng(0)
    values = generator.random((sizes.rows, sizes.features), np.float32)
    return values, cloud(sizes.features, sizes.resolution, generator)


def device(size: str) -> Side:
    """Returns the side that paints all rows, after a look at whether its images are right."""
    import jax
    import jax.numpy as jnp

    from moa_jax.deepinsight.images import paint, pixel_tables

    sizes = SIZES[size]
    values, pixels = data(sizes)
    tables = {k: v[0] for k, v in pixel_tables([pixels], sizes.resolution).items()}
    rows, tables = jax.device_put((values, tables))
    # The last batch is filled up with the first rows.
    batches = np.resize(np.arange(sizes.rows), (-(-sizes.rows // sizes.batch), sizes.batch))

    @jax.jit
    def program(rows, tables, batches):
        def step(_, own):
            return paint(rows[own], tables, sizes.resolution), None

        shape = (sizes.batch, sizes.resolution, sizes.resolution, 3)
        return jax.lax.scan(step, jnp.zeros(shape, rows.dtype), batches)[0]

    def run(batches: np.ndarray = batches) -> jax.Array:
        return program(rows, tables, batches).block_until_ready()

    expected = [by_pandas(row, pixels, sizes.resolution) for row in values[:3].astype(np.float64)]
    np.testing.assert_allclose(np.asarray(run(batches[:1]))[:3], expected, rtol=0, atol=2e-7)
    written = 4 * 3 * sizes.resolution**2 * batches.size
    return Side(run, sizes.rows, Work(moved=written + values.nbytes))


def host(make: Callable[[np.ndarray], Callable], size: str) -> Side:
    """Returns the side that paints some rows, one after another."""
    sizes = SIZES[size]
    values, pixels = data(sizes)
    way, rows = make(pixels), values[: sizes.sample].astype(np.float64)

    def run() -> None:
        for row in rows:
            # The cast is for the device.
            way(row, pixels, sizes.resolution).astype(np.float32)

    return Side(run, len(rows))


def by_pandas(row: np.ndarray, pixels: np.ndarray, resolution: int) -> np.ndarray:
    import pandas as pd

    frame = pd.DataFrame({"row": pixels[:, 0], "column": pixels[:, 1], "value": row.clip(0, 1)})
    groups = frame.groupby(["row", "column"], as_index=False)
    image = np.zeros((resolution, resolution, 3))
    for channel, found in enumerate((groups.mean(), groups.min(), groups.max())):
        image[found["row"], found["column"], channel] = found["value"]
    return image


def by_numpy(pixels: np.ndarray) -> Callable:
    order = np.lexsort((pixels[:, 1], pixels[:, 0]))
    occupied, starts, counts = np.unique(
        pixels[order], axis=0, return_index=True, return_counts=True
    )

    def way(row: np.ndarray, pixels: np.ndarray, resolution: int) -> np.ndarray:
        ordered = row.clip(0, 1)[order]
        image = np.zeros((resolution, resolution, 3))
        image[*occupied.T] = np.stack(
            [
                np.add.reduceat(ordered, starts) / counts,
                np.minimum.reduceat(ordered, starts),
                np.maximum.reduceat(ordered, starts),
            ],
            axis=1,
        )
        return image

    return way


ROWS = (
    Row(
        "images.paint", "images of rows", "rows/s", device,
        {
            "pandas, original": Peer(functools.partial(host, lambda pixels: by_pandas)),
            "numpy": Peer(functools.partial(host, by_numpy)),
        },
    ),
)  # fmt: skip
