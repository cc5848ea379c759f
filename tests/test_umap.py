"""UMAP coordinates: of fitted rows, of new rows one by one, and against umap-learn's."""

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.manifold import trustworthiness
from sklearn.neighbors import KNeighborsClassifier
from umap import UMAP
from umap.layouts import optimize_layout_euclidean

from moa_jax.data import simulate
from moa_jax.features import umap, umap_joint, umap_layout
from moa_jax.features.transforms import TRANSFORMS
from moa_jax.features.umap import UmapEmbedding
from moa_jax.features.umap_joint import JointUmapEmbedding
from moa_jax.store import transform_files

FITTED, NEW, COMPONENTS, SEED = 300, 100, 5, 1903


@pytest.fixture(scope="module")
def rows():
    """Rows of eight clusters that touch, and which cluster each is of."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 8, FITTED + NEW)
    centers = generator.normal(size=(8, 20))
    return centers[labels] + generator.normal(scale=1.2, size=(FITTED + NEW, 20)), labels


@pytest.fixture(scope="module")
def embedding(rows):
    return UmapEmbedding(COMPONENTS, SEED).fit(rows[0][:FITTED])


@pytest.fixture(scope="module")
def umap_learn(rows):
    """umap-learn's model of the same rows; 90 is 30 epochs of its transform."""
    model = UMAP(n_components=COMPONENTS, random_state=SEED, n_jobs=1).fit(rows[0][:FITTED])
    model.n_epochs = 90
    return model


@pytest.fixture(scope="module")
def placed(rows, embedding):
    return embedding.transform(rows[0][FITTED:])


@pytest.fixture
def log(caplog):
    with caplog.at_level(logging.INFO, logger="absl"):
        yield caplog


def test_fit_is_umap_learns(embedding, umap_learn):
    assert embedding.embedding_.dtype == np.float32
    np.testing.assert_array_equal(embedding.embedding_, umap_learn.embedding_)


def test_seed_decides(rows, embedding, placed):
    same, other = (UmapEmbedding(COMPONENTS, seed).fit(rows[0][:FITTED]) for seed in (SEED, 7))
    np.testing.assert_array_equal(same.embedding_, embedding.embedding_)
    np.testing.assert_array_equal(same.transform(rows[0][FITTED:]), placed)
    assert not np.array_equal(other.embedding_, embedding.embedding_)


def test_fitted_rows_keep_their_coordinates(rows, embedding):
    order = np.random.default_rng(1).permutation(FITTED)[:50]
    found = embedding.transform(rows[0][order])
    np.testing.assert_array_equal(found, embedding.embedding_[order])


def test_new_rows_depend_on_themselves_alone(rows, embedding, placed, monkeypatch):
    values = rows[0]
    np.testing.assert_array_equal(embedding.transform(values[::-1])[:NEW][::-1], placed)
    np.testing.assert_array_equal(embedding.transform(np.asfortranarray(values))[FITTED:], placed)
    singles = [embedding.transform(values[i : i + 1])[0] for i in range(FITTED, FITTED + NEW)]
    np.testing.assert_array_equal(singles, placed)
    monkeypatch.setattr(umap, "MAX_DISTANCES", 7 * FITTED)
    np.testing.assert_array_equal(embedding.transform(values[FITTED:]), placed)


def test_without_repulsion_it_is_umap_learns_transform(rows, embedding, umap_learn, monkeypatch):
    """Nothing is then random. The fitted row makes 1 the strongest membership of the batch."""
    monkeypatch.setattr(umap, "REPULSION", 0.0)
    monkeypatch.setattr(umap_learn, "repulsion_strength", 0.0)
    expected = umap_learn.transform(rows[0][FITTED - 1 :])[1:]
    found = embedding.transform(rows[0][FITTED:])
    assert np.abs(found - expected).max() < 1e-3 * expected.std()


