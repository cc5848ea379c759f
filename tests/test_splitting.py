"""Splits: what folds keep whole in every recipe, and what a hold-out does."""

import dataclasses

import numpy as np
import pytest
import systems

from moa_jax.config import PredictionFiles
from moa_jax.data import folds, simulate
from moa_jax.engine import run
from moa_jax.errors import UserError
from moa_jax.recipes import simple_nn
from moa_jax.recipes.notes import of_split, split_record
from moa_jax.training import members

MODELS = ("simple_nn_old", "simple_nn_new", "three_stage_nn", "nn_tabnet", "two_heads_resnet",
          "efficientnet")  # fmt: skip
TREATED = 24


@pytest.fixture(scope="module")
def dataset():
    """Twelve compounds, two of them of 24 wells, and controls, which are no compound."""
    data = simulate.make(rows=160, seed=2, genes=4, cells=2, scored=3, nonscored=3, test_rows=0)
    treated = np.flatnonzero(~data.is_control)
    drugs = np.full(len(data), "DMSO", object)
    names = [f"drug{min(n // TREATED, 1) if n < 2 * TREATED else n % 10 + 2}" for n in range(160)]
    drugs[treated] = names[: len(treated)]
    return dataclasses.replace(data, drug_id=drugs)


def splits(recipe, dataset):
    rows = recipe.rows(dataset)
    found = [design.split(rows) for design in systems.designs(recipe).values()]
    return rows, [(one, fold_of_row) for one in found for fold_of_row in one.folds.values()]


@pytest.mark.parametrize("model", MODELS)
def test_honest_folds_keep_every_compound_whole(dataset, model):
    recipe = systems.tiny(model, honest=True).models[model]
    rows, found = splits(dataclasses.replace(recipe, folds=4), dataset)
    assert found
    for split, fold_of_row in found:
        for drug in set(rows.drug_id) - {"DMSO"}:
            own = rows.drug_id == drug
            assert len(set(fold_of_row[own])) == len(set(split.units[own])) == 1
        if rows.is_control.any():  # controls are rows of the image network, and no compound
            assert len(set(fold_of_row[rows.is_control])) == 4
            assert len(set(split.units)) == len(set(rows.drug_id)) - 1 + rows.is_control.sum()


@pytest.mark.parametrize("model", MODELS)
def test_the_original_spreads_compounds(dataset, model):
    """All wells of a compound in one fold would be chance; frequent ones are spread by rule."""
    recipe = systems.tiny(model).models[model]
    rows, found = splits(recipe, dataset)
    for _, fold_of_row in found:
        parted = folds.parted_groups(rows.drug_id[~rows.is_control], fold_of_row[~rows.is_control])
        assert parted[0] == 2 if model == "simple_nn_new" else parted[0] > 5


@pytest.mark.parametrize("groups", ["compound", "none", "auto"])
def test_a_run_says_what_all_folds_keep_whole(dataset, groups):
    config = systems.tiny(*MODELS, honest=True, data={"groups": groups})
    kept = {name: model.kept(dataset).whole for name, model in config.models.items()}
    rows = {"rows"} if groups == "none" else {"compounds"}
    new = kept.pop("simple_nn_new")
    assert set(kept.values()) == rows and new == "compounds"


def test_without_compounds_honest_folds_are_made_row_by_row(dataset):
    unknown = dataclasses.replace(dataset, drug_id=None)
    recipe = systems.tiny("three_stage_nn", honest=True).models["three_stage_nn"]
    rows, [(split, _), *_] = splits(dataclasses.replace(recipe, folds=4), unknown)
    record = split_record(recipe, rows, split)
    assert record == {"kept_whole": "rows", "compounds": None}
    assert "without train_drug, replicates of a compound may be in several folds" in of_split(
        record
    )


def test_the_record_counts_compounds_in_several_folds(dataset):
    recipe = dataclasses.replace(simple_nn.ORIGINAL["new"], folds=4)
    rows = recipe.rows(dataset)
    record = split_record(recipe, rows, recipe.split_rows(rows))
    assert record == {"kept_whole": "compounds of at most 18 rows", "compounds": 12, "parted": 2,
                      "shared_rows": 2 * TREATED}  # fmt: skip
    assert of_split(record) == (
        "Folds keep compounds of at most 18 rows whole: 2 of 12 compounds are in several folds, "
        "with 48 rows."
    )


