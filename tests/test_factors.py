"""Factors, principal components and clusters against scikit-learn's, and their bounds."""

import logging

import numpy as np
import pytest
from sklearn import decomposition
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, FactorAnalysis
from threadpoolctl import threadpool_info, threadpool_limits

from moa_jax.features import factor_gram, factors, kmeans
from moa_jax.features.factors import ClusterOneHot, FactorScores, PrincipalComponents


@pytest.fixture
def values():
    table = np.random.default_rng(0).normal(size=(100, 12))
    table[:, 3:] += table[:, :1]
    return table


@pytest.fixture
def log(caplog):
    with caplog.at_level(logging.INFO, logger="absl"):
        yield caplog


def test_factor_scores_are_scikit_learns(values):
    expected = FactorAnalysis(4, random_state=1903).fit(values).transform(values)
    found = FactorScores(4).fit(values).transform(values)
    assert found.shape == (100, 4)
    np.testing.assert_array_equal(found, expected)


def test_factor_scores_are_posterior_means():
    """(I + W N^-1 W')^-1 W N^-1 (x - mean) with W = (1, 2), N = diag(1, 2), mean (1, 1)."""
    state = {
        "components": np.array([[1.0, 2.0]]),
        "mean": np.array([1.0, 1.0]),
        "noise_variance": np.array([1.0, 2.0]),
    }
    found = FactorScores.restore({"num_components": 1}, state).transform(np.array([[3.0, 5.0]]))
    np.testing.assert_allclose(found, [[1.5]], rtol=1e-14)


def test_principal_components_are_exact(values):
    expected = PCA(4, svd_solver="full").fit(values)
    found = PrincipalComponents(4).fit(values)
    np.testing.assert_allclose(found.components_, expected.components_, atol=1e-12)
    np.testing.assert_allclose(found.transform(values), expected.transform(values), atol=1e-11)
    largest = np.abs(found.components_).argmax(1)
    assert (found.components_[np.arange(4), largest] > 0).all()


@pytest.mark.parametrize(("rows", "expected"), [(100, 12), (8, 7)])
def test_principal_components_may_be_as_many_as_columns(values, rows, expected, log):
    found = PrincipalComponents(50).fit(values[:rows])
    assert found.transform(values).shape == (100, expected)
    assert f"components: {expected} instead of 50 for {rows} rows and 12 columns" in log.text


def test_principal_components_are_projections():
    """Along (3, 4) / 5 and across from mean (1, 1), with the lengths as they are."""
    state = {"components": np.array([[0.6, 0.8], [-0.8, 0.6]]), "mean": np.array([1.0, 1.0])}
    scores = PrincipalComponents.restore({"num_components": 2}, state)
    found = scores.transform(np.array([[4.0, 5.0], [1.0, 6.0]]))
    np.testing.assert_allclose(found, [[5, 0], [4, 3]], atol=1e-14)


def test_clusters_are_scikit_learns(values):
    labels = KMeans(7, n_init=10, random_state=123).fit(values).predict(values)
    found = ClusterOneHot(7).fit(values).transform(values)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, np.eye(7)[labels])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_clusters_of_many_rows_are_scikit_learns_but_for_rounding(values, seed, monkeypatch):
    # Blobs near each other, among which rows stand between two centers.
    values = np.concatenate([values + 2 * shift for shift in np.eye(12)[:4]])
    model = KMeans(9, n_init=10, random_state=seed).fit(values)
    monkeypatch.setattr(factors, "MANY_ROWS", 400)
    monkeypatch.setattr(factors, "MANY_CENTERS", 9 * 12)
    clusters = ClusterOneHot(9, seed).fit(values)
    np.testing.assert_allclose(clusters.centers_, model.cluster_centers_, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(clusters.transform(values), np.eye(9)[model.labels_])
    # One row fewer is scikit-learn's.
    monkeypatch.setattr(kmeans, "fit", lambda *_: pytest.fail("by steps of our own"))
    ClusterOneHot(9, seed).fit(values[1:])
    ClusterOneHot(9, seed, algorithm="elkan").fit(values)


def test_nearest_centers_in_single_precision_are_measured_again_where_it_cannot_tell():
    # All rows are nearer to the second center, by less than single precision resolves.
    rows = kmeans.CentredRows.of(np.random.default_rng(0).normal(size=(50, 6)))
    first = np.full(6, 30.0)
    second = first * (1 - 1e-9)
    single = (rows.single @ np.stack([first, second]).astype(np.float32).T).argmax(1)
    assert (single == 0).any()
    assert (kmeans._labels(rows, np.stack([first, second])) == 1).all()


def test_fewer_distinct_rows_than_clusters_are_left_to_scikit_learn(values, monkeypatch):
    few = np.repeat(values[:5], 20, axis=0)
    assert kmeans.fit(few, 7, 10, 123) is None
    expected = ClusterOneHot(7).fit(few).centers_
    monkeypatch.setattr(factors, "MANY_ROWS", 0)
    monkeypatch.setattr(factors, "MANY_CENTERS", 0)
    np.testing.assert_array_equal(ClusterOneHot(7).fit(few).centers_, expected)


@pytest.mark.parametrize("seed", [0, 203])
def test_clusters_by_elkan(values, seed):
    model = KMeans(7, n_init=10, random_state=seed, algorithm="elkan").fit(values)
    clusters = ClusterOneHot(7, seed, algorithm="elkan").fit(values)
    np.testing.assert_array_equal(clusters.centers_, model.cluster_centers_)
    np.testing.assert_array_equal(clusters.transform(values), np.eye(7)[model.predict(values)])


def test_nearest_center():
    state = {"centers": np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 9.0]])}
    clusters = ClusterOneHot.restore({"num_clusters": 3}, state)
    found = clusters.transform(np.array([[3.0, 1.0], [1.0, 4.0], [-8.0, 20.0]]))
    assert found.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_seed_decides(values):
    # Noise has no clusters that every start would find.
    first, second = (ClusterOneHot(9, seed=seed).fit(values).centers_ for seed in (1, 2))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, ClusterOneHot(9, seed=1).fit(values).centers_)