def test_memberships_are_umap_learns(rows, umap_learn, monkeypatch):
    monkeypatch.setattr(umap_learn, "transform_mode", "graph")
    new = np.float32(rows[0][FITTED:])
    graph = umap_learn.transform(new).toarray()
    table = np.float32(rows[0][:FITTED])
    for row, expected in zip(new, graph, strict=True):
        squared = np.zeros(FITTED)
        neighbors, distances = umap_layout.nearest(row, squared, 0.0, table, 15)
        assert set(neighbors) == set(np.flatnonzero(expected))
        weights = umap_layout.memberships(distances)
        np.testing.assert_allclose(weights, expected[neighbors], rtol=1e-4)


def test_memberships():
    # exp(-1 / width) + exp(-2 / width) + exp(-2 / width) = log2(4) at exp(-1 / width) = x,
    # x + 2 x^2 = 2.
    x = (np.sqrt(17) - 1) / 4
    found = umap_layout.memberships(np.array([0.5, 1.0, 2.0, 2.0]))
    np.testing.assert_allclose(found, [x**0.5, x, x**2, x**2], rtol=1e-4)
    for scale in (1e-30, 1e30):
        scaled = umap_layout.memberships(scale * np.array([0.5, 1.0, 2.0, 2.0]))
        np.testing.assert_allclose(scaled, found, rtol=1e-12)
    assert umap_layout.memberships(np.zeros(4)).tolist() == [1, 1, 1, 1]


def test_nearest_despite_rounding_errors():
    generator = np.random.default_rng(2)
    table = generator.integers(0, 3, (200, 4)).astype(np.float32)
    row = np.ones(4, np.float32)
    exact = np.square(table - row).sum(1).astype(np.float64)
    # Many distances are equal: those of the first rows count.
    expected = np.argsort(exact, kind="stable")[:15]
    for margin in (0.0, 0.3):
        squared = exact + generator.uniform(-margin, margin, 200)
        neighbors, distances = umap_layout.nearest(row, squared, margin, table, 15)
        np.testing.assert_array_equal(neighbors, expected)
        np.testing.assert_array_equal(distances, np.sqrt(exact[expected]))


def test_start_is_the_weighted_mean():
    coordinates = np.array([[0, 0], [4, 0], [0, 8]], np.float32)
    neighbors = np.array([0, 1, 2])
    found = umap_layout.weighted_start(neighbors, np.array([0.5, 0.25, 0.25]), coordinates)
    assert found.tolist() == [1, 2]
    found = umap_layout.weighted_start(neighbors[::-1], np.array([1, 0.25, 0.25]), coordinates)
    assert found.tolist() == [0, 8]


def test_descent_is_umap_learns():
    """Where all fitted rows lie at one point, every negative sample is the same."""
    embedding = np.zeros((9, 2), np.float32)
    start = np.array([0.5, -0.25])
    # The last comes less often than once in 30 epochs.
    weights = np.array([1.0, 0.7, 0.15, 0.02])
    curve = 1.577, 0.895
    found = start.copy()
    umap_layout.descend(found, np.arange(4), weights, embedding, *curve, 1.0, np.uint64(3))
    expected = optimize_layout_euclidean(
        start[None].astype(np.float32),
        embedding,
        head=np.zeros(3, np.int32),
        tail=np.arange(3, dtype=np.int32),
        n_epochs=30,
        n_vertices=9,
        epochs_per_sample=1 / weights[:3],
        a=curve[0],
        b=curve[1],
        rng_state=np.arange(3),
        initial_alpha=0.25,
    )
    assert np.linalg.norm(found - start) > 0.1
    # umap-learn's fast arithmetic counts a few of the samples one epoch later.
    np.testing.assert_allclose(found, expected[0], rtol=2e-3)


