"""Every field of a model's configuration is used: another value makes another stage.

A fold's transforms, inputs, network, losses, optimiser, schedule and rules are reduced to facts that
can be compared; a field that changes none of them anywhere is read by nobody.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import designs, folds_of, inputs_of

from moa_jax.data import simulate
from moa_jax.recipes import deepinsight_cnn, nn_tabnet, simple_nn, three_stage_nn, two_heads_resnet
from moa_jax.recipes.profile import Steps

LOSSES = [1.0, 0.99999, 0.9, 0.89995, 0.899949, *[0.899948] * 25]
STEPS, PER_EPOCH = 14, 2


class Described(Steps):
    """What a profile asks for: names, classes, parameters and rows, but no fit."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def __call__(self, name, new, values, on_train_alone=False):
        made = new()
        self.asked.append(
            (name, type(made).__name__, made.parameters(), on_train_alone, values.shape[1])
        )
        return np.zeros((len(values), made.width((10**6, values.shape[1]))))


@functools.cache
def rows():
    data = simulate.make(rows=60, genes=12, cells=10, scored=3, nonscored=4, test_rows=0, seed=1)
    return data.take(np.flatnonzero(~data.is_control))


def rule_facts(rule, *names):
    """What a rule says about a fixed course of losses."""
    state, found = rule.init(), []
    for loss in LOSSES:
        state = rule.update(state, jnp.float32(loss))
        found.append([float(getattr(state, name)) for name in names if hasattr(state, name)])
    return found


def optimizer_facts(stage):
    """Where fixed gradients, large and small, lead two weights; from the last epochs on, too."""
    total = stage.epochs * PER_EPOCH

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def course(first):
        optimizer = stage.optimizer(jnp.int32(total), jnp.float32(1))
        params = jnp.array([1.0, -3.0])
        start = jax.tree.map(
            lambda a: a + first if jnp.issubdtype(a.dtype, jnp.integer) else a,
            optimizer.init(params),
        )

        def step(carry, gradient):
            params, state = carry
            updates, state = optimizer.update(gradient, state, params)
            return (params + updates, state), params + updates

        gradients = jnp.stack([jnp.array([60.0, 2.0]) / (1 + k) ** 2 for k in range(STEPS)])
        return jax.lax.scan(step, (params, start), gradients)[1]

    return [np.asarray(course(jnp.int32(first))).tolist() for first in (0, total // 2 - STEPS // 2)]


def loss_facts(function, has_aux):
    logits, targets = jnp.array([[3.0, -2.0], [-4.0, 9.0]]), jnp.array([[1.0, 0.0], [0.0, 0.0]])
    outputs = (logits, jnp.float32(-1.5)) if has_aux else logits
    return float(function(outputs, targets, jnp.array([True, True])))


def training_facts(design):
    """Network, losses, optimiser and rules of a stage."""
    stage = design.training(
        name="", forward=None, members=(), shared=None, member_data=(), targets=None
    )
    has_aux = "TabNet" in type(design.network(3)).__name__
    return {
        "network": str(design.network(3)),
        "loss": loss_facts(stage.loss, has_aux),
        "valid_loss": loss_facts(stage.valid_loss or stage.loss, has_aux),
        "valid_weights": np.asarray(stage.valid_weights(jnp.array([4, 1, 0]))).tolist(),
        "optimizer": optimizer_facts(stage),
        "length": (stage.epochs, stage.batch_size, stage.validates_start),
        "share_init": stage.share_init_across_folds,
        "select": rule_facts(stage.select, "better"),
        "stop": rule_facts(stage.stop, "stop"),
        "rate": rule_facts(stage.rate, "scale"),
    }


def input_facts(design):
    """What a stage's inputs are made of, and its folds."""
    features = design.features
    folds = {seed: fold.tolist() for seed, fold in folds_of(design, rows()).items()}
    facts = {"folds": folds, "select_on": design.select_on, "features": str(features)}
    if getattr(features, "profile", None) is not None:
        described = Described()
        columns = features.profile.columns(rows().features, len(rows().genes), described)
        facts["features"] = (described.asked, columns.shape[1], features.transforms)
    return facts


@functools.cache
def facts(recipe):
    found = {"reported": recipe.reported}
    for name, design in designs(recipe).items():
        found[name] = training_facts(design) | input_facts(design)
    return found


RECIPES = {
    "simple_nn": simple_nn.Config(seeds=(0, 1), folds=2),
    "three_stage_nn": three_stage_nn.Config(seeds=(0, 1), folds=2),
    "nn_tabnet": dataclasses.replace(
        nn_tabnet.Config(folds=2),
        nonscored=nn_tabnet.DenseConfig(seeds=(0, 1), split_seeds=(5, 6)),
        scored=nn_tabnet.TabNetConfig(seeds=(0, 1), milestones=(98, 150)),
    ),
    "two_heads_resnet": two_heads_resnet.Config(seeds=(0, 1), folds=2),
    "deepinsight_cnn": deepinsight_cnn.Config(seeds=(0, 1), folds=2),
}
