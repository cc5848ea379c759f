"""Sizes that the rows decide: the rule's values, its bounds, and what stands above it."""

import dataclasses
import importlib
import json

import pytest
import systems

from moa_jax import config as configuration
from moa_jax.config import RunConfig
from moa_jax.data import simulate
from moa_jax.engine import participation
from moa_jax.recipes import RECIPES, sizes
from moa_jax.schema import FROM_DATA
from moa_jax.store.workdir import Workdir

# As they were chosen by hand for the embedded wells, of which 385 are treated.
EMBEDDED = 385
DENSE = {"hidden": 256, "batch_size": 32}
FACTORS = {"gene_factors": 30, "cell_factors": 15}
UMAP = {"gene_umap": 10, "cell_umap": 5}
IMAGES = {"resolution": 32, "epochs": 8, "half_period": 8, "batch_size": 32}
SIMPLE = {**DENSE, **FACTORS, "epochs": 30, "max_learning_rate": 3e-3}
THREE_STAGES = {
    "features": {**FACTORS, **UMAP},
    "nonscored": {**DENSE, "epochs": 20, "max_learning_rate": 1e-2},
    "scored": {**DENSE, "epochs": 30, "max_learning_rate": 3e-3},
    "stacked": {"hidden": 128, "batch_size": 32, "epochs": 60, "max_learning_rate": 1e-2},
}
TWO_HEADS = {**DENSE, "gene_components": 30, "cell_components": 15, "loop_epochs": 20}
TABLE = {
    "simple_nn:old,sample": {**SIMPLE, "gene_clusters": 15, "cell_clusters": 5},
    "simple_nn:new,sample": {**SIMPLE, "gene_clusters": 0, "cell_clusters": 0},
    "three_stage_nn:sample": THREE_STAGES,
    "three_stage_nn:ten_folds,sample": THREE_STAGES,
    "nn_tabnet:sample": {
        "nonscored": {
            **DENSE, **UMAP, "epochs": 20, "max_learning_rate": 1e-2, "gene_components": 30,
            "cell_components": 15,
        },
        "scored": {
            **FACTORS, "gene_clusters": 15, "cell_clusters": 5, "n_d": 16, "n_a": 16,
            "epochs": 100, "patience": 20, "batch_size": 128, "virtual_batch_size": 64,
            "milestones": [50, 75],
        },
    },
    "two_heads_resnet:sample": {**TWO_HEADS, "epochs": 50},
    "two_heads_resnet:v2,sample": {**TWO_HEADS, "epochs": 50},
    "deepinsight_efficientnet_b3:sample": IMAGES,
    "deepinsight_resnest:sample": IMAGES,
    "deepinsight_resnest:v2,sample": IMAGES,
}  # fmt: skip


def model_of(name, recipes=RECIPES):
    file, _, variant = name.partition(":")
    made = importlib.import_module(f"moa_jax.configs.{file}").get_config(variant)
    (model,) = configuration.parse(made.to_dict(), recipes).models.values()
    return model


def values(model):
    return configuration.flat(configuration.plain(model))


def found(name, rows):
    """All fields that the rule decides, for so many rows."""
    model = model_of(name)
    settled = values(sizes.of_rows(model, rows, {}))
    return {place: settled[place] for place in sizes.left_open(model)}


@pytest.mark.parametrize("name", TABLE)
def test_sizes_of_the_embedded_wells(name):
    settled = values(sizes.of_rows(model_of(name), EMBEDDED, {}))
    expected = configuration.flat(TABLE[name])
    assert {field: settled[field] for field in expected} == expected
    assert sizes.left_open(model_of(name)).keys() <= expected.keys()


@pytest.mark.parametrize("name", TABLE)
def test_sizes_end_at_the_originals(name):
    model = model_of(name)
    original = values(model.original())
    assert found(name, 24_000) == {place: original[place] for place in sizes.left_open(model)}
    # It is reached, not jumped to, but for images, which are 288 pixels wide where 300 are next,
    # and what is less in an original by chance.
    just_below = found(name, sizes.FULL_ROWS - 1)
    jumps = {place for place, value in just_below.items() if value != original[place]}
    assert jumps <= {"resolution", "gene_components", "cell_components"}
    for rows in (1, 20, 150, 2_000, 9_000):
        for place, value in found(name, rows).items():
            longer = place.rpartition(".")[2] in ("epochs", "milestones", "half_period")
            if not longer and place != "gene_components":
                assert value <= original[place]
            assert min(value) > 0 if isinstance(value, list) else value > 0 or original[place] == 0


