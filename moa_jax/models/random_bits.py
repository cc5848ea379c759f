"""Random bits: JAX's own of a threefry key, in fewer passes over memory on CPUs."""

from __future__ import annotations

import math

import jax
import jax.extend.random
import jax.numpy as jnp
import numpy as np
from jax import lax

# Of threefry with 32-bit words: rotations of even and of odd rounds of four, and the parity word.
ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
PARITY = np.uint32(0x1BD11BDA)


def unrolled(key: jax.Array) -> jax.Array:
    """Returns a key that draws what this threefry key does, to the last bit.

    On CPUs JAX compiles threefry as a loop over its rounds, each of which reads and writes all
    numbers: draws of a step took most of a small network's. Here the rounds are written out, so
    that XLA fuses them with what is made of the bits. Elsewhere the program is JAX's own.

    References:
      J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw (2011), Parallel random numbers: as easy
      as 1, 2, 3, SC11.
    """
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_UNROLLED)


def _bits(words: jax.Array, width: int, shape: tuple[int, ...]) -> jax.Array:
    """Returns unsigned integers of a width in bits, [*shape], for a key's two words."""
    draw = jax.extend.random.threefry_prng_impl.random_bits
    # Numbers are counted by one word here, and by their places, as JAX does unless told otherwise.
    by_place = getattr(jax.config, "jax_threefry_partitionable", True)
    counted = math.prod(shape) < 2**32 and by_place
    if width not in (32, 64) or not counted:
        return draw(words, width, shape)

    def on_cpu(words):
        count = lax.iota(np.uint32, math.prod(shape)).reshape(shape)
        high, low = _threefry(words[0], words[1], jnp.zeros_like(count), count)
        if width == 32:
            return high ^ low
        return high.astype(np.uint64) << np.uint64(32) | low.astype(np.uint64)

    return lax.platform_dependent(words, cpu=on_cpu, default=lambda w: draw(w, width, shape))


def _threefry(
    first: jax.Array, second: jax.Array, high: jax.Array, low: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns both words of each count, given as two words, under the two of a key."""
    words = first, second, first ^ second ^ PARITY
    high, low = high + words[0], low + words[1]
    for number in range(5):
        for rotation in ROTATIONS[number % 2]:
            high = high + low
            low = high ^ (low << np.uint32(rotation) | low >> np.uint32(32 - rotation))
        high = high + words[(number + 1) % 3]
        low = low + words[(number + 2) % 3] + np.uint32(number + 1)
    return high, low


_JAXS = jax.extend.random.threefry_prng_impl
_UNROLLED = jax.extend.random.define_prng_impl(
    key_shape=_JAXS.key_shape,
    seed=_JAXS.seed,
    split=_JAXS.split,
    random_bits=_bits,
    fold_in=_JAXS.fold_in,
    name="threefry2x32 unrolled",
    tag="fru",
)
