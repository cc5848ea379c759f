"""Inputs of the 2-heads network: fold transforms against the reference, and on the device."""

from pathlib import Path

import jax
import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from moa_jax.data.dataset import ORIGINAL_LEVELS as LEVELS
from moa_jax.data.dataset import Dataset
from moa_jax.features.transforms import TRANSFORMS
from moa_jax.recipes import two_heads_inputs
from moa_jax.store import transform_files

REFERENCE = dict(np.load(Path(__file__).parent / "reference" / "resnet_preprocess.npz"))
GENES, CELLS, TRAIN = 24, 10, 80
VERSIONS = {"v1": (None, (2, 10)), "v2": (LEVELS, (4, 5))}
PREDICTORS = np.array([0, 3, 7, 23, 24, 30, 33], np.int32)


def dataset(features, genes, cells, cp_time=None, cp_dose=None):
    rows = len(features)
    return Dataset(
        np.array([f"id_{i}" for i in range(rows)], object),
        tuple(f"g-{i}" for i in range(genes)),
        tuple(f"c-{i}" for i in range(cells)),
        features,
        np.full(rows, 24) if cp_time is None else cp_time,
        np.full(rows, "D1") if cp_dose is None else cp_dose,
        np.zeros(rows, bool),
    )


def reference_rows(version):
    raw = REFERENCE[f"{version}.raw"]
    features, indicators = raw[:, : GENES + CELLS], raw[:, GENES + CELLS :]
    if version == "v1":
        return dataset(features, GENES, CELLS)
    return dataset(
        features,
        GENES,
        CELLS,
        np.array(LEVELS.cp_time)[indicators[:, :3].argmax(1)],
        np.array(LEVELS.cp_dose)[indicators[:, 3:].argmax(1)],
    )


def fitted(version, train_rows=None):
    levels, components = VERSIONS[version]
    table = two_heads_inputs.raw_table(reference_rows(version), levels)
    train_rows = np.arange(TRAIN) if train_rows is None else train_rows
    return table, two_heads_inputs.fit_fold(table, train_rows, (GENES, CELLS), components)


def inputs(table, folds, rows, predictors=PREDICTORS):
    """Both inputs of every member, [members, rows, columns]."""
    data = two_heads_inputs.member_data(folds, predictors)

    def of_member(member):
        return two_heads_inputs.two_inputs(table, member, rows, None, False)

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(of_member))(data))


@pytest.mark.parametrize("version", VERSIONS)
def test_transforms_of_a_fold(version):
    table, fold = fitted(version)
    np.testing.assert_array_equal(table[:, :-2], REFERENCE[f"{version}.raw"])
    np.testing.assert_allclose(fold["scale"].mean_, REFERENCE[f"{version}.scaler_mean"], 1e-12)
    np.testing.assert_allclose(fold["scale"].scale_, REFERENCE[f"{version}.scaler_scale"], 1e-12)
    scaled = fold["scale"].transform(table[:TRAIN])
    for tag, group, block in (
        ("g", "gene", slice(0, GENES)),
        ("c", "cell", slice(GENES, GENES + CELLS)),
    ):
        pca = fold[f"{group}_components"]
        np.testing.assert_allclose(
            pca.components_,
            REFERENCE[f"{version}.pca_{tag}_components_signfixed"],
            rtol=1e-9,
            atol=1e-10,
        )
        variance = pca.transform(scaled[:, block]).var(0, ddof=1)
        np.testing.assert_allclose(
            variance, REFERENCE[f"{version}.pca_{tag}_explained_variance"], rtol=1e-9
        )