def test_sizes_in_between():
    assert found("simple_nn:old,sample", 150) == {
        "hidden": 128, "batch_size": 16, "epochs": 38, "max_learning_rate": 2e-3,
        "gene_factors": 20, "cell_factors": 10, "gene_clusters": 10, "cell_clusters": 5,
    }  # fmt: skip
    assert found("simple_nn:old,sample", 2_000) == {
        "hidden": 512, "batch_size": 64, "epochs": 25, "max_learning_rate": 6e-3,
        "gene_factors": 65, "cell_factors": 35, "gene_clusters": 35, "cell_clusters": 10,
    }  # fmt: skip
    assert found("deepinsight_resnest:sample", 2_000) == {
        "resolution": 96, "epochs": 42, "half_period": 5, "batch_size": 64,
    }  # fmt: skip


def test_a_value_that_is_given_stays_and_others_follow_it():
    model = dataclasses.replace(model_of("simple_nn:old,sample"), batch_size=77, gene_factors=90)
    settled = sizes.of_rows(model, EMBEDDED, {})
    assert (settled.batch_size, settled.gene_factors, settled.hidden) == (77, 90, 256)
    assert settled.epochs == round(360 / (EMBEDDED / 77))  # as many steps in larger batches
    settled = sizes.of_rows(dataclasses.replace(model, batch_size=2 * EMBEDDED), EMBEDDED, {})
    assert settled.epochs == 360  # of one step each
    model = model_of("nn_tabnet:sample")
    scored = dataclasses.replace(model.scored, epochs=40)
    settled = sizes.of_rows(dataclasses.replace(model, scored=scored), EMBEDDED, {})
    assert settled.scored.milestones == (20, 30)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_fields_of_the_rule_are_those_that_take_it(recipe):
    def sized(section, prefix=""):
        for field in dataclasses.fields(section):
            value = getattr(section, field.name)
            if dataclasses.is_dataclass(value):
                yield from sized(value, f"{prefix}{field.name}.")
            elif field.metadata.get("sized"):
                yield prefix + field.name

    model = RECIPES[recipe]()
    assert sizes.left_open(sizes.from_data(model)).keys() == {*sized(model)}
    assert not sizes.left_open(model)


@pytest.fixture(scope="module")
def rows():
    return simulate.make(rows=60, genes=9, cells=4, scored=3, nonscored=0, test_rows=0, seed=3)


def run_of(**fields):
    model = dataclasses.replace(model_of("simple_nn:old,sample"), **fields)
    return RunConfig({"dense": model})


def test_a_folder_keeps_its_sizes(rows, tmp_path, monkeypatch, caplog):
    """Whoever goes on in it, or predicts by it, whatever the rule says then."""
    workdir = Workdir(tmp_path)
    with caplog.at_level("INFO"):
        config, _ = participation.of(run_of(hidden=24), workdir, rows)
        assert "config.models.dense: for " in caplog.text and ": batch_size 8, " in caplog.text
        workdir.bind(config, rows, "vmap")
        recorded = json.loads((tmp_path / "config.json").read_text())["config"]["models"]["dense"]
        assert (recorded["hidden"], recorded["batch_size"]) == (24, 8)
        monkeypatch.setattr(sizes, "SMALLEST_BATCH", 32)
        caplog.clear()
        for data in (rows, workdir.read()["data"]):
            again, _ = participation.of(run_of(hidden=24), Workdir(tmp_path), data)
            assert again == config
        assert "treated rows" not in caplog.text
    Workdir(tmp_path).check(again)
    # Another recipe of this name has sizes of its own; that the folder is another run's is told.
    alike = RunConfig({"dense": model_of("two_heads_resnet:sample")})
    settled, _ = participation.of(alike, workdir, rows)
    assert (settled.models["dense"].hidden, settled.models["dense"].batch_size) == (256, 32)
    other, _ = participation.of(run_of(hidden=24), systems.Unbound(tmp_path / "new"), rows)
    assert other.models["dense"].batch_size == 32


def test_a_field_takes_it_where_the_rule_does():
    values = {"recipe": "simple_nn", "epochs": FROM_DATA, "max_learning_rate": FROM_DATA}
    config = configuration.parse({"models": {"one": values}}, RECIPES)
    assert sizes.left_open(config.models["one"]).keys() == {"epochs", "max_learning_rate"}
    with pytest.raises(
        configuration.UserError, match="one.folds: expected between 2 and 1000, found -1"
    ):
        configuration.parse({"models": {"one": {**values, "folds": FROM_DATA}}}, RECIPES)
    # Where several make one size, all are left to the data or none.
    for milestones, found in ([FROM_DATA], True), ((5, 9), False):
        values = {"recipe": "nn_tabnet", "scored": {"milestones": milestones}}
        model = configuration.parse({"models": {"one": values}}, RECIPES).models["one"]
        assert ("scored.milestones" in sizes.left_open(model)) == found
    values["scored"]["milestones"] = (50, FROM_DATA)
    with pytest.raises(configuration.UserError, match="one.scored.milestones: expected .*found -1"):
        configuration.parse({"models": {"one": values}}, RECIPES)
