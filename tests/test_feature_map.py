"""The feature map against the original's: affinities, turned rectangles, pixels; and odd data."""

import logging
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import ConvexHull
from sklearn.manifold import TSNE
from sklearn.metrics import pairwise_distances

from moa_jax.deepinsight import feature_map as feature_maps
from moa_jax.deepinsight.feature_map import FeatureMap, digitize, turn

FOLDER = Path(__file__).parent / "reference"
RESOLUTIONS = (10, 50, 224, 300)


def load(name):
    with np.load(FOLDER / f"deepinsight_{name}.npz", allow_pickle=False) as stored:
        return dict(stored)


MAPS, AFFINITIES = load("maps"), load("tsne")
NAMES = MAPS["names"].tolist()
DIRECT = ("integers", "constant_axis", "edges")


@pytest.fixture
def log(caplog):
    with caplog.at_level(logging.INFO, logger="absl"):
        yield caplog


def grouped(rows=60, of_each=8, seed=0):
    """Columns in [0, 1] of three groups, alike within each."""
    generator = np.random.default_rng(seed)
    groups = np.repeat(generator.random((rows, 3)), of_each, axis=1)
    return 0.8 * groups + 0.2 * generator.random(groups.shape)


def tolerance(name):
    return 1e-6 if MAPS[f"{name}.xrot"].dtype == np.float32 else 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_smallest_rectangle_as_in_the_original(name):
    points, expected = MAPS[f"{name}.points"], MAPS[f"{name}.xrot"]
    found = turn(points)
    assert found.dtype == expected.dtype
    size = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance(name) * size)
    area = np.ptp(found, axis=0).prod()
    assert area == pytest.approx(float(MAPS[f"{name}.area_used"]), rel=tolerance(name))


@pytest.mark.parametrize("name", NAMES)
def test_smallest_of_all_rectangles(name):
    area = np.ptp(turn(MAPS[f"{name}.points"], closing_edge=True), axis=0).prod()
    expected = float(MAPS[f"{name}.area_all_edges"])
    assert area == pytest.approx(expected, rel=tolerance(name))
    matters = name in MAPS["names_where_the_missing_edge_matters"]
    assert (MAPS[f"{name}.area_used"] > expected * (1 + 1e-6)) == matters


@pytest.mark.parametrize("name", NAMES)
def test_pixels_as_in_the_original(name):
    for resolution in RESOLUTIONS:
        expected = MAPS[f"{name}.coords_{resolution}"]
        found = [digitize(axis, resolution) for axis in MAPS[f"{name}.xrot"].T]
        np.testing.assert_array_equal(found, expected)
        # Our own turn may differ from the original's by the last bits of an arc tangent, which
        # depend on the processor; nothing but a value on the edge of a pixel may notice.
        turned = turn(MAPS[f"{name}.points"])
        for axis, pixels in zip(turned.T, expected, strict=True):
            moved = digitize(axis, resolution) != pixels
            steps = (axis - axis.min()) / np.ptp(axis) * (resolution - 1)
            rounding = 8 * resolution * np.finfo(axis.dtype).eps
            assert (np.abs(steps - steps.round())[moved] < rounding).all()


@pytest.mark.parametrize("shape", [(4, 4), (10, 10), (6, 11)])
@pytest.mark.parametrize("name", DIRECT)
def test_pixels_of_values_on_edges(name, shape):
    expected = MAPS[f"direct.{name}.coords_{shape[0]}x{shape[1]}"]
    positions = MAPS[f"direct.{name}.xrot"]
    found = [digitize(axis, count) for axis, count in zip(positions.T, shape, strict=True)]
    np.testing.assert_array_equal(found, expected)
    if shape[0] == shape[1]:
        feature_map = FeatureMap.restore({}, {"positions": positions})
        pixels = feature_map.pixels(shape[0])
        assert pixels.dtype == np.int32
        np.testing.assert_array_equal(pixels, expected.T)


def test_last_pixel_has_the_largest_value_alone():
    assert digitize(np.array([0.0, 0.99, 1.0, 2.99, 3.0]), 4).tolist() == [0, 0, 1, 2, 3]
    assert digitize(np.array([7.0, 7.0]), 4).tolist() == [3, 3]
    assert digitize(np.array([1.0, 2.0]), 1).tolist() == [0, 0]


@pytest.mark.parametrize(
    "name", ["one_point", "two_points", "collinear_diag", "collinear_axis", "all_equal"]
)
def test_points_on_a_line_are_not_turned(name, log):
    """The original fails here."""
    points = MAPS[f"raises.{name}.points"]
    np.testing.assert_array_equal(turn(points), points)
    assert f"{len(points)} features on one line are not turned" in log.text


@pytest.fixture
def descents(monkeypatch):
    """What t-SNE's gradient descent would begin with: model, affinities and coordinates."""
    begun = []

    def descend(model, affinities, degrees, count, X_embedded, **_):
        begun.append((model, affinities, X_embedded))
        return np.eye(3)[np.arange(count) % 3, :2]

    monkeypatch.setattr(TSNE, "_tsne", descend)
    return begun


def test_legacy_tsne(descents):
    np.testing.assert_allclose(
        pairwise_distances(AFFINITIES["X"].T, metric="cosine"),
        AFFINITIES["cosine_distance"],
        rtol=1e-9,
        atol=1e-15,
    )
    FeatureMap().fit(AFFINITIES["X"])
    [(model, affinities, start)] = descents
    np.testing.assert_allclose(affinities, AFFINITIES["P_legacy"], rtol=1e-9, atol=1e-15)
    assert not np.allclose(affinities, AFFINITIES["P_modern"], rtol=0.1)
    np.testing.assert_array_equal(start, AFFINITIES["init"])
    assert (model.learning_rate_, model.early_exaggeration, model.max_iter) == (200, 12, 1000)
    assert (model.method, model.n_components, model.perplexity) == ("exact", 2, 5)


