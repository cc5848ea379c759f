"""The benchmarks that are scripts of their own run, at sizes that take seconds."""

import functools
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moa_jax.configs import profiles
from moa_jax.data import tables
from moa_jax.data.dataset import ORIGINAL_LEVELS

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def own_data(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("own_data")


def run(*command):
    command = [sys.executable, *command]
    return subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True)


@pytest.mark.slow
def test_tabnet_quality_prints_both_losses():
    pytest.importorskip("pytorch_tabnet.tab_model")
    sizes = ("--seeds=2", "--rows=120", "--genes=9", "--epochs=2")
    found = run("-m", "benchmarks.tabnet_quality", *sizes)
    assert found.returncode == 0, found.stderr
    rows = [line.split(" | ") for line in found.stdout.splitlines()[3:]]
    assert [row[0].split(",")[0] for row in rows] == ["| embedded", "| simulated"]
    assert all(0 < float(cell.split()[0]) < 5 for row in rows for cell in row[1:4])


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed")
def test_missing_torch_is_one_line():
    found = run("-m", "benchmarks.tabnet_quality")
    assert found.returncode == 1
    assert found.stderr.splitlines() == [
        "torch: expected for the comparison, not installed; "
        "pip install moa-jax[torch] pytorch-tabnet"
    ]


