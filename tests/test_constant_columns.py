"""A column that is constant where transforms are fitted, and moves by 1 where they are applied."""

import jax
import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from moa_jax import TabNetClassifier
from moa_jax.deepinsight.log_scale import LogScale
from moa_jax.features.constant import is_constant
from moa_jax.features.factors import ClusterOneHot, FactorScores, PrincipalComponents
from moa_jax.features.rank_gauss import RankGauss, holding
from moa_jax.features.selection import VarianceSelection, t_test_p_values
from moa_jax.features.standard_scale import StandardScale
from moa_jax.recipes import two_heads_inputs

CONSTANT = 2
# Numbers that should be equal: as they are, after sums, beside 0, and far from 0.
COLUMNS = {
    "zero": np.zeros(120),
    "equal": np.full(120, 0.3),
    "sums": np.where(np.arange(120) % 3, 0.1 + 0.2, 0.3),
    "negative": np.where(np.arange(120) % 5, -7.1, np.nextafter(-7.1, 0)),
    "beside zero": np.arange(120) % 7 * 1e-17,
    "far": np.where(np.arange(120) % 2, 1e6, np.nextafter(1e6, 2e6)),
}


@pytest.fixture(params=COLUMNS)
def values(request):
    table = np.random.default_rng(0).normal(size=(120, 6))
    table[:, 3:] += table[:, :1]
    table[:, CONSTANT] = COLUMNS[request.param]
    return table


def moved(table, by):
    return table + by * np.eye(table.shape[1])[CONSTANT]


def test_constant_is_what_rounding_leaves(values):
    assert is_constant(values).tolist() == [False, False, True, False, False, False]
    scaled = 1e-9 * values[:, [0, 1]] + 5
    assert not is_constant(scaled).any() and is_constant(scaled.astype(np.float32)).all()