def test_controls_are_no_compound_of_the_record(dataset):
    recipe = systems.tiny("efficientnet").models["efficientnet"]
    rows = recipe.rows(dataset)
    assert rows.is_control.any()
    assert split_record(recipe, rows, recipe.split_rows(rows))["compounds"] == 12


def test_frequent_compounds_are_no_exception_where_there_are_none(dataset):
    recipe = dataclasses.replace(simple_nn.ORIGINAL["new"], frequent_above=TREATED)
    assert recipe.kept(dataset).whole == "compounds"


def test_as_many_groups_as_folds_are_the_folds(dataset):
    groups = np.array([str(9 + n % 5) for n in range(len(dataset))], object)
    groups[dataset.is_control] = ""
    data = dataclasses.replace(dataset, groups=groups)
    recipe = dataclasses.replace(simple_nn.Config(), split="group")
    rows = recipe.rows(data)
    split = recipe.split_rows(rows)
    assert recipe.kept(data).whole == "groups"
    for fold_of_row in split.folds.values():
        assert [str(9 + fold) for fold in fold_of_row] == rows.groups.tolist()
    assert len(set(split.units)) == 12  # the hold-out still keeps compounds whole
    fewer = dataclasses.replace(recipe, folds=3)
    assert fewer.kept(data).whole == "groups"
    found = fewer.split_rows(rows).folds[fewer.seeds[0]]
    assert folds.parted_groups(rows.groups, found) == (0, 0)


# The splitter's seeds of the last stage, by the training seeds of `e2e/tiny.py`.
SPLIT_SEEDS = {
    "simple_nn_old": {0: 42, 1: 42}, "simple_nn_new": {0: 34, 1: 34},
    "three_stage_nn": {0: 4, 1: 4}, "nn_tabnet": {0: 0, 1: 1}, "two_heads_resnet": {0: 0, 1: 1},
    "efficientnet": {1120: 1120},
}  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_stratified_folds_are_those_of_the_shared_splitter(dataset, model):
    recipe = dataclasses.replace(systems.tiny(model).models[model], split="stratified", folds=3)
    design = list(systems.designs(recipe).values())[-1]
    rows = recipe.rows(dataset)
    found = design.split(rows)
    assert found.units is None and found.folds.keys() == SPLIT_SEEDS[model].keys()
    for seed, split_seed in SPLIT_SEEDS[model].items():
        expected = folds.multilabel_stratified(rows.targets.values, 3, split_seed, shuffle=True)
        np.testing.assert_array_equal(found.folds[seed], expected)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"split": "compound", "folds": 13}, "folds: expected at most as many as there are compou"),
        ({"split": "group"}, "split: expected groups for split=group, found none; set config.data"),
    ],
)
def test_what_cannot_be_kept_whole_is_told(dataset, fields, message):
    recipe = dataclasses.replace(simple_nn.Config(), frequent_above=0, **fields)
    with pytest.raises(UserError, match=message):
        recipe.check(dataset)


def test_compounds_must_be_known_to_be_kept_whole(dataset):
    recipe = dataclasses.replace(simple_nn.Config(), split="compound")
    with pytest.raises(UserError, match="train_drug: expected for split=compound, found none"):
        recipe.check(dataclasses.replace(dataset, drug_id=None))


def test_a_holdout_keeps_units_whole():
    units = np.repeat(np.arange(20), 10)
    fold_of_row = units % 4
    made = members.cross_validation({0: fold_of_row, 1: fold_of_row}, 0, "holdout", units)
    drawn = set()
    for member in made:
        held, kept = set(units[member.select_rows]), set(units[member.train_rows])
        assert not held & kept and len(member.select_rows) == 10  # of 15, in tens
        assert sorted([*member.train_rows, *member.select_rows, *member.valid_rows]) == list(
            range(200)
        )
        drawn.add(tuple(sorted(held)))
    assert len(drawn) > len(made) // 2