def same_results():
    spec = importlib.util.spec_from_file_location("same_results", FOLDER / "same_results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_same_results_finds_the_largest_difference(tmp_path):
    """Files go by name and rows by id; another order or a missing file differs infinitely."""
    module = same_results()
    before, after = tmp_path / "before", tmp_path / "after"
    table = pd.DataFrame({"sig_id": ["a", "b"], "x": [0.25, 0.5]})
    for folder in (before, after):
        (folder / "model").mkdir(parents=True)
        table.to_csv(folder / "submission.csv", index=False)
        table.to_parquet(folder / "model" / "oof.parquet")
    assert module.largest_difference(before, after) == {
        "model/oof.parquet": 0, "submission.csv": 0,
    }  # fmt: skip
    table.assign(x=[0.25, 0.625]).to_csv(after / "submission.csv", index=False)
    assert module.largest_difference(before, after)["submission.csv"] == 0.125
    table.assign(x=[0.25, np.nan]).to_csv(after / "submission.csv", index=False)
    assert module.largest_difference(before, after)["submission.csv"] == np.inf
    for other in (table.assign(x=table["x"].astype(np.float32)), table[::-1]):
        other.to_parquet(after / "model" / "oof.parquet")
        assert module.largest_difference(before, after)["model/oof.parquet"] == np.inf
    table.to_parquet(after / "model" / "test.parquet")
    found = module.largest_difference(before, after)
    assert found["model/oof.parquet"] == found["model/test.parquet"] == np.inf


@pytest.mark.parametrize("other", [{"mechanism": ["x", "z"]}, {"is_called": [True, True]}])
def test_same_results_compares_texts_as_well(tmp_path, other):
    module = same_results()
    answers = pd.DataFrame({"mechanism": ["x", "y"], "is_called": [True, False], "p": [0.1, 0.2]})
    for folder in (tmp_path / "before", tmp_path / "after"):
        folder.mkdir()
        answers.to_parquet(folder / "answers.parquet")
    compare = functools.partial(module.largest_difference, tmp_path / "before", folder)
    assert compare() == {"answers.parquet": 0}
    answers.assign(**other).to_parquet(folder / "answers.parquet")
    assert compare() == {"answers.parquet": np.inf}


def test_own_data_hides_whole_compounds_and_every_label_of_them(own_data, tmp_path):
    compounds = np.repeat([f"c{n}" for n in range(9)], 4)
    numbers = np.arange(36.0)
    table = own_data.Table(
        np.column_stack([numbers, -numbers]), (numbers % 2 == 1)[:, None].astype(int), compounds
    )
    train, hidden = own_data.cut(table, 0)
    assert sorted([*train, *hidden]) == list(range(36)) and len(set(compounds[hidden])) == 3
    assert not set(compounds[train]) & set(compounds[hidden])
    assert set(own_data.cut(table, 1)[1]) != set(hidden)
    own_data.write(tmp_path, table, train, hidden)
    found = tables.load(tmp_path, ORIGINAL_LEVELS)
    np.testing.assert_array_equal(found.features, table.columns[train])
    np.testing.assert_array_equal(found.scored.values, table.labels[train])
    np.testing.assert_array_equal(found.drug_id, compounds[train])
    np.testing.assert_array_equal(found.test.features, table.columns[hidden])
    assert {path.stem for path in tmp_path.iterdir()} == {
        "train_features", "train_targets_scored", "train_drug", "test_features",
        "sample_submission",
    }  # fmt: skip


def test_own_data_chooses_baselines_by_inner_folds(own_data, monkeypatch):
    """Of two settings the better one out of fold is taken; classes add up to one."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(90, 3))
    classes = own_data.Table(x, np.eye(3, dtype=int)[x.argmax(1)])
    several = own_data.Table(x, (x > 0).astype(int))
    monkeypatch.setattr(own_data, "STRENGTHS", (1e-6, 1.0))
    for table in (classes, several):
        train, hidden = own_data.cut(table, 0)
        weak, strong = own_data.logistic(x[train], table.labels[train], x[hidden])
        assert np.allclose(strong.sum(1), 1) == own_data.is_exclusive(table.labels)
        monkeypatch.setattr(own_data, "trees", lambda x, labels, new, p=weak: [p[: len(new)]])
        monkeypatch.setattr(own_data, "mlp", lambda x, labels, new: [np.full((len(new), 3), 0.5)])
        found = own_data.baselines(table, train, hidden)
        expected = own_data.mean_log_loss(table.labels[hidden], strong)
        assert found["pca_logistic"] == pytest.approx(expected) and found["mlp"] > 0.69
        assert found["pca_logistic"] < min(found["mean"], found["prior"])


def test_own_data_tells_its_baselines_from_the_models(own_data):
    """The configuration has a logistic regression of its own."""
    models = set(profiles.get_config().models.keys())
    assert not {*own_data.BASELINES, "blend", "seconds"} & models


def test_own_data_keeps_the_losses_of_baselines(own_data, monkeypatch, tmp_path):
    """They are taken from the file while the data are the same, and found anew when not."""
    generator, asked = np.random.default_rng(0), []
    table = own_data.Table(generator.normal(size=(9, 2)), np.eye(9, 2, dtype=int))
    scores = {"prior": 0.5, "lightgbm": np.nan}
    monkeypatch.setattr(own_data, "baselines", lambda *of: asked.append(of) or scores)
    rows = own_data.cut(table, 0)
    for other in (table, table, table._replace(labels=1 - table.labels)):
        found = own_data.kept_baselines(tmp_path / "baselines.json", other, *rows)
        np.testing.assert_equal(found, scores)
    named = table._replace(compounds=np.arange(9).astype(str))
    own_data.kept_baselines(tmp_path / "baselines.json", named, *rows)
    assert [id(of[0]) for of in asked] == [id(table), id(other), id(named)]


def test_own_data_shows_the_spread_over_seeds(own_data):
    found = {"a": [{"prior": 0.5, "seconds": 9.6}, {"prior": 0.7, "seconds": 10.4}]}
    head, _, row = own_data.lines(found)
    assert head == "| set | prior | seconds |" and row == "| a | 0.6000 ± 0.1414 | 10 ± 1 |"


@pytest.mark.slow
def test_own_data_runs_a_configuration(tmp_path):
    command = ("--sets=wine", "--config=profiles:smoke", f"--folder={tmp_path}")
    found = run(str(FOLDER / "own_data.py"), *command)
    assert found.returncode == 0, found.stderr
    *_, head, _, row = found.stdout.splitlines()
    values = dict(zip(head.split(" | "), row.split(" | "), strict=True))
    assert float(values["profile_nn"]) < float(values["prior"])
