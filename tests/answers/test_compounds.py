"""Tests of compounds: wells combined in log odds, all at once and part by part."""

import numpy as np
import pytest

from moa_jax.answers import compounds


def test_wells_are_combined_by_the_mean_of_their_log_odds():
    rng = np.random.default_rng(0)
    values = rng.uniform(0.01, 0.99, (50, 3))
    names = rng.choice(["x", "y", "z", "w"], 50)
    found = compounds.combined(values, names)
    odds = np.log(values / (1 - values))
    assert found.names.tolist() == list(dict.fromkeys(names.tolist()))
    for index, name in enumerate(found.names):
        of_one = odds[names == name]
        expected = 1 / (1 + np.exp(-of_one.mean(0)))
        np.testing.assert_allclose(found.probabilities[index], expected, rtol=1e-12)
        np.testing.assert_allclose(found.spread[index], of_one.std(0, ddof=1), rtol=1e-10)
        assert found.counts[index] == len(of_one)


def test_a_single_well_keeps_its_probability_and_has_no_spread():
    found = compounds.combined(np.array([[0.3, 0.0, 1.0]]), np.array([7]))
    np.testing.assert_allclose(found.probabilities, [[0.3, 1e-7, 1 - 1e-7]], rtol=1e-9)
    assert np.isnan(found.spread).all() and found.names.tolist() == ["7"]


def test_parts_in_any_cut_give_what_all_wells_give():
    rng = np.random.default_rng(1)
    values, names = rng.uniform(0, 1, (40, 2)), rng.choice(list("abcdefg"), 40)
    whole, (units, order) = compounds.combined(values, names), compounds.numbered(names)
    sums = compounds.Sums(2)
    for part in (slice(0, 3), slice(3, 3), slice(3, 31), slice(31, 40)):
        sums.add(values[part], units[part])
    found = sums.combined(order)
    np.testing.assert_allclose(found.probabilities, whole.probabilities, rtol=1e-12)
    np.testing.assert_allclose(found.spread, whole.spread, rtol=1e-9)
    assert found.counts.tolist() == whole.counts.tolist()


def test_the_spread_over_members_is_the_root_mean_square_of_the_wells():
    values, names = np.full((5, 1), 0.5), np.array(list("abaab"))
    units, order = compounds.numbered(names)
    sums, spread = compounds.Sums(1), np.array([[3.0], [1.0], [4.0], [5.0], [7.0]])
    for part in (slice(0, 2), slice(2, 5)):
        sums.add(values[part], units[part], spread[part])
    expected = [[np.sqrt((9 + 16 + 25) / 3)], [5.0]]
    np.testing.assert_allclose(sums.combined(order).member_spread, expected, rtol=1e-12)
    assert np.isnan(compounds.combined(values, names).member_spread).all()


def test_equal_wells_have_no_spread():
    found = compounds.combined(np.full((9, 1), 1e-6), np.zeros(9))
    assert found.spread[0, 0] == 0
    assert found.probabilities[0, 0] == pytest.approx(1e-6, rel=1e-9)
