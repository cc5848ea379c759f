"""Tests of the minima of logistic regressions, against scikit-learn's at its tightest tolerance."""

import subprocess
import sys

import numpy as np
import pytest
from absl import logging
from sklearn.linear_model import LogisticRegression

from moa_jax.learners import newton
from moa_jax.learners.logistic import Logistic
from moa_jax.recipes import baseline
from moa_jax.store import cores

STRENGTHS = baseline.Config().c
NORMAL = np.random.default_rng(0).normal


def rows(number=80, columns=6, labels=3, seed=0):
    """Rows [N, F], and labels [N, L] that some columns tell in part."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(number, columns))
    told = x @ draw.normal(size=(columns, labels)) + draw.normal(size=(number, labels))
    return x, (told > 0.5).astype(np.float64)


def one_label():
    x, y = rows()
    return x, y[:, :1]


def rare():
    x, y = rows()
    return x, (np.arange(len(x)) == 7).astype(float)[:, None]


def separable():
    x, y = rows(columns=4)
    return 20 * x, (x[:, :2] > 0.1).astype(float)


def unknown():
    x, y = rows(labels=11)
    y[NORMAL(size=y.shape) > 1] = np.nan
    y[:, 8:] = np.where(np.arange(len(x)) < 9, np.nan, y[:, 4].round())[:, None]
    return x, y


def dull_columns():
    """Columns that are constant, zero, or there twice."""
    x, y = rows()
    return np.concatenate([x, np.full((len(x), 1), 5.0), np.zeros((len(x), 2)), x[:, :2]], 1), y


def few_rows():
    return rows(number=20, columns=50)


def scales():
    x, y = rows(number=2500)
    return x * 10.0 ** np.arange(-2, 4) + 3, y


CASES = (rows, one_label, rare, separable, unknown, dull_columns, few_rows, scales)


def fitted(x, y, strengths=STRENGTHS):
    return [*Logistic(tuple(strengths)).fits(x, y, strengths)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_coefficients_are_scikit_learns(case):
    x, y = case()
    strengths = (STRENGTHS[0], 1e-3, STRENGTHS[-1])
    for c, model in zip(strengths, fitted(x, y, strengths), strict=True):
        other = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-12, max_iter=1000)
        for label, own in enumerate(y.T):
            known = ~np.isnan(own)
            other.fit(x[known], own[known])
            found = model.kernel[:, label], model.bias[label]
            for one, expected in zip(found, (other.coef_[0], other.intercept_[0]), strict=True):
                np.testing.assert_allclose(one, expected, rtol=1e-6, atol=1e-7)


def test_a_label_has_the_same_bits_beside_others(monkeypatch):
    x, y = rows(labels=19)
    strengths = (1e-3, 1.0)
    monkeypatch.setattr(cores, "available", lambda: 3)
    every = fitted(x, y, strengths)
    monkeypatch.setattr(cores, "available", lambda: 1)
    for label in (0, 7, 18):
        for one, alone in zip(every, fitted(x, y[:, [label]], strengths), strict=True):
            np.testing.assert_array_equal(one.kernel[:, label], alone.kernel[:, 0])
            np.testing.assert_array_equal(one.bias[label], alone.bias[0])


@pytest.mark.parametrize("c", [1e-5, 1.0, 1e6])
def test_a_minimum_is_found_from_far_away(c):
    x, y = separable()
    x = np.column_stack([x, np.ones(len(x))])
    near, _ = newton.minimum(x, y, c, np.zeros((x.shape[1], 2)))
    for far in (3.0, -3.0):
        other, found = newton.minimum(x, y, c, np.full((x.shape[1], 2), far))
        assert found.all()
        np.testing.assert_allclose(other, near, rtol=1e-6, atol=1e-9)


def test_strengths_that_nearly_are_one_lead_nowhere_far():
    """The line through the minima of two such would put the third's start out of all reach."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), (rng.random((40, 1)) < 0.5).astype(float)
    strengths = (1.0, np.nextafter(1.0, 2.0), 10.0)
    *_, found = Logistic(strengths).fits(x, y, strengths)
    (alone,) = Logistic(strengths).fits(x, y, strengths[-1:])
    np.testing.assert_allclose(found.kernel, alone.kernel, rtol=1e-6)


def test_a_hessian_serves_several_steps(monkeypatch):
    x, y = rows(number=200, columns=40, labels=5)
    made, factored = [], newton._factored

    def counted(*arguments):
        made.append(1)
        return factored(*arguments)

    monkeypatch.setattr(newton, "_factored", counted)
    fitted(x, y)
    # From where the last two strengths lead, one is enough at most strengths.
    assert 5 * len(STRENGTHS) <= len(made) < 7 * len(STRENGTHS)


def test_large_tables_are_fitted_in_parts(monkeypatch):
    x, y = rows(labels=5)
    whole = fitted(x, y)
    monkeypatch.setattr(newton, "ROWS", 17)
    monkeypatch.setattr(newton, "MOST_BYTES", 2 * 8 * 7**2)
    seen, minimum = [], newton.minimum

    def watched(x, y, c, start):
        seen.append(y.shape[1])
        return minimum(x, y, c, start)

    monkeypatch.setattr(newton, "minimum", watched)
    for one, other in zip(whole, fitted(x, y), strict=True):
        np.testing.assert_allclose(one.kernel, other.kernel, atol=1e-10)
    assert max(seen) == 2 and sum(seen) == 5 * len(STRENGTHS)


def test_what_is_not_at_the_minimum_is_told(monkeypatch):
    told = []
    monkeypatch.setattr(logging, "info", lambda text, *values: told.append(text % values))
    fitted(*rows())
    assert not told
    monkeypatch.setattr(newton, "MOST_STEPS", 2)
    fitted(*rows(), [1.0])
    assert told == ["logistic regression: C 1: 3 labels are not at the minimum after 2 steps"]


def test_rows_that_are_no_numbers_are_refused():
    x, y = rows()
    x[3, 2] = np.nan
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        fitted(x, y)


def test_every_blas_is_there_before_its_threads_are_limited():
    """That of scipy comes with it; in a fresh process nobody else may have asked for it."""
    program = """
import sys
import numpy as np
import threadpoolctl
from moa_jax.learners.logistic import Logistic
made = threadpoolctl.ThreadpoolController
threadpoolctl.ThreadpoolController = lambda: print("scipy.linalg" in sys.modules) or made()
next(Logistic((1.0,)).fits(np.eye(4), np.eye(4), (1.0,)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"
