"""Configurations: names that become files, weights of a blend, and files that are none."""

import dataclasses
import importlib

import ml_collections
import numpy as np
import pytest

from moa_jax import config as configuration
from moa_jax.blend import combination, weighing
from moa_jax.command import flags
from moa_jax.config import BlendConfig, PredictionFiles, RunConfig
from moa_jax.data import simulate
from moa_jax.engine import configurations
from moa_jax.errors import UserError
from moa_jax.recipes import RECIPES, simple_nn
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir


def parse(*names, **blend):
    models = {name: configuration.plain(simple_nn.ORIGINAL["old"]) for name in names}
    return configuration.parse({"models": models, "blend": blend}, RECIPES)


@pytest.mark.parametrize(
    "name",
    [
        "/x/y",
        "../x",
        "a/b",
        "a\\b",
        "",
        ".",
        "..",
        ".hidden",
        "V1.2",
        "a b",
        "a\n",
        "ä",
        "~",
        "x" * 101,
        1,
    ],
)
def test_a_model_is_one_component_of_a_path(name):
    expected = "expected a name of at most 100 of the letters"
    with pytest.raises(UserError, match=rf"^config.models.*: {expected}"):
        parse(name)
    with pytest.raises(UserError, match=rf"^config.blend.files.*: {expected}"):
        parse("m", files={name: {"oof": "x.csv"}})


@pytest.mark.parametrize(
    "name", ["blend", "Infer", "config.json", "log.txt", "metrics.jsonl", "submission.csv",
             "tensorboard", "environment.json", "feature_maps", "predictions", "attributions",
             "checkpoints", "completed.json"]
)  # fmt: skip
def test_names_of_the_work_folder_are_taken(name):
    with pytest.raises(UserError, match=f"config.models.{name}: .* has its own {name.lower()}$"):
        parse(name)


def test_everything_in_a_work_folder_has_a_name_that_is_taken(tmp_path):
    """A model may not have the name of anything that a run writes beside the models' folders."""
    workdir = Workdir(tmp_path / "run")
    workdir.lock()
    data = simulate.make(rows=50, genes=3, cells=2, scored=2, nonscored=0, test_rows=0)
    workdir.bind(RunConfig({}), data, "vmap")
    workdir._lock.close()
    names = {path.name for path in workdir.path.iterdir()}
    assert len(names) >= 3
    for name in names:
        with pytest.raises(UserError, match="config.models"):
            parse(name)


def test_names_that_differ_by_case_are_one_folder_elsewhere():
    with pytest.raises(UserError, match="config.models.A: expected another name, it is a but for"):
        parse("a", "A")
    with pytest.raises(UserError, match="config.blend.files.A: expected another name, it is a but"):
        parse("a", files={"A": {"oof": "x.csv"}})
    names = ["simple_nn", "V1-2", "_a", "-", "x" * 100]
    assert [*parse(*names).models] == names


@pytest.mark.parametrize(
    ("weights", "found"),
    [
        ({"a": 0.5, "b": 0.25}, "0.75; change them, or set config.blend.normalise=divide"),
        ({"a": 0.5, "b": 0.500002}, "1.000002; change them, or set"),
        ({"a": 1.5, "b": 0.49}, "1.99; change them, or set"),
        ({"a": 0, "b": 0.0}, "0; change them$"),
        ({"a": 1e308, "b": 1e308}, "inf; change them$"),
        ({"a": 10**400, "b": 1}, "inf; change them$"),
    ],
)
def test_fixed_weights_of_another_sum_stop(weights, found):
    expected = "^config.blend.weights: expected a sum of 1 with config.blend.method=fixed, found "
    with pytest.raises(UserError, match=expected + found):
        parse("a", "b", method="fixed", weights=weights)
    assert parse("a", "b", method="slsqp", weights=weights).blend.weights == weights


