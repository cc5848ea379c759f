"""Dense networks of the recipes: their configuration and how they are trained."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from moa_jax.config import WIDEST, choice, number, sized, switch
from moa_jax.recipes import optimisation
from moa_jax.training.names import LOSSES, OPTIMIZERS, SCHEDULES

if TYPE_CHECKING:
    import flax.linen as nn

    from moa_jax.training.stage import Stage


@dataclasses.dataclass(frozen=True)
class DenseTraining:
    """A dense network and its training: Adam with coupled L2 on a one-cycle schedule.

    Attributes:
      hidden: width of both hidden layers.
      dropout: rates after the three batch normalisations.
      epochs, batch_size: training length and rows per step; validation uses the same batches.
      max_learning_rate, pct_start: peak of the one-cycle schedule and the share before it.
      weight_decay: of the optimiser; coupled L2 on every parameter.
      loss, optimizer, schedule: by their names in `losses.LOSSES`, `optimizers.OPTIMIZERS` and
        `schedules.SCHEDULES`.
      label_smoothing: share of each training target replaced by one half.
      smooth_validation: smooth the targets of the validation loss, which decides the epoch, too.
      validation_mean: the validation loss is the mean of batch means, `by_batch`, a short last
        batch counting as a full one, as in the original, or the mean over rows, `by_row`.
      patience: epochs without a better loss after which a member ends; 0 for never.
      share_init_across_folds: all folds of a seed share initial weights and random draws.
    """

    hidden: int = sized(number(2048, 1, WIDEST))
    dropout: tuple[float, ...] = number((0.0, 0.25, 0.25), 0.0, 0.999, length=3)
    epochs: int = sized(number(25, 1))
    batch_size: int = sized(number(128, 2, 2**20))
    max_learning_rate: float = sized(number(1e-2, 1e-12, 1e3))
    pct_start: float = number(0.1, 0.0, 1.0)
    weight_decay: float = number(1e-5, 0.0, 1e3)
    loss: str = choice("binary_cross_entropy", *LOSSES)
    optimizer: str = choice("adam_cycled", *OPTIMIZERS)
    schedule: str = choice("one_cycle", *SCHEDULES)
    label_smoothing: float = number(1e-3, 0.0, 0.999)
    smooth_validation: bool = switch(number(False))
    validation_mean: str = switch(choice("by_batch", "by_batch", "by_row"))
    patience: int = number(0, 0)
    share_init_across_folds: bool = switch(number(True))

    def network(self, num_outputs: int) -> nn.Module:
        from moa_jax.models.mlp import MLP

        return MLP(self.hidden, num_outputs, self.dropout)

    def stage(self, **parts) -> Stage:
        """Returns the stage that trains such networks; `parts` are its other attributes."""
        from moa_jax.training import losses, rules
        from moa_jax.training.stage import VALIDATION_MEANS, Stage

        smoothed = optimisation.smoothed_loss(self.loss, self.label_smoothing)
        return Stage(
            loss=smoothed,
            valid_loss=smoothed if self.smooth_validation else losses.LOSSES[self.loss],
            valid_weights=VALIDATION_MEANS[self.validation_mean],
            optimizer=optimisation.optimizer(self, self.max_learning_rate, self.weight_decay),
            epochs=self.epochs,
            batch_size=self.batch_size,
            stop=rules.patience(self.patience),
            share_init_across_folds=self.share_init_across_folds,
            **parts,
        )
