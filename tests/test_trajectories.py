"""Every stage of every recipe against plain numpy: steps over epochs with given dropout masks.

Hyperparameters are the recipes' own defaults, batches and lengths of schedules included; only
widths are smaller. What is written here are the originals' numbers, of which none is read from the
recipes: rates of dropout, smoothing, the optimiser and its constants, the schedule, the decay, the
weighting of validation batches, patience.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest
import reference_networks as networks
import reference_training as training
from systems import context, designs
from trajectories import (
    Masks,
    Reference,
    Rows,
    Trajectory,
    WithHead,
    alike,
    check_selected,
    check_shared_start,
    flat,
    followed,
    member_rows,
    moved_alike,
)

from moa_jax.models.layers import ImageHead
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
    names = type(
        "Targets", (), {"names": range(targets.shape[1]), "values": targets, "known": None}
    )
    return design.stage(context(folder), [design.rows(m) for m in members], arrays, names, **start)


@pytest.mark.parametrize("name", DENSE)
def test_dense_networks(name, tmp_path, monkeypatch):
    """Adam with L2 on one cycle of rate and beta 1; batches alike in validation; the best epoch."""
    spec, hidden, epochs, per_epoch = DENSE[name], 6, 6, 3
    # Two full batches of training rows and a short one; one full one and a short one to validate.
    valid, train = spec.batch + 9, 2 * spec.batch + 21
    x, y = data(valid + train, COLUMNS, OUTPUTS)
    # Each member reads a set of its own.
    table = np.stack([x, 2 * x[:, ::-1] - 1], axis=1)
    rates = [rate for rate in spec.dropout if rate]
    masks = Masks(monkeypatch, len(rates))
    design = designs(narrow(spec.recipe, spec.stage, hidden=hidden))[spec.stage]
    numbers = np.array([0, 1], np.int32)
    stage = built(design, tmp_path, member_rows(len(x), valid), table, numbers, y)
    found = Trajectory(stage, tmp_path, epochs)
    assert masks.rates == rates
    widths = [COLUMNS, *[hidden] * (len(spec.dropout) - 1)]
    shapes = [(spec.batch, w) for w, rate in zip(widths, spec.dropout, strict=True) if rate]
    uniforms = [Masks.uniforms(i, shape) for i, shape in enumerate(shapes)]
    make = networks.three_layers if len(spec.dropout) == 3 else networks.two_layers
    smoothed, total = training.smoothed(y, spec.smoothing), spec.epochs * per_epoch
    validated = smoothed if spec.smooth_validation else y
    assert spec.pct_start * total - 1 < epochs * per_epoch - 1, "beyond the peak"
    for index, member in enumerate(stage.members):
        start, own = found.member(found.start, index), table[:, index]
        reference = Reference(
            start, make(spec.dropout), training.cross_entropy, training.TorchAdam, uniforms
        )

        def take_step(gradients, epoch, step, reference=reference):
            at = epoch * per_epoch + step
            reference.optimizer.step(gradients, *training.one_cycle(at, total, spec.pct_start))

        def valid_loss(reference=reference, own=own, member=member):
            cuts = np.split(member.valid_rows, [spec.batch])
            return np.mean(reference.losses([(own[rows], validated[rows]) for rows in cuts]))

        states, losses, kept = [], [], []
        for loss, state in followed(
            found, index, reference, own.__getitem__, smoothed, take_step, valid_loss
        ):
            assert state.active
            states.append(state)
            losses.append(loss)
            kept.append(dict(reference.params))
        check_selected(states, losses, kept, flat(start.params))
    check_shared_start(found, stage)


def test_tabnet(tmp_path):
    """Clipped Adam with L2 over the first milestone; ghost batches; one loss over all rows."""
    batch, per_epoch, epochs = 1024, 2, 3
    valid, train = batch + 9, 2 * batch
    x, y = data(valid + train, COLUMNS + 2, OUTPUTS)
    x[:, 0], x[:, 1] = np.arange(len(x)) % 3, np.arange(len(x)) // 3 % 2
    design = designs(nn_tabnet.Config())["scored"]
    # Steep and wrong at first, so that the norm of the gradients is above 1 in some steps.
    changed = {
        "transformer_0": {"independent_1_norm": {"scale": np.full(128, 4.5)}},
        "final": {"kernel": np.full((32, OUTPUTS), 0.1)},
    }
    stage = built(
        design, tmp_path, member_rows(len(x), valid), x[:, None], np.zeros(2, np.int32), y,
        start=lambda member: {"params": changed},
    )  # fmt: skip
    # The epochs 99, 100 and 101 of 200, counted from 0.
    before = 99 * per_epoch
    found = Trajectory(stage, tmp_path, epochs, steps_before=before)
    smoothed = training.smoothed(y, 0.001)
    for index, member in enumerate(stage.members):
        start, norms = found.member(found.start, index), []
        reference = Reference(
            start, networks.tabnet, training.cross_entropy_epsilon, training.TorchAdam, (), before
        )

        def take_step(gradients, epoch, step, reference=reference, norms=norms):
            gradients, norm = training.clipped(gradients, 1.0, 1e-6)
            norms.append(norm)
            reference.optimizer.step(gradients, 0.02 if epoch == 0 else 0.02 * 0.9)

        def valid_loss(reference=reference, rows=member.valid_rows):
            return reference.losses([(x[rows], smoothed[rows])])[0]

        check_stopping(
            followed(found, index, reference, x.__getitem__, smoothed, take_step, valid_loss),
            training.EarlyStopping(50), reference, start,
        )  # fmt: skip
        assert min(norms) < 1 < max(norms), norms
    check_shared_start(found, stage)


def check_stopping(epochs, stopping, reference, start):
    """Compares end and kept weights of a member with early stopping's; returns its states."""
    states, losses, kept = [], [], []
    for loss, state in epochs:
        assert state.active != stopping.update(loss)[1]
        assert state.stop.waited == stopping.waited
        states.append(state)
        losses.append(loss)
        kept.append(dict(reference.params))
    check_selected(states, losses, kept, flat(start.params))
    return states