def test_fixed_weights_may_be_divided_by_their_sum():
    blend = parse("a", "b", method="fixed", weights={"a": 3, "b": 1}, normalise="divide").blend
    assert blend.fixed(["a", "b"]) == {"a": 0.75, "b": 0.25}
    ids, values = np.array(["x", "y"], object), np.array([[1.0], [0.0]])
    oof = {name: Predictions(ids, ("t",), values) for name in "ab"}
    found = weighing.weigh(blend, oof, np.array([[1], [0]]), 0, 0, False)
    assert found.record["weights"] == {"a": 0.75, "b": 0.25}
    assert (found.oof.values == values).all()
    for weights in ({"a": 0, "b": 0}, {"a": 1e308, "b": 1e308}):
        with pytest.raises(
            UserError, match="weights: expected a sum above 0 that is finite, found"
        ):
            parse("a", "b", method="fixed", weights=weights, normalise="divide")


def test_divided_weights_without_a_model_have_the_sum_of_all():
    """The loss of a blend whose two models are one is that of this one without either."""
    blend = BlendConfig("fixed", weights={"a": 6, "b": 2}, normalise="divide")
    values = np.array([[0.8], [0.3]])
    oof = {name: Predictions(np.array(["x", "y"], object), ("t",), values) for name in "ab"}
    found = weighing.losses_without(blend, oof, np.array([[1], [0]]))
    expected = -(np.log(0.8) + np.log(0.7)) / 2
    assert found == {"a": pytest.approx(expected), "b": pytest.approx(expected)}


@pytest.mark.parametrize("count", range(1, 12))
def test_equal_weights_of_any_number_of_models_are_of_sum_1(count):
    names = [f"m{n}" for n in range(count)]
    models = {name: simple_nn.ORIGINAL["old"] for name in names}
    config = configuration.config_dict(models, blend=BlendConfig("fixed")).to_dict()
    blend = configuration.parse(config, RECIPES).blend
    assert blend.fixed(names) == dict.fromkeys(names, 1 / count)


@pytest.mark.parametrize("name", ["best_cv", "best_lb"])
def test_published_weights_are_applied_as_they_are(name):
    module = importlib.import_module(f"moa_jax.configs.{name}")
    config = module.get_config("smoke").to_dict()
    config["blend"]["method"] = "fixed"
    blend = configuration.parse(config, RECIPES).blend
    assert blend.fixed(module.WEIGHTS) == module.WEIGHTS


def test_rounding_is_cut_off_and_nothing_else():
    beyond, exact = np.nextafter(1, 2), 0.1 + 0.2
    table = Predictions(np.array(["x"], object), ("a", "b", "c"), np.array([[beyond, 0.0, exact]]))
    assert combination.bounded(table).values.tolist() == [[1.0, 0.0, exact]]
    for wrong in (1.0001, -0.0001, np.nan, np.inf):
        table = dataclasses.replace(table, values=np.array([[0.5, wrong, 0.5]]))
        with pytest.raises(UserError, match="found .* for sig_id 'x' and target 'b'"):
            combination.bounded(table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sig_id,g-0\nx,1\n", r"own.py line 1: NameError: name 'sig_id' is not defined$"),
        ("x = 1\n1/0\n", r"own.py line 2: ZeroDivisionError: division by zero$"),
        ("x = (\n", r"own.py line 1: SyntaxError: '\(' was never closed$"),
        ("x = 'a\0b'\n", r"own.py.*: (SyntaxError|ValueError): source code .* null bytes$"),
        ("import absent_module\n", "own.py line 1: ModuleNotFoundError: No module named 'absent"),
        ("import sys\nsys.exit(3)\n", "own.py line 2: SystemExit: 3$"),
        ("get_config = 1\n", "own.py: expected a configuration with a function get_config, found"),
        (
            "def get_config():\n  pass\n",
            "own.py: expected get_config to return a ConfigDict, found",
        ),
        ("def get_config():\n  return {}['a b']\n", "own.py line 2: KeyError: 'a b'$"),
        ("def get_config(a):\n  return open(a)\n", "own.py.*: TypeError: get_config.. missing 1 "),
        ("def get_config():\n  open('no/where')\n", "own.py line 2: FileNotFoundError: .*no/where"),
    ],
)
def test_mistakes_of_a_configuration_are_one_line(tmp_path, text, message):
    path = tmp_path / "own.py"
    path.write_text(text)
    with pytest.raises(UserError, match=f"^--config: {path.parent}/{message}") as caught:
        configurations.get_config(str(path))
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_no_configuration(tmp_path):
    (tmp_path / "own.py").write_bytes(b"x = '\xff'\n")
    with pytest.raises(UserError, match="own.py line 1: SyntaxError: .*"):
        configurations.get_config(str(tmp_path / "own.py"))


