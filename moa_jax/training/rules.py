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


class Plateau(NamedTuple):
    """State of `plateau`: the factor, the best loss, epochs since, and epochs left to cool down."""

    scale: jax.Array
    loss: jax.Array
    waited: jax.Array
    cooling: jax.Array


class Restored(NamedTuple):
    """State of `restored_if_stopped`: that of a selection, of the stop rule, and the epoch."""

    loss: jax.Array
    better: jax.Array
    stop: Stopping
    epoch: jax.Array


class Repeats(NamedTuple):
    """State of `repeats`: that of a selection and of a stop, and how often what has happened."""

    loss: jax.Array
    better: jax.Array
    stop: jax.Array
    repeated: jax.Array
    improved: jax.Array


class Rounds(NamedTuple):
    """State of `rounds`: that of a selection, a stop and a rate, and where in a round it is.

    `restart` tells that a phase has just ended and another one begins.
    """

    loss: jax.Array
    better: jax.Array
    stop: jax.Array
    scale: jax.Array
    restart: jax.Array
    phase: jax.Array
    repeats: Repeats


def _infinity() -> jax.Array:
    return jnp.full((), jnp.inf, jnp.result_type(float))


def _zero(dtype: type) -> jax.Array:
    return jnp.zeros((), dtype)


def lowest_loss() -> Rule:
    """Keeps an epoch when its loss is strictly lower than that of every epoch before.

    This is Keras's ModelCheckpoint with `save_best_only`.
    """

    def update(state: Selection, loss: jax.Array) -> Selection:
        loss = loss.astype(state.loss.dtype)
        better = loss < state.loss
        return Selection(jnp.where(better, loss, state.loss), better)

    return Rule(lambda: Selection(_infinity(), _zero(bool)), update)


def latest() -> Rule:
    """Keeps every epoch, and so the weights of the last one, whatever its loss."""

    def update(state: Selection, loss: jax.Array) -> Selection:
        return Selection(loss.astype(state.loss.dtype), jnp.ones((), bool))

    return Rule(lambda: Selection(_infinity(), _zero(bool)), update)


def never() -> Rule:
    """Runs every epoch."""
    return patience(0)


def patience(epochs: int, min_delta: float = 0.0) -> Rule:
    """Ends a member after `epochs` epochs without a loss lower by more than `min_delta`.

    Zero epochs means never. This is the stopping of Keras's EarlyStopping; the weights it leaves
    behind are those of `restored_if_stopped`.

    >>> rule = patience(2)
    >>> state, ends = rule.init(), []
    >>> for loss in (3.0, 2.0, 2.5, 2.0):
    ...     state = rule.update(state, jnp.asarray(loss))
    ...     ends.append(bool(state.stop))
    >>> ends
    [False, False, False, True]
    """

    def update(state: Stopping, loss: jax.Array) -> Stopping:
        loss = loss.astype(state.loss.dtype)
        # The difference of close losses is exact, also in float32; loss + min_delta is not.
        better = state.loss - loss > min_delta
        waited = jnp.where(better, 0, state.waited + 1)
        stop = waited >= epochs if epochs else _zero(bool)
        return Stopping(jnp.where(better, loss, state.loss), waited, stop)

    return Rule(lambda: Stopping(_infinity(), _zero(jnp.int32), _zero(bool)), update)


def restored_if_stopped(stop: Rule, epochs: int) -> Rule:
    """Keeps the epoch whose weights a Keras model holds after `fit` with EarlyStopping.

    With `restore_best_weights` TensorFlow 2.3 puts the best epoch's weights back when it stops,
    and only then: a run of all its epochs ends with the last one's. So every epoch that is the
    best so far in the stop rule's sense is kept, and the last one unless the member stops in it.

    Args:
      stop: the stage's stop rule, a `patience`.
      epochs: the stage's number of epochs.
    """

    def update(state: Restored, loss: jax.Array) -> Restored:
        loss = loss.astype(state.loss.dtype)
        stopping, epoch = stop.update(state.stop, loss), state.epoch + 1
        better = (stopping.waited == 0) | ((epoch == epochs) & ~stopping.stop)
        return Restored(jnp.where(better, loss, state.loss), better, stopping, epoch)

    return Rule(lambda: Restored(_infinity(), _zero(bool), stop.init(), _zero(jnp.int32)), update)


