"""A system of one file gets fitting, exact resume, inference, plan and report for nothing."""

import dataclasses

import numpy as np
import plans
import pytest
import toy_system

from moa_jax import config as configuration
from moa_jax.command import plan, run
from moa_jax.recipes import RECIPES
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir
from moa_jax.training import loop

RESULTS = ("submission.csv", "metrics.jsonl", "logistic/oof.parquet", "logistic/test.parquet")


class Stopped(Exception):
    """Stands for a kill between two device calls."""


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(RECIPES, "logistic", toy_system.Config)


@pytest.fixture
def config(data):
    """The configuration of a run of the new system alone, a checkpoint after every call."""
    values = configuration.config_dict({"logistic": toy_system.Config()}).to_dict()
    values["data"]["folder"] = str(data)
    values["checkpoint"]["seconds"] = 0.0
    return configuration.parse(values, RECIPES)


def train_and_blend(config, folder):
    workdir, dataset = Workdir(folder), run.load_data(config)
    run.train(config, workdir, dataset)
    run.blend(config, workdir, dataset, {})
    return workdir


def test_a_sixth_system(config, data, tmp_path, monkeypatch):
    whole = train_and_blend(config, tmp_path / "whole")
    saves = iter(range(3))
    save = loop.Checkpoints.save

    def stopping(self, *arguments):
        save(self, *arguments)
        self.wait()
        if next(saves) == 2:
            raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(loop.Checkpoints, "save", stopping)
        train_and_blend(config, tmp_path / "resumed")
    train_and_blend(config, tmp_path / "resumed")
    for name in RESULTS:
        one, two = ((tmp_path / run / name).read_bytes() for run in ("whole", "resumed"))
        assert one == two, name

    new = dataclasses.replace(config.data, test_features=str(data / "test_features.csv"))
    submission = run.infer(dataclasses.replace(config, data=new), whole)
    found = Predictions.read(submission.parent / "logistic.parquet")
    expected = Predictions.read(whole.path / "logistic" / "test.parquet")
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-6)

    plans.check(whole.path)
    assert "| `logistic/scored` | 5 | 6 |" in plan.report(config, run.load_data(config), whole)
    assert "logistic" in (whole.path / "blend" / "report.html").read_text(encoding="utf-8")


def test_its_mistakes_are_told(config):
    model = dataclasses.replace(config.models["logistic"], optimizer="adamm")
    dataset = run.load_data(config)
    with pytest.raises(configuration.UserError, match="optimizer: expected one of .*mean adam"):
        model.check(dataset)
    model = dataclasses.replace(config.models["logistic"], schedule="one_cycle")
    with pytest.raises(configuration.UserError, match="schedule: one_cycle needs pct_start"):
        model.check(dataset)
    with pytest.raises(configuration.UserError, match="folds: expected at most as many"):
        dataclasses.replace(model, folds=1000).check(dataset)
