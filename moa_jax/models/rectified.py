"""Rectified units and the maxima behind them, with derivatives that keep little of what was there.

What a forward pass keeps for the backward one is written to memory and read again.
"""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from moa_jax.models.layers import parameter_dtype

# Of `max_pool`: length of the window, its step, and what is added around the image.
SIZE, STRIDE, PAD = 3, 2, 1


@jax.custom_vjp
def relu(x: jax.Array) -> jax.Array:
    """Returns max(x, 0) and keeps that: where it is positive, x was.

    It pays where the result is kept anyway and x is not, as that of a sum of two branches which the
    next layer reads. Behind a normalisation x is computed again from what that one keeps.
    """
    return _kept(nn.relu(x))


def _kept(result):
    """XLA would keep x for a GPU, for whose kernels the maximum costs nothing, and the maximum."""
    barrier = jax.lax.optimization_barrier
    return jax.lax.platform_dependent(result, cuda=barrier, rocm=barrier, default=lambda r: r)


def _relu_forward(x):
    result = relu(x)
    return result, result


def _relu_backward(result, cotangent):
    return (jnp.where(result > 0, cotangent, jnp.zeros_like(cotangent)),)


relu.defvjp(_relu_forward, _relu_backward)


@jax.custom_vjp
def max_pool(x: jax.Array) -> jax.Array:
    """Returns the maxima of windows of 3 x 3 places at every other row and column.

    The gradient goes to the first of the largest values of a window. GPUs keep its place, of one
    byte; XLA would keep four numbers of four bytes, and scatter the gradient by them.

    Args:
      x: [rows, height, width, channels].

    Returns:
      [rows, ceil(height / 2), ceil(width / 2), channels].
    """
    return _maxima(x)


def _maxima(x):
    return nn.max_pool(x, (SIZE, SIZE), (STRIDE, STRIDE), ((PAD, PAD), (PAD, PAD)))


def _max_pool_forward(x):
    def without_places(x):
        largest = _maxima(x)
        return largest, jnp.zeros(largest.shape, jnp.uint8)

    largest, places = jax.lax.platform_dependent(
        x, cuda=maxima_and_places, rocm=maxima_and_places, default=without_places
    )
    return largest, (x, places)


def _max_pool_backward(kept, cotangent):
    def by_library(x, places, cotangent):
        return jax.vjp(_maxima, x)[1](cotangent)[0]

    def by_places(x, places, cotangent):
        return to_places(places, cotangent, x.shape)

    return (
        jax.lax.platform_dependent(
            *kept, cotangent, cuda=by_places, rocm=by_places, default=by_library
        ),
    )


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def maxima_and_places(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns what `max_pool` does, and where each is in its window, row by row, uint8."""
    around = ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0))
    padded = jnp.pad(x, around, constant_values=-jnp.inf)
    height, width = ((length - 1) // STRIDE + 1 for length in x.shape[1:3])
    windows = [
        padded[:, row : row + STRIDE * height : STRIDE, column : column + STRIDE * width : STRIDE]
        for row in range(SIZE)
        for column in range(SIZE)
    ]
    first, places = windows[0], jnp.zeros(windows[0].shape, jnp.uint8)
    for place, values in enumerate(windows[1:], 1):
        stays = first >= values
        first = jnp.where(stays, first, values)
        places = jnp.where(stays, places, jnp.uint8(place))
    # Behind a NaN the search would begin anew.
    return functools.reduce(jnp.maximum, windows), places


def to_places(places: jax.Array, cotangent: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns the gradient of the images of this shape: cotangents at the places, summed."""
    height, width = shape[1:3]
    zero = jnp.zeros((), parameter_dtype(cotangent))
    total = zero
    for place in range(SIZE**2):
        own = jnp.where(places == place, cotangent.astype(zero.dtype), zero)
        pads = [
            (offset - PAD, length - offset + PAD - 1 - (count - 1) * STRIDE, STRIDE - 1)
            for offset, length, count in zip(
                divmod(place, SIZE), (height, width), places.shape[1:3], strict=True
            )
        ]
        total = total + jax.lax.pad(own, zero, [(0, 0, 0), *pads, (0, 0, 0)])
    return total.astype(cotangent.dtype)
