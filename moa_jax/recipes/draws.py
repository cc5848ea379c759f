"""Draws: the hyperparameters of a population's members, each from its range."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from moa_jax.config import number
from moa_jax.errors import UserError

# Half of the members smooth no labels: what smoothing helps, it helps rarely.
SHARE_SMOOTHED = 0.5
# So many members, one after another, lie in as many parts of every range.
PARTS = 8


class Draw(NamedTuple):
    """What a member has drawn, by the names of the ranges; `steps` are optimiser steps."""

    steps: int
    learning_rate: float
    weight_decay: float
    ridge: float
    dropout: float
    input_dropout: float
    input_noise: float
    label_smoothing: float


@dataclasses.dataclass(frozen=True)
class Ranges:
    """Ranges, lowest and highest value, that members draw from.

    Attributes:
      draw_seed: seed of the draws: another one gives another population.
      steps: optimiser steps; the logarithm is drawn evenly.
      learning_rate: peak of the one-cycle schedule; the logarithm is drawn evenly.
      weight_decay: decoupled, of kernels alone; the logarithm is drawn evenly.
      ridge: this times half the squared norm of a label's weights in the output is added to the
        label's loss, summed over all rows: the inverse of scikit-learn's C; the logarithm is drawn
        evenly.
      dropout, input_dropout: shares of hidden values and of inputs, drawn evenly.
      input_noise: standard deviation of what is added to inputs, drawn evenly.
      label_smoothing: share of a target that is replaced by one half; of half of the members the
        logarithm is drawn evenly, the others have none.
    """

    draw_seed: int = number(0, 0, 2**31 - 1)
    steps: tuple[int, ...] = number((60, 3000), 1, length=2)
    learning_rate: tuple[float, ...] = number((1e-3, 1e-2), 1e-12, 1e3, length=2)
    weight_decay: tuple[float, ...] = number((1e-5, 1e-1), 1e-12, 1e3, length=2)
    ridge: tuple[float, ...] = number((3e-2, 3e2), 1e-12, 1e3, length=2)
    dropout: tuple[float, ...] = number((0.0, 0.6), 0.0, 0.999, length=2)
    input_dropout: tuple[float, ...] = number((0.0, 0.5), 0.0, 0.999, length=2)
    input_noise: tuple[float, ...] = number((0.0, 0.5), 0.0, 1e3, length=2)
    label_smoothing: tuple[float, ...] = number((1e-4, 3e-2), 1e-12, 0.999, length=2)

    def drawn(self, member: int, group: int = 0) -> Draw:
        """Returns what member number `member` of a group draws, whoever else there is.

        The first eight members of a group lie in the eighths of every range, one in each, and so
        do the next eight: a Latin hypercube. Few members fill the ranges that way.

        >>> Ranges(steps=(100, 100)).drawn(3).steps
        100
        """
        block, number = divmod(member, PARTS)
        generator = np.random.default_rng([self.draw_seed, group, block])
        count = len(Draw._fields) + 1
        parts = generator.permuted(np.tile(np.arange(PARTS), (count, 1)), axis=1)
        within = generator.random((count, PARTS))
        places = iter(((parts + within) / PARTS)[:, number])

        def even(bounds: Sequence[float]) -> float:
            low, high = bounds
            return float(low + (high - low) * next(places))

        def by_logarithm(bounds: Sequence[float]) -> float:
            low, high = bounds
            return float(low * (high / low) ** next(places))

        found = Draw(
            steps=round(by_logarithm(self.steps)),
            learning_rate=by_logarithm(self.learning_rate),
            weight_decay=by_logarithm(self.weight_decay),
            ridge=by_logarithm(self.ridge),
            dropout=even(self.dropout),
            input_dropout=even(self.input_dropout),
            input_noise=even(self.input_noise),
            label_smoothing=by_logarithm(self.label_smoothing),
        )
        smooths = next(places) < SHARE_SMOOTHED
        return found if smooths else found._replace(label_smoothing=0.0)

    def check_ranges(self) -> None:
        """Checks that the lowest value of every range comes first.

        Raises:
          UserError: naming the field.
        """
        for name in Draw._fields:
            low, high = getattr(self, name)
            if low > high:
                raise UserError(f"{name}: expected the lower end first, found ({low}, {high})")