def repeats(times: int = 3, tolerance: float = 1e-6) -> Rule:
    """Repeats an epoch while it lowers the loss, and `times` times in any case.

    The state serves as a `select` and as a `stop` rule. The first loss is that of the weights
    at the start, which are kept until a loss is lower than that of the kept ones by at least
    `tolerance`. Gains count as repeats too: after `times` of them the first failure is the end.
    """

    def update(state: Repeats, loss: jax.Array) -> Repeats:
        loss = loss.astype(state.loss.dtype)
        first = jnp.isinf(state.loss)
        better = first | (state.loss - loss >= tolerance)
        goes_on = better | (state.repeated < times)
        return Repeats(
            loss=jnp.where(better, loss, state.loss),
            better=better,
            stop=~goes_on,
            repeated=state.repeated + (goes_on & ~first),
            improved=state.improved + (better & ~first),
        )

    return Rule(
        lambda: Repeats(_infinity(), _zero(bool), _zero(bool), _zero(jnp.int32), _zero(jnp.int32)),
        update,
    )


def rounds(phase: Rule, scales: tuple[float, ...]) -> Rule:
    """Runs phases in turn, round after round, until the last phase of a round gains nothing.

    The state serves as a `select`, a `stop` and a `rate` rule. What a phase begins with, such as
    the kept weights and a new state of the optimiser, is up to who reads `restart`.

    Args:
      phase: the rule of every phase, a `repeats`.
      scales: factor on the learning rate in each phase of a round.
    """

    def scale(number: jax.Array) -> jax.Array:
        return jnp.asarray(scales, jnp.result_type(float))[number]

    def update(state: Rounds, loss: jax.Array) -> Rounds:
        seen = phase.update(state.repeats, loss)
        stop = seen.stop & (state.phase == len(scales) - 1) & (seen.improved == 0)
        restart = seen.stop & ~stop
        # The best loss is carried over; everything else of a phase begins anew.
        anew = phase.init()._replace(loss=seen.loss, better=seen.better)
        number = jnp.where(restart, (state.phase + 1) % len(scales), state.phase)
        return Rounds(
            loss=seen.loss,
            better=seen.better,
            stop=stop,
            scale=scale(number),
            restart=restart,
            phase=number,
            repeats=jax.tree.map(lambda a, b: jnp.where(restart, a, b), anew, seen),
        )

    def init() -> Rounds:
        zero, first = _zero(jnp.int32), phase.init()
        return Rounds(first.loss, first.better, _zero(bool), scale(zero), _zero(bool), zero, first)

    return Rule(init, update)


def constant_rate() -> Rule:
    """Leaves the schedule's learning rate as it is."""
    return Rule(lambda: Rate(jnp.ones((), jnp.result_type(float))), lambda state, loss: state)


def plateau(
    factor: float,
    patience: int,
    min_delta: float = 1e-4,
    cooldown: int = 0,
    min_scale: float = 0.0,
) -> Rule:
    """Scales the rate by `factor` after `patience` epochs without a lower loss, from the next on.

    This is Keras's ReduceLROnPlateau (TensorFlow 2.3).

    Args:
      factor: what the rate is multiplied with.
      patience: epochs without a loss lower than the best by more than `min_delta`.
      min_delta: an absolute difference of losses.
      cooldown: epochs after a reduction in which none is counted.
      min_scale: lower bound of the scale: Keras's `min_lr` over the rate at the start.
    """

    def update(state: Plateau, loss: jax.Array) -> Plateau:
        loss = loss.astype(state.loss.dtype)
        cooling = jnp.maximum(state.cooling - 1, 0)
        better = state.loss - loss > min_delta
        counts = ~better & (cooling == 0)
        waited = jnp.where(better | (state.cooling > 0), 0, state.waited) + counts
        reduce = counts & (waited >= patience) & (state.scale > min_scale)
        return Plateau(
            scale=jnp.where(reduce, jnp.maximum(state.scale * factor, min_scale), state.scale),
            loss=jnp.where(better, loss, state.loss),
            waited=jnp.where(reduce, 0, waited),
            cooling=jnp.where(reduce, cooldown, cooling),
        )

    return Rule(
        lambda: Plateau(
            jnp.ones((), jnp.result_type(float)), _infinity(), _zero(jnp.int32), _zero(jnp.int32)
        ),
        update,
    )