def test_random_bits():
    """The first of SplitMix64 from state 0, as other implementations give them."""
    key, found = np.uint64(0), []
    for _ in range(3):
        key, bits = umap_layout.random_bits(np.uint64(key))
        found.append(int(bits))
    assert found == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_new_rows_are_as_well_placed_as_by_umap_learn(rows, embedding, umap_learn, placed):
    """Measured: labels 0.96 and 0.96, trustworthiness 0.937 and 0.938, distance 0.16."""
    values, labels = rows
    theirs = umap_learn.transform(values[FITTED:])
    classifier = KNeighborsClassifier(15).fit(embedding.embedding_, labels[:FITTED])
    ours, expected = (classifier.score(found, labels[FITTED:]) for found in (placed, theirs))
    assert ours > expected - 0.05
    assert_as_trustworthy(values, embedding, placed, theirs)


def test_simulated_profiles_are_as_well_placed_as_by_umap_learn():
    """Measured: trustworthiness 0.743 and 0.744, distance 0.13."""
    data = simulate.make(rows=600, seed=0, genes=100, cells=0, scored=5, nonscored=0)
    embedding = UmapEmbedding(20).fit(data.features)
    model = UMAP(n_components=20, random_state=1903, n_jobs=1).fit(data.features)
    values = np.concatenate([data.features, data.test.features])
    placed, theirs = (model.transform(data.test.features) for model in (embedding, model))
    assert_as_trustworthy(values, embedding, placed, theirs)


def assert_as_trustworthy(values, embedding, placed, theirs):
    ours, expected = (
        trustworthiness(values, np.concatenate([embedding.embedding_, found]), n_neighbors=15)
        for found in (placed, theirs)
    )
    assert ours > expected - 0.01
    radius = np.sqrt(embedding.embedding_.var(0).sum())
    # Two seeds of umap-learn's own transform are about as far apart.
    assert np.linalg.norm(placed - theirs, axis=1).mean() < 0.25 * radius


@pytest.fixture(scope="module")
def joint(embedding):
    return JointUmapEmbedding.restore(embedding.parameters(), embedding.state())


def test_joint_rows_are_umap_learns(rows):
    """In one call with the fitted rows, as in the original; no distance is rounded here."""
    values = np.round(rows[0] * 256) / 256
    model = UMAP(n_components=COMPONENTS, random_state=SEED, n_jobs=1).fit(values[:FITTED])
    expected = model.transform(values)
    joint = JointUmapEmbedding(COMPONENTS, SEED).fit(values[:FITTED])
    np.testing.assert_array_equal(joint.transform(values[FITTED:]), expected[FITTED:])
    unkept = JointUmapEmbedding.restore({**joint.parameters(), "keep_fitted": False}, joint.state())
    order = np.random.default_rng(3).permutation(FITTED + NEW)
    np.testing.assert_array_equal(unkept.transform(values[order]), expected[order])


def test_joint_rows_depend_on_each_other(rows, joint, embedding, placed, monkeypatch):
    """Fewer epochs for a call of more rows: what the original does above 10,000."""
    new = rows[0][FITTED:]
    several, alone = joint.transform(new), joint.transform(new[:1])
    np.testing.assert_array_equal(joint.transform(new), several)
    assert not np.array_equal(several, placed)
    monkeypatch.setattr(umap_joint, "FEW_ROWS", FITTED + 1)
    np.testing.assert_array_equal(joint.transform(new[:1]), alone)
    assert not np.array_equal(joint.transform(new)[:1], alone)
    known = rows[0][[7, 3, 7]]
    np.testing.assert_array_equal(joint.transform(known), embedding.embedding_[[7, 3, 7]])
    # With a new row among them they are placed like new ones.
    mixed = joint.transform(np.concatenate([known, new[:1]]))
    assert (mixed[:3] != embedding.embedding_[[7, 3, 7]]).any()
    np.testing.assert_array_equal(mixed[0], mixed[2])


