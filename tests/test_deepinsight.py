"""DeepInsight: scikit-learn's own checks, images, features of a pixel, and the plot."""

import builtins
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from moa_jax import DeepInsight
from moa_jax.deepinsight.feature_map import FeatureMap
from moa_jax.deepinsight.log_scale import LogScale
from moa_jax.errors import UserError


# None is left out: no check asks for two-dimensional output.
@parametrize_with_checks([DeepInsight(resolution=8)])
def test_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def table():
    generator = np.random.default_rng(0)
    values = np.repeat(generator.normal(size=(70, 4)), 5, axis=1)
    values += 0.1 * generator.normal(size=values.shape)
    return pd.DataFrame(values, columns=[f"g-{i}" for i in range(20)])


@pytest.fixture(scope="module")
def fitted(table):
    return DeepInsight(resolution=12, embedding="pca").fit(table)


def test_images(fitted, table):
    """More rows than one device call takes; each pixel by hand."""
    images = fitted.transform(table)
    assert images.shape == (70, 12, 12, 3) and images.dtype == np.float32
    scaled = LogScale().fit(table.to_numpy()).transform(table.to_numpy())
    pixels = FeatureMap("pca").fit(scaled).pixels(12)
    np.testing.assert_array_equal(fitted.pixels_, pixels)
    assert len(np.unique(pixels, axis=0)) < 20
    expected = np.zeros(images.shape)
    for row, column in pixels:
        shared = scaled[:, (pixels == (row, column)).all(axis=1)]
        channels = [shared.mean(axis=1), shared.min(axis=1), shared.max(axis=1)]
        expected[:, row, column] = np.stack(channels, axis=1)
    # Inputs and sums are rounded to float32.
    np.testing.assert_allclose(images, expected, rtol=0, atol=2e-7)


def test_new_rows_may_leave_the_range(fitted, table):
    images = fitted.transform(table * 100)
    assert images.min() == 0 and images.max() == 1


def test_features_of_a_pixel(fitted, table):
    found = {}
    for row, column in np.unique(fitted.pixels_, axis=0):
        for name in fitted.feature_at(row, column):
            found[name] = [row, column]
    assert list(fitted.feature_names_in_) == list(table)
    assert [found[name] for name in table] == fitted.pixels_.tolist()
    empty = np.argwhere(fitted.transform(table)[..., 2].max(axis=0) == 0)[0]
    assert fitted.feature_at(*empty) == []


def test_features_without_names(table):
    without = DeepInsight(resolution=12, embedding="pca").fit(table.to_numpy())
    numbers = without.feature_at(*without.pixels_[7])
    assert 7 in numbers and all(type(number) is int for number in numbers)


@pytest.mark.parametrize(("pixel", "name"), [((12, 0), "row"), ((0, -1), "col")])
def test_pixels_outside(pixel, name, fitted):
    with pytest.raises(ValueError, match=f"{name}: expected 0 to 11, found"):
        fitted.feature_at(*pixel)


@pytest.mark.parametrize("value", [1.5, "a", None, True])
def test_pixels_that_are_none(value, fitted):
    for name, pixel in (("row", (value, 0)), ("col", (0, value))):
        with pytest.raises(ValueError, match=f"^{name}: expected an integer, found {value!r}$"):
            fitted.feature_at(*pixel)


def test_parameters_reach_the_map(table):
    parameters = {
        "resolution": 9, "embedding": "umap", "tsne": "current", "closing_edge": True,
        "perplexity": 3.0, "random_state": 7,
    }  # fmt: skip
    model = DeepInsight(**parameters)
    assert model.get_params() == clone(model).get_params() == parameters
    model.set_params(embedding="tsne").fit(table)
    del parameters["resolution"]
    assert model.map_.parameters() == {**parameters, "embedding": "tsne"}
    assert model.pixels_.max() == 8


