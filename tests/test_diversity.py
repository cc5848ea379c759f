"""Tests of diversity: correlations of models, and the blend without each of them."""

import math
from pathlib import Path

import numpy as np
import pytest

from moa_jax.blend import diversity, search
from moa_jax.training.metrics import mean_log_loss

REFERENCE = Path(__file__).parent / "reference" / "blend_cases.npz"


@pytest.fixture(scope="module")
def case():
    with np.load(REFERENCE, allow_pickle=False) as stored:
        return dict(stored)


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_correlations_of_the_reference_case(case, method):
    found = diversity.correlations(case["oof"], method)
    np.testing.assert_allclose(found, case[f"corr_{method}"], rtol=0, atol=1e-12)


def test_literal_correlations():
    # Target x: the same order, one of three swapped; target y: reversed.
    first = np.array([[0.1, 0.1], [0.2, 0.2], [0.4, 0.3]])
    second = np.array([[0.2, 0.3], [0.1, 0.2], [0.3, 0.1]])
    found = diversity.correlations(np.stack([first, second]), "spearman")
    np.testing.assert_allclose(found, [[1, -0.25], [-0.25, 1]], rtol=0, atol=1e-15)


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_constant_targets_are_left_out(case, method):
    oof = case["oof"][:3, :60].copy()
    oof[1, :, 4] = 0.1  # its mean is not 0.1 in float64
    with np.errstate(all="raise"):
        found = diversity.correlations(oof, method)
    others = diversity.correlations(np.delete(oof, 4, axis=2), method)
    np.testing.assert_allclose(found[1], others[1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found[:, 1], others[1], rtol=0, atol=1e-12)
    every = diversity.correlations(case["oof"][:3, :60], method)
    assert found[0, 2] == pytest.approx(every[0, 2], abs=1e-12)
    assert found[0, 1] != pytest.approx(every[0, 1], abs=1e-3)


def test_a_model_that_predicts_constants_only_has_no_correlation(case):
    oof = np.stack([case["oof"][0], np.full((300, 10), 0.3)])
    assert math.isnan(diversity.correlations(oof)[0, 1])


def test_losses_without_each_model(case):
    oof, targets = case["oof"], case["y"]

    def slsqp(kept, others):
        return search.slsqp(others, targets)

    found = diversity.losses_without(slsqp, oof, targets)
    whole = search.log_loss(search.slsqp(oof, targets), oof, targets)
    # The fourth model has no weight; nothing is lost without it.
    assert found[3] == pytest.approx(whole, abs=1e-9)
    assert (found[:3] > whole + 1e-4).all()


def test_the_others_are_told_by_their_positions(case):
    oof, targets = case["oof"][:2], case["y"]
    weights = np.array([1.0, 0.5])
    found = diversity.losses_without(lambda kept, others: weights[kept], oof, targets)
    expected = [mean_log_loss(targets, 0.5 * oof[1]), mean_log_loss(targets, oof[0])]
    np.testing.assert_allclose(found, expected, rtol=1e-13)
