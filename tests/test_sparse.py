"""Sparsemax and 1.5-entmax against pytorch-tabnet, finite differences and their definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from tabnet_reference import load

from moa_jax.models.sparse import entmax15, sparsemax

OPS = load("ops")
MAPS = pytest.mark.parametrize("function", [sparsemax, entmax15], ids=["sparsemax", "entmax15"])


def name(function):
    return {sparsemax: "sparsemax", entmax15: "entmax15"}[function]


@MAPS
@pytest.mark.parametrize("rows", ["act", "wide"])
def test_values_and_gradients(function, rows):
    """Rows with all equal, one winner, both boundaries, ties, and offsets of 1e4 among them."""
    with jax.enable_x64(True):
        p, pullback = jax.vjp(function, OPS[f"{rows}_z"])
        (dz,) = pullback(OPS[f"{rows}_upstream"])
        prefix = name(function) if rows == "act" else f"wide_{name(function)}"
        np.testing.assert_allclose(p, OPS[f"{prefix}_p"], rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(dz, OPS[f"{prefix}_dz"], rtol=1e-9, atol=1e-11)
        np.testing.assert_array_equal(np.asarray(p) == 0, OPS[f"{prefix}_p"] == 0)


@MAPS
def test_float32(function):
    p, pullback = jax.vjp(function, OPS["act_z"].astype(np.float32))
    (dz,) = pullback(OPS["act_upstream"].astype(np.float32))
    assert p.dtype == dz.dtype == jnp.float32
    np.testing.assert_allclose(p, OPS[f"{name(function)}_p_f32"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(dz, OPS[f"{name(function)}_dz_f32"], rtol=1e-6, atol=2e-6)


@MAPS
@pytest.mark.parametrize(
    "row",
    [
        [0.4],
        [0.0, 0.0, 0.0],
        [0.3, 0.1, 0.2, 0.0],
        [0.7, 0.7, 0.1, -9.0],
        [9.0, 0.0, 0.0, -1.0],
        [1.0, 0.6, 0.2, -3.0],
    ],
    ids=["one_column", "all_equal", "all_survive", "tie", "one_survives", "some_survive"],
)
def test_finite_differences(function, row):
    with jax.enable_x64(True):
        z = np.array([row, row[::-1]])
        assert np.asarray(function(z).sum(-1)) == pytest.approx(1, rel=1e-14)
        check_grads(function, (z,), order=1, modes=["fwd", "rev"], atol=1e-7, rtol=1e-7)


@MAPS
@pytest.mark.parametrize("spread", [1e-3, 0.1, 1.0, 10.0, 1e3])
def test_sums_to_one_at_every_spread(function, spread):
    z = spread * np.random.default_rng(0).normal(size=(64, 1497)).astype(np.float32)
    p = function(z)
    assert np.asarray(p).min() == 0 or spread < 0.1
    np.testing.assert_allclose(p.sum(-1), 1, atol=2e-5)


@MAPS
def test_a_row_does_not_depend_on_its_neighbours(function):
    z = np.random.default_rng(1).normal(size=(3, 5, 40)).astype(np.float32)
    z[1] *= 30  # rows that need other numbers of steps
    z[2] *= 0.01
    whole = jax.jit(function)(z)
    np.testing.assert_array_equal(jax.vmap(jax.jit(function))(z), whole)
    for i in range(3):
        np.testing.assert_array_equal(jax.jit(function)(z[i]), whole[i])


@MAPS
def test_nothing_is_sorted(function):
    """Sorting the rows would take longer than the rest of the network."""
    program = jax.make_jaxpr(jax.value_and_grad(lambda z: function(z)[0, 0]))(np.ones((2, 5)))
    assert "sort" not in str(program)


@MAPS
def test_one_nan_stays_in_its_row(function):
    z = np.ones((2, 4), np.float32)
    z[0, 1] = np.nan
    p = np.asarray(function(z))
    assert np.isnan(p[0]).all() and (p[1] == 0.25).all()
