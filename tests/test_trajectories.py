"""Every stage of every recipe against plain numpy: steps over epochs with given dropout masks.

Hyperparameters are the recipes' own defaults, batches and lengths of schedules included; only
widths are smaller. What is written here are the originals' numbers, of which none is read from the
recipes: rates of dropout, smoothing, the optimiser and its constants, the schedule, the decay, the
weighting of validation batches, patience.
"""

import dataclasses

import jax
import numpy as np
import pytest
import reference_networks as networks
import reference_training as training
from systems import context, designs
from trajectories import Masks, Reference, Rows, Trajectory, WithHead, alike, flat, member_rows
from trajectories import moved_alike

from moa_jax.recipes import deepinsight_cnn, nn_tabnet, simple_nn, three_stage_nn, two_heads_resnet
from moa_jax.recipes.features import Arrays

COLUMNS, OUTPUTS = 7, 3


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@dataclasses.dataclass(frozen=True)
class Dense:
    """A dense stage as the originals have it."""

    recipe: object
    stage: str
    dropout: tuple
    epochs: int
    batch: int
    pct_start: float
    smoothing: float
    smooth_validation: bool


SIMPLE = {
    "dropout": (0.0, 0.25, 0.25), "epochs": 25, "batch": 128, "pct_start": 0.1,
    "smoothing": 0.001, "smooth_validation": False,
}  # fmt: skip
THREE = {"dropout": (0.15, 0.3, 0.25), "batch": 256, "pct_start": 0.2}
CLIPPED = {"smoothing": 0.001, "smooth_validation": True}
HARD = {"smoothing": 0.0, "smooth_validation": False}
DENSE = {
    "simple_nn_old": Dense(simple_nn.ORIGINAL["old"], "scored", **SIMPLE),
    "simple_nn_new": Dense(simple_nn.ORIGINAL["new"], "scored", **SIMPLE),
    "three_stage_1": Dense(three_stage_nn.Config(), "nonscored", epochs=15, **THREE, **CLIPPED),
    "three_stage_2": Dense(three_stage_nn.Config(), "scored", epochs=25, **THREE, **HARD),
    "three_stage_3": Dense(three_stage_nn.Config(), "stacked", epochs=25, **THREE, **CLIPPED),
    "nn_tabnet_1": Dense(
        nn_tabnet.Config(), "nonscored", dropout=(0.2, 0.25), epochs=15, batch=256, pct_start=0.2,
        **HARD,
    ),
}  # fmt: skip


def data(rows, columns, outputs, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, columns)) * np.linspace(0.5, 3, columns) + 0.5
    signal = x[:, :outputs] - 1.5 + generator.normal(size=(rows, outputs))
    return x, (signal > 0).astype(np.float64)


def narrow(recipe, stage, **changes):
    """The recipe with a smaller network of a stage and nothing else changed."""
    if hasattr(recipe, stage):
        changes = {stage: dataclasses.replace(getattr(recipe, stage), **changes)}
    return dataclasses.replace(recipe, **changes)


def built(design, folder, members, table, member_data, targets, **start):
    arrays = Arrays(table, member_data)
    names = type("Targets", (), {"names": range(targets.shape[1]), "values": targets})
    return design.stage(context(folder), [design.rows(m) for m in members], arrays, names, **start)


@pytest.mark.parametrize("name", DENSE)
def test_dense_networks(name, tmp_path, monkeypatch):
    """Adam with L2 on one cycle of rate and beta 1; batches alike in validation; the best epoch."""
    spec, hidden = DENSE[name], 6
    # Two full batches of training rows and a short one; one full one and a short one to validate.
    valid, train = spec.batch + 9, 2 * spec.batch + 21
    x, y = data(valid + train, COLUMNS, OUTPUTS)
    # Each member reads a set of its own.
    table = np.stack([x, 2 * x[:, ::-1] - 1], axis=1)
    rates = [rate for rate in spec.dropout if rate]
    masks = Masks(monkeypatch, len(rates))
    design = designs(narrow(spec.recipe, spec.stage, hidden=hidden))[spec.stage]
    stage = built(
        design, tmp_path, member_rows(len(x), valid), table, np.array([0, 1], np.int32), y
    )
    epochs, per_epoch = 6, 3
    found = Trajectory(stage, tmp_path, epochs)
    assert masks.rates == rates
    widths = [COLUMNS, *[hidden] * (len(spec.dropout) - 1)]
    shapes = [(spec.batch, w) for w, rate in zip(widths, spec.dropout, strict=True) if rate]
    uniforms = [Masks.uniforms(i, shape) for i, shape in enumerate(shapes)]
    make = networks.three_layers if len(spec.dropout) == 3 else networks.two_layers
    network, total = make(spec.dropout), spec.epochs * per_epoch
    smoothed = training.smoothed(y, spec.smoothing)
    validated = smoothed if spec.smooth_validation else y
    for index, member in enumerate(stage.members):
        start = jax.tree.map(lambda a, i=index: a[i], found.start)
        reference = Reference(
            start, network, training.cross_entropy, training.TorchAdam, uniforms
        )
        losses, own = [], table[:, index]
        for number, epoch in enumerate(found.epochs):
            state, report = epoch.member(epoch.state, index), epoch.member(epoch.report, index)
            for step, rows in enumerate(found.batch_rows(number, index)):
                loss, gradients = reference.gradients(own[rows], smoothed[rows])
                alike(epoch.step_losses[step, index], loss)
                rate, beta1 = training.one_cycle(
                    number * per_epoch + step, total, spec.pct_start
                )
                reference.optimizer.step(gradients, rate, beta1)
            cuts = np.split(member.valid_rows, [spec.batch])
            losses.append(
                np.mean(reference.losses([(own[rows], validated[rows]) for rows in cuts]))
            )
            alike(report.valid_loss, losses[-1])
            moved_alike(flat(state.params), reference.params, flat(start.params))
            for key, value in flat(state.batch_stats).items():
                alike(value, reference.stats[key])
            if losses[-1] == min(losses):
                kept = dict(reference.params)
            assert state.selected.epoch == np.argmin(losses) + 1 and state.active
            moved_alike(flat(state.selected.params), kept, flat(start.params))
    assert rate < 1e-2 and min(spec.pct_start * total - 1, 99) < epochs * per_epoch
    # All folds of a seed start alike and see their rows in one order.
    jax.tree.map(lambda a: np.testing.assert_array_equal(a[0], a[1]), found.start.key)
    if not name.startswith("simple"):
        first, second = (flat(jax.tree.map(lambda a, i=i: a[i], found.start.params)) for i in (0, 1))
        jax.tree.map(np.testing.assert_array_equal, first, second)
