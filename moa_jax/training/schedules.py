"""Schedules of learning rate and momentum as functions of the step; `SCHEDULES` has their names.

All are called alike, `schedule(total_steps, epochs, rate, **options)`; options are keywords.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

Schedule = Callable[[jax.Array], jax.Array]


class Schedules(NamedTuple):
    """What a schedule moves.

    Attributes:
      rate: learning rate, a function of the 0-based step or a constant.
      momentum: Adam's beta 1, likewise; None where it is left to the optimiser.
    """

    rate: Schedule | float | jax.Array
    momentum: Schedule | None = None

    def scaled(self, scale: float | jax.Array) -> Schedules:
        """Returns the schedules with the rate times `scale`, which may be a traced scalar."""
        rate = self.rate
        if callable(rate):
            return self._replace(rate=lambda step: scale * rate(step))
        return self._replace(rate=scale * rate)


def constant(total_steps: int | jax.Array, epochs: int, rate: float) -> Schedules:
    """Returns the rate as it is."""
    return Schedules(rate)


def one_cycle(
    total_steps: int | jax.Array,
    epochs: int,
    rate: float,
    *,
    pct_start: float,
    div_factor: float = 1e3,
    final_div_factor: float = 1e4,
    base_momentum: float = 0.85,
    max_momentum: float = 0.95,
) -> Schedules:
    """Returns the one-cycle schedules of the learning rate and of Adam's beta 1.

    Both move on half cosines: the rate from rate / div_factor up to `rate` and down to
    rate / (div_factor final_div_factor), beta 1 the opposite way between max_momentum and
    base_momentum. This is PyTorch's OneCycleLR with momentum cycling on.

    Args:
      total_steps: length of the schedule; may be a traced scalar.
      epochs: number of epochs, which does not matter here.
      rate: the rate at the peak.
      pct_start: share of the steps before the peak.
      div_factor, final_div_factor, base_momentum, max_momentum: see above.

    References:
      L. N. Smith and N. Topin, Super-convergence, 2018; `torch.optim.lr_scheduler.OneCycleLR`.

    >>> schedules = one_cycle(11, 1, 1.0, pct_start=6 / 11, div_factor=4)
    >>> [round(float(schedules.rate(step)), 2) for step in (0, 5, 10)]
    [0.25, 1.0, 0.0]
    >>> [round(float(schedules.momentum(step)), 2) for step in (0, 5, 10)]
    [0.95, 0.85, 0.95]
    """
    dtype = jnp.result_type(float)
    total = jnp.asarray(total_steps, dtype)
    tiny = jnp.finfo(dtype).tiny
    peak = pct_start * total - 1
    rise, fall = jnp.maximum(peak, tiny), jnp.maximum(total - 1 - peak, tiny)

    def between(first: float, middle: float, last: float) -> Schedule:
        def schedule(step: jax.Array) -> jax.Array:
            step = jnp.asarray(step, dtype)
            up = _cosine(first, middle, step / rise)
            down = _cosine(middle, last, (step - peak) / fall)
            return jnp.where(step <= peak, up, down)

        return schedule

    start = rate / div_factor
    return Schedules(
        between(start, rate, start / final_div_factor),
        between(max_momentum, base_momentum, max_momentum),
    )


def multi_step(
    total_steps: int | jax.Array,
    epochs: int,
    rate: float,
    *,
    milestones: Sequence[int],
    decay: float,
) -> Schedules:
    """Returns a rate that is multiplied by `decay` at the beginning of each milestone epoch.

    This is PyTorch's MultiStepLR, stepped once per epoch.

    Args:
      total_steps: number of steps, a multiple of `epochs`; may be a traced scalar.
      epochs: number of epochs.
      rate: the rate of the first epoch.
      milestones: epochs, counted from 0.
      decay: the factor.

    >>> schedules = multi_step(8, 4, 1.0, milestones=(1, 3), decay=0.5)
    >>> [float(schedules.rate(step)) for step in (0, 2, 4, 6)]
    [1.0, 0.5, 0.5, 0.25]
    """

    def schedule(step: jax.Array) -> jax.Array:
        epoch = step // (total_steps // epochs)
        passed = jnp.sum(epoch >= jnp.asarray(milestones))
        return rate * jnp.asarray(decay, jnp.result_type(float)) ** passed

    return Schedules(schedule)


def cosine(
    total_steps: int | jax.Array, epochs: int, rate: float, *, half_period: int = 5
) -> Schedules:
    """Returns a rate that falls on a half cosine to 0, rises on another, and so on.

    It is rate (1 + cos(pi epoch / half_period)) / 2: PyTorch's CosineAnnealingLR, stepped once
    per epoch and beyond its T_max. In the epochs half_period, 3 half_period, ... it is exactly 0.

    Args:
      total_steps: number of steps, a multiple of `epochs`; may be a traced scalar.
      epochs: number of epochs.
      rate: the rate of the first epoch.
      half_period: epochs from the largest rate to 0.

    >>> schedules = cosine(8, 4, 1.0, half_period=2)
    >>> [round(float(schedules.rate(jnp.int32(step))), 2) for step in (0, 2, 4, 6)]
    [1.0, 0.5, 0.0, 0.5]
    """

    def schedule(step: jax.Array) -> jax.Array:
        epoch = step // (total_steps // epochs)
        # The square of a sine that starts at 0 where the rate is 0: no rounding is left there.
        left = jnp.abs(epoch % (2 * half_period) - half_period)
        left = left.astype(jnp.result_type(float)) / half_period
        return rate * jnp.sin(jnp.pi / 2 * left) ** 2

    return Schedules(schedule)


def _cosine(start: float, end: float, progress: jax.Array) -> jax.Array:
    return end + (start - end) / 2 * (1 + jnp.cos(jnp.pi * progress))


SCHEDULES: dict[str, Callable[..., Schedules]] = {
    "constant": constant,
    "one_cycle": one_cycle,
    "multi_step": multi_step,
    "cosine": cosine,
}


def schedule_options(name: str) -> dict[str, bool]:
    """Returns the names of a schedule's options, and whether it needs them.

    >>> schedule_options("multi_step")
    {'milestones': True, 'decay': True}
    """
    parameters = inspect.signature(SCHEDULES[name]).parameters.values()
    return {p.name: p.default is p.empty for p in parameters if p.kind is p.KEYWORD_ONLY}