def test_parameters_set_after_fit_wait_for_the_next(table):
    model = DeepInsight(resolution=12, embedding="pca").fit(table).set_params(resolution=5)
    assert model.transform(table).shape == (70, 12, 12, 3)
    assert model.feature_at(11, 11) is not None
    assert model.fit_transform(table).shape == (70, 5, 5, 3)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"resolution": 0}, "resolution: expected an integer of at least 1, found 0"),
        ({"resolution": True}, "resolution: expected an integer of at least 1, found True"),
        ({"resolution": 2.5}, "resolution: expected an integer of at least 1, found 2.5"),
        ({"perplexity": 0}, "perplexity: expected above 0, found 0"),
        ({"perplexity": "5"}, "perplexity: expected above 0, found '5'"),
        ({"closing_edge": "no"}, "closing_edge: expected True or False, found 'no'"),
        ({"embedding": "pca", "perplexity": 30.0}, "perplexity: expected 5.0, as embedding='pca'"),
        ({"embedding": "umap", "tsne": "current"}, "tsne: expected 'auto', as embedding='umap'"),
        ({"embedding": "lda"}, "embedding: expected tsne, umap or pca"),
    ],
)
def test_wrong_parameters(parameters, message, table):
    with pytest.raises(ValueError, match=message):
        DeepInsight(**parameters).fit(table)


def test_sparse_columns_and_texts(fitted, table):
    sparse = table.astype(pd.SparseDtype(float))
    np.testing.assert_array_equal(fitted.transform(sparse[:3]), fitted.transform(table[:3]))
    name = table.columns[1]
    with pytest.raises(ValueError, match=f"X: column {name}: expected numbers, found 'x'"):
        fitted.transform(table.assign(**{name: "x"}))


def test_in_a_pipeline_and_pickled(table):
    flat = FunctionTransformer(lambda images: images.reshape(len(images), -1))
    pipeline = make_pipeline(DeepInsight(resolution=6, embedding="pca"), flat)
    assert pipeline.fit_transform(table).shape == (70, 108)
    model = pipeline[0]
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.transform(table), model.transform(table))


def test_plot(fitted):
    pytest.importorskip("matplotlib")
    figure = fitted.plot()
    axes, colours = figure.axes
    [points] = axes.collections
    places = points.get_offsets().data
    np.testing.assert_array_equal(places[:, ::-1], np.unique(fitted.pixels_, axis=0))
    assert points.get_array().sum() == 20
    assert axes.get_ylim() == (11.5, -0.5)
    assert "20 features on" in axes.get_title()


def test_plot_without_matplotlib(fitted, monkeypatch):
    imported = builtins.__import__

    def without(name, *arguments, **keywords):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return imported(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        UserError, match=r"^plot: needs matplotlib: pip install 'moa-jax\[plots\]'$"
    ):
        fitted.plot()


@pytest.mark.parametrize("embedding", ["pca", "tsne", "umap"])
def test_generators_are_seeds(embedding, table):
    def fitted(state):
        return DeepInsight(resolution=12, embedding=embedding, random_state=state).fit(table)

    found, again = (fitted(np.random.default_rng(3)) for _ in range(2))
    assert found.seed_ == np.random.default_rng(3).integers(np.iinfo(np.int32).max)
    for other in (again, fitted(found.seed_)):
        np.testing.assert_array_equal(other.pixels_, found.pixels_)
    for wrong in (-1, 2**32, 1.5, "a", True):
        with pytest.raises(ValueError, match="^random_state: "):
            fitted(wrong)


def test_numbers_beside_which_1_is_everything_are_told():
    table = np.random.default_rng(0).normal(size=(20, 6))
    with pytest.warns(
        UserWarning, match=r"^X: numbers such as .*e-300 are rounding beside 1"
    ) as one:
        found = DeepInsight(resolution=8, embedding="pca").fit(table * 1e-300)
    assert one[0].filename == __file__ and not found.transform(table * 1e-300).any()
    DeepInsight(resolution=8, embedding="pca").fit(np.zeros((20, 6)))  # there is nothing to see
