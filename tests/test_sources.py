"""Tests of predictions from elsewhere: aligned by name, and every mistake one line."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from moa_jax import config as configuration
from moa_jax.blend import sources
from moa_jax.config import BlendConfig, PredictionFiles, RunConfig
from moa_jax.data import simulate, tables
from moa_jax.engine import run
from moa_jax.errors import UserError
from moa_jax.recipes import RECIPES, simple_nn
from moa_jax.store import files
from moa_jax.store.manifest import Manifest
from moa_jax.store.predictions import Predictions


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    simulate.write(folder, rows=60, seed=3, genes=4, cells=2, scored=3, nonscored=0, test_rows=12)
    return tables.load(folder)


def predictions(ids, targets, seed=0):
    values = np.random.default_rng(seed).random((len(ids), len(targets)))
    return pd.DataFrame(values, columns=list(targets)).assign(sig_id=ids)


def treated(dataset):
    return dataset.ids[~dataset.is_control]


@pytest.fixture
def written(dataset, tmp_path):
    """Writes out-of-fold predictions after a change, and returns their path."""

    def write(change=lambda table: table, name="oof.csv", ids=None, targets=dataset.scored.names):
        path = tmp_path / name
        table = change(predictions(treated(dataset) if ids is None else ids, targets))
        table.to_parquet(path) if path.suffix == ".parquet" else table.to_csv(path, index=False)
        return str(path)

    return write


@pytest.mark.parametrize("name", ["oof.csv", "oof.csv.gz", "oof.parquet"])
def test_rows_and_targets_are_joined_by_name(dataset, written, name):
    expected = predictions(treated(dataset), dataset.scored.names)[list(dataset.scored.names)]
    shuffled = written(lambda t: t[t.columns[::-1]].sample(frac=1, random_state=0), name)
    found = sources.of_files(PredictionFiles(oof=shuffled), dataset)
    assert found.test is None
    assert found.oof.ids.tolist() == treated(dataset).tolist()
    assert found.oof.targets == dataset.scored.names
    np.testing.assert_allclose(found.oof.values, expected, rtol=1e-15)


def test_controls_are_kept_apart(dataset, written):
    path = written(ids=dataset.ids)
    found, controls = (
        getattr(sources.of_files(PredictionFiles(oof=path), dataset), part)
        for part in ("oof", "controls")
    )
    assert controls.ids.tolist() == dataset.ids[dataset.is_control].tolist() != []
    assert found.ids.tolist() == treated(dataset).tolist()
    whole = predictions(dataset.ids, dataset.scored.names).set_index("sig_id")
    np.testing.assert_allclose(found.values, whole.loc[found.ids, list(found.targets)], rtol=1e-15)


def finished(folder):
    """Returns the manifest of a model whose folder is written."""
    told = {"stages": ["early", "late"], "reported": "late"}
    files.write_json(folder / "metrics.json", told)
    manifest = Manifest(folder.parent, folder.name, "run")
    manifest.add(path for path in folder.rglob("*") if path.is_file())
    return manifest


@pytest.mark.parametrize("trained_on", ["all", "treated"])
def test_controls_of_a_finished_model(dataset, tmp_path, trained_on):
    """The stage whose predictions are the model's has them, where it trained on controls."""
    ids = dataset.ids[::-1] if trained_on == "all" else treated(dataset)
    values = np.random.default_rng(1).random((len(ids), 3))
    every = Predictions(ids, dataset.scored.names, values)
    every.write(tmp_path / "late" / "oof.parquet")
    every.aligned(treated(dataset)).write(tmp_path / "oof.parquet")
    every.aligned(dataset.ids[:0]).write(tmp_path / "test.parquet")
    found = sources.of_model(finished(tmp_path), dataset)
    assert found.oof.ids.tolist() == treated(dataset).tolist()
    if trained_on == "treated":
        assert found.controls is None
    else:
        controls = dataset.ids[dataset.is_control]
        assert found.controls.ids.tolist() == controls.tolist()
        np.testing.assert_array_equal(found.controls.values, every.aligned(controls).values)


def test_test_rows_come_in_the_data_order(dataset, written):
    path = written(lambda t: t[::-1], ids=dataset.test.ids)
    found = sources.of_files(PredictionFiles(test=path), dataset)
    assert found.oof is None
    assert found.test.ids.tolist() == dataset.test.ids.tolist()


