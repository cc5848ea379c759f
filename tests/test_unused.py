"""Fields that are given and not read: each is refused, or told in one line."""

import dataclasses
import importlib

import pytest

from moa_jax import config as configuration
from moa_jax.config import BlendConfig, DataConfig, RunConfig
from moa_jax.engine import configurations, unused
from moa_jax.errors import UserError
from moa_jax.recipes import (
    RECIPES,
    baseline,
    deepinsight_cnn,
    nn_tabnet,
    simple_nn,
    three_stage_nn,
    two_heads_resnet,
)

MODELS = {
    "simple": simple_nn.Config(),
    "three": three_stage_nn.Config(),
    "tabnet": nn_tabnet.Config(),
    "heads": two_heads_resnet.Config(),
    "image": deepinsight_cnn.Config(),
    "known": baseline.Config(),
}


def run(**sections):
    return RunConfig(MODELS, **sections)


def model(name, **fields):
    return RunConfig(MODELS | {name: dataclasses.replace(MODELS[name], **fields)})


TREES = RunConfig({"known": baseline.Config(model="trees")})
UMAP = three_stage_nn.FeaturesConfig(umap=False)
REFUSED = {
    "data.rows": (run(), "data.source=simulated, found folder"),
    "data.genes": (run(), "data.source=simulated, found folder"),
    "data.scored": (run(), "data.source=simulated, found folder"),
    "data.cp_doses": (run(data=DataConfig("simulated")), "data.source=folder, found simulated"),
    "data.ignore": (run(data=DataConfig("simulated")), "data.source=folder, found simulated"),
    "blend.weights.simple": (run(), "blend.method=fixed, found slsqp"),
    "blend.normalise": (run(), "blend.method=fixed, found slsqp"),
    "models.simple.pct_start": (
        model("simple", schedule="constant"),
        "models.simple.schedule=one_cycle, found constant",
    ),
    "models.image.half_period": (
        model("image", schedule="constant"),
        "models.image.schedule=cosine, found constant",
    ),
    "models.image.perplexity": (
        model("image", embedding="pca"),
        "models.image.embedding=tsne, found pca",
    ),
    "models.image.swap_portion": (
        model("image", swap_probability=0.0),
        "models.image.swap_probability=more than 0, found 0.0",
    ),
    "models.image.min_delta": (
        model("image", patience=0),
        "models.image.patience=more than 0, found 0",
    ),
    "models.heads.loop_epochs": (
        model("heads", freeze_loop="off"),
        "models.heads.freeze_loop=faithful or intended, found off",
    ),
    "models.known.rounds": (run(), "models.known.model=trees, found logistic"),
    "models.known.c": (
        TREES,
        "models.known.model=logistic or viability, found trees",
    ),
    "models.known.components": (
        model("known", model="viability"),
        "models.known.model=logistic, found viability",
    ),
    "models.three.features.gene_umap": (
        model("three", features=UMAP),
        "models.three.features.umap=true, found False",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_field_that_its_section_does_not_read(name):
    config, condition = REFUSED[name]
    field = "blend.weights" if name.startswith("blend.weights") else name
    with pytest.raises(UserError) as caught:
        unused.check(config, {name: 1})
    assert str(caught.value).startswith(f"config.{field}: given, but read only with config.")
    assert str(caught.value).endswith(condition)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (run(data=DataConfig("simulated")), "data.rows"),
        (run(), "data.cp_doses"),
        (run(blend=BlendConfig("fixed")), "blend.weights.simple"),
        (run(blend=BlendConfig("tpe")), "blend.trials"),
        (run(), "blend.files.theirs.oof"),
        (run(), "models.simple.pct_start"),
        (run(), "models.known.c"),
        (TREES, "models.known.tree_columns"),
        (run(), "models.image.perplexity"),
        (run(), "models.three.features.gene_umap"),
        (run(), "models.three.nonscored.epochs"),
        (run(), "seed"),
    ],
)
def test_a_field_that_is_read(config, name):
    unused.check(config, {name: 1})


def test_what_is_to_be_predicted_is_read_by_models_that_follow_it():
    """`predict` has set their splits by the time that fields are checked."""
    follows = model("known", split="stratified").models
    unused.check(RunConfig(follows, data=DataConfig(predict="wells")), {"data.predict": "wells"})
    for models, wanted in ((MODELS, "wells"), (follows, "compounds")):
        config = RunConfig(models, data=DataConfig(predict=wanted))
        with pytest.raises(UserError, match="data.predict: given, but read only by models with sp"):
            unused.check(config, {"data.predict": wanted})


