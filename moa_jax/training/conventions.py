"""Conventions of JAX that all programs here, Flax and Optax are written for."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from moa_jax.errors import UserError

# Settings that are asked for when a compiled program is called, and what sets them for one thread.
_OF_CALLS: dict[str, Callable[[Any], contextlib.AbstractContextManager]] = {
    "jax_disable_jit": jax.disable_jit,
    "jax_debug_nans": jax.debug_nans,
    "jax_debug_infs": jax.debug_infs,
    "jax_transfer_guard_host_to_device": jax.transfer_guard_host_to_device,
    "jax_transfer_guard_device_to_device": jax.transfer_guard_device_to_device,
    "jax_transfer_guard_device_to_host": jax.transfer_guard_device_to_host,
}


@contextlib.contextmanager
def usual() -> Iterator[None]:
    """Has types and ranks promoted, programs compiled, and arrays uploaded, within.

    Who calls may have asked for something else, to look for mistakes in code of their own, or for
    keys and a mesh of their own.

    Raises:
      UserError: JAX traces who calls, and nothing could be computed; or this process was forked
        from one that has computed.
    """
    if _first_process() != os.getpid():
        raise UserError(
            "expected a process of its own, found one that was forked from a process which "
            "computes with JAX: it would wait for ever; multiprocessing.get_context('spawn') and "
            "joblib's 'loky' start others"
        )
    with (
        _without_mesh(),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.disable_jit(False),
        jax.transfer_guard("allow"),
        # A loss that is to be fallen below is infinite at first.
        jax.debug_infs(False),
        # Only threefry draws the same numbers for batched, padded and single members.
        jax.default_prng_impl("threefry2x32"),
    ):
        yield


def _without_mesh() -> contextlib.AbstractContextManager:
    """Nothing is computed to find out: who begins may have settings left that come before."""
    try:
        return jax.set_mesh(jax.sharding.Mesh(np.empty((), object), ()))
    except ValueError:
        raise UserError(
            "expected to be called by Python, found a function that JAX traces (jit, scan): call "
            "it outside; within a callback of JAX's it may wait for ever"
        ) from None


@functools.cache
def _first_process() -> int:
    """Returns the process that asked first: its threads, which no fork has, do what JAX is told."""
    return os.getpid()


def of_this_thread() -> Callable[[], contextlib.AbstractContextManager]:
    """Returns a context that has another thread call programs as this one would now.

    What a context manager of JAX's sets is set for the thread that enters it alone.
    """
    found = {name: getattr(jax.config, name) for name in _OF_CALLS}
    return functools.partial(_set, {name: v for name, v in found.items() if v is not None})


@contextlib.contextmanager
def _set(values: dict[str, bool | str]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name, value in values.items():
            stack.enter_context(_OF_CALLS[name](value))
        yield
