"""Rules that look at a member's validation loss after every epoch, on the device.

A rule is a pair of functions of its own state. Which epoch is kept, when a member ends and how
its learning rate is scaled are three separate rules with separate states.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Rule(NamedTuple):
    """`init() -> state` and `update(state, loss) -> state`; both run for one member."""

    init: Callable[[], Any]
    update: Callable[[Any, jax.Array], Any]


class Selection(NamedTuple):
    """State of a `select` rule: the loss of the kept epoch, and whether the last one is kept."""

    loss: jax.Array
    better: jax.Array


class Stopping(NamedTuple):
    """State of a `stop` rule: best loss so far, epochs since, and whether the member ends."""

    loss: jax.Array
    waited: jax.Array
    stop: jax.Array


class Rate(NamedTuple):
    """State of a learning-rate rule without memory: the factor on the schedule's rate."""

    scale: jax.Array


def _infinity() -> jax.Array:
    return jnp.full((), jnp.inf, jnp.result_type(float))


def lowest_loss() -> Rule:
    """Keeps an epoch when its loss is strictly lower than that of every epoch before."""

    def update(state: Selection, loss: jax.Array) -> Selection:
        loss = loss.astype(state.loss.dtype)
        better = loss < state.loss
        return Selection(jnp.where(better, loss, state.loss), better)

    return Rule(lambda: Selection(_infinity(), jnp.zeros((), bool)), update)


def never() -> Rule:
    """Runs every epoch."""
    return patience(0)


def patience(epochs: int, min_delta: float = 0.0) -> Rule:
    """Ends a member after `epochs` epochs without a loss lower by more than `min_delta`.

    Zero epochs means never.
    """

    def update(state: Stopping, loss: jax.Array) -> Stopping:
        loss = loss.astype(state.loss.dtype)
        better = loss < state.loss - min_delta
        waited = jnp.where(better, 0, state.waited + 1)
        stop = waited >= epochs if epochs else jnp.zeros((), bool)
        return Stopping(jnp.where(better, loss, state.loss), waited, stop)

    return Rule(
        lambda: Stopping(_infinity(), jnp.zeros((), jnp.int32), jnp.zeros((), bool)), update
    )


def constant_rate() -> Rule:
    """Leaves the schedule's learning rate as it is."""
    return Rule(lambda: Rate(jnp.ones((), jnp.result_type(float))), lambda state, loss: state)
