"""Rank-gauss against literal values, its definition and scikit-learn's column by column."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtri
from sklearn.preprocessing import QuantileTransformer

from moa_jax.features import inverse_normal, rank_gauss, rank_gauss_search
from moa_jax.features.rank_gauss import RankGauss

REFERENCE = Path(__file__).parent / "reference"
LOWEST, HIGHEST = -5.199337582605575, 5.199337582703


def apply(fit, values):
    fitted = RankGauss().fit(np.array(fit, float)[:, None])
    return fitted.transform(np.array(values, float)[:, None])[:, 0]


def by_definition(fit, values, num_quantiles):
    """Both interpolations, snapping to the ends, then the clipped inverse normal."""
    ranks = np.linspace(0, 1, num_quantiles)
    landmarks = np.percentile(fit, 100 * ranks)
    upward = np.interp(values, landmarks, ranks)
    downward = -np.interp(-values, -landmarks[::-1], -ranks[::-1])
    uniform = (upward + downward) / 2
    uniform[values + 1e-7 > landmarks[-1]] = 1
    uniform[values - 1e-7 < landmarks[0]] = 0
    return np.clip(ndtri(uniform), LOWEST, HIGHEST)


@pytest.fixture
def table():
    """Columns with a heavy tail, a mode at -10, ties and one value only."""
    generator = np.random.default_rng(0)
    columns = [
        generator.standard_t(3, 700),
        np.maximum(generator.normal(-7, 3, 700), -10),
        generator.integers(-2, 3, 700),
        np.full(700, 0.1),
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def test_ramp():
    found = apply(range(1000), [-5, 0, 1, 10, 249.75, 499.5, 750, 999, 2000])
    expected = [
        -5.199337582605575, -5.199337582605575, -3.0899351529977, -2.3259724580727,
        -0.6744897501961, 0, 0.6768541480424, 5.199337582703, 5.199337582703,
    ]  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_mode():
    fit = [-10.0] * 50 + np.linspace(-3, 3, 950).tolist()
    found = apply(fit, [-10, -9.999, -3, 0, 3])
    expected = [-5.1993376, -1.7459999, -1.6400161, 0.0627696, 5.1993376]
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-8)


def test_real_gene():
    """The original's first five treated wells, from the real quantiles of g-0."""
    quantiles = np.loadtxt(REFERENCE / "gene_quantiles.csv")[:, None]
    state = {"quantiles": quantiles, "references": np.linspace(0, 1, len(quantiles))}
    values = np.array([[1.0620], [0.0743], [0.6280], [-0.5138], [-0.3254]])
    np.testing.assert_allclose(
        RankGauss.restore({}, state).transform(values)[:, 0],
        [1.134849, 0.119282, 0.779973, -0.734910, -0.452718],
        rtol=0,
        atol=1e-6,
    )


@pytest.mark.parametrize("rows", [2, 7, 100, 700])
def test_definition(table, rows):
    fit = table[:rows]
    # Fitted values, others, values a hair beside the ends, and values outside the range.
    ends = np.stack([fit.min(0), fit.max(0)])
    values = np.concatenate([table, ends - 5e-8, ends + 5e-8, ends - 3, ends + 3])
    found = RankGauss().fit(fit).transform(values)
    for column in range(4):
        expected = by_definition(fit[:, column], values[:, column], min(rows, 100))
        np.testing.assert_allclose(found[:, column], expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found[-4], LOWEST, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found[-1], HIGHEST, rtol=0, atol=1e-12)


def test_columns_are_scikit_learns(table):
    found = RankGauss(30).fit(table).transform(table)
    for column in np.split(np.arange(4), 4):
        one = QuantileTransformer(n_quantiles=30, output_distribution="normal", subsample=None)
        np.testing.assert_array_equal(found[:, column], one.fit_transform(table[:, column]))


@pytest.mark.parametrize("rows", [1, 64])
def test_chunks_give_the_same_bits(table, rows):
    fitted = RankGauss().fit(table)
    parts = [fitted.transform(table[first : first + rows]) for first in range(0, 700, rows)]
    np.testing.assert_array_equal(np.concatenate(parts), fitted.transform(table))


def test_input_is_left_alone(table):
    before = table.copy()
    RankGauss().fit(table).transform(table)
    np.testing.assert_array_equal(table, before)


def test_every_row_of_large_data_counts():
    fitted = RankGauss().fit(np.arange(12_000.0)[:, None])
    np.testing.assert_allclose(fitted.quantiles_[:, 0], np.linspace(0, 11_999, 100), rtol=1e-12)


def test_one_row():
    fitted = RankGauss().fit(np.array([[1.0, 2.0]]))
    assert fitted.quantiles_.tolist() == [[1, 2]]
    np.testing.assert_allclose(
        fitted.transform(np.array([[1.0, 3.0]])), [[LOWEST, HIGHEST]], rtol=0, atol=1e-12
    )