@pytest.mark.parametrize(
    ("transform", "most"),
    [
        # A column of unit scale would move by 1 and a bit; a held one does not move.
        (StandardScale(), 1.0),
        (holding(), 0.0),
        (RankGauss(20, holds_constant=True), 0.0),
        (FactorScores(2), 0.0),
        (FactorScores(90), 0.0),
        (PrincipalComponents(3), 1.0),
        (PrincipalComponents(6), 1.0),
        (ClusterOneHot(4), 0.0),
        (VarianceSelection(0.5), 0.0),
        (LogScale(), 1.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_answer_moves_by_no_more_than_the_column(values, transform, most):
    fitted = transform.fit(values)
    before = fitted.transform(values)
    assert np.isfinite(before).all()
    for by in (1.0, -1.0, 1e-9):
        after = fitted.transform(moved(values, by))
        assert np.isfinite(after).all()
        # Sums far from 0 are rounded to what they are far.
        rounding = 1e-15 * np.abs(values).max()
        assert np.abs(after - before).max() <= most * abs(by) * (1 + 1e-6) + rounding


def test_factors_of_the_other_columns_are_those_without_it(values):
    others = np.delete(values, CONSTANT, axis=1)
    found, expected = FactorScores(2).fit(values), FactorScores(2).fit(others)
    np.testing.assert_allclose(
        found.transform(values), expected.transform(others), rtol=0, atol=1e-12
    )


def test_values_of_the_fit_keep_their_rank(values):
    """What a constant column was transformed to does not change, nor do other columns."""
    fitted = holding().fit(values)
    found = RankGauss.restore(fitted.parameters(), fitted.state()).transform(values)
    np.testing.assert_array_equal(found, RankGauss().fit(values).transform(values))
    lowest = RankGauss().fit(np.zeros((9, 1))).transform(np.zeros((1, 1)))
    np.testing.assert_array_equal(found[:, CONSTANT], lowest[0, 0])
    others = np.delete(values, CONSTANT, axis=1)
    np.testing.assert_array_equal(
        np.delete(found, CONSTANT, axis=1), RankGauss().fit(others).transform(others)
    )


def test_rounding_tells_no_target_from_another(values):
    targets = (values[:, [CONSTANT]] > np.median(values[:, CONSTANT])).astype(int)
    targets[:3] = [[1], [0], [1]]
    p_values = t_test_p_values(values, targets)[0]
    assert p_values[CONSTANT] == 1 and (np.delete(p_values, CONSTANT) < 1).all()


def test_a_table_of_rounding_errors_is_no_image():
    table = np.abs(np.random.default_rng(0).normal(size=(9, 4))) * 1e-15
    scale = LogScale().fit(table)
    before, after = scale.transform(table), scale.transform(table + 1e-13)
    assert np.abs(after - before).max() < 1e-12


@pytest.mark.parametrize("width", [1.0, 1e-9])
def test_inputs_of_the_two_heads(values, width):
    """Also of a column that varies for the host alone: on a device it is rounding."""
    values[:, CONSTANT] = 50 + width * 1e-3 * np.random.default_rng(1).normal(size=120)
    if width == 1:
        values[:, CONSTANT] = 50.3
    fold = two_heads_inputs.fit_fold(values, np.arange(120), (6, 0), (3, 0))
    data = two_heads_inputs.member_data([fold], np.arange(6))
    member = {name: array[0] for name, array in data.items()}

    def inputs(table):
        found = two_heads_inputs.two_inputs(
            table.astype(np.float32), member, np.arange(120), jax.random.key(0), False
        )
        return np.concatenate(found, axis=1)

    before, after = inputs(values), inputs(moved(values, 1.0))
    assert np.isfinite(after).all() and np.abs(after - before).max() <= 1 + 1e-5


def test_tabnets_first_normalisation(tmp_path):
    generator = np.random.default_rng(0)
    x = np.c_[generator.normal(size=(120, 4)), np.ones(120)]
    x[:, CONSTANT] = COLUMNS["sums"]
    y = (x[:, 0] > 0).astype(int)
    options = {
        "n_d": 4, "n_a": 4, "n_steps": 1, "n_shared": 1, "n_independent": 0, "cat_idxs": [4],
        "cat_dims": [3],
    }  # fmt: skip
    found = TabNetClassifier(
        max_epochs=8, learning_rate=0.1, batch_size=64, momentum=0.3, **options
    ).fit(x, y)
    expected = found.predict_proba(x)
    assert found.constant_ == {CONSTANT: pytest.approx(0.3), 4: 1.0}
    np.testing.assert_array_equal(found.predict_proba(x + [0, 0, 0, 0, 1]), expected)
    np.testing.assert_array_equal(found.predict_proba(moved(x, 1.0)), expected)
    np.testing.assert_array_equal(found.explain(moved(x, -1e6))[0], found.explain(x)[0])
    found.save(tmp_path)
    again = TabNetClassifier.load(tmp_path)
    assert again.constant_ == found.constant_
    np.testing.assert_array_equal(again.predict_proba(moved(x, 1.0)), expected)
    # Other columns do move the answer.
    assert np.abs(found.predict_proba(x + [1, 0, 0, 0, 0]) - expected).max() > 1e-3


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_scales_of_other_columns_are_scikit_learns(dtype):
    generator = np.random.default_rng(0)
    sizes, places = 10.0 ** np.arange(-6, 7), 10.0 ** generator.integers(-3, 6, 13)
    values = (generator.standard_t(3, (211, 13)) * sizes + places).astype(dtype)
    # Its spread is rounding in the mean, though not in any of its numbers.
    values = np.concatenate([values, (1e6 + 1e-8 * np.arange(211)[:, None]).astype(dtype)], axis=1)
    found, expected = StandardScale().fit(values), StandardScaler().fit(values)
    kept = ~is_constant(values)
    np.testing.assert_array_equal(found.mean_, expected.mean_)
    np.testing.assert_array_equal(found.scale_[kept], expected.scale_[kept])
    assert (found.scale_[~kept] == 1).all() and kept.sum() >= 7
