"""What accelerators compute in another form than CPUs is the same, and only they are given it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from moa_jax.models import layers
from moa_jax.models.layers import BatchNorm, alone
from moa_jax.models.rectified import max_pool, maxima_and_places, relu, to_places


def lowered(function, x, platform):
    return jax.jit(function).trace(x).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("mean", [0, 1e6])
@pytest.mark.parametrize("shape", [(40, 3), (40, 5, 4, 3)])
def test_one_pass_has_the_digits_of_two(shape, mean):
    rng = np.random.default_rng(0)
    x = (mean + rng.normal(size=shape)).astype(np.float32)
    x[30:] = 1e9  # padding
    weight = (np.arange(40) < 30).astype(np.float32).reshape(-1, *[1] * (x.ndim - 1))
    found = layers.in_one_pass(x, weight, np.float32(30 * x[0].size / 3))
    real = x[:30].astype(np.float64)
    axes = tuple(range(x.ndim - 1))
    np.testing.assert_allclose(found[0], real.mean(axes), rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(found[1], real.var(axes) * real[..., 0].size, rtol=2e-6)


@pytest.mark.parametrize("moments", [layers.in_one_pass, layers.in_two_passes])
def test_a_device_of_padding_and_a_constant_channel_have_no_deviations(moments):
    x = np.full((4, 2, 2, 3), 7.1, np.float32)
    for count in (0, 3):
        weight = (np.arange(4) < count).astype(np.float32).reshape(-1, 1, 1, 1)
        mean, squares = moments(x, weight, np.float32(4 * count))
        assert np.isfinite(mean).all()
        np.testing.assert_allclose(squares, 0, atol=1e-9)
    np.testing.assert_allclose(mean, 7.1, rtol=1e-6)


@pytest.mark.parametrize("height, width", [(7, 8), (1, 2)])
def test_places_of_maxima_are_those_of_the_library(height, width):
    """Values are few, so that most windows have several largest ones; sums are exact."""
    rng = np.random.default_rng(1)
    x = np.maximum(rng.integers(-2, 3, (2, height, width, 3)), 0).astype(np.float32)
    cotangent = rng.integers(-9, 9, max_pool(x).shape).astype(np.float32)

    @jax.jit
    def by_places(x, cotangent):
        largest, places = maxima_and_places(x)
        return largest, to_places(places, cotangent, x.shape)

    @jax.jit
    def by_library(x, cotangent):
        largest, pull = jax.vjp(max_pool, x)
        return largest, *pull(cotangent)

    for found, expected in zip(by_places(x, cotangent), by_library(x, cotangent), strict=True):
        np.testing.assert_array_equal(found, expected)
    x[0, 0, 0] = np.nan
    np.testing.assert_array_equal(by_places(x, cotangent)[0], max_pool(x))


def test_the_gradient_of_relu():
    x = np.array([-1, -0.0, 0, 2, np.inf, np.nan], np.float32)
    value, pull = jax.vjp(relu, x)
    expected, expected_pull = jax.vjp(jax.nn.relu, x)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(pull(x + 3), expected_pull(x + 3))


def of_kernel(kernel):
    return jax.grad(lambda k: (jnp.ones((2, 3)) @ alone(k)).sum())(kernel)


def of_image(function):
    return jax.grad(lambda x: function(x).sum())


def normalised(x):
    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), x)
    return norm.apply(variables, x, train=True, mutable=["batch_stats"])[0]


@pytest.mark.parametrize(
    ("function", "shape", "what", "there"),
    [
        (of_kernel, (3, 4), "optimization_barrier", {"cuda"}),
        (of_image(relu), (3, 4), "optimization_barrier", {"cuda"}),
        (of_image(max_pool), (1, 4, 4, 2), "select_and_scatter", {"cpu", "tpu"}),
        # The batch's variance in two passes: deviations from the mean of all rows.
        (normalised, (4, 3), "stablehlo.slice", {"cuda", "tpu"}),
    ],
)
def test_who_is_given_which_form(function, shape, what, there):
    x = jnp.ones(shape)
    found = {p for p in ("cpu", "cuda", "tpu") if what in lowered(function, x, p)}
    assert found == there
