"""Convolutions against the library's: every form, its gradients, precision, lifts, platforms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from image_networks import quick
from jax.sharding import AxisType, Mesh, PartitionSpec

from moa_jax.models.convolution import convolve

# Height, width, kernel, stride, padding, inputs, outputs, groups.
SHAPES = {
    "per channel, same, odd and even": (9, 6, 3, 1, "SAME", 4, 4, 4),
    "per channel, same, stride": (9, 6, 3, 2, "SAME", 4, 4, 4),
    "per channel, rows left over": (8, 7, 5, 2, 0, 4, 4, 4),
    "per channel, stride 3": (11, 10, 5, 3, 2, 3, 3, 3),
    "per channel, stride beyond the kernel": (8, 9, 2, 3, 0, 3, 3, 3),
    "per channel, image within the kernel": (1, 2, 5, 1, "SAME", 4, 4, 4),
    "per channel, padding beyond the kernel": (4, 3, 3, 1, 4, 2, 2, 2),
    "per channel, valid": (6, 7, 3, 2, "VALID", 4, 4, 4),
    "per channel, one place": (5, 4, 1, 2, 0, 4, 4, 4),
    "per channel, two kernels each": (7, 6, 3, 2, 1, 4, 8, 4),
    "groups": (7, 6, 3, 1, 1, 4, 6, 2),
    "groups, same, stride": (8, 7, 3, 2, "SAME", 6, 9, 3),
    "groups, one place": (5, 6, 1, 1, "SAME", 4, 6, 2),
    "dense": (7, 6, 3, 2, 1, 3, 5, 1),
    "dense, one place": (7, 6, 1, 1, 0, 3, 5, 1),
    "dense, one place, stride": (7, 6, 1, 2, "SAME", 3, 5, 1),
    "dense, one place, padded": (4, 5, 1, 1, 1, 3, 5, 1),
}


def library(x, kernel, stride, padding, groups):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding if isinstance(padding, str) else [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def draw(shape, dtype, *lead):
    """Images, kernels and the options of a case."""
    height, width, size, stride, padding, inputs, outputs, groups = shape
    generator = np.random.default_rng(0)
    x = generator.normal(size=(*lead, 3, height, width, inputs))
    kernel = generator.normal(size=(*lead, size, size, inputs // groups, outputs))
    return x.astype(dtype), kernel.astype(dtype), (stride, padding, groups)


def value_and_gradients(convolution, x, kernel, options):
    """Output and both gradients, which a fixed cotangent pulls back."""
    y, pull = jax.vjp(lambda x, kernel: convolution(x, kernel, *options), x, kernel)
    fixed = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
    # Shards want a cotangent that varies as they do.
    return y, *pull(fixed.astype(y.dtype) + 0 * y)


def close(found, expected, tolerance):
    """Within the tolerance of the largest number of each array."""
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(b).max()))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-12)])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_values_and_gradients_are_those_of_the_library(shape, dtype, tolerance):
    with jax.enable_x64(dtype == np.float64):
        x, kernel, options = draw(shape, dtype)
        found, expected = (
            quick(functools.partial(value_and_gradients, f, options=options))(x, kernel)
            for f in (convolve, library)
        )
        close(found, expected, tolerance)


@pytest.mark.parametrize("name", ["per channel, same, stride", "groups", "dense, one place"])
def test_bfloat16_is_rounded_once(name):
    """Sums are kept in float32: output and gradients are off by no more than their rounding."""
    x, kernel, options = draw(SHAPES[name], jnp.bfloat16)
    found = value_and_gradients(convolve, x, kernel, options)
    assert {array.dtype for array in found} == {jnp.dtype("bfloat16")}

    def exact(x, kernel):
        return library(x.astype(jnp.float32), kernel.astype(jnp.float32), *options)

    y, pull = jax.vjp(exact, x.astype(jnp.float32), kernel.astype(jnp.float32))
    cotangent = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).astype(jnp.bfloat16)
    expected = y, *pull(cotangent.astype(jnp.float32).reshape(y.shape))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.astype(np.float32), b, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("lift", ["vmap", "map", "scan", "pmap", "shard_map"])
@pytest.mark.parametrize("name", ["per channel, same, stride", "groups", "dense"])
def test_members_side_by_side_equal_each_alone(name, lift):
    members = min(2, jax.device_count()) if lift == "pmap" else 2
    x, kernel, options = draw(SHAPES[name], np.float32, members)
    step = functools.partial(value_and_gradients, convolve, options=options)

    def scan(function):
        return lambda *stack: jax.lax.scan(lambda _, one: (None, function(*one)), None, stack)[1]

    def shard_map(function):
        mesh = Mesh(np.array(jax.devices()[:2]), ("members",), axis_types=(AxisType.Auto,))
        spec = PartitionSpec("members")
        return jax.shard_map(jax.vmap(function), mesh=mesh, in_specs=(spec, spec), out_specs=spec)

    lifted = {
        "vmap": jax.vmap,
        "map": lambda f: lambda *stack: jax.lax.map(lambda one: f(*one), stack),
        "scan": scan,
        "pmap": functools.partial(jax.pmap, devices=jax.devices()[:2]),
        "shard_map": shard_map,
    }[lift](step)
    found = jax.jit(lifted)(x, kernel) if lift != "pmap" else lifted(x, kernel)
    for index in range(members):
        close([array[index] for array in found], step(x[index], kernel[index]), 1e-6)


@pytest.mark.parametrize("platform", ["tpu", "cuda", "cpu"])
@pytest.mark.parametrize("name", ["per channel, same, stride", "groups"])
def test_accelerators_keep_the_grouped_convolution(name, platform):
    x, kernel, options = draw(SHAPES[name], np.float32)
    step = jax.jit(functools.partial(value_and_gradients, convolve, options=options))
    text = step.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
    groups = options[-1]
    grouped = text.count(f"feature_group_count = {groups}") + text.count(
        f"batch_group_count = {groups}"
    )
    # Forward and both gradients.
    assert grouped == (0 if platform == "cpu" else 3)
    assert "while" not in text or platform == "cpu"