def test_a_holdout_is_a_tenth_at_most_or_the_smallest_unit():
    units = np.repeat(np.arange(12), [90, 60, *[5] * 10])
    fold_of_row = np.where(units <= 1, 0, 1)
    drawn = [
        members.cross_validation({seed: fold_of_row}, 0, "holdout", units)[0] for seed in range(9)
    ]
    assert {len(member.select_rows) for member in drawn} == {5}  # of 50, in fives
    assert len({tuple(units[member.select_rows]) for member in drawn}) > 3
    two = np.repeat(np.arange(4), [40, 3, 30, 2])
    first, second = members.cross_validation({0: two // 2}, 0, "holdout", two)
    assert (len(first.select_rows), len(first.train_rows)) == (2, 30)
    assert (len(second.select_rows), len(second.train_rows)) == (3, 40)
    with pytest.raises(UserError, match="expected training rows of at least two compounds"):
        members.cross_validation({0: two // 2}, 0, "holdout", two * 0)


def test_a_chain_that_leaves_too_few_compounds_is_told_before_training(dataset):
    few = np.array([f"drug{n % 4}" for n in range(len(dataset))], object)
    config = systems.tiny("three_stage_nn", honest=True)
    recipe = dataclasses.replace(config.models["three_stage_nn"], folds=4, nested_blocks=4)
    config = dataclasses.replace(config, models={"three_stage_nn": recipe})
    expected = "config.models.three_stage_nn: folds: expected training rows of at least two comp"
    with pytest.raises(UserError, match=expected):
        run.check(config, dataclasses.replace(dataset, drug_id=few))
    run.check(config, dataset)


def test_a_chain_of_few_folds_is_told(dataset):
    config = systems.tiny("three_stage_nn", honest=True)
    with pytest.raises(UserError, match="three_stage_nn: folds: expected at least 4 for a nested"):
        run.check(config, dataset)


def test_groups_of_any_size_are_kept_whole(dataset):
    """Eighteen rows are the original's rule for compounds, not for plates."""
    plates = np.array([f"plate{n // 20}" for n in range(len(dataset))], object)
    recipe = dataclasses.replace(simple_nn.Config(), split="group", folds=3)
    rows = recipe.rows(dataclasses.replace(dataset, groups=plates))
    split = recipe.split_rows(rows)
    for fold_of_row in split.folds.values():
        assert folds.parted_groups(rows.groups, fold_of_row) == (0, 0)
    assert len(set(split.units)) == 8


def test_searched_weights_need_like_splits(dataset):
    config = systems.tiny("simple_nn_old", "simple_nn_new", blend={})
    with pytest.raises(UserError, match="found compounds of at most 18 rows of simple_nn_new; row"):
        run.unlike_splits(config, dataset)
    for change in ({"method": "fixed"}, {"unlike_splits": "allow"}):
        allowed = dataclasses.replace(config, blend=dataclasses.replace(config.blend, **change))
        assert run.unlike_splits(allowed, dataset) == {
            "rows": ["simple_nn_old"], "compounds of at most 18 rows": ["simple_nn_new"],
        }  # fmt: skip
    same = systems.tiny("simple_nn_old", "simple_nn_new", data={"groups": "compound"})
    assert len(run.unlike_splits(same, dataset)) == 1
    with pytest.raises(UserError, match="config.models.simple_nn_new: train_drug: expected"):
        run.unlike_splits(config, dataclasses.replace(dataset, drug_id=None))


def test_predictions_from_elsewhere_may_say_how_they_were_split(dataset):
    config = systems.tiny("simple_nn_old", blend={})
    for split, stops in (("", False), ("rows", False), ("compounds", True)):
        files = {"theirs": PredictionFiles(oof="theirs.csv", split=split)}
        blend = dataclasses.replace(config.blend, files=files)
        one = dataclasses.replace(config, blend=blend)
        if stops:
            with pytest.raises(UserError, match="rows of simple_nn_old; compounds of theirs"):
                run.unlike_splits(one, dataset)
        else:
            assert list(run.unlike_splits(one, dataset)) == ["rows"] + ["unknown"] * (not split)
