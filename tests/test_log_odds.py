"""Tests of log odds: the spread of members that are added to it one after another."""

import numpy as np
import pytest

from moa_jax.training.log_odds import MemberSpread, log_odds


@pytest.mark.parametrize("cut", [0, 1, 4])
def test_the_spread_is_the_standard_deviation_however_members_are_grouped(cut):
    members = np.random.default_rng(0).uniform(0, 1, (7, 5, 3))
    found = MemberSpread()
    for part in (members[:cut], members[cut:]):
        found.add(log_odds(part), np.ones(len(part)))
    expected = log_odds(members).std(axis=0, ddof=1)
    np.testing.assert_allclose(found.values(), expected, rtol=1e-12)


def test_weights_say_how_much_a_member_counts_but_not_their_scale():
    members, weights = np.random.default_rng(1).uniform(0, 1, (4, 2, 2)), np.array([2.0, 0, 1, 1])
    odds = log_odds(members)
    mean = np.average(odds, axis=0, weights=weights)
    squares = (weights[:, None, None] * (odds - mean) ** 2).sum(0)
    for scale in (1, 100):
        found = MemberSpread()
        found.add(odds, weights * scale)
        np.testing.assert_allclose(found.values() ** 2, squares / (4 - 6 / 4), rtol=1e-12)


def test_equal_members_have_no_spread_and_a_single_one_has_an_unknown_one():
    found = MemberSpread()
    found.add(np.full((1, 2, 1), -13.8), np.array([3.0]))
    assert np.isnan(found.values()).all() and found.values().shape == (2, 1)
    found.add(np.full((8, 2, 1), -13.8), np.full(8, 0.7))
    assert (found.values() == 0).all()