def two_heads_stage(name, folder, monkeypatch):
    """A stage of the 2-heads network on three genes and two cells, and both inputs of its rows."""
    config = dataclasses.replace(two_heads_resnet.ORIGINAL["v1"], hidden=6)
    total, valid = 2 * (128 + 9) + 128, 128 + 9
    generator = np.random.default_rng(3)
    table = generator.normal(size=(total, COLUMNS)) * 2 + 1
    # There is little to learn, so that losses of other rows soon rise.
    y = (generator.random((total, OUTPUTS)) < 0.3).astype(np.float64)
    of_fold = {
        "scale/mean": generator.normal(size=(2, COLUMNS)),
        "scale/scale": 1 + generator.random((2, COLUMNS)),
        "gene_components/components": generator.normal(size=(2, 2, 3)),
        "gene_components/mean": generator.normal(size=(2, 3)),
        "cell_components/components": generator.normal(size=(2, 1, 2)),
        "cell_components/mean": generator.normal(size=(2, 2)),
    }
    predictors = np.array([[0, 3], [2, 4]], np.int32)
    masks = Masks(monkeypatch, 2)
    stage = built(
        designs(config)[name], folder, member_rows(total, valid), table,
        {**of_fold, "predictors": predictors}, y,
    )  # fmt: skip

    def inputs(index):
        own = {key: value[index] for key, value in of_fold.items()}
        scaled = (table - own["scale/mean"]) / own["scale/scale"]
        genes, cells = (
            (scaled[:, block] - own[f"{group}_components/mean"])
            @ own[f"{group}_components/components"].T
            for group, block in (("gene", slice(0, 3)), ("cell", slice(3, 5)))
        )
        first = np.concatenate([scaled, genes, cells], axis=1)
        second = scaled[:, predictors[index]]
        return lambda rows: (first[rows], second[rows])

    # After the first normalisation of `output1` and of `answer1`, which reads 3 + 2 columns.
    uniforms = [Masks.uniforms(i, (128, width)) for i, width in enumerate((COLUMNS + 3, 3 + 2))]
    return stage, masks, inputs, training.smoothed(y, 0.0005), uniforms