def set_cell(value):
    def change(table):
        table = table.astype({"sig_id": object, table.columns[1]: object})
        table.iloc[4, 1] = value
        return table

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(index=3), "oof.csv: expected sig_id .* of train_features, found none"),
        (lambda t: t.replace(t["sig_id"][2], "id_x"), "oof.csv: expected sig_id .*, found none"),
        (lambda t: pd.concat([t, t[:1].assign(sig_id="id_x")]), "sig_id id_x is not in train_feat"),
        (lambda t: pd.concat([t, t[:1]]), "sig_id .* stands more than once"),
        (lambda t: t.rename(columns={t.columns[0]: "moa"}), "expected a column .*, found none"),
        (lambda t: t.assign(surplus=0.5), "column surplus is not expected"),
        (lambda t: t.drop(columns="sig_id"), "expected a column sig_id, found"),
        (set_cell(1.25), "sig_id .*: expected a probability between 0 and 1, found '1.25'"),
        (set_cell(-0.1), "expected a probability between 0 and 1, found '-0.1'"),
        (set_cell("high"), "expected a finite number, found 'high'"),
        (set_cell(None), "expected a finite number, found nothing"),
    ],
)
def test_a_mistake_in_a_file_is_one_line(dataset, written, change, message):
    path = written(change)
    with pytest.raises(UserError, match=message) as caught:
        sources.of_files(PredictionFiles(oof=path), dataset)
    assert str(caught.value).startswith(path) and "\n" not in str(caught.value)


def test_some_controls_only(dataset, written):
    controls = dataset.ids[dataset.is_control]
    path = written(ids=[*treated(dataset), controls[0]])
    with pytest.raises(UserError, match=f"expected sig_id {controls[1]}"):
        sources.of_files(PredictionFiles(oof=path), dataset)


def test_missing_file(dataset):
    with pytest.raises(UserError, match="nowhere.csv: expected a file, found none"):
        sources.of_files(PredictionFiles(test="nowhere.csv"), dataset)


def test_a_model_of_other_targets(dataset, tmp_path):
    ids = treated(dataset)
    Predictions(ids, ("other",), np.zeros((len(ids), 1))).write(tmp_path / "oof.parquet")
    with pytest.raises(UserError, match="oof.parquet: expected the 3 targets of train_targets_sco"):
        sources.of_model(finished(tmp_path), dataset)


def test_all_models_predict_the_test_rows_or_none():
    some = Predictions(np.array(["a"], object), ("x",), np.zeros((1, 1)))
    with_test, without = sources.Source(some, some), sources.Source(some, None)
    sources.check_tests({"one": without, "two": without})
    with pytest.raises(UserError, match=re.escape("config.blend.files.two.test: expected a file")):
        sources.check_tests({"one": with_test, "two": without})


def test_test_predictions_that_a_file_lacks_are_told_before_training(dataset, written):
    files_of = {"m": PredictionFiles(written())}
    blend = BlendConfig("fixed", {"a": 0.5, "m": 0.5}, files=files_of)
    config = RunConfig({"a": simple_nn.ORIGINAL["old"]}, blend=blend)
    assert run.outside_sources(config, dataclasses.replace(dataset, test=None))
    with pytest.raises(UserError, match="files.m.test: expected a file, because a has test pred"):
        run.outside_sources(config, dataset)


@pytest.mark.parametrize(
    ("blend", "message"),
    [
        ({"files": {"a": {"off": "x"}}}, "config.blend.files.a.off: unknown field; did you mean"),
        ({"files": {"a": "x.csv"}}, "config.blend.files.a: expected a section, found 'x.csv'"),
        ({"files": {"a": {"oof": 1}}}, "config.blend.files.a.oof: expected str, found 1"),
        ({"files": {"a": {"test": "x"}}}, "config.blend.files.a.oof: expected a file for blend.m"),
        ({"files": {"a": {}}, "method": "fixed"}, "expected oof or test, found neither"),
        ({"method": "fixd"}, "config.blend.method: expected one of slsqp, tpe, per_target, fixed"),
        ({"trials": 0}, "config.blend.trials: expected between 1 and 100000, found 0"),
        (
            {"files": {"a": {"oof": "x"}}, "weights": {"b": 1.0}},
            "config.blend.weights.b: expected one of the models",
        ),
        (
            {"files": {"a": {"oof": "x"}}, "weights": {"a": float("nan")}},
            "config.blend.weights.a: expected a number of at least 0, found nan",
        ),
        (
            {"files": {"a": {"test": "x"}, "b": {"test": "y"}}, "method": "fixed"},
            "config.blend.weights: expected a weight for a, found none",
        ),
        ({}, "config.models: expected at least one model, or config.blend.files"),
    ],
)
def test_mistakes_in_the_configuration(blend, message):
    with pytest.raises(UserError, match=message):
        configuration.parse({"models": {}, "blend": blend}, RECIPES)


def test_a_file_may_not_take_a_model_s_name():
    model = {"m": {"recipe": "simple_nn"}}
    with pytest.raises(UserError, match="config.blend.files.m: expected another name than those"):
        configuration.parse({"models": model, "blend": {"files": {"m": {"oof": "x"}}}}, RECIPES)


def test_files_survive_the_work_folder():
    config = configuration.parse(
        {"models": {}, "blend": {"files": {"a": {"oof": "x", "test": "y"}}}}, RECIPES
    )
    assert config.blend == BlendConfig(files={"a": PredictionFiles("x", "y")})
    assert configuration.parse(configuration.plain(config), RECIPES) == config
