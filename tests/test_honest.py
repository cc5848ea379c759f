"""Honest runs: no label of a fold reaches, by whatever way, what predicts that fold."""

import dataclasses
import itertools
import shutil

import flax.linen as nn
import jax
import numpy as np
import pytest
import systems

from moa_jax.data import simulate
from moa_jax.data.dataset import Targets
from moa_jax.engine import run
from moa_jax.recipes import finished, prediction, stage_predictions
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir
from moa_jax.training import weights
from moa_jax.training.log_odds import MemberSpread

MODELS = (
    "simple_nn_old",
    "three_stage_nn",
    "nn_tabnet",
    "two_heads_resnet",
    "efficientnet",
    "profile_nn",
    "logistic",
    "trees",
)
# Their choice of a strength, and its loss, are made without the fold.
BASELINES = ("logistic", "trees")


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
    fields = {"split": "group", "folds": 6 if model == "three_stage_nn" else 4}
    if model == "nn_tabnet":
        first = dataclasses.replace(recipe.nonscored, seeds=(0,), split_seeds=(512,))
        fields |= {"nonscored": first, "scored": dataclasses.replace(recipe.scored, seeds=(0,))}
    elif model == "profile_nn":
        fields |= {"members": 4, "widths": (8, 4), "depths": (1, 1)}
        fields["inputs"] = ("standard", "components")
    elif model not in BASELINES:
        fields["seeds"] = (0,)
    if model == "two_heads_resnet":
        fields["freeze_loop"] = "off"  # it trains on the rows that it predicts, and is not reported
    if model == "efficientnet":
        monkeypatch.setattr(
            type(recipe), "image_network", lambda self, outputs: SmallImageNetwork(outputs)
        )
    config = systems.tiny(model, honest=True, parallel={"strategy": "vmap"})
    recipe = dataclasses.replace(recipe, **fields).honest()
    return dataclasses.replace(config, models={model: recipe})


def made(num_folds, own_fold):
    """Returns rows whose groups are the folds, two compounds in each.

    One non-scored mechanism is that of rows of one fold alone.
    """
    data = simulate.make(rows=90, seed=3, genes=8, cells=4, scored=3, nonscored=3, test_rows=5)
    generator = np.random.default_rng(0)
    groups = generator.permutation(np.arange(len(data)) % num_folds)
    values = data.nonscored.values.copy()
    values[:, 2] = (groups == own_fold) & ~data.is_control & (generator.random(len(data)) < 0.5)
    return dataclasses.replace(
        data,
        nonscored=Targets(data.nonscored.names, values),
        groups=groups.astype(str).astype(object),
        drug_id=np.array([f"{group}-{generator.integers(2)}" for group in groups], object),
    )


def flipped(dataset, fold):
    """Returns the data with every label of one fold's treated rows turned round."""
    own = (dataset.groups == str(fold)) & ~dataset.is_control

    def turned(targets):
        return Targets(targets.names, np.where(own[:, None], 1 - targets.values, targets.values))

    nonscored = turned(dataset.nonscored)
    nonscored.values[:, 2] = 0
    return dataclasses.replace(dataset, scored=turned(dataset.scored), nonscored=nonscored)


def files_without(workdir, model, fold, block):
    """Returns the files of members and transforms that leave out the fold or its block."""
    folder = workdir / model
    found = [*folder.glob("*/members/*.npz"), *folder.glob("*/features/*")]
    found += workdir.glob("feature_maps/*/*")
    wanted = []
    for path in found:
        place = path.stem.split("_")[-1]
        many = place.startswith("without")
        left_out = place.removeprefix("without" if many else "fold").split("-")
        if str(block if many else fold) in left_out:
            wanted += [path] if path.is_file() else sorted(path.iterdir())
    return [path.relative_to(workdir) for path in wanted]


def flat(variables):
    """The arrays of a network as bytes, by their path."""
    return {
        jax.tree_util.keystr(path): array.tobytes()
        for path, array in jax.tree_util.tree_leaves_with_path(variables)
    }


# Both take half a minute, and share with the others what keeps labels apart.
SLOW = ("two_heads_resnet", "efficientnet")


@pytest.mark.parametrize(
    "model",
    [pytest.param(m, marks=pytest.mark.slow if m in SLOW else ()) for m in MODELS],
)
def test_labels_of_a_fold_change_nothing_that_predicts_it(tmp_path, model, monkeypatch):
    config = small(model, monkeypatch)
    recipe = config.models[model]
    fold = recipe.folds - 1
    dataset = made(recipe.folds, fold)
    for name, data in {"here": dataset, "there": flipped(dataset, fold)}.items():
        run.train(config, Workdir(tmp_path / name), data)
    here, there = tmp_path / "here", tmp_path / "there"
    block = fold % getattr(recipe, "nested_blocks", recipe.folds)
    compared = files_without(here, model, fold, block)
    trained = {path.parent.name for path in (here / model).glob("*/metrics.json")}
    assert {path.parts[1] for path in compared if path.parts[0] == model} == trained
    for path in compared:
        if model == "profile_nn" and path.parent.name == "members":
            # Beside the weights is the fold's loss, which no rule has looked at.
            one, two = (flat(weights.read(run / path).variables) for run in (here, there))
            assert one == two, path
            continue
        assert (here / path).read_bytes() == (there / path).read_bytes(), path

    own = dataset.groups[~dataset.is_control] == str(fold)
    one, two = (Predictions.read(run / model / "oof.parquet").values for run in (here, there))
    np.testing.assert_array_equal(one[own], two[own])
    assert (one[~own] != two[~own]).any()  # the other folds' networks did train on it
    if model == "profile_nn":  # an ensemble reads its seeds, and means over them are kept by none
        assert list(here.rglob("seeds.npz")) and not list(here.rglob("nested.npz"))
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


class CountedSpread(MemberSpread):
    """A spread that knows how many members it is of."""

    members = 0

    def add(self, odds, weights):
        self.members += len(weights)
        super().add(odds, weights)


def check_nested(recipe, dataset, context):
    """Rows of left out blocks are predicted as new ones are; others by those that left them out."""
    rows = recipe.rows(dataset)
    designs = list(systems.designs(recipe).values())
    block = designs[-1].split(rows).folds[0] % recipe.nested_blocks
    spread = CountedSpread()
    again = prediction.trained(designs, context)(rows, spread)
    # It is over the networks that predict, not over those that they read.
    assert spread.members == len(finished.trained_members(context, designs[-1])[0])
    assert spread.values().shape == again[designs[-1].name].whole.shape
    for design in designs[:-1]:
        stored = stage_predictions.read_nested(context.folder / design.name)
        made = again[design.name].nested
        assert stored.keys() == made.keys()
        assert stored.keys() == {
            tuple(c)
            for c in itertools.combinations(range(recipe.nested_blocks), len(next(iter(made))))
        }
        for blocks, values in stored.items():
            inside = np.isin(block, blocks)
            np.testing.assert_allclose(values[inside], made[blocks][inside], rtol=0, atol=1e-5)
            assert (np.abs(values[~inside] - made[blocks][~inside]) > 1e-5).any()
