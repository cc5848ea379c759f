"""Images of all training rows, painted on the device beside one row at a time on the host.

    python benchmarks/images.py

Random rows of the competition's size, with pixels of a crowded cloud. The host makes its images as
a data loader of PyTorch does, row by row: with pandas, the way of the original, a frame of pixels
and values is grouped by pixel once for each of mean, minimum and maximum, and the results are
written into an empty image; with numpy, a faster way than the original's, features are sorted by
pixel beforehand and reduced in runs. Their time is taken on `--sample` rows and counted up to all.
Ours paints every row, in one device call as in training: the rows are on the device already, and
the images of a batch take the place of those of the one before.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from moa_jax.deepinsight.images import paint, pixel_tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=21433)
    parser.add_argument("--features", type=int, default=875)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--sample", type=int, default=300, help="rows that the host paints")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    values = generator.random((options.rows, options.features), np.float32)
    pixels = cloud(options.features, options.resolution, generator)
    ways = {
        "moa_jax": device(values, pixels, options),
        "pandas": host(by_pandas, values, pixels, options),
        "numpy": host(by_numpy(pixels), values, pixels, options),
    }
    check({name: images() for name, (_, _, images) in ways.items()})
    ways["moa_jax"][1]()  # compiles
    # In turns, so that other load meets all of them.
    seconds = {name: [] for name in ways}
    for _ in range(options.repetitions):
        for name, (rows, work, _) in ways.items():
            start = time.perf_counter()
            work()
            seconds[name].append((time.perf_counter() - start) / rows * options.rows)
    occupied, counts = np.unique(pixels, axis=0, return_counts=True)
    print(
        f"{options.rows} rows of {options.features} features, {options.resolution} pixels a side, "
        f"{len(occupied)} of them occupied, at most {counts.max()} features on one; "
        f"{jax.devices()[0].device_kind}, batches of {options.batch}"
    )
    print("way       seconds  ms per row  times ours")
    medians = {name: float(np.median(found)) for name, found in seconds.items()}
    for name, median in medians.items():
        each, ratio = median / options.rows * 1e3, median / medians["moa_jax"]
        print(f"{name:8} {median:8.2f}  {each:10.3f}  {ratio:10.1f}")


def cloud(features: int, resolution: int, generator: np.random.Generator) -> np.ndarray:
    """Returns pixels like those of a map of real data: most in a cloud, a few far out."""
    places = generator.normal(0.5, 0.12, (features, 2))
    places[:6] = generator.random((min(6, features), 2))
    return (places.clip(0, 1) * (resolution - 1)).astype(np.int32)


def device(values: np.ndarray, pixels: np.ndarray, options):
    """Returns number of rows, work, and the first images of it."""
    tables = {k: v[0] for k, v in pixel_tables([pixels], options.resolution).items()}
    values, tables = jax.device_put((values, tables))
    # The last batch is filled up with the first rows.
    num_batches = -(-options.rows // options.batch)
    batches = np.resize(np.arange(options.rows), (num_batches, options.batch))

    @jax.jit
    def program(values, tables, batches):
        def step(_, rows):
            return paint(values[rows], tables, options.resolution), None

        shape = (options.batch, options.resolution, options.resolution, 3)
        return jax.lax.scan(step, jnp.zeros(shape, values.dtype), batches)[0]

    def work(batches=batches):
        return program(values, tables, batches).block_until_ready()

    return options.rows, work, lambda: np.asarray(work(batches[:1]))


def host(way: Callable, values: np.ndarray, pixels: np.ndarray, options):
    """Returns number of rows, work, and the first images of it."""
    rows = values[: options.sample].astype(np.float64)

    def painted(row: np.ndarray) -> np.ndarray:
        # The cast is for the device.
        return way(row, pixels, options.resolution).astype(np.float32)

    def work():
        for row in rows:
            painted(row)

    return len(rows), work, lambda: np.stack([painted(row) for row in rows[: options.batch]])


def by_pandas(row: np.ndarray, pixels: np.ndarray, resolution: int) -> np.ndarray:
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


def check(first: dict[str, np.ndarray]) -> None:
    """Makes sure that the first images of all ways are the same."""
    for name, images in first.items():
        count = min(len(images), len(first["pandas"]))
        np.testing.assert_allclose(
            images[:count], first["pandas"][:count], rtol=0, atol=2e-7, err_msg=name
        )


if __name__ == "__main__":
    main()