@pytest.fixture
def awkward(table):
    """Beside the table's: huge and tiny columns, almost equal numbers, half of a column one."""
    generator = np.random.default_rng(1)
    columns = [
        generator.standard_t(2, 700) * 1e12,
        generator.standard_t(2, 700) * 1e-12,
        1e12 + generator.integers(0, 3, 700),
        np.where(generator.random(700) < 0.5, 5, generator.normal(size=700)),
        np.sign(generator.normal(size=700)) * 1e300,
    ]
    return np.concatenate([table, np.stack(columns, axis=1)], axis=1)


@pytest.mark.parametrize("rows", [2, 3, 100, 700])
def test_many_values_have_scikit_learns_bits(awkward, rows, monkeypatch):
    one = QuantileTransformer(n_quantiles=min(rows, 100), output_distribution="normal")
    one.set_params(subsample=None).fit(awkward[:rows])
    ends = one.quantiles_
    values = np.concatenate(
        [
            awkward, ends, ends - 5e-8, ends + 5e-8, ends * (1 + 1e-7), awkward * 10,
            np.nextafter(ends, np.inf), np.nextafter(ends, -np.inf), -awkward,
        ]
    )  # fmt: skip
    monkeypatch.setattr(rank_gauss, "WORTH", -1)
    fitted = RankGauss().fit(awkward[:rows])
    found = fitted.transform(values)
    assert vars(fitted)["_search"] is not None
    np.testing.assert_array_equal(found, one.transform(values))
    held = RankGauss(holds_constant=True).fit(awkward[:rows])
    monkeypatch.setattr(rank_gauss, "WORTH", np.inf)
    slow = RankGauss.restore({}, held.state()).transform(values)
    monkeypatch.setattr(rank_gauss, "WORTH", -1)
    np.testing.assert_array_equal(held.transform(values), slow)
    # What is fitted anew has other landmarks.
    np.testing.assert_array_equal(
        fitted.fit(values).transform(values), RankGauss().fit(values).transform(values)
    )


def test_what_the_loop_is_not_made_for_is_scikit_learns(table, monkeypatch):
    monkeypatch.setattr(rank_gauss, "WORTH", -1)
    one = QuantileTransformer(n_quantiles=100, output_distribution="normal", subsample=None)
    one.fit(table)
    fitted, values = RankGauss().fit(table), table[:3].copy()
    values[1, 2] = np.nan
    np.testing.assert_array_equal(fitted.transform(values), one.transform(values))
    single = values[[0, 2]].astype(np.float32)
    found = fitted.transform(single)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, one.transform(single))
    with pytest.raises(ValueError, match="infinity"):
        fitted.transform(np.where(np.isnan(values), np.inf, values))
    with pytest.raises(ValueError, match="features"):
        fitted.transform(table[:, :3])
    first = QuantileTransformer(n_quantiles=1, output_distribution="normal").fit(table[:1])
    np.testing.assert_array_equal(
        RankGauss().fit(table[:1]).transform(table), first.transform(table)
    )


def test_normal_scores_of_the_loop_are_scipys():
    ranks = np.concatenate([np.geomspace(5e-8, 0.5, 997), 1 - np.geomspace(5e-8, 0.5, 997)])
    found = ranks.copy()
    inverse_normal.replace(found, inverse_normal.room(len(found)))
    np.testing.assert_allclose(found, ndtri(ranks), rtol=1e-14, atol=1e-15)
    same = found.tobytes() == ndtri(ranks).tobytes()
    assert same or not inverse_normal.is_alike()


def test_where_its_bits_are_others_scipys_scores_are_taken(awkward, monkeypatch):
    fitted, values = RankGauss().fit(awkward), np.concatenate([awkward, 2 * awkward])
    expected = fitted.transform(values)
    monkeypatch.setattr(inverse_normal, "is_alike", lambda: False)
    monkeypatch.setattr(rank_gauss, "WORTH", -1)
    np.testing.assert_array_equal(fitted.transform(values), expected)


def test_where_numpy_interpolates_to_other_bits_the_loop_is_not_taken(awkward, monkeypatch):
    fitted, interp = RankGauss().fit(awkward), np.interp
    landmarks = fitted.quantiles_, fitted.references_
    monkeypatch.setattr(np, "interp", lambda *of: interp(*of) * (1 + 1e-15))
    rank_gauss_search.is_alike.cache_clear()
    assert rank_gauss_search.Search.of(*landmarks) is None
    monkeypatch.undo()
    rank_gauss_search.is_alike.cache_clear()
    assert (rank_gauss_search.Search.of(*landmarks) is None) != rank_gauss_search.is_alike()
