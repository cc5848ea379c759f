"""Every field of a model's configuration is used: another value makes another stage.

Transforms, inputs, folds, network, losses, optimiser, schedule and rules are reduced to facts that
can be compared; a field that changes none of them anywhere is read by nobody.
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import designs, folds_of

from moa_jax.data import simulate
from moa_jax.errors import UserError
from moa_jax.models.drawn_mlp import DrawnOutputs
from moa_jax.recipes import (
    baseline,
    deepinsight_cnn,
    nn_tabnet,
    profile_nn,
    simple_nn,
    three_stage_nn,
    two_heads_resnet,
)
from moa_jax.recipes.design import Drawn
from moa_jax.recipes.host_stage import HostTraining
from moa_jax.recipes.profile import Steps
from moa_jax.recipes.profile_features import ProfileFeatures
from moa_jax.training.members import MemberId

LOSSES = [1.0, 0.99999, 0.9, 0.89995, 0.899949, *[0.899948] * 14]
STEPS, PER_EPOCH = 8, 2
# Only the report reads these; where weights start has tests of its own.
READ_ELSEWHERE = {"recipe", "cv", "version", "pretrained"}
# Where the next value of the type would not do.
CHANGES = {
    "weight_decay": 0.1, "min_delta": 1e-3, "milestones": (99, 150), "patience": 3,
    "seeds": (0, 7), "split_seeds": (5, 7), "split_seed": 77, "fold_seed": 77,
    "optimizer": "radam", "schedule": "constant", "network": "efficientnet_b0",
    "lambda_sparse": 0.5, "variance_threshold": 0.75, "dtype": "bfloat16", "split": "compound",
    "nested_blocks": 2,
}  # fmt: skip
# Other fields without which one is not read.
WITH = {
    "baseline.components": {"model": "logistic"},
    "frequent_above": {"split": "compound"},
    **dict.fromkeys(
        ("rounds", "tree_rate", "leaves", "leaf_rows", "tree_ridge", "tree_rows", "tree_columns"),
        {"model": "trees"},
    ),
}


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
    rows = data.take(np.flatnonzero(~data.is_control))
    drugs = np.array([f"drug{max(0, n - 18)}" for n in range(len(rows))], object)
    return dataclasses.replace(rows, drug_id=drugs)  # nineteen rows, and one each


def rule_facts(rule, *names):
    """What a rule says about a fixed course of losses."""
    state, found = rule.init(), []
    for loss in LOSSES:
        state = rule.update(state, jnp.float32(loss))
        found.append([float(getattr(state, name)) for name in names if hasattr(state, name)])
    return found


def draws_of(design, member=0):
    """What a member draws, where it does."""
    if design.draws is None:
        return None
    return {name: float(v[0]) for name, v in design.draws([MemberId(member, 0)]).items()}


def optimizer_facts(stage, draws):
    """Where fixed gradients, large and small, lead two weights: from the start and from halfway."""
    total, found = stage.epochs * PER_EPOCH, []
    data = () if draws is None else Drawn((), jax.tree.map(jnp.float32, draws))
    optimizer = stage.optimizer(jnp.int32(total), jnp.float32(1), data)
    for first in (0, total // 2 - STEPS // 2):
        params = jnp.array([1.0, -3.0])
        state = jax.tree.map(
            lambda a, n=first: a + n if jnp.issubdtype(a.dtype, jnp.integer) else a,
            optimizer.init(params),
        )
        for step in range(STEPS):
            gradient = jnp.array([60.0, 2.0]) / (1 + step) ** 3
            updates, state = optimizer.update(gradient, state, params)
            params = params + updates
            found.append(params.tolist())
    return found


def loss_facts(function, network):
    logits, targets = jnp.array([[3.0, -2.0], [-4.0, 40.0]]), jnp.array([[1.0, 0.0], [0.0, 0.0]])
    outputs = {
        "TabNet": (logits, jnp.float32(-1.5)),
        "DrawnMLP": DrawnOutputs(logits, jnp.full((2, 1), 0.1)),
    }.get(type(network).__name__, logits)
    return float(function(outputs, targets, jnp.array([True, True])))


def training_facts(design):
    """Network, losses, rules and optimiser of a stage, cheap ones first."""
    if isinstance(design.training, HostTraining):
        yield repr(design.training)
        return
    stage = design.training(
        name="", forward=None, members=(), shared=None, member_data=(), targets=None
    )
    network = design.network(3)
    yield str(network)
    yield stage.epochs, stage.batch_size, stage.validates_start, stage.share_init_across_folds
    yield stage.epoch_steps, [draws_of(design, member) for member in range(4)]
    lengths = stage.own_epochs or (lambda member: stage.epochs)
    yield [lengths(MemberId(seed, 0)) for seed in range(4)]
    yield [loss_facts(f, network) for f in (stage.loss, stage.valid_loss or stage.loss)]
    yield np.asarray(stage.valid_weights(jnp.array([4, 1, 0]))).tolist()
    yield rule_facts(stage.stop, "stop")
    yield rule_facts(stage.rate, "scale")
    yield rule_facts(stage.select, "better")
    yield optimizer_facts(stage, draws_of(design))


def input_facts(design):
    """What a stage's inputs are made of, and its folds."""
    features = design.features
    yield design.name, design.select_on, design.nesting
    if isinstance(features, ProfileFeatures):
        described, columns = Described(), np.zeros((1, 0))
        if features.profile is not None:
            columns = features.profile.columns(rows().features, len(rows().genes), described)
        yield described.asked, columns.shape[1], features.transforms, features.predictions_of
    else:
        yield str(features)
    folds = folds_of(design, rows())
    yield {seed: fold.tolist() for seed, fold in folds.items()}


