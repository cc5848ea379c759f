"""Our side of training: members of a stage on random data, step by step as a run takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.row import Side, Work
from moa_jax.training import members
from moa_jax.training.layout import Settings
from moa_jax.training.loop import StageRun
from moa_jax.training.members import Member
from moa_jax.training.parallel import Devices
from moa_jax.training.stage import Stage

FOLDS = 10
# A step is the forward pass and two products of its size for the gradients.
PASSES = 3
# Adam reads parameter, gradient and two moments and writes all but the gradient.
ADAM_PASSES = 7


class Training:
    """Members that train together, and their state between the runs that are timed."""

    def __init__(self, stage: Stage):
        """`stage` names the members; all of them train at once, as many as it has."""
        self.stage, count = stage, len(stage.members)
        settings = Settings(Devices.available(), members_at_once=count)
        self.run = StageRun(stage, Path(), settings, None)
        self.group = self.run.group(0)
        self.state = self.group.init()

    @property
    def member_steps(self) -> int:
        return sum(self.stage.steps_per_epoch(member) for member in self.stage.members)

    def steps(self, flops: float = 0.0) -> Side:
        """Returns the side that takes an epoch's steps, counted in steps of one member.

        Args:
          flops: of one forward pass of a batch.
        """

        def run() -> None:
            self.state = self.group.train_steps(self.state, 0)
            jax.block_until_ready(self.state)

        moved = ADAM_PASSES * 4 * self.run.num_parameters
        work = Work(PASSES * flops * self.member_steps, moved * self.member_steps)
        return Side(run, self.member_steps, work if flops else None)

    def epoch(self) -> Side:
        """Returns the side that trains and validates, counted in members."""

        def run() -> None:
            state = self.group.train_steps(self.state, 0)
            self.state, report = self.group.validate(state)
            jax.block_until_ready(report)

        return Side(run, len(self.stage.members))

    def forward(self, rows: np.ndarray, flops: float = 0.0) -> Side:
        """Returns the side that predicts rows, counted in rows of one member.

        Args:
          rows: positions of rows.
          flops: of one forward pass of a batch.
        """
        count = len(rows) * len(self.stage.members)
        batches = count / self.stage.batch_size
        work = Work(flops * batches, 4 * self.run.num_parameters * batches)
        run = lambda: self.group.predict(self.state, rows)  # noqa: E731
        return Side(run, count, work if flops else None)


def folds_of(rows: int, count: int) -> tuple[Member, ...]:
    """Returns the first members of a cross-validation in ten folds, of as many seeds as needed."""
    folds = {seed: np.arange(rows) % FOLDS for seed in range(-(-count // FOLDS))}
    return tuple(members.cross_validation(folds, base_seed=0)[:count])


def random_data(rows: int, features: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns inputs and rare 0/1 targets of so many rows that a fold leaves `rows` to train on."""
    generator = np.random.default_rng(0)
    rows = -(-rows * FOLDS // (FOLDS - 1))
    x = generator.normal(size=(rows, features)).astype(np.float32)
    return x, (generator.random((rows, outputs)) < 0.004).astype(np.float32)


def forward_flops(network: Any, inputs: Sequence[tuple[int, ...]]) -> float:
    """Returns the operations of a forward pass as XLA counts them, its small ones included.

    Args:
      network: a Flax module.
      inputs: shapes of what it is called with.
    """
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in inputs]
    variables = jax.eval_shape(network.init, jax.random.key(0), *arrays)
    analysis = jax.jit(network.apply).lower(variables, *arrays).cost_analysis()
    found = analysis[0] if isinstance(analysis, list) else analysis
    return float((found or {}).get("flops", 0.0))
