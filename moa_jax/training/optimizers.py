"""Optimisers of the originals, built from optax; `OPTIMIZERS` finds them by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from moa_jax.errors import UserError
from moa_jax.training.schedules import SCHEDULES, Schedule, Schedules


def clip_by_global_norm(max_norm: float, epsilon: float = 1e-6) -> optax.GradientTransformation:
    """Returns PyTorch's `clip_grad_norm_`: all gradients times min(1, max_norm / (norm + epsilon)).

    The norm is over all parameters. Chained before `adam` it clips before the decay is added.

    Args:
      max_norm: largest norm that is left as it is, but for epsilon.
      epsilon: PyTorch's; PyTorch Lightning of 2020 had 1e-5 in its 16-bit training.
    """

    def clip(gradients, params):
        scale = jnp.minimum(1, max_norm / (optax.tree.norm(gradients) + epsilon))
        return jax.tree.map(lambda g: g * scale.astype(g.dtype), gradients)

    return optax.stateless(clip)


def adam(
    rate: float | jax.Array | Schedule,
    beta1: Schedule | float = 0.9,
    weight_decay: float = 0.0,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> optax.GradientTransformation:
    """Returns Adam with a constant or scheduled beta 1 and coupled L2, as in `torch.optim.Adam`.

    The decay enters the gradient before the moments, on every parameter; this is not AdamW. The
    bias correction uses the current beta 1.

    Args:
      rate: learning rate, a constant or a function of the 0-based step.
      beta1: decay of the first moment, likewise.
      weight_decay: factor on the parameters that is added to the gradients.
      beta2: decay of the second moment.
      epsilon: added to the root of the corrected second moment.
    """
    scale_by_adam: Callable = optax.scale_by_adam
    if callable(beta1):
        scale_by_adam = optax.inject_hyperparams(
            scale_by_adam, static_args=("b2", "eps", "eps_root", "mu_dtype", "nesterov")
        )
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        scale_by_adam(b1=beta1, b2=beta2, eps=epsilon),
        optax.scale_by_learning_rate(rate),
    )


def keras_adam(
    rate: float | jax.Array | Schedule,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-7,
) -> optax.GradientTransformation:
    """Returns Adam as Keras and TensorFlow have it: epsilon acts before the bias correction.

    A step is rate sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + epsilon). In the first steps
    that is an epsilon up to 32 times larger than in `optax.adam`, which shows where gradients
    are small, as with a loss that is the mean over hundreds of targets.

    Args:
      rate: learning rate; may be a traced scalar or a function of the 0-based step.
      beta1, beta2: decays of the two moments.
      epsilon: added to the root of the uncorrected second moment.
    """

    def init(params):
        moments = optax.tree.zeros_like(params)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), moments, moments)

    def update(gradients, state, params=None):
        count = state.count + 1
        mu = optax.tree.update_moment(gradients, state.mu, beta1, 1)
        nu = optax.tree.update_moment(gradients, state.nu, beta2, 2)
        step = count.astype(jnp.result_type(float))
        # 1 - beta^t keeps its digits in float32, where beta2^t is nearly 1 at first.
        corrected1, corrected2 = (-jnp.expm1(step * math.log(b)) for b in (beta1, beta2))
        correction = jnp.sqrt(corrected2) / corrected1
        updates = jax.tree.map(
            lambda m, v: correction.astype(m.dtype) * m / (jnp.sqrt(v) + epsilon), mu, nu
        )
        return updates, optax.ScaleByAdamState(count, mu, nu)

    return optax.chain(
        optax.GradientTransformation(init, update), optax.scale_by_learning_rate(rate)
    )


def radam(
    rate: float | jax.Array | Schedule,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """Returns RAdam as in torch-optimizer 0.0.1a17.

    It differs from `optax.radam`: epsilon is added to the root of the uncorrected second moment,
    and a decay is decoupled from the gradients and scaled by the learning rate.

    Args:
      rate: learning rate; may be a traced scalar or a function of the 0-based step.
      beta1, beta2: decays of the two moments. They move on in steps of rate 0, too.
      epsilon: added to the root of the uncorrected second moment.
      weight_decay: factor on the parameters, which every step takes away rate times.

    References:
      L. Liu et al., On the Variance of the Adaptive Learning Rate and Beyond, 2020.
    """
    longest = 2 / (1 - beta2) - 1

    def init(params):
        moments = optax.tree.zeros_like(params)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), moments, moments)

    def update(gradients, state, params=None):
        count = state.count + 1
        mu = optax.tree.update_moment(gradients, state.mu, beta1, 1)
        nu = optax.tree.update_moment(gradients, state.nu, beta2, 2)
        step = count.astype(jnp.result_type(float))
        corrected1, corrected2 = (-jnp.expm1(step * math.log(b)) for b in (beta1, beta2))
        length = average_length(step, beta2)
        adaptive = length >= 5
        # Shorter averages have no variance to rectify; 5 keeps the unused root real.
        safe = jnp.maximum(length, 5)
        variance = (safe - 4) / (longest - 4) * (safe - 2) / safe * longest / (longest - 2)
        factor = jnp.sqrt(corrected2 * variance)

        def direction(m, v):
            scaled = factor.astype(m.dtype) * m / (jnp.sqrt(v) + epsilon)
            return jnp.where(adaptive, scaled, m) / corrected1.astype(m.dtype)

        return jax.tree.map(direction, mu, nu), optax.ScaleByAdamState(count, mu, nu)

    return optax.chain(
        optax.GradientTransformation(init, update),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(rate),
    )


def average_length(step: jax.Array, decay: float) -> jax.Array:
    """Returns the length of the simple average that an exponential one is like (Liu et al., 2020).

    It is 2 / (1 - decay) - 1 - 2 step decay^step / (1 - decay^step), which is about `step` at
    first and then the difference of two numbers near 2 / (1 - decay): in float32 it would have
    three digits. Written with x = -step ln(decay) those cancel on paper.

    Args:
      step: 1-based, of a float dtype.
      decay: of the exponential average.
    """
    slope = -math.log(decay)
    x = step * slope
    # 1 / x - 1 / (e^x - 1), which is 1/2 at 0, and there by its series.
    small = jnp.minimum(x, 0.5)
    squared = small**2
    series = 1 / 2 - small * (
        1 / 12 - squared * (1 / 720 - squared * (1 / 30240 - squared / 1209600))
    )
    large = jnp.maximum(x, 0.5)
    difference = jnp.where(x < 0.5, series, 1 / large - 1 / jnp.expm1(large))
    return 2 / (1 - decay) - 1 - 2 / slope + 2 * step * difference


def keras_adadelta(
    rate: float | jax.Array | Schedule, rho: float = 0.95, epsilon: float = 1e-7
) -> optax.GradientTransformation:
    """Returns Adadelta with Keras's defaults.

    Args:
      rate: learning rate; may be a traced scalar or a function of the 0-based step.
      rho: decay of both averages.
      epsilon: added under both roots.

    References:
      M. D. Zeiler, ADADELTA: An Adaptive Learning Rate Method, 2012.
    """
    return optax.chain(optax.scale_by_adadelta(rho, epsilon), optax.scale_by_learning_rate(rate))


def _adam(schedules: Schedules, weight_decay: float) -> optax.GradientTransformation:
    return adam(schedules.rate, weight_decay=weight_decay)


def _adam_cycled(schedules: Schedules, weight_decay: float) -> optax.GradientTransformation:
    if schedules.momentum is None:
        raise UserError(
            "schedule: expected one that moves the momentum, such as one_cycle, for optimizer "
            "adam_cycled, found one that does not"
        )
    return adam(schedules.rate, schedules.momentum, weight_decay)


def _keras_adam(schedules: Schedules, weight_decay: float) -> optax.GradientTransformation:
    _check_no_decay("keras_adam", weight_decay)
    return keras_adam(schedules.rate)


def _keras_adadelta(schedules: Schedules, weight_decay: float) -> optax.GradientTransformation:
    _check_no_decay("keras_adadelta", weight_decay)
    return keras_adadelta(schedules.rate)


def _radam(schedules: Schedules, weight_decay: float) -> optax.GradientTransformation:
    return radam(schedules.rate, weight_decay=weight_decay)


def _adamw(schedules: Schedules, weight_decay: float) -> optax.GradientTransformation:
    return optax.adamw(schedules.rate, weight_decay=weight_decay)


def _check_no_decay(name: str, weight_decay: float) -> None:
    if weight_decay:
        raise UserError(
            f"weight_decay: expected 0 for optimizer {name}, which has none, found {weight_decay}"
        )


# `optimizer(schedules, weight_decay)`; all but `adam_cycled` leave beta 1 where it is.
OPTIMIZERS: Mapping[str, Callable[[Schedules, float], optax.GradientTransformation]] = {
    "adam": _adam,
    "adam_cycled": _adam_cycled,
    "keras_adam": _keras_adam,
    "keras_adadelta": _keras_adadelta,
    "radam": _radam,
    "adamw": _adamw,
}


def build(
    total_steps: int | jax.Array,
    scale: float | jax.Array,
    *,
    optimizer: str,
    schedule: str,
    epochs: int,
    rate: float,
    weight_decay: float = 0.0,
    **options: Any,
) -> optax.GradientTransformation:
    """Returns an optimiser and its schedule by name: but for the keywords, `Stage.optimizer`.

    Args:
      total_steps, scale: see `Stage`.
      optimizer, schedule: names in `OPTIMIZERS` and `schedules.SCHEDULES`.
      epochs, rate, **options: what the schedule is called with.
      weight_decay: what the optimiser is called with.

    Raises:
      UserError: the optimiser has no decay, or needs a momentum that the schedule does not move.
    """
    moved = SCHEDULES[schedule](total_steps, epochs, rate, **options)
    return OPTIMIZERS[optimizer](moved.scaled(scale), weight_decay)