def test_a_field_that_honest_sets():
    values = {"models": {"simple": {"recipe": "simple_nn"}}, "honest": True}
    config = configuration.parse(values, RECIPES)
    with pytest.raises(UserError) as caught:
        unused.check(config, {"models.simple.transforms": "all"})
    assert str(caught.value) == (
        "config.models.simple.transforms: expected per_fold with config.honest=true, found all"
    )
    unused.check(config, {"models.simple.transforms": "per_fold", "models.simple.seeds": (940,)
                          + config.models["simple"].seeds[1:]})  # fmt: skip


def test_fields_of_a_file_that_are_not_read():
    given = unused.not_default(DataConfig(rows=500, folder="here"))
    assert given == {"data.rows": 500, "data.folder": "here"}
    with pytest.raises(UserError, match="config.data.rows: given, but read only with"):
        unused.check(run(), given)


@pytest.mark.parametrize("name", configurations.packaged())
def test_packaged_configurations_give_nothing_in_vain(name):
    module = importlib.import_module(f"moa_jax.configs.{name}")
    variant = ["mine,theirs"] if name == "blend_files" else []
    config = configuration.parse(module.get_config(*variant).to_dict(), RECIPES)
    unused.check(config, unused.not_default(config.data))


def test_every_condition_is_of_fields_that_there_are():
    names = {name.rpartition(".")[2] for name in configuration.flat(configuration.plain(run()))}
    for field, (other, _) in unused.READ_WITH.items():
        assert {field, other} <= names | {"weights"}
    sections = configuration.flat(configuration.plain(run(blend=BlendConfig(files={"a": 1}))))
    for start in unused.READ_IN:
        assert any(name == start or name.startswith(f"{start}.") for name in sections), start


@pytest.mark.parametrize(
    ("mode", "unread"),
    [
        ("all", ["plan.topology"]),
        ("train", ["data.test_features", "blend.method", "plan.topology"]),
        (
            "blend",
            ["data.test_features", "checkpoint.seconds", "parallel.strategy", "plan.topology"],
        ),
        ("infer", ["data.folder", "checkpoint.seconds", "plan.topology"]),
        ("plan", ["data.test_features", "checkpoint.seconds", "blend.method"]),
    ],
)
def test_fields_that_a_mode_does_not_read(mode, unread):
    given = dict.fromkeys(
        ["data.folder", "data.test_features", "checkpoint.seconds", "blend.method",
         "parallel.strategy", "plan.topology", "models.simple.epochs", "seed"], 1
    )  # fmt: skip
    lines = [f"config.{name}: given, but mode {mode} does not read it" for name in unread]
    assert list(unused.told(run(), mode, given)) == lines


def test_a_method_that_may_come_later():
    (line,) = unused.told(run(), "blend", {"blend.trials": 9, "blend.nested_folds": 9})
    assert line == (
        "config.blend.trials: given, but read only with config.blend.method=tpe, found slsqp"
    )
    assert list(unused.told(run(blend=BlendConfig("tpe")), "all", {"blend.trials": 9})) == []
    (line,) = unused.told(run(blend=BlendConfig("tpe")), "all", {"blend.prior": 9})
    assert line.startswith("config.blend.prior: given, but read only with config.blend.method=")
    assert list(unused.told(run(), "all", {"blend.prior": 9})) == []
    unused.check(run(), {"blend.trials": 9})


def test_a_split_that_the_run_overrides_is_refused():
    model = dataclasses.replace(MODELS["simple"], split="compound")
    config = RunConfig({"simple": model}, data=DataConfig(groups="compound"))
    unused.check(config, {"models.simple.split": "compound", "models.simple.frequent_above": 3})
    expected = "config.models.simple.split: expected compound with config.data.groups=compound"
    with pytest.raises(UserError, match=expected):
        unused.check(config, {"models.simple.split": "stratified"})


@pytest.mark.parametrize("split", ["original", "stratified"])
def test_how_frequent_compounds_are_is_read_where_compounds_are_kept_whole(split):
    rows = RunConfig({"simple": dataclasses.replace(MODELS["simple"], split=split)})
    with pytest.raises(
        UserError, match="frequent_above: given, but read only with folds that keep"
    ):
        unused.check(rows, {"models.simple.frequent_above": 3})
    unused.check(
        RunConfig({"simple": simple_nn.ORIGINAL["new"]}), {"models.simple.frequent_above": 3}
    )
