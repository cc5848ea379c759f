"""Honest runs: no label of a fold reaches, by whatever way, what predicts that fold."""

import dataclasses
import itertools
import shutil

import flax.linen as nn
import numpy as np
import pytest
import systems

from moa_jax.command import run
from moa_jax.data import simulate
from moa_jax.data.dataset import Targets
from moa_jax.recipes import stage_predictions, system
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir

FOLDS = 4
MODELS = ("simple_nn_old", "three_stage_nn", "nn_tabnet", "two_heads_resnet", "efficientnet")


class SmallImageNetwork(nn.Module):
    """Stands for an image network: what leaks, leaks before it."""

    num_outputs: int

    @nn.compact
    def __call__(self, x, mask=None, train=False):
        x = nn.relu(nn.Conv(4, (3, 3), strides=2)(x)).mean((1, 2))
        return nn.Dense(self.num_outputs)(x)


def small(model, monkeypatch):
    """Returns the honest run of a model on folds of its file, one seed for each stage."""
    recipe = systems.tiny(model).models[model]
    fields = {"split": "group", "folds": FOLDS}
    if model == "nn_tabnet":
        first = dataclasses.replace(recipe.nonscored, seeds=(0,), split_seeds=(512,))
        fields |= {"nonscored": first, "scored": dataclasses.replace(recipe.scored, seeds=(0,))}
    else:
        fields["seeds"] = (0,)
    if model == "two_heads_resnet":
        fields["freeze_loop"] = "off"
    if model == "efficientnet":
        monkeypatch.setattr(
            type(recipe), "image_network", lambda self, outputs: SmallImageNetwork(outputs)
        )
    config = systems.tiny(model, honest=True, parallel={"strategy": "vmap"})
    recipe = dataclasses.replace(recipe, **fields).honest()
    return dataclasses.replace(config, models={model: recipe})


@pytest.fixture(scope="module")
def dataset():
    """Rows whose groups are the folds, and no compounds: every row may be in any of them."""
    data = simulate.make(rows=90, seed=3, genes=8, cells=4, scored=3, nonscored=3, test_rows=5)
    groups = np.random.default_rng(0).permutation(np.arange(len(data)) % FOLDS)
    return dataclasses.replace(data, groups=groups.astype(str).astype(object), drug_id=None)


def permuted(dataset, fold):
    """Returns the data with the labels of one fold's treated rows dealt out anew among them."""
    own = np.flatnonzero((dataset.groups == str(fold)) & ~dataset.is_control)
    order = np.random.default_rng(1).permutation(own)

    def dealt(targets):
        values = targets.values.copy()
        values[own] = values[order]
        assert (values != targets.values).any()
        return Targets(targets.names, values)

    return dataclasses.replace(
        dataset, scored=dealt(dataset.scored), nonscored=dealt(dataset.nonscored)
    )


def names_without(folder, fold):
    """Returns the files of members, and the folders of transforms, that leave out the fold."""
    found = set()
    for path in [*folder.glob("*/members/*.npz"), *folder.glob("*/features/*")]:
        place = path.stem.split("_")[-1]
        left_out = place.removeprefix("fold").removeprefix("without").split("-")
        if str(fold) in left_out:
            found.add(path.relative_to(folder))
    return found


@pytest.mark.parametrize("model", MODELS)
def test_labels_of_a_fold_change_nothing_that_predicts_it(dataset, tmp_path, model, monkeypatch):
    config, fold = small(model, monkeypatch), 1
    recipe = config.models[model]
    for name, data in {"here": dataset, "there": permuted(dataset, fold)}.items():
        run.train(config, Workdir(tmp_path / name), data)
    here, there = (tmp_path / name / model for name in ("here", "there"))
    stages = {path.parent.name for path in here.glob("*/metrics.json")}
    compared = names_without(here, fold)
    assert {path.parts[0] for path in compared} == stages
    for path in compared:
        files = [here / path] if (here / path).is_file() else sorted((here / path).iterdir())
        for file in files:
            other = there / file.relative_to(here)
            assert file.read_bytes() == other.read_bytes(), file

    own = dataset.groups[~dataset.is_control] == str(fold)
    one, two = (Predictions.read(folder / "oof.parquet").values for folder in (here, there))
    np.testing.assert_array_equal(one[own], two[own])
    assert (one[~own] != two[~own]).any()  # the other folds' networks did train on it
    if model in ("three_stage_nn", "nn_tabnet"):
        check_nested(
            recipe,
            dataset,
            dataclasses.replace(systems.context(tmp_path / "here", model), config=config),
        )
    if model == "nn_tabnet":
        check_later_stages_read_the_same_again(config, dataset, tmp_path / "here")


def check_later_stages_read_the_same_again(config, dataset, folder):
    """What a chain goes on from after an interruption is what it went on from at first."""
    oof = folder / "nn_tabnet" / "oof.parquet"
    expected = oof.read_bytes()
    shutil.rmtree(folder / "nn_tabnet" / "scored")
    for name in ("metrics.json", "oof.parquet"):
        (folder / "nn_tabnet" / name).unlink()
    run.train(config, Workdir(folder), dataset)
    assert oof.read_bytes() == expected


def check_nested(recipe, dataset, context):
    """Rows of left out blocks are predicted as new ones are; others by those that left them out."""
    rows = recipe.rows(dataset)
    designs = list(systems.designs(recipe).values())
    block = designs[-1].split(rows).folds[0] % recipe.nested_blocks
    again = system.trained(designs, context)(rows)
    for design in designs[:-1]:
        stored = stage_predictions.read_nested(context.folder / design.name)
        made = again[design.name].nested
        assert stored.keys() == made.keys()
        assert stored.keys() == {
            tuple(c) for c in itertools.combinations(range(FOLDS), len(next(iter(made))))
        }
        for blocks, values in stored.items():
            inside = np.isin(block, blocks)
            np.testing.assert_allclose(values[inside], made[blocks][inside], rtol=0, atol=1e-5)
            assert (np.abs(values[~inside] - made[blocks][~inside]) > 1e-5).any()