@pytest.mark.parametrize("version", VERSIONS)
def test_inputs_on_the_device(version):
    table, fold = fitted(version)
    expected = np.concatenate([REFERENCE[f"{version}.{part}_out"] for part in ("train", "valid")])
    own_scaler = StandardScaler().fit(table[:TRAIN, PREDICTORS]).transform(table[:, PREDICTORS])
    with jax.enable_x64(True):
        input1, input2 = inputs(table, [fold], np.arange(100))
        assert input1.shape[-1] == len(REFERENCE[f"{version}.columns"])
        np.testing.assert_allclose(input1[0], expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(input2[0], own_scaler, rtol=1e-12, atol=1e-12)
    input1, input2 = inputs(table.astype(np.float32), [fold], np.arange(100))
    assert input1.dtype == input2.dtype == np.float32
    np.testing.assert_allclose(input1[0], expected, rtol=0, atol=2e-5)
    np.testing.assert_allclose(input2[0], own_scaler, rtol=0, atol=2e-6)


def test_every_array_of_the_reference_is_compared():
    kinds = {name.split(".", 1)[1] for name in REFERENCE}
    pca = {
        f"pca_{g}_{what}" for g in "gc" for what in ("components_signfixed", "explained_variance")
    }
    outputs = {"train_out", "valid_out", "columns", "raw"}
    assert kinds == pca | outputs | {"scaler_mean", "scaler_scale"}


@pytest.mark.parametrize("version", VERSIONS)
def test_order_of_columns(version):
    levels, (gene_components, cell_components) = VERSIONS[version]
    rows = reference_rows(version)
    names = [*rows.genes, *rows.cells]
    if levels is not None:
        names += [f"cp_time_{time}" for time in levels.cp_time]
        names += [f"cp_dose_{dose}" for dose in levels.cp_dose]
    names += ["g_mean", "c_mean"]
    names += [f"pca_g{i}" for i in range(gene_components)]
    names += [f"pca_c{i}" for i in range(cell_components)]
    assert REFERENCE[f"{version}.columns"].tolist() == names


def test_members_have_their_own_transforms():
    """Three folds at once are what each is alone; the rows are taken in the order asked for."""
    rows = np.array([99, 0, 7, 7, 50])
    folds = [fitted("v2", np.flatnonzero(np.arange(100) % 3 != k))[1] for k in range(3)]
    table, _ = fitted("v2")
    with jax.enable_x64(True):
        together = inputs(table, folds, rows)
        for index, fold in enumerate(folds):
            alone = inputs(table, [fold], rows)
            for found, expected in zip(together, alone, strict=True):
                np.testing.assert_allclose(found[index], expected[0], rtol=1e-12, atol=1e-12)
    assert np.abs(together[0][0] - together[0][1]).max() > 1e-3


@pytest.mark.parametrize(("genes", "cells"), [(24, 0), (0, 10), (24, 10)])
def test_absent_groups_drop_their_blocks(genes, cells):
    generator = np.random.default_rng(0)
    rows = dataset(generator.normal(size=(60, genes + cells)), genes, cells)
    table = two_heads_inputs.raw_table(rows, LEVELS)
    groups = (genes > 0) + (cells > 0)
    assert table.shape[1] == genes + cells + 5 + groups
    components = two_heads_inputs.allowed_components((3, 4), (genes, cells), 60)
    fold = two_heads_inputs.fit_fold(table, np.arange(60), (genes, cells), components)
    predictors = two_heads_inputs.main_predictors(rows)
    input1, input2 = inputs(table.astype(np.float32), [fold], np.arange(60), predictors)
    assert input1.shape[-1] == table.shape[1] + 3 * (genes > 0) + 4 * (cells > 0)
    assert input2.shape[-1] == len(predictors)
    if cells:
        scores = fold["cell_components"].transform(
            fold["scale"].transform(table)[:, genes : genes + cells]
        )
        np.testing.assert_allclose(input1[0, :, -4:], scores, atol=1e-5)


def test_components_are_as_many_as_the_smallest_fold_allows():
    allowed = two_heads_inputs.allowed_components
    assert allowed((2, 100), (772, 100), 19753) == (2, 100)
    assert allowed((50, 50), (772, 20), 31) == (30, 20)
    assert allowed((50, 50), (0, 100), 1000) == (0, 50)


def test_predictors_of_the_original():
    rows = dataset(np.zeros((2, 872)), 772, 100)
    positions = two_heads_inputs.main_predictors(rows)
    assert positions.dtype == np.int32 and len(positions) == 447
    assert (np.diff(positions) > 0).all() and (positions < 772).sum() == 347
    assert positions[:4].tolist() == [0, 7, 8, 10] and positions[-100:].tolist() == list(
        range(772, 872)
    )
    few = two_heads_inputs.main_predictors(dataset(np.zeros((2, 12)), 9, 3))
    assert few.tolist() == [0, 7, 8, 9, 10, 11]
    assert two_heads_inputs.main_predictors(dataset(np.zeros((2, 0)), 0, 0)).shape == (0,)


@pytest.mark.parametrize(
    ("levels", "components", "width"), [(None, (2, 100), 976), (LEVELS, (50, 50), 979)]
)
def test_widths_of_the_original(levels, components, width):
    rows = dataset(np.random.default_rng(0).normal(size=(130, 872)), 772, 100)
    table = two_heads_inputs.raw_table(rows, levels)
    fold = two_heads_inputs.fit_fold(table, np.arange(120), (772, 100), components)
    predictors = two_heads_inputs.main_predictors(rows)
    input1, input2 = inputs(table.astype(np.float32), [fold], np.arange(2), predictors)
    assert (input1.shape[-1], input2.shape[-1]) == (width, 447)


def test_constant_columns_become_zero():
    rows = dataset(np.tile(np.arange(4.0), (30, 1)), 2, 2)
    table = two_heads_inputs.raw_table(rows, None)
    fold = two_heads_inputs.fit_fold(table, np.arange(30), (2, 2), (1, 1))
    for found in inputs(table.astype(np.float32), [fold], np.arange(30), np.array([1, 2])):
        np.testing.assert_array_equal(found, 0)


def test_transforms_are_stored(tmp_path):
    table, fold = fitted("v2")
    transform_files.save(tmp_path, fold)
    loaded = transform_files.load(tmp_path, TRANSFORMS)
    assert list(loaded) == list(fold)
    with jax.enable_x64(True):
        for found, expected in zip(
            inputs(table, [loaded], np.arange(5)), inputs(table, [fold], np.arange(5)), strict=True
        ):
            np.testing.assert_array_equal(found, expected)
