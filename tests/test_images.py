"""Images of batches against the original's and against a loop over features."""

from pathlib import Path

import jax
import numpy as np
import pytest
from jax.test_util import check_grads

from moa_jax.deepinsight import images
from moa_jax.deepinsight.images import paint, pixel_tables

painted = jax.jit(paint, static_argnames="resolution")


@pytest.fixture(scope="module")
def reference():
    """Cases a and b are small, with three features on a pixel and values outside [0, 1]; c and d
    have the originals' sizes."""
    path = Path(__file__).parent / "reference/deepinsight_images.npz"
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)


def of_fold(tables, fold=0):
    return {name: table[fold] for name, table in tables.items()}


def by_loop(values, pixels, resolution):
    """Images of values [B, F], pixel by pixel."""
    expected = np.zeros((len(values), resolution, resolution, 3), values.dtype)
    values = values.clip(0, 1)
    for row, column in np.unique(pixels, axis=0):
        shared = values[:, (pixels == (row, column)).all(axis=1)]
        expected[:, row, column] = np.stack(
            [shared.mean(axis=1), shared.min(axis=1), shared.max(axis=1)], axis=1
        )
    return expected


def assert_images(found, expected):
    assert found.shape == expected.shape and found.dtype == expected.dtype
    # A mean of at most a dozen values between 0 and 1, added in whatever order.
    tolerance = 4 * np.finfo(expected.dtype).eps
    np.testing.assert_allclose(found[..., 0], expected[..., 0], rtol=0, atol=tolerance)
    np.testing.assert_array_equal(found[..., 1:], expected[..., 1:])


@pytest.fixture(params=["table", "sorted"])
def way(request, monkeypatch):
    if request.param == "sorted":
        monkeypatch.setattr(images, "MAX_SHARED", 1)
    return request.param


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("case", ["a", "b", "c", "d"])
def test_images_as_in_the_original(case, dtype, way, reference):
    height, width = reference[f"{case}.pixels"]
    resolution = int(max(height, width))
    pixels, values = reference[f"{case}.coords"].T, reference[f"{case}.X"].astype(dtype)
    expected = np.zeros((len(values), resolution, resolution, 3), dtype)
    if case in "ab":
        # A map that is not square lies in the corner of one that is.
        expected[:, :height, :width] = reference[f"{case}.image_empty0"].transpose(0, 2, 3, 1)
    else:
        rows, columns = (reference[f"{case}.{axis}"].astype(int) for axis in ("rows", "cols"))
        expected[:, rows, columns] = reference[f"{case}.values"].transpose(0, 2, 1)
    tables = pixel_tables([pixels], resolution)
    assert ("order" in tables) == (way == "sorted")
    assert tables["counts"].shape[1] == reference[f"{case}.n_unique_pixels"]
    with jax.enable_x64(dtype == np.float64):
        found = np.asarray(painted(values, of_fold(tables), resolution=resolution))
    assert_images(found, expected)


def random_folds(resolution=6, features=50, folds=3):
    """Pixels of folds that occupy different numbers of pixels, and rows in and around [0, 1]."""
    generator = np.random.default_rng(0)
    pixels = [generator.integers(0, resolution - fold, (features, 2)) for fold in range(folds)]
    values = generator.uniform(-0.2, 1.2, (5, features))
    return pixels, values


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_folds_share_one_shape(dtype, way):
    resolution = 6
    pixels, values = random_folds(resolution)
    tables = pixel_tables(pixels, resolution)
    assert {table.dtype for table in tables.values()} == {np.dtype(np.int32)}
    with jax.enable_x64(dtype == np.float64):
        over_folds = jax.jit(jax.vmap(lambda fold: paint(values.astype(dtype), fold, resolution)))
        found = np.asarray(over_folds(tables))
    for fold, image in enumerate(found):
        assert_images(image, by_loop(values.astype(dtype), pixels[fold], resolution))


@pytest.mark.parametrize("shared", [images.MAX_SHARED, images.MAX_SHARED + 1])
def test_many_features_on_one_pixel(shared):
    """Where the way changes; all features but three are on one pixel."""
    pixels = np.concatenate([np.full((shared, 2), 2), [[0, 0], [3, 1], [0, 0]]])
    values = np.random.default_rng(0).random((4, len(pixels))).astype(np.float32)
    tables = pixel_tables([pixels], 4)
    assert ("order" in tables) == (shared > images.MAX_SHARED)
    assert_images(
        np.asarray(painted(values, of_fold(tables), resolution=4)), by_loop(values, pixels, 4)
    )


def test_one_pixel(way):
    image = painted(np.array([[0.25, 0.75]], np.float32), of_fold(_one_pixel()), resolution=1)
    np.testing.assert_array_equal(image, [[[[0.5, 0.25, 0.75]]]])


def _one_pixel():
    return pixel_tables([np.zeros((2, 2), int)], 1)


def test_gradients(way):
    resolution = 6
    pixels, values = random_folds(resolution)
    tables = of_fold(pixel_tables(pixels, resolution), 1)
    weights = np.random.default_rng(1).normal(size=(5, resolution, resolution, 3))
    with jax.enable_x64(True):
        loss = jax.jit(lambda v: (weights * paint(v, tables, resolution) ** 2).sum())
        check_grads(loss, (values,), order=1)


def test_nothing_is_scattered(way):
    pixels, values = random_folds()
    program = painted.lower(values, of_fold(pixel_tables(pixels, 6)), resolution=6)
    assert "gather" in program.as_text() and "scatter" not in program.as_text()


@pytest.mark.parametrize("pixel", [-1, 8])
def test_pixels_outside(pixel):
    with pytest.raises(ValueError, match=rf"pixels: expected 0 to 7, found .*{pixel}"):
        pixel_tables([np.array([[0, pixel], [3, 3]])], 8)
