"""Random bits that are drawn on CPUs in one pass, against JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np

from moa_jax.models.random_bits import unrolled


def drawn(key):
    """Numbers of every kind by a key, by a part of it, and by several."""
    one, two = jax.random.split(jax.random.fold_in(key, 5))
    return (
        jax.random.bits(one),
        jax.random.normal(one, (5, 7)),
        jax.random.bernoulli(two, 0.3, (5, 7)),
        jax.random.bits(two, (3,), jnp.uint8),
        jax.random.bits(two, (3,), jnp.uint64),
        jax.vmap(lambda key: jax.random.bits(key, (4, 2)))(jax.random.split(one, 3)),
    )


def test_numbers_are_those_of_the_key():
    with jax.enable_x64(True):
        both = jax.jit(lambda key: (drawn(key), drawn(unrolled(key))))
        for seed in (0, 2**31 - 1):
            expected, found = both(jax.random.key(seed))
            jax.tree.map(np.testing.assert_array_equal, found, expected)
            assert found[0] > 2**16 and found[4].max() > 2**40


def lowered(key, platform):
    draw = jax.jit(lambda key: jax.random.bits(key, (8, 4)))
    return draw.trace(key).lower(lowering_platforms=(platform,)).as_text()


def test_rounds_are_a_loop_nowhere_and_accelerators_keep_jaxs_program():
    key = jax.random.key(0)
    assert "while" in lowered(key, "cpu") and "while" not in lowered(unrolled(key), "cpu")
    for platform in ("cuda", "tpu"):
        jaxs, ours = lowered(key, platform), lowered(unrolled(key), platform)
        assert ours.count("shift_left") == jaxs.count("shift_left")
