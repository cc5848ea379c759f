"""Training at full size on noise, beside what PyTorch's networks do on noise of the same kind.

There is nothing to learn: what shows is initialisation, warm-up, the cycle of beta 1, smoothing
and statistics. The expected losses are ranges over two of PyTorch's seeds.
"""

from pathlib import Path

import numpy as np
import pytest

from moa_jax.recipes import simple_nn, three_stage_nn
from moa_jax.training import members
from moa_jax.training.layout import Settings
from moa_jax.training.loop import StageRun
from moa_jax.training.parallel import Devices
from moa_jax.training.stage import Forward

TRAIN, VALID = 17_558, 4_390
THREE_STAGE = three_stage_nn.Config()
# Inputs, targets, share of positives; losses of training and validation in epochs 1, 2 and 3.
CASES = {
    "nonscored": (
        THREE_STAGE.nonscored, 1087, 331, 0.00069,
        [(0.6550, 0.6554), (0.167, 0.169), (0.0097, 0.0097)],
        [(0.259, 0.268), (0.0106, 0.0108), (0.0096, 0.0097)],
    ),
    "scored": (
        THREE_STAGE.scored, 1418, 206, 0.003725,
        [(0.7231, 0.7239), (0.351, 0.363), (0.0347, 0.0349)],
        [(0.617, 0.626), (0.103, 0.114), (0.0249, 0.0249)],
    ),
    "stacked": (
        THREE_STAGE.stacked, 206, 206, 0.003725,
        [(0.7267, 0.7271), (0.273, 0.274), (0.0297, 0.0298)],
        [(0.640, 0.646), (0.036, 0.037), (0.0276, 0.0276)],
    ),
    "simple_old": (
        simple_nn.Config(), 1091, 206, 0.003725,
        [(0.583, 0.592), (0.0360, 0.0367), (0.0276, 0.0276)],
        [(0.114, 0.127), (0.0248, 0.0249), (0.0249, 0.0250)],
    ),
}  # fmt: skip


def run_epochs(config, inputs, targets, share, num_epochs):
    """Trains one member and yields its losses of training and validation after every epoch."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(TRAIN + VALID, inputs)).astype(np.float32)
    y = (generator.random((TRAIN + VALID, targets)) < share).astype(np.float32)
    fold_of_row = (np.arange(TRAIN + VALID) >= VALID).astype(int)
    member, _ = members.cross_validation({0: fold_of_row}, 0)
    stage = config.stage(
        name="sanity", forward=Forward(config.network(targets)), members=(member,),
        shared=x, targets=y,
    )  # fmt: skip
    steps = stage.steps_per_epoch(member)
    settings = Settings(Devices.available("vmap"), steps_per_call=steps)
    group = StageRun(stage, Path(), settings, None).group(0)
    state = group.init()
    for epoch in range(num_epochs):
        state, report = group.validate(group.train_steps(state, epoch))
        yield float(report.train_loss[0]), float(report.valid_loss[0])


def close(found, expected, tolerance):
    low, high = expected
    return low * (1 - tolerance) <= found <= high * (1 + tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_first_epochs_on_noise(case):
    config, inputs, targets, share, train, valid = CASES[case]
    found = list(run_epochs(config, inputs, targets, share, 3))
    # A wrong initialisation, warm-up or cycle of beta 1 shows in the first epoch's mean.
    assert abs(found[0][0] - np.mean(train[0])) < 0.01
    for (train_loss, valid_loss), in_training, in_validation in zip(
        found, train, valid, strict=True
    ):
        # Where the loss falls steeply a third seed may well lie outside the range of two.
        assert close(train_loss, in_training, 0.05), train_loss
        assert close(valid_loss, in_validation, 0.1), valid_loss