@pytest.mark.parametrize("name", ["nonscored", pytest.param("scored", marks=pytest.mark.slow)])
def test_two_heads(name, tmp_path, monkeypatch):
    """Keras's Adam, halved on a plateau; patience; a mean over rows; which epoch is kept."""
    stage, masks, inputs, smoothed, uniforms = two_heads_stage(name, tmp_path, monkeypatch)
    epochs = {"nonscored": 18, "scored": 3}[name]
    found = Trajectory(stage, tmp_path, epochs)
    assert masks.rates == [0.2, 0.3] and stage.epochs == 50
    ends, scales = [], []
    for index, member in enumerate(stage.members):
        start, own = found.member(found.start, index), inputs(index)
        reference = Reference(
            start, networks.two_heads, training.cross_entropy, training.KerasAdam, uniforms
        )
        plateau, stopping = training.Plateau(), training.EarlyStopping(10, 1e-5)

        def take_step(gradients, epoch, step, reference=reference, plateau=plateau):
            reference.optimizer.step(gradients, 1e-3 * plateau.scale)

        def valid_loss(reference=reference, own=own, rows=member.valid_rows):
            cuts = [(own(part), smoothed[part]) for part in np.split(rows, [128])]
            return np.average(reference.losses(cuts), weights=[128, 9])

        losses, kept = [], []
        for loss, state in followed(found, index, reference, own, smoothed, take_step, valid_loss):
            losses.append(loss)
            plateau.update(loss)
            better, ended = stopping.update(loss)
            keeps = better if name == "nonscored" else loss == min(losses)
            if keeps:
                kept = len(losses), dict(reference.params)
            assert (state.selected.epoch, state.active) == (kept[0], not ended)
            moved_alike(flat(state.selected.params), kept[1], flat(start.params))
            alike(state.rate.scale, plateau.scale)
            if ended:
                break
        ends.append(ended)
        scales.append(plateau.scale)
    if name == "nonscored":
        assert any(ends) and min(scales) < 1, (ends, scales)
    # Every fold has weights and draws of its own.
    assert (found.start.key[0] != found.start.key[1]).any()
    first, second = (
        found.member(found.start.params, i)["head"]["dense0"]["kernel"] for i in (0, 1)
    )
    assert (first != second).all()


@pytest.mark.slow
def test_loop_of_two_heads(tmp_path, monkeypatch):
    """Adadelta on the rows that are predicted, epoch by epoch while that lowers their loss."""
    stage, masks, inputs, smoothed, uniforms = two_heads_stage("loop", tmp_path, monkeypatch)
    found = Trajectory(stage, tmp_path, 12)
    assert masks.rates == [0.2, 0.3]
    restarts = 0
    for index, member in enumerate(stage.members):
        np.testing.assert_array_equal(member.train_rows, member.valid_rows)
        start, own = found.member(found.start, index), inputs(index)
        reference = Reference(
            start, networks.two_heads, training.cross_entropy, training.Adadelta, uniforms
        )

        def take_step(gradients, epoch, step, reference=reference):
            reference.optimizer.step(gradients, 1e-3 / 5)

        def loss_of_rows(reference=reference, own=own, rows=member.valid_rows):
            cuts = [(own(part), smoothed[part]) for part in np.split(rows, [128])]
            return np.average(reference.losses(cuts), weights=[128, 9])

        rule = training.FreezeLoop(reference, loss_of_rows())
        alike(start.select.loss, rule.best)
        valid_loss = functools.partial(rule.close, loss_of_rows)
        for _, state in followed(found, index, reference, own, smoothed, take_step, valid_loss):
            assert state.active != rule.ended
            moved_alike(flat(state.selected.params), rule.kept[0], flat(start.params))
            for key, value in flat(state.selected.batch_stats).items():
                alike(value, rule.kept[1][key], 1e-9)
            if rule.ended:
                break
        restarts += rule.restarts
    assert restarts


