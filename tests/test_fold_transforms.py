"""Transforms of a fold: what they are fitted on, and which members read them, for every recipe."""

import dataclasses

import jax
import numpy as np
import pytest
import toy_system
from systems import built_on_folds, context, inputs_by, own_inputs, stored_set

from moa_jax.data import simulate
from moa_jax.data.dataset import Targets
from moa_jax.recipes import (
    deepinsight_cnn,
    nn_tabnet,
    simple_nn,
    system,
    three_stage_nn,
    two_heads_resnet,
)
from moa_jax.training import weights
from moa_jax.training.members import Member

PER_FOLD = {"transforms": "per_fold"}


def tabnet_config():
    few = {"seeds": (0, 1)}
    config = nn_tabnet.Config(same_folds=True, **PER_FOLD)
    dense = dataclasses.replace(
        config.nonscored, umap=False, split_seeds=(512, 0), gene_components=3, cell_components=2,
        variance_threshold=0.0, **few,
    )  # fmt: skip
    tabnet = dataclasses.replace(
        config.scored, gene_factors=2, cell_factors=1, gene_clusters=3, cell_clusters=2, **few
    )
    return dataclasses.replace(config, nonscored=dense, scored=tabnet)


RECIPES = {
    "simple_nn": simple_nn.Config(
        seeds=(0, 1), gene_factors=2, cell_factors=1, gene_clusters=3, cell_clusters=2, **PER_FOLD
    ),
    "three_stage_nn": three_stage_nn.Config(
        seeds=(0, 1), same_folds=True,
        features=three_stage_nn.FeaturesConfig(gene_factors=2, cell_factors=1, umap=False),
        **PER_FOLD,
    ),
    "nn_tabnet": tabnet_config(),
    "two_heads_resnet": two_heads_resnet.Config(
        seeds=(0, 1), freeze_loop="off", predictors="t_test", num_predictors=4, gene_components=2,
        cell_components=2,
    ),
    "deepinsight_cnn": deepinsight_cnn.Config(
        seeds=(0, 1), folds=3, resolution=8, embedding="pca", pretrained="none",
    ),
}  # fmt: skip
STAGES = [
    ("simple_nn", "scored"), ("three_stage_nn", "nonscored"), ("three_stage_nn", "scored"),
    ("three_stage_nn", "stacked"), ("nn_tabnet", "nonscored"), ("nn_tabnet", "scored"),
    ("two_heads_resnet", "nonscored"), ("two_heads_resnet", "scored"),
    ("deepinsight_cnn", "scored"),
]  # fmt: skip


def data():
    return simulate.make(rows=66, genes=7, cells=5, scored=3, nonscored=4, test_rows=9, seed=2)


def earlier(rows):
    generator = np.random.default_rng(0)
    return {
        "nonscored": generator.random((len(rows), 4)), "scored": generator.random((len(rows), 3))
    }  # fmt: skip


def disturbed(recipe, dataset, chosen):
    """The data with other features and labels in some of the recipe's rows."""
    rows = np.flatnonzero(np.isin(dataset.ids, recipe.rows(dataset).ids[chosen]))
    features, generator = dataset.features.copy(), np.random.default_rng(9)
    features[rows] = 2 * generator.normal(size=(len(rows), features.shape[1])) - 1

    def other(targets):
        values = targets.values.copy()
        values[rows] = generator.integers(0, 2, values[rows].shape)
        return Targets(targets.names, values)

    return dataclasses.replace(
        dataset, features=features, scored=other(dataset.scored), nonscored=other(dataset.nonscored)
    )


def facts(transforms):
    """Parameters and learned arrays of transforms, to compare."""
    return {name: (made.parameters(), made.state()) for name, made in transforms.items()}


def equal(first, second):
    same = jax.tree.map(np.array_equal, first, second)
    return jax.tree.structure(first) == jax.tree.structure(second) and jax.tree.all(same)


@pytest.mark.parametrize(("recipe", "stage"), STAGES)
def test_rows_of_a_fold_do_not_move_its_transforms(recipe, stage, tmp_path):
    """They move those of every other fold; each member reads its own, and no other."""
    recipe, dataset = RECIPES[recipe], data()
    rows = recipe.rows(dataset)
    fold_of_row = np.arange(len(rows)) % 3
    predictions = earlier(rows)
    made = built_on_folds(recipe, dataset, tmp_path / "a", stage, fold_of_row, predictions)
    chosen = fold_of_row == 1
    others = {name: np.where(chosen[:, None], 0.5, p) for name, p in predictions.items()}
    built_on_folds(
        recipe, disturbed(recipe, dataset, chosen), tmp_path / "b", stage, fold_of_row, others
    )
    assert [member.fold for member in made.members] == [0, 1, 2] * 2
    for member in made.members:
        before, after = (
            facts(stored_set(recipe, tmp_path / run, stage, member)) for run in ("a", "b")
        )
        owns = recipe.recipe == "three_stage_nn" and stage == "scored"
        # The second stage of the three reads the profile of the first, and fits predictions only.
        assert before and (not owns or before.keys() == {"predictions"})
        assert equal(before, after) == (member.fold == 1), member
    found = own_inputs(made)
    for member, read in zip(made.members, found, strict=True):
        expected = inputs_by(recipe, rows, tmp_path / "a", stage, member, predictions)
        for part, own in zip(read, expected, strict=True):
            np.testing.assert_allclose(part, own, rtol=0, atol=1e-6)
    for fold in (1, 2):
        assert (found[fold][0] != found[0][0]).any()


def test_transforms_of_a_fold_know_controls_and_no_test_rows(tmp_path):
    recipe, dataset = RECIPES["three_stage_nn"], data()
    fold_of_row = np.arange((~dataset.is_control).sum()) % 3
    test = dataclasses.replace(dataset.test, features=dataset.test.features + 5)
    features = dataset.features + 5 * dataset.is_control[:, None]
    runs = {
        "a": dataset,
        "test": dataclasses.replace(dataset, test=test),
        "controls": dataclasses.replace(dataset, features=features),
    }
    for name, rows in runs.items():
        made = built_on_folds(recipe, rows, tmp_path / name, "nonscored", fold_of_row)
    for member in made.members:
        first, of_test, of_controls = (
            facts(stored_set(recipe, tmp_path / name, "nonscored", member)) for name in runs
        )
        assert equal(first, of_test) and not equal(first, of_controls)


def test_members_of_a_fold_predict_new_rows_by_its_transforms(tmp_path):
    """Read back from the work folder, as `infer` does; the members' mean, by plain numpy."""
    recipe = toy_system.Config(folds=2, seeds=(0,), epochs=1, transforms="per_fold")
    dataset, own = data(), context(tmp_path)
    system.fit(recipe, dataset, own)
    rows = dataset.test.take(np.flatnonzero(~dataset.test.is_control))
    found = system.load(recipe, own, dataset.scored.names)(rows).values
    expected = []
    for fold in (0, 1):
        member = Member(0, fold, *[np.zeros(0, int)] * 3)
        (components,) = stored_set(recipe, tmp_path, "scored", member).values()
        kept = weights.read(own.folder / "scored" / "members" / f"{member.name}.npz")
        layer = kept.variables["params"]["Dense_0"]
        columns = (rows.features - components.mean_) @ components.components_.T
        expected.append(1 / (1 + np.exp(-(columns @ layer["kernel"] + layer["bias"]))))
    np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 1e-2
