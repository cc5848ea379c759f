"""Columns as TabNet's networks get them: scaled, constant ones held, codes without a row."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
from test_estimator import TINY

from moa_jax import TabNetClassifier, TabNetPretrainer
from moa_jax.estimators.tabnet_columns import ColumnScale


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_columns_are_standardised_and_codes_are_not(dtype):
    x = np.column_stack([np.arange(12) * 3.0 + 7, np.arange(12) % 4]).astype(dtype)
    scale = ColumnScale.learned(x, [1])
    found = scale(x)
    assert found.dtype == np.float32 and scale.constant == {}
    np.testing.assert_allclose(found[:, 0], (x[:, 0] - x[:, 0].mean()) / x[:, 0].std(), rtol=1e-6)
    np.testing.assert_array_equal(found[:, 1], x[:, 1])
    embedded = np.arange(36).reshape(12, 3)
    back = scale.undone(np.c_[found[:, :1], embedded], [(1, 4, 3)])
    np.testing.assert_allclose(back, np.c_[x[:, :1], embedded], rtol=1e-6)


@pytest.mark.parametrize(
    ("column", "is_constant"),
    [
        (1e9 + np.arange(9) * 1e-2, False),
        (1e13 + np.arange(9), False),
        (np.arange(9) * 1e-300, False),
        (np.full(9, 0.3), True),
        (np.where(np.arange(9) % 2, 0.3, 0.1 + 0.2), True),
        (100 + np.arange(9) * 1e-14, True),  # sums of shares
        (np.arange(9, dtype=np.float32) * 1e-3 + 1e5, True),
        (np.arange(9, dtype=np.float32) + 1e5, False),
    ],
)
def test_constant_is_what_rounding_leaves_of_the_numbers_that_were_given(column, is_constant):
    scale = ColumnScale.learned(column[:, None], ())
    assert bool(scale.constant) == is_constant
    found = scale(column[:, None])
    if is_constant:
        assert scale.deviation == 1 and not found.any() and not scale([[5.0]]).any()
    else:
        assert found.std() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("kind", [TabNetClassifier, TabNetPretrainer])
def test_rows_that_decide_do_not_make_others_more_precise(kind):
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    x[:, 2] = np.nextafter(np.float32(1e5), np.where(np.arange(40) % 2, 2e5, 0).astype(np.float32))
    found, more = kind(**TINY | {"max_epochs": 1}), {}
    others = x[:9].astype(np.float64)
    if kind is TabNetClassifier:
        more, others = {"y": x[:, 0] > 0}, (others, others[:, 0] > 0)
    assert [*found.fit(x, **more, eval_set=others).constant_] == [2]


def test_codes_that_are_constant_stay_codes():
    scale = ColumnScale.learned(np.full((5, 2), 3.0), [1])
    np.testing.assert_array_equal(scale(np.array([[9.0, 1.0]])), [[0, 3]])


@pytest.mark.parametrize("factor", [1e-30, 1e-300])
def test_what_is_far_out_is_as_far_as_networks_compute(factor):
    scale = ColumnScale.learned(np.arange(4.0)[:, None] * factor, ())
    np.testing.assert_array_equal(scale([[1e15], [-1e15]]), np.float32([[1e15], [-1e15]]))


def test_the_smallest_numbers_there_are_have_a_deviation():
    smallest = np.nextafter(0, 1)
    scale = ColumnScale.learned(np.array([[0.0], [smallest], [0.0], [0.0]]), ())
    assert scale.deviation == 1 and not scale([[smallest]]).any()


def test_earlier_scales_keep_their_units():
    earlier = ColumnScale(np.array([3.0, 4.0]), np.array([5.0, 6.0]), {0: 3.0})
    found = ColumnScale.learned(np.array([[1.0, 2.0], [2.0, 2.0]]), ()).in_units_of(earlier)
    assert found.mean is earlier.mean and found.deviation is earlier.deviation
    assert found.constant == {1: 2.0}


def coded(rows=120, categories=3, seed=0):
    generator = np.random.default_rng(seed)
    x = np.c_[generator.normal(size=(rows, 2)), generator.integers(0, categories, rows)]
    return x, (x[:, 0] + x[:, 2] > 1).astype(int)


CODES = TINY | {"cat_idxs": [2], "cat_dims": [6], "cat_emb_dim": 2, "max_epochs": 3}


def of_codes(estimator, rows):
    """What a row is by its code, [codes, ...]."""
    return estimator.explain(np.c_[np.zeros((6, 2)), np.arange(6)])[0][rows]


@pytest.mark.parametrize("kind", [TabNetClassifier, TabNetPretrainer])
def test_codes_without_a_row_count_as_the_mean_of_those_with_one(kind):
    x, y = coded()
    found = kind(**CODES | {"validation_fraction": 0}).fit(x, y)
    table = found._encoder_variables["params"]["embedder"]["table_0"]
    mean = table[x[:, 2].astype(int)].mean(0)
    np.testing.assert_allclose(table[3:], np.tile(mean, (3, 1)), rtol=1e-5)
    assert np.abs(table[:3] - mean).max() > 0.1
    np.testing.assert_array_equal(of_codes(found, [3, 4]), of_codes(found, [5, 5]))


def test_rows_that_are_held_out_are_no_training_rows():
    x, y = coded()
    others = x.copy()
    others[:, 2] += 3
    found = TabNetClassifier(**CODES).fit(x, y, eval_set=(others, y))
    np.testing.assert_array_equal(of_codes(found, [3, 4]), of_codes(found, [5, 5]))


def test_weights_that_know_a_code_keep_it():
    everything, _ = coded(categories=6)
    pretrained = TabNetPretrainer(**CODES).fit(everything)
    x, y = coded()
    still = CODES | {"learning_rate": 1e-12, "max_epochs": 1}
    found = TabNetClassifier(**still).fit(x, y, from_unsupervised=pretrained)
    again = copy.deepcopy(found).set_params(warm_start=True).fit(x, y)
    for estimator in (found, again):
        np.testing.assert_allclose(
            estimator._encoder_variables["params"]["embedder"]["table_0"],
            pretrained._encoder_variables["params"]["embedder"]["table_0"],
            rtol=1e-5,
        )
        np.testing.assert_array_equal(estimator.columns_.mean, pretrained.columns_.mean)
        np.testing.assert_array_equal(estimator.columns_.deviation, pretrained.columns_.deviation)


def test_categories_of_pandas_that_no_row_has():
    x, y = coded()
    names = np.array(["low", "middle", "top", "never"])
    column = pd.Categorical(names[x[:, 2].astype(int)], categories=names)
    found = TabNetClassifier(**TINY).fit(pd.DataFrame({"a": x[:, 0], "b": column}), y)
    table = found._encoder_variables["params"]["embedder"]["table_0"]
    assert table.shape == (4, 1) and table[:3].min() < table[3] < table[:3].max()


def test_folders_of_earlier_versions_have_columns_as_they_are(tmp_path):
    x, y = coded()
    TabNetClassifier(**CODES).fit(x, y).save(tmp_path)
    path = tmp_path / "estimator.json"
    stored = json.loads(path.read_text())
    for name in ("column_mean", "column_deviation", "constant"):
        del stored[name]
    path.write_text(json.dumps(stored))
    np.testing.assert_array_equal(TabNetClassifier.load(tmp_path).columns_(x), np.float32(x))