@pytest.mark.parametrize(
    ("losses", "epochs"),
    [
        # A phase without a gain of 1e-6 ends after four epochs, and with it the loop.
        ([1.0, *[1 - 5e-7] * 9], 4),
        # A gain counts as a repeat: two more, and the next failure ends the phase.
        ([1.0, 0.9, *[0.95] * 9], 4 + 4),
        # After three gains the first failure does.
        ([1.0, 0.9, 0.8, 0.7, *[0.75] * 9], 4 + 4),
    ],
)
def test_ends_of_the_loop(losses, epochs):
    rule = (
        two_heads_resnet.Config()
        .loop_stage(name="", forward=None, members=(), shared=None, targets=None)
        .stop
    )
    state, taken = rule.init(), -1
    while not state.stop:
        taken += 1
        state = rule.update(state, jax.numpy.float64(losses[taken]))
    assert taken == epochs


@pytest.mark.parametrize(
    ("name", "batch", "drop_rate", "patience"),
    [("efficientnet_b3", 48, 0.3, 12), ("resnest_v2", 128, 0.2, 16)],
)
def test_image_networks(name, batch, drop_rate, patience, tmp_path, monkeypatch):
    """RAdam with its decay, clipped, on the cosine; smoothed training and hard validation targets.

    The head of the recipe's network reads the rows themselves, which stand for pooled features.
    """
    config = deepinsight_cnn.ORIGINAL[name]

    def network(num_outputs):
        whole = config.image_network(num_outputs)
        return WithHead(ImageHead(whole.head_width, num_outputs, whole.drop_rate))

    design = dataclasses.replace(designs(config)["scored"], network=network, features=Rows())
    per_epoch, epochs, valid = 3, 7, batch + 9
    x, y = data(2 * batch + 21 + valid, COLUMNS, OUTPUTS)
    # So large that the norm of the gradients is clipped in some steps.
    x = 2.6 * x
    masks = Masks(monkeypatch, 1)
    stage = built(design, tmp_path, member_rows(len(x), valid), x, (), y)
    found = Trajectory(stage, tmp_path, epochs)
    assert masks.rates == [drop_rate]
    uniforms, smoothed = [Masks.uniforms(0, (batch, COLUMNS))], training.smoothed(y, 0.001)
    for index, member in enumerate(stage.members):
        start, norms = found.member(found.start, index), []
        assert start.params["head"]["dense1"]["kernel"].shape == (COLUMNS, 512)
        reference = Reference(
            start, networks.image_head(drop_rate), training.cross_entropy, training.RAdam, uniforms
        )

        def take_step(gradients, epoch, step, reference=reference, norms=norms):
            gradients, norm = training.clipped(gradients, 10.0, 1e-5)
            norms.append(norm)
            reference.optimizer.step(gradients, 3.52e-4 * (1 + np.cos(np.pi * epoch / 5)) / 2)

        def valid_loss(reference=reference, rows=member.valid_rows):
            return reference.losses([(x[rows], y[rows])])[0]

        states = check_stopping(
            followed(found, index, reference, x.__getitem__, smoothed, take_step, valid_loss),
            training.EarlyStopping(patience, 1e-6), reference, start,
        )  # fmt: skip
        # The rate of the epoch 5 is 0.
        resting = [flat(state.params) for state in states[4:6]]
        jax.tree.map(np.testing.assert_array_equal, *resting)
        assert min(norms) < 10 < max(norms), norms
    assert (found.start.key[0] != found.start.key[1]).any()
    assert stage.epochs == 200 and len(found.epochs[0].step_losses) == per_epoch