def test_a_configuration_of_ones_own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(
        "from __future__ import annotations\nimport dataclasses\nimport ml_collections\n\n"
        "@dataclasses.dataclass\nclass Size:\n  width: int = 3\n\n"
        "def get_config(variant='none'):\n"
        "  return ml_collections.ConfigDict({'variant': variant, 'width': Size().width})\n"
    )
    found = [configurations.get_config(f"{path}{variant}") for variant in ("", ":", ":a:b")]
    assert [config.variant for config in found] == ["none", "", "a:b"]
    assert isinstance(found[0], ml_collections.ConfigDict) and found[0].width == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("table.csv", "expected a file whose name ends in .py, found another file; packaged are"),
        ("table", "expected a file whose name ends in .py, found another file; packaged are"),
        ("folder", "expected a file whose name ends in .py, found a folder; packaged are"),
        ("folder.py", "expected a file whose name ends in .py, found a folder; packaged are"),
        ("dangling.py", "expected a file whose name ends in .py, found another file; packaged are"),
        ("absent.py", "not found; packaged are baseline, best_cv, "),
        ("quickstat", "not found; packaged are .*; did you mean quickstart?"),
        ("", "not found; packaged are"),
        ("x" * 300 + ".py", "not found; packaged are"),
    ],
)
def test_what_is_no_configuration_is_never_executed(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    for file in ("table.csv", "table", "quickstart"):
        (tmp_path / file).write_text("raise SystemExit(9)\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "dangling.py").symlink_to("nowhere")
    for given in (f"--config={name}", f"--config={name}:variant"):
        with pytest.raises(UserError, match=f"^--config: {name}: {message}"):
            flags._with_config(["moa-jax", given])
    # A packaged name is that, whatever lies in the folder.
    (_, found) = flags._with_config(["moa-jax", "--config=quickstart:small"])
    assert found.endswith("/quickstart.py:small") and str(tmp_path) not in found


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: "", "--workdir: expected a folder, found an empty text"),
        (lambda path: path.write_text("") and path or path, "expected a folder, found a file"),
        (lambda path: path.parent / ("x" * 300), "--workdir: .*x: File name too long"),
    ],
)
def test_odd_work_folders(tmp_path, make, message):
    with pytest.raises(UserError, match=message):
        Workdir(make(tmp_path / "run"))


def test_a_blend_of_others_is_bound_to_its_work_folder(tmp_path):
    """Every field of the blend, also of files and weights."""
    files = {"x": PredictionFiles("x.csv")}
    config = RunConfig({}, blend=BlendConfig("fixed", {"x": 1.0}, files=files))
    workdir = Workdir(tmp_path / "run")
    data = simulate.make(rows=50, genes=3, cells=2, scored=2, nonscored=0, test_rows=0)
    workdir.bind(config, data, "vmap")
    workdir.check(config)
    for change, line in (
        ({"method": "slsqp"}, "blend.method: fixed there, slsqp now"),
        ({"weights": {"x": 0.5}}, "blend.weights.x: 1.0 there, 0.5 now"),
        ({"weights": {}}, "blend.weights.x: 1.0 there, absent now"),
        ({"files": {"x": PredictionFiles("y.csv")}}, "blend.files.x.oof: x.csv there, y.csv now"),
        ({"nested_folds": 3, "trials": 7}, "blend.nested_folds: 5 there, 3 now; blend.trials: 500"),
        ({"normalise": "divide"}, "blend.normalise: stop there, divide now"),
        ({"unlike_splits": "allow"}, "blend.unlike_splits: stop there, allow now"),
    ):
        blend = dataclasses.replace(config.blend, **change)
        with pytest.raises(UserError, match=f"run: expected the fields .* found others: {line}"):
            workdir.check(dataclasses.replace(config, blend=blend))
