"""The 2-heads network beside Keras: steps and epochs at the original's sizes, as in its v1.

Ours builds the inputs of each member on the device besides, as in the recipe; Keras gets rows that
are scaled already. Keras runs on the backend that KERAS_BACKEND names, PyTorch by default.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.network_rows import Network
from benchmarks.row import Peer, Side

if TYPE_CHECKING:
    from benchmarks.training import Training

GENES, CELLS, TREATMENT, COMPONENTS = 772, 100, 2, 102
# What the original's network of these sizes has.
NUM_PARAMETERS = 2_591_952


class Sizes(NamedTuple):
    """Steps of an epoch, rows per step, targets, and columns of the second input."""

    steps: int = 155
    batch: int = 128
    targets: int = 206
    predictors: int = 447


SIZES = {"tiny": Sizes(2, 16, 5, 20), "quick": Sizes(8), "full": Sizes()}
# The steps that are timed of several members are fewer.
MOST_STEPS = {"tiny": 4, "quick": 16, "full": 310}


def sizes_of(size: str, count: int) -> Sizes:
    sizes = SIZES[size]
    return sizes._replace(steps=max(1, min(sizes.steps, MOST_STEPS[size] // count)))


def data(sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    from benchmarks.training import random_data

    return random_data(sizes.steps * sizes.batch, GENES + CELLS + TREATMENT, sizes.targets)


@functools.lru_cache(1)
def training(size: str, count: int) -> Training:
    """Returns members of the recipe's own network, inputs and training."""
    from benchmarks.training import Training, folds_of
    from moa_jax.features.factors import PrincipalComponents
    from moa_jax.features.standard_scale import StandardScale
    from moa_jax.models.two_heads import TwoHeads
    from moa_jax.recipes import two_heads_inputs
    from moa_jax.recipes.two_heads_resnet import Config
    from moa_jax.training import rules
    from moa_jax.training.stage import Forward

    sizes = sizes_of(size, count)
    table, targets = data(sizes)
    fitted_on = np.random.default_rng(1).normal(size=(500, table.shape[1]))
    fold: dict[str, Any] = {"scale": StandardScale().fit(fitted_on)}
    for group, block, width in (
        ("gene", slice(0, GENES), COMPONENTS - CELLS),
        ("cell", slice(GENES, GENES + CELLS), CELLS),
    ):
        fold[f"{group}_components"] = PrincipalComponents(width).fit(fitted_on[:, block])
    stage = Config(batch_size=sizes.batch).adam_stage(
        lambda stop: rules.lowest_loss(),
        name="benchmark/scored",
        forward=Forward(TwoHeads(sizes.targets), two_heads_inputs.two_inputs, inner="auto"),
        members=folds_of(len(table), count),
        shared=table,
        targets=targets,
        member_data=two_heads_inputs.member_data(
            [fold] * count, np.arange(sizes.predictors, dtype=np.int32)
        ),
    )
    return Training(stage)


@functools.cache
def flops(sizes: Sizes) -> float:
    from benchmarks.training import forward_flops
    from moa_jax.models.two_heads import TwoHeads

    first = GENES + CELLS + TREATMENT + COMPONENTS
    shapes = [(sizes.batch, first), (sizes.batch, sizes.predictors)]
    return forward_flops(TwoHeads(sizes.targets), shapes)


def keras_network(sizes: Sizes) -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    from keras import Input, Model, Sequential, layers, losses, optimizers

    def dense(*widths, dropout=0.0):
        block = Sequential()
        for index, (width, activation) in enumerate(widths):
            block.add(layers.BatchNormalization())
            if index == 0 and dropout:
                block.add(layers.Dropout(dropout))
            block.add(layers.Dense(width, activation))
        return block

    def joined(*inputs):
        return layers.Concatenate()(list(inputs))

    input1 = Input((GENES + CELLS + TREATMENT + COMPONENTS,))
    input2 = Input((sizes.predictors,))
    output1 = dense((512, "elu"), (256, "elu"), dropout=0.2)(input1)
    answer1 = dense((512, "relu"), dropout=0.3)(joined(output1, input2))
    answer2 = dense((512, "elu"), (256, "relu"))(joined(output1, input2, answer1))
    answer3 = dense((256, "elu"))(joined(answer1, answer2))
    answer3b = dense((256, "relu"))(joined(answer1, answer2, answer3))
    answer4 = dense((256, "selu"), (206, "selu"))(joined(output1, answer2, answer3, answer3b))
    model = Model([input1, input2], dense((sizes.targets, "sigmoid"))(answer4))
    if sizes[2:] == Sizes()[2:] and model.count_params() != NUM_PARAMETERS:
        raise ValueError(f"expected {NUM_PARAMETERS} parameters, found {model.count_params()}")
    model.compile(optimizers.Adam(1e-3), losses.BinaryCrossentropy(label_smoothing=5e-4))
    return model


def keras_fit(count: int, validates: bool, size: str) -> Side:
    """Returns the side that takes an epoch's steps of one network, and validates it if asked."""
    sizes = sizes_of(size, count)
    model, (inputs, targets) = keras_network(sizes), keras_data(sizes)
    train = sizes.steps * sizes.batch
    near, far = [a[:train] for a in inputs], [a[train:] for a in inputs]
    after = {"validation_data": (far, targets[train:])} if validates else {}

    def run() -> None:
        model.fit(near, targets[:train], batch_size=sizes.batch, epochs=1, verbose=0, **after)

    return Side(run, 1 if validates else sizes.steps)


def keras_data(sizes: Sizes) -> tuple[list[np.ndarray], np.ndarray]:
    table, targets = data(sizes)
    inputs = [np.concatenate([table, table[:, :COMPONENTS]], axis=1), table[:, : sizes.predictors]]
    return inputs, targets


def keras_forward(size: str) -> Side:
    sizes = sizes_of(size, 1)
    model, (inputs, _) = keras_network(sizes), keras_data(sizes)
    return Side(lambda: model.predict(inputs, batch_size=sizes.batch, verbose=0), len(inputs[0]))


def _keras(side: Callable[[str], Side]) -> dict[str, Peer]:
    return {"Keras": Peer(side, ("keras",), "keras moa-jax[torch]")}


NETWORK = Network(
    "two_heads",
    training,
    lambda size: flops(SIZES[size]),
    lambda count, validates: _keras(functools.partial(keras_fit, count, validates)),
    _keras(keras_forward),
)
ROWS = (*NETWORK.of_one(), *NETWORK.of_several("members", "at once", (5, 10)))
