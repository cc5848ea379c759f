"""Splits: what folds keep whole in every recipe, and what a hold-out does."""

import dataclasses

import numpy as np
import pytest
import systems

from moa_jax.command import run
from moa_jax.config import PredictionFiles
from moa_jax.data import folds, simulate
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
    kept = {name: model.kept_whole(dataset) for name, model in config.models.items()}
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


def test_frequent_compounds_are_no_exception_where_there_are_none(dataset):
    recipe = dataclasses.replace(simple_nn.ORIGINAL["new"], frequent_above=TREATED)
    assert recipe.kept_whole(dataset) == "compounds"


def test_as_many_groups_as_folds_are_the_folds(dataset):
    groups = np.array([str(n % 5) for n in range(len(dataset))], object)
    groups[dataset.is_control] = ""
    data = dataclasses.replace(dataset, groups=groups)
    recipe = dataclasses.replace(simple_nn.Config(), split="group", frequent_above=0)
    rows = recipe.rows(data)
    split = recipe.split_rows(rows)
    assert recipe.kept_whole(data) == "given folds"
    for fold_of_row in split.folds.values():
        assert [str(fold) for fold in fold_of_row] == rows.groups.tolist()
    assert len(set(split.units)) == 12  # the hold-out still keeps compounds whole
    fewer = dataclasses.replace(recipe, folds=3)
    assert fewer.kept_whole(data) == "groups"
    found = fewer.split_rows(rows).folds[fewer.seeds[0]]
    assert folds.parted_groups(rows.groups, found) == (0, 0)


def test_stratified_folds_are_those_of_the_shared_splitter(dataset):
    for model in MODELS:
        recipe = dataclasses.replace(systems.tiny(model).models[model], split="stratified")
        design = list(systems.designs(recipe).values())[-1]
        rows = recipe.rows(dataset)
        folds_of = {
            tuple(folds.multilabel_stratified(rows.targets.values, 3, seed, shuffle=True))
            for seed in (0, 1, 4, 34, 42, 1120)
        }
        if recipe.folds == 3:
            assert {tuple(found) for found in design.split(rows).folds.values()} <= folds_of, model


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"split": "compound", "folds": 13}, "folds: expected at most as many as the compounds "),
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
        assert not held & kept and len(member.select_rows) == 20  # a tenth of 150, in tens
        assert sorted([*member.train_rows, *member.select_rows, *member.valid_rows]) == list(
            range(200)
        )
        drawn.add(tuple(sorted(held)))
    assert len(drawn) == len(made)


def test_a_holdout_never_takes_everything():
    units = np.repeat(np.arange(4), [40, 1, 3, 2])
    fold_of_row = np.repeat([0, 1], [41, 5])
    first, second = members.cross_validation({0: fold_of_row}, 0, "holdout", units)
    assert sorted([len(first.train_rows), len(first.select_rows)]) == [2, 3]
    assert sorted([len(second.train_rows), len(second.select_rows)]) == [1, 40]
    with pytest.raises(UserError, match="expected training rows of at least two compounds"):
        members.cross_validation({0: fold_of_row}, 0, "holdout", units * 0)


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
            assert list(run.unlike_splits(one, dataset)) == ["rows"]