@pytest.mark.parametrize(
    ("shape", "expected"), [((6, 20), 5), ((50, 3), 2), ((2, 9), 1), ((5, 1), 1), ((1, 4), 1)]
)
def test_data_bound_the_counts(shape, expected, log):
    table = np.random.default_rng(0).normal(size=shape)
    for transform in (FactorScores(90), ClusterOneHot(45)):
        found = transform.fit(table).transform(table)
        assert found.shape == (shape[0], expected)
        assert np.isfinite(found).all()
    rows, columns = shape
    assert f"factors: {expected} instead of 90 for {rows} rows and {columns} columns" in log.text
    assert f"clusters: {expected} instead of 45 for {rows} rows and {columns} columns" in log.text


def test_wanted_counts_are_kept_in_silence(values, log):
    assert FactorScores(11).fit(values).components_.shape == (11, 12)
    assert PrincipalComponents(12).fit(values).components_.shape == (12, 12)
    assert ClusterOneHot(11).fit(values).centers_.shape == (11, 12)
    assert "instead of" not in log.text


def test_fewer_distinct_rows_than_clusters(log):
    distinct = np.eye(8)[:2]
    found = ClusterOneHot(4).fit(np.repeat(distinct, 10, axis=0)).transform(distinct)
    assert found.sum(1).tolist() == [1, 1]
    assert found[0].argmax() != found[1].argmax()
    assert "clusters: Number of distinct clusters (2)" in log.text


def test_equal_rows(log):
    table = np.full((6, 20), 0.5)
    np.testing.assert_array_equal(FactorScores(3).fit(table).transform(table), np.zeros((6, 3)))
    assert "factors: " in log.text
    np.testing.assert_array_equal(
        PrincipalComponents(3).fit(table).transform(table), np.zeros((6, 3))
    )


def test_no_convergence_is_logged(values, log, monkeypatch):
    monkeypatch.setattr(
        "sklearn.decomposition.FactorAnalysis",
        lambda count, random_state: FactorAnalysis(count, max_iter=1, random_state=random_state),
    )
    FactorScores(2).fit(values)
    assert "factors: FactorAnalysis did not converge" in log.text


@pytest.mark.parametrize("shape", [(20, 50), (50, 20)])
def test_both_ways_to_principal_components_lead_there(shape):
    values = np.random.default_rng(0).normal(size=shape)
    one = PrincipalComponents(7).fit(values)
    other = PrincipalComponents(7, "by_shape").fit(values)
    assert (one.components_ != other.components_).any() == (shape[1] > shape[0])
    np.testing.assert_allclose(one.transform(values), other.transform(values), atol=1e-10)
    again = PrincipalComponents.restore(other.parameters(), other.state())
    assert again.solver == "by_shape" and one.parameters() == {"num_components": 7}


@pytest.fixture
def many():
    """More rows than `factors.MANY_ROWS`, of three factors and noise of several sizes."""
    generator = np.random.default_rng(0)
    loadings, noise = generator.normal(size=(3, 20)), generator.normal(size=(2100, 20))
    table = generator.normal(size=(2100, 3)) @ loadings + noise * generator.uniform(0.3, 2, 20)
    return table + generator.normal(size=20)


@pytest.mark.parametrize("count", [3, 11])
def test_factors_of_many_rows_are_scikit_learns_within_rounding(many, count):
    expected = FactorAnalysis(count, random_state=1903).fit(many)
    scores = FactorScores(count).fit(many)
    assert (scores.components_ != expected.components_).any()
    for name in ("components_", "mean_", "noise_variance_"):
        np.testing.assert_allclose(getattr(scores, name), getattr(expected, name), atol=1e-9)
    np.testing.assert_allclose(scores.transform(many), expected.transform(many), atol=1e-9)


def test_factors_of_columns_with_little_noise_are_scikit_learns(many, monkeypatch):
    few = many[:, :6]
    expected = FactorAnalysis(2, random_state=1903).fit(few)
    monkeypatch.setattr(factor_gram, "LEAST_NOISE", 0.9)
    np.testing.assert_array_equal(FactorScores(2).fit(few).components_, expected.components_)


def test_a_small_table_is_decomposed_by_one_thread(monkeypatch):
    threads = []

    class Watched(decomposition.PCA):
        def fit(self, values):
            threads.append(
                {own["num_threads"] for own in threadpool_info() if own["user_api"] == "blas"}
            )
            return super().fit(values)

    values = np.random.default_rng(0).normal(size=(30, 9))
    monkeypatch.setattr(decomposition, "PCA", Watched)
    with threadpool_limits(2, "blas"):
        PrincipalComponents(4, "by_shape").fit(values)
        PrincipalComponents(4, "by_shape").fit(values.T)
        PrincipalComponents(4).fit(values)
        monkeypatch.setattr(factors, "FEW_PRODUCTS", 30 * 9 * 9)
        PrincipalComponents(4, "by_shape").fit(values)
    assert threads == [{1}, {1}, {2}, {2}]
