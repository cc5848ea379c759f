"""The images of a DeepInsight batch: columns, scale, maps of several folds, and swap noise."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from moa_jax.data import simulate
from moa_jax.data.dataset import ORIGINAL_LEVELS
from moa_jax.deepinsight import inputs as deepinsight_inputs
from moa_jax.deepinsight.inputs import NUM_TREATMENT
from moa_jax.recipes.deepinsight_cnn import ORIGINAL, Config
from moa_jax.store import transform_files

SIDE = 12
CONFIG = Config(embedding="pca", resolution=SIDE)
TRAIN = (np.arange(0, 30), np.arange(10, 50))


@pytest.fixture(scope="module")
def rows():
    return simulate.make(rows=60, genes=9, cells=4, scored=2, nonscored=0, test_rows=0, seed=3)


@pytest.fixture(scope="module")
def table(rows):
    return deepinsight_inputs.raw_table(rows, ORIGINAL_LEVELS)


@pytest.fixture(scope="module")
def folds(table, tmp_path_factory):
    """Scale and map of two folds, read back from their folders."""
    stored = []
    for fold, train_rows in enumerate(TRAIN):
        place = CONFIG.placement
        folder = deepinsight_inputs.folder(tmp_path_factory.mktemp("maps"), place, fold)
        transform_files.save(folder, deepinsight_inputs.fit_fold(table[train_rows], place))
        stored.append(deepinsight_inputs.load_fold(folder))
    return stored


def build(**noise):
    noise = {"swap_probability": 0.1, "swap_portion": 0.15, **noise}
    return jax.jit(
        functools.partial(deepinsight_inputs.images, resolution=SIDE, **noise),
        static_argnames="train",
    )


def of_member(data, index):
    return jax.tree.map(lambda a: a[index], data)


def painted(values, pixels):
    """One image by the definition, pixel after pixel."""
    image = np.zeros((SIDE, SIDE, 3))
    for row, column in {tuple(p) for p in pixels.tolist()}:
        here = values[(pixels == (row, column)).all(1)]
        image[row, column] = here.mean(), here.min(), here.max()
    return image


def test_columns(rows, table):
    assert table.shape == (60, NUM_TREATMENT + 13)
    np.testing.assert_array_equal(table[:, 0], ~rows.is_control)
    np.testing.assert_array_equal(table[:, 1], rows.cp_dose == "D2")
    np.testing.assert_array_equal(table[:, 2], (rows.cp_time - 24) / 48)
    np.testing.assert_array_equal(table[:, NUM_TREATMENT:], rows.features)


def test_a_single_level_is_zero(rows):
    levels = dataclasses.replace(ORIGINAL_LEVELS, cp_dose=("D1",))
    one = dataclasses.replace(rows, cp_dose=np.full(len(rows), "D1", object))
    assert not deepinsight_inputs.raw_table(one, levels)[:, 1].any()


def test_images_are_those_of_the_fold(table, folds):
    data = deepinsight_inputs.member_data(folds, SIDE, TRAIN)
    chosen = np.array([3, 59, 12])
    for index, fold in enumerate(folds):
        (found,) = build()(table, of_member(data, index), chosen, jax.random.key(0), train=False)
        scaled = fold["scale"].transform(table[chosen])
        expected = [painted(values, fold["map"].pixels(SIDE)) for values in scaled]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    # Without training rows, as in inference, the same.
    bare = of_member(deepinsight_inputs.member_data(folds, SIDE), 1)
    (again,) = build()(table, bare, chosen, jax.random.key(0), train=False)
    np.testing.assert_array_equal(again, found)


def test_noise_comes_from_the_members_own_training_rows(rows, folds):
    """Genes and cells of every row are a training row's, treatment and labels its own."""
    index, fold = 1, folds[1]
    # Every row is one number, so that an image tells which row gave it.
    table = np.broadcast_to(np.linspace(-1, 1, 60)[:, None], (60, NUM_TREATMENT + 13)).copy()
    table[:, :NUM_TREATMENT] = 0.5
    member = of_member(deepinsight_inputs.member_data(folds, SIDE, TRAIN), index)
    noise = build(swap_probability=1.0, swap_portion=1.0)
    batch = np.arange(55, 60)
    (found,) = noise(table, member, batch, jax.random.key(0), train=True)
    scaled = fold["scale"].transform(table)
    pixels = fold["map"].pixels(SIDE)
    sources = [
        [r for r in range(60) if np.allclose(painted(scaled[r], pixels), image, atol=1e-6)]
        for image in np.asarray(found)
    ]
    assert all(len(source) == 1 and source[0] in TRAIN[index] for source in sources)
    assert len({source[0] for source in sources}) > 1
    (other,) = noise(table, member, batch, jax.random.key(1), train=True)
    assert (np.asarray(other) != np.asarray(found)).any()
    (without,) = build(swap_probability=0.0)(table, member, batch, jax.random.key(0), train=True)
    (valid,) = noise(table, member, batch, jax.random.key(0), train=False)
    np.testing.assert_array_equal(without, valid)


def test_the_three_systems_share_their_maps(tmp_path):
    """The pixel step alone depends on the resolution."""
    folders = {deepinsight_inputs.folder(tmp_path, c.placement, 0) for c in ORIGINAL.values()}
    assert len(folders) == 1
    for change in ({"folds": 5}, {"fold_seed": 1}, {"tsne": "current"}, {"embedding": "umap"}):
        other = dataclasses.replace(Config(), **change)
        assert deepinsight_inputs.folder(tmp_path, other.placement, 0) not in folders
