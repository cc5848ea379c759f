"""Transforms of profiles: rank-gauss, factors, clusters, statistics, one-hot, and their store."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import FactorAnalysis
from sklearn.preprocessing import QuantileTransformer

from moa_jax.errors import UserError
from moa_jax.features import store
from moa_jax.features.factors import ClusterOneHot, FactorScores
from moa_jax.features.one_hot import one_hot
from moa_jax.features.rank_gauss import RankGauss
from moa_jax.features.row_statistics import row_statistics


def apply(fit, values):
    return RankGauss().fit(np.array(fit, float)[:, None]).transform(
        np.array(values, float)[:, None]
    )[:, 0]


def test_rank_gauss_of_a_ramp():
    found = apply(range(1000), [-5, 0, 1, 10, 249.75, 499.5, 750, 999, 2000])
    expected = [
        -5.199337582605575, -5.199337582605575, -3.0899351529977, -2.3259724580727,
        -0.6744897501961, 0, 0.6768541480424, 5.199337582703, 5.199337582703,
    ]  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_rank_gauss_of_a_mode():
    fit = [-10.0] * 50 + np.linspace(-3, 3, 950).tolist()
    found = apply(fit, [-10, -9.999, -3, 0, 3])
    np.testing.assert_allclose(
        found, [-5.1993376, -1.7459999, -1.6400161, 0.0627696, 5.1993376], atol=5e-8
    )


def test_rank_gauss_is_column_by_column_and_row_by_row():
    generator = np.random.default_rng(0)
    fit, new = generator.gamma(0.5, size=(700, 4)), generator.gamma(0.5, size=(60, 4))
    fitted = RankGauss().fit(fit)
    whole = fitted.transform(new)
    for column in range(4):
        single = QuantileTransformer(
            n_quantiles=100, output_distribution="normal", subsample=None
        ).fit(fit[:, column : column + 1])
        np.testing.assert_array_equal(
            whole[:, column : column + 1], single.transform(new[:, column : column + 1])
        )
    parts = [fitted.transform(new[i : i + 7]) for i in range(0, 60, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_rank_gauss_uses_every_row_of_large_data():
    values = np.random.default_rng(0).normal(size=(12_000, 1))
    one, two = RankGauss().fit(values), RankGauss().fit(values[::-1])
    np.testing.assert_array_equal(one.quantiles_, two.quantiles_)


@pytest.mark.parametrize("rows", [2, 30])
def test_rank_gauss_of_few_rows_and_constant_columns(rows):
    values = np.column_stack([np.arange(rows), np.full(rows, 3.0)]).astype(float)
    fitted = RankGauss().fit(values)
    assert fitted.quantiles_.shape == (rows, 2)
    assert np.isfinite(fitted.transform(values)).all()


def test_factor_scores_are_scikit_learns():
    values = np.random.default_rng(0).normal(size=(200, 12))
    values[:, 3:] += values[:, :1]
    expected = FactorAnalysis(4, random_state=1903).fit(values).transform(values)
    np.testing.assert_array_equal(FactorScores(4).fit(values).transform(values), expected)


@pytest.mark.parametrize("shape", [(6, 20), (50, 3), (2, 9), (5, 1)])
def test_components_and_clusters_are_bounded_by_the_data(shape):
    values = np.random.default_rng(0).normal(size=shape)
    expected = max(1, min(shape) - 1)
    assert FactorScores(90).fit(values).transform(values).shape == (shape[0], expected)
    assert ClusterOneHot(45).fit(values).transform(values).shape == (shape[0], expected)


def test_clusters_are_scikit_learns():
    values = np.random.default_rng(0).normal(size=(300, 9))
    labels = KMeans(7, n_init=10, random_state=123).fit(values).predict(values)
    found = ClusterOneHot(7).fit(values).transform(values)
    np.testing.assert_array_equal(found, np.eye(7)[labels])


def test_clusters_of_repeated_rows():
    found = ClusterOneHot(4).fit(np.repeat(np.eye(8)[:2], 10, 0)).transform(np.eye(8)[:2])
    assert found.sum(1).tolist() == [1, 1] and found[0].argmax() != found[1].argmax()


def test_statistics_literal():
    np.testing.assert_allclose(
        row_statistics(np.array([[1.0, 2, 4, 8, 16]])),
        [[31, 6.2, 6.099180272790763, 1.303763440860216, 1.325314709813405]],
        rtol=1e-13,
    )


def test_statistics_are_those_of_pandas():
    values = np.random.default_rng(0).standard_t(4, size=(50, 30)) * 3 + 100
    table = pd.DataFrame(values)
    expected = np.stack(
        [table.sum(axis=1), table.mean(axis=1), table.std(axis=1), table.kurt(axis=1),
         table.skew(axis=1)], axis=1,
    )
    np.testing.assert_allclose(row_statistics(values), expected, rtol=1e-9)


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_undefined_statistics_are_0(columns):
    constant = row_statistics(np.full((2, columns), 0.1))
    assert np.isfinite(constant).all()
    np.testing.assert_array_equal(constant[:, 3:], 0)
    varied = row_statistics(np.arange(2.0 * columns).reshape(2, columns))
    assert np.isfinite(varied).all()
    if columns < 4:
        assert (varied[:, 3] == 0).all()


def test_one_hot_has_fixed_levels():
    assert one_hot(np.array([48, 24, 48]), (24, 48, 72)).tolist() == [
        [0, 1, 0],
        [1, 0, 0],
        [0, 1, 0],
    ]
    assert one_hot(np.array(["D2"], object), ("D1", "D2")).tolist() == [[0, 1]]


@pytest.fixture
def fitted():
    values = np.random.default_rng(0).gamma(0.5, size=(80, 6))
    return values, {
        "rank_gauss": RankGauss(20).fit(values),
        "factors": FactorScores(3).fit(values),
        "clusters": ClusterOneHot(4).fit(values),
    }


def test_store_gives_the_same_bits_in_another_process(fitted, tmp_path):
    values, transforms = fitted
    store.save(tmp_path, transforms)
    np.save(tmp_path / "values.npy", values)
    program = """
