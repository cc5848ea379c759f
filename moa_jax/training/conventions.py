"""Conventions of JAX that all programs here, Flax and Optax are written for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def usual() -> Iterator[None]:
    """Has types and ranks promoted, and programs compiled, within.

    Who calls may have asked for something else, to look for mistakes in code of their own.
    """
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.disable_jit(False),
    ):
        yield
