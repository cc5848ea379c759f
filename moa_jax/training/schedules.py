"""Schedules of learning rate and momentum as functions of the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

Schedule = Callable[[jax.Array], jax.Array]


def one_cycle(
    total_steps: int | jax.Array,
    pct_start: float,
    max_rate: float = 1e-2,
    div_factor: float = 1e3,
    final_div_factor: float = 1e4,
    base_momentum: float = 0.85,
    max_momentum: float = 0.95,
) -> tuple[Schedule, Schedule]:
    """Returns the one-cycle schedules (Smith, 2018) of the learning rate and of Adam's beta 1.

    Both move on half cosines: the rate from max_rate / div_factor up to max_rate and down to
    max_rate / (div_factor final_div_factor), beta 1 the opposite way between max_momentum and
    base_momentum. This is PyTorch's OneCycleLR with momentum cycling on.

    Args:
      total_steps: length of the schedule; may be a traced scalar.
      pct_start: share of the steps before the peak.

    Returns:
      Two functions of the 0-based step.
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

    start = max_rate / div_factor
    rate = between(start, max_rate, start / final_div_factor)
    momentum = between(max_momentum, base_momentum, max_momentum)
    return rate, momentum


def multi_step(
    total_steps: int | jax.Array,
    epochs: int,
    rate: float,
    milestones: Sequence[int],
    decay: float,
) -> Schedule:
    """Returns a rate that is multiplied by `decay` at the beginning of each milestone epoch.

    This is PyTorch's MultiStepLR, stepped once per epoch.

    Args:
      total_steps: number of steps, a multiple of `epochs`; may be a traced scalar.
      epochs: number of epochs.
      rate: the rate of the first epoch.
      milestones: epochs, counted from 0.
      decay: the factor.
    """

    def schedule(step: jax.Array) -> jax.Array:
        epoch = step // (total_steps // epochs)
        passed = jnp.sum(epoch >= jnp.asarray(milestones))
        return rate * jnp.asarray(decay, jnp.result_type(float)) ** passed

    return schedule


def cosine(
    total_steps: int | jax.Array, epochs: int, rate: float, half_period: int = 5
) -> Schedule:
    """Returns a rate that falls on a half cosine to 0, rises on another, and so on.

    It is rate (1 + cos(pi epoch / half_period)) / 2: PyTorch's CosineAnnealingLR, stepped once
    per epoch and beyond its T_max. In the epochs half_period, 3 half_period, ... it is exactly 0.

    Args:
      total_steps: number of steps, a multiple of `epochs`; may be a traced scalar.
      epochs: number of epochs.
      rate: the rate of the first epoch.
      half_period: epochs from the largest rate to 0.
    """

    def schedule(step: jax.Array) -> jax.Array:
        epoch = step // (total_steps // epochs)
        # The square of a sine that starts at 0 where the rate is 0: no rounding is left there.
        left = jnp.abs(epoch % (2 * half_period) - half_period)
        left = left.astype(jnp.result_type(float)) / half_period
        return rate * jnp.sin(jnp.pi / 2 * left) ** 2

    return schedule


def _cosine(start: float, end: float, progress: jax.Array) -> jax.Array:
    return end + (start - end) / 2 * (1 + jnp.cos(jnp.pi * progress))