import sys, pathlib, numpy as np
from moa_jax.features import store
folder = pathlib.Path(sys.argv[1])
loaded = store.load(folder)
values = np.load(folder / "values.npy")
np.savez(folder / "out.npz", **{name: t.transform(values) for name, t in loaded.items()})
assert "jax" not in sys.modules
"""
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, cwd=root)
    found = np.load(tmp_path / "out.npz")
    assert set(found.files) == set(transforms)
    for name, transform in transforms.items():
        np.testing.assert_array_equal(found[name], transform.transform(values))


def test_store_is_reproducible(fitted, tmp_path):
    for name in ("a", "b"):
        store.save(tmp_path / name, fitted[1])
    for file in ("transforms.npz", "transforms.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def _edit(path, change):
    described = json.loads(path.read_text())
    change(described)
    path.write_text(json.dumps(described))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "transforms.npz").write_bytes(b"PK\x03\x04"), "transforms.npz: damaged"),
        (lambda f: (f / "transforms.npz").unlink(), "transforms.npz: not found"),
        (lambda f: (f / "transforms.json").unlink(), "transforms.json: not found"),
        (lambda f: (f / "transforms.json").write_text("{"), "transforms.json: damaged"),
        (
            lambda f: _edit(f / "transforms.json", lambda d: d.update(version=99)),
            "transforms.json: expected format version 1",
        ),
        (
            lambda f: _edit(
                f / "transforms.json", lambda d: d["transforms"]["factors"].update({"class": "os"})
            ),
            "transforms.json: damaged",
        ),
        (
            lambda f: _edit(
                f / "transforms.json",
                lambda d: d["transforms"]["factors"]["parameters"].update(wrong=1),
            ),
            "transforms.json: damaged",
        ),
    ],
)
def test_damaged_store_is_named(fitted, tmp_path, damage, message):
    store.save(tmp_path, fitted[1])
    assert store.exists(tmp_path)
    damage(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        store.load(tmp_path)
    assert "\n" not in str(caught.value)
