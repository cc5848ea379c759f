"""Loss, optimiser and schedule of a stage, which its configuration names."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from moa_jax.errors import UserError

if TYPE_CHECKING:
    import jax
    import optax


class Named(Protocol):
    """A section of a configuration with these fields, and those that its schedule takes."""

    @property
    def loss(self) -> str:
        """A name of `losses.LOSSES`."""

    @property
    def optimizer(self) -> str:
        """A name of `optimizers.OPTIMIZERS`."""

    @property
    def schedule(self) -> str:
        """A name of `schedules.SCHEDULES`."""

    @property
    def epochs(self) -> int:
        """Length of the schedule."""


def check(section: Named, rate: float, weight_decay: float = 0.0, where: str = "") -> None:
    """Checks that schedule, optimiser and the section's other fields go together.

    Args:
      section: of a model's configuration.
      rate, weight_decay: what `optimizer` will be called with.
      where: the section's name, with a dot, in that configuration.

    Raises:
      UserError: naming the field.
    """
    from moa_jax.training.schedules import schedule_options

    for option, needed in schedule_options(section.schedule).items():
        if needed and not hasattr(section, option):
            raise UserError(
                f"{where}schedule: {section.schedule} needs {option}, which this model's "
                "configuration does not have"
            )
    optimizer(section, rate, weight_decay)(1, 1.0)


def smoothed_loss(name: str, smoothing: float) -> Callable[..., jax.Array]:
    """Returns a loss `(logits, targets, mask)` on smoothed targets, see `losses.smoothed`."""
    return functools.partial(_smoothed_loss, name=name, smoothing=smoothing)


def _smoothed_loss(logits, targets, mask, name: str, smoothing: float) -> jax.Array:
    from moa_jax.training import losses

    return losses.LOSSES[name](logits, losses.smoothed(targets, smoothing), mask)


def optimizer(
    section: Named,
    rate: float,
    weight_decay: float = 0.0,
    clip: float | None = None,
    clip_epsilon: float = 1e-6,
) -> Callable[..., optax.GradientTransformation]:
    """Returns the optimiser that a section names, on the schedule that it names.

    Args:
      section: of a model's configuration.
      rate: the schedule's largest rate.
      weight_decay: of the optimiser.
      clip, clip_epsilon: largest norm of all gradients together, None for no limit, and what is
        added to it, see `optimizers.clip_by_global_norm`.

    Returns:
      From a member's number of steps and a factor on its rate to the optimiser, which is the same
      for all members: the `optimizer` of a `Stage`.
    """
    import optax

    from moa_jax.training import optimizers
    from moa_jax.training.schedules import schedule_options

    options = schedule_options(section.schedule)
    build: Callable[..., optax.GradientTransformation] = functools.partial(
        optimizers.build,
        optimizer=section.optimizer,
        schedule=section.schedule,
        epochs=section.epochs,
        rate=rate,
        weight_decay=weight_decay,
        **{name: getattr(section, name) for name in options if hasattr(section, name)},
    )
    clipped = None if clip is None else optimizers.clip_by_global_norm(clip, clip_epsilon)

    def made(total_steps, scale, member_data=()):
        if clipped is None:
            return build(total_steps, scale)
        return optax.chain(clipped, build(total_steps, scale))

    return made