def test_joint_rows_at_the_limits(embedding, joint, tmp_path):
    assert joint.transform(np.zeros((0, 20))).shape == (0, COMPONENTS)
    assert np.isfinite(joint.transform(np.full((1, 20), 1e30))).all()
    few = JointUmapEmbedding(3).fit(np.eye(2))
    np.testing.assert_array_equal(few.transform(np.ones((4, 2))), np.zeros((4, 1)))
    transform_files.save(tmp_path, {"umap": joint})
    restored = transform_files.load(tmp_path, TRANSFORMS)["umap"]
    assert type(restored) is JointUmapEmbedding
    far = np.random.default_rng(5).normal(size=(3, 20))
    np.testing.assert_array_equal(restored.transform(far), joint.transform(far))


def test_fitted_rows_placed_like_new_ones(rows, embedding, placed):
    """Their own coordinates are the start: a row that was fitted is its nearest neighbour."""
    unkept = UmapEmbedding.restore(
        {**embedding.parameters(), "keep_fitted": False}, embedding.state()
    )
    found = unkept.transform(rows[0])
    np.testing.assert_array_equal(found[FITTED:], placed)
    moved = np.linalg.norm(found[:FITTED] - embedding.embedding_, axis=1)
    assert (moved > 0).all()
    assert moved.mean() < 0.25 * np.sqrt(embedding.embedding_.var(0).sum())


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((60, 12), 11), ((30, 40), 29), ((6, 20), 5), ((3, 9), 2), ((2, 9), 1), ((1, 4), 1)],
)
def test_little_data(shape, expected, log):
    generator = np.random.default_rng(0)
    table = generator.normal(size=shape)
    found = UmapEmbedding(45).fit(table)
    rows, columns = shape
    assert f"umap: {expected} instead of 45 for {rows} rows and {columns} columns" in log.text
    for values in (table, generator.normal(size=(4, columns))):
        coordinates = found.transform(values)
        assert coordinates.shape == (len(values), expected)
        assert np.isfinite(coordinates).all()
    assert ("too few" in log.text) == (rows < 3)


def test_equal_rows():
    table = np.random.default_rng(0).normal(size=(40, 6))
    table[:20] = table[0]
    for values in (table, table[:20]):
        embedding = UmapEmbedding(2).fit(values)
        found = embedding.transform(values)
        assert np.isfinite(embedding.embedding_).all()
        np.testing.assert_array_equal(found[:20], np.repeat(embedding.embedding_[:1], 20, axis=0))
        assert np.isfinite(embedding.transform(table + 1)).all()


def test_rows_far_away(embedding):
    found = embedding.transform(np.full((1, 20), 1e30))
    assert np.isfinite(found).all()


def test_values_that_float32_makes_equal(rows, embedding):
    np.testing.assert_array_equal(
        embedding.transform(rows[0][:3].astype(np.float32)), embedding.embedding_[:3]
    )
    zeros = np.zeros((2, 20))
    zeros[1] = -0.0
    first, second = embedding.transform(zeros)
    np.testing.assert_array_equal(first, second)


def test_values_that_are_not_finite(embedding):
    with pytest.raises(ValueError, match="NaN"):
        embedding.transform(np.full((2, 20), np.nan))


def test_no_rows(embedding):
    assert embedding.transform(np.zeros((0, 20))).shape == (0, COMPONENTS)


def test_another_process_gives_the_same_bits(rows, embedding, placed, tmp_path):
    transform_files.save(tmp_path, {"umap": embedding})
    np.save(tmp_path / "values.npy", rows[0])
    program = """
import pathlib, sys
import numpy as np
from moa_jax.features.umap import UmapEmbedding
from moa_jax.store import transform_files
folder = pathlib.Path(sys.argv[1])
embedding = transform_files.load(folder, [UmapEmbedding])["umap"]
assert "numba" not in sys.modules
np.save(folder / "found.npy", embedding.transform(np.load(folder / "values.npy")))
assert "umap" not in sys.modules
assert "jax" not in sys.modules
"""
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, cwd=root)
    found = np.load(tmp_path / "found.npy")
    np.testing.assert_array_equal(found, np.concatenate([embedding.embedding_, placed]))