def facts(recipe):
    """All facts of a recipe, one after the other; what no stage can be made of is told last."""
    try:
        yield recipe.reported, recipe.left_out({"cells": 0})
        yield recipe.choices, [mean.name for mean in recipe.means]
        every = designs(recipe).values()
        for design in every:
            yield from input_facts(design)
        for design in every:
            yield from training_facts(design)
    except UserError as error:
        yield str(error)


@functools.cache
def usual(name):
    return list(facts(RECIPES[name]))


RECIPES = {
    "simple_nn": simple_nn.Config(seeds=(0, 1), folds=2),
    "three_stage_nn": three_stage_nn.Config(
        seeds=(0, 1), folds=2, scored=three_stage_nn.StageConfig(label_smoothing=0.1)
    ),
    "nn_tabnet": dataclasses.replace(
        nn_tabnet.Config(folds=2),
        nonscored=nn_tabnet.DenseConfig(seeds=(0, 1), split_seeds=(5, 6), label_smoothing=0.1),
        scored=nn_tabnet.TabNetConfig(seeds=(0, 1)),
    ),
    "two_heads_resnet": two_heads_resnet.Config(seeds=(0, 1), folds=2),
    "baseline": baseline.Config(folds=3, model="viability", split="stratified"),
    "profile_nn": profile_nn.Config(members=4, folds=3, depths=(1, 0, 2, 2, 3), split="stratified"),
    "deepinsight_cnn": deepinsight_cnn.Config(seeds=(0, 1), folds=2),
}


def fields(config, above=()):
    """Every field of a configuration, by its path."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from fields(value, (*above, field.name))
        elif field.name not in READ_ELSEWHERE:
            yield (*above, field.name)


def another(config, path):
    """The configuration with another value of one field."""
    name, *rest = path
    value = getattr(config, name)
    if rest:
        return dataclasses.replace(config, **{name: another(value, rest)})
    (field,) = (f for f in dataclasses.fields(config) if f.name == name)
    if type(CHANGES.get(name)) is type(value) and CHANGES[name] != value:
        changed = CHANGES[name]
    elif (options := field.metadata.get("options")) and value in options:
        changed = next(option for option in options if option != value)
    elif isinstance(value, bool):
        changed = not value
    elif isinstance(value, int):
        changed = value + 1
    elif isinstance(value, float):
        changed = value / 2 or 0.125
    else:
        changed = tuple(reversed(value))
    assert changed != value
    return dataclasses.replace(config, **{name: changed})


EVERY = [(name, path) for name, recipe in RECIPES.items() for path in fields(recipe)]


@pytest.mark.parametrize("name", RECIPES)
def test_facts_are_those_of_the_configuration(name):
    """The same configuration, built anew, gives the same facts."""
    assert list(facts(dataclasses.replace(RECIPES[name]))) == usual(name)


@pytest.mark.parametrize(("name", "path"), EVERY, ids=[f"{n}.{'.'.join(p)}" for n, p in EVERY])
def test_every_field_counts(name, path):
    recipe, expected_facts = RECIPES[name], usual(name)
    if others := WITH.get(f"{name}.{path[-1]}", WITH.get(path[-1])):
        recipe = dataclasses.replace(recipe, **others)
        expected_facts = list(facts(recipe))
    changed = facts(another(recipe, path))
    for found, expected in itertools.zip_longest(changed, expected_facts):
        if found != expected:
            return
    pytest.fail("no stage is another one")