def test_current_tsne(descents):
    FeatureMap(tsne="current").fit(AFFINITIES["X"])
    [(model, affinities, start)] = descents
    np.testing.assert_allclose(affinities, AFFINITIES["P_modern"], rtol=1e-9, atol=1e-15)
    assert model.learning_rate_ == 50
    assert model.init == "pca"


def test_many_columns_are_placed_approximately_and_the_time_is_told(descents, log):
    """What takes long says so before; the default's time grows nearly linearly."""
    FeatureMap(tsne="auto").fit(AFFINITIES["X"])
    assert descents.pop()[0].method == "exact" and "t-SNE of" not in log.text
    many = np.random.default_rng(0).random((4, 1001))
    FeatureMap(tsne="auto").fit(many)
    [(model, _, _)] = descents
    assert (model.method, model.metric, model.init) == ("barnes_hut", "cosine", "pca")
    assert "t-SNE of 1001 columns takes about 3 s on one core\n" in log.text
    FeatureMap().fit(many)
    assert descents[1][0].method == "exact"
    expected = (
        "t-SNE of 1001 columns takes about 22 s on one core; tsne='barnes_hut' takes about 3 s"
    )
    assert expected in log.text
    assert feature_maps.expected_seconds("exact", 2000) == 86


@pytest.mark.parametrize(("features", "perplexity"), [(3, 1), (7, 2), (15, 14 / 3), (16, 5)])
def test_few_features_bound_the_perplexity(features, perplexity, descents, log):
    FeatureMap().fit(np.random.default_rng(0).random((20, features)))
    assert descents[0][0].perplexity == pytest.approx(perplexity, rel=1e-15)
    assert ("instead of 5" in log.text) == (features < 16)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"tsne": "current"},
        {"tsne": "barnes_hut"},
        pytest.param({"embedding": "umap"}, marks=pytest.mark.slow),
        {"embedding": "pca"},
    ],
    ids=str,
)
def test_alike_features_are_near(parameters):
    scaled = grouped()
    feature_map = FeatureMap(**parameters).fit(scaled)
    positions = feature_map.positions_
    assert positions.shape == (24, 2) and positions.dtype == np.float32
    distances = pairwise_distances(positions)
    same = np.equal.outer(np.arange(24) // 8, np.arange(24) // 8)
    assert distances[same].mean() < distances[~same].mean() / 2
    np.testing.assert_array_equal(FeatureMap(**parameters).fit(scaled).positions_, positions)
    # Upright: the rectangle cannot be made smaller by any edge but the last.
    corners = positions[ConvexHull(positions).vertices]
    assert np.ptp(positions, axis=0).prod() <= np.ptp(turn(corners), axis=0).prod() * (1 + 1e-5)
    pixels = feature_map.pixels(30)
    assert pixels.min(axis=0).tolist() == [0, 0] and pixels.max(axis=0).tolist() == [29, 29]


def test_random_state_decides():
    first, second = (FeatureMap(random_state=seed).fit(grouped()).positions_ for seed in (1, 2))
    assert not np.allclose(first, second)


ODD = {
    "one row": np.random.default_rng(0).random((1, 12)),
    "zeros": np.zeros((9, 12)),
    "constant": np.full((9, 12), 0.5),
    "some zero": np.where(np.arange(12) < 5, 0, np.random.default_rng(0).random((9, 12))),
    "equal columns": np.repeat(np.random.default_rng(0).random((9, 2)), 6, axis=1),
    "three": np.random.default_rng(0).random((9, 3)),
    "four": np.random.default_rng(0).random((9, 4)),
}


@pytest.mark.parametrize("embedding", ["tsne", "umap", "pca"])
@pytest.mark.parametrize("name", ODD)
def test_odd_data(name, embedding):
    feature_map = FeatureMap(embedding).fit(ODD[name])
    assert np.isfinite(feature_map.positions_).all()
    pixels = feature_map.pixels(10)
    assert pixels.shape == (ODD[name].shape[1], 2)
    assert pixels.min() >= 0 and pixels.max(axis=0).tolist() == [9, 9]


@pytest.mark.parametrize("name", ODD)
def test_odd_data_with_current_tsne(name):
    assert np.isfinite(FeatureMap(tsne="current").fit(ODD[name]).positions_).all()


@pytest.mark.parametrize(("features", "corners"), [(1, [[9, 9]]), (2, [[0, 0], [9, 9]])])
def test_too_few_features(features, corners, log):
    feature_map = FeatureMap().fit(np.random.default_rng(0).random((9, features)))
    assert feature_map.pixels(10).tolist() == corners
    assert f"feature map: {features} features are too few to embed" in log.text


def test_feature_opposite_to_all_others(log):
    """UMAP gives one without neighbours no coordinates."""
    column = np.random.default_rng(0).random((9, 1))
    found = FeatureMap("umap").fit(np.hstack([column] + [-column] * 19))
    assert found.positions_[0].tolist() == [0, 0]
    assert np.isfinite(found.positions_).all()
    assert "features without neighbours are put at the origin" in log.text


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"embedding": "isomap"}, "embedding: expected tsne, umap or pca, found 'isomap'"),
        ({"tsne": "old"}, "tsne: expected legacy, current, barnes_hut or auto, found 'old'"),
    ],
)
def test_unknown_choices(parameters, message):
    with pytest.raises(ValueError, match=message):
        FeatureMap(**parameters)
