"""A system of one file gets fitting, exact resume, inference, plan and report for nothing."""

import dataclasses

import numpy as np
import plans
import pytest
import toy_system

from moa_jax import config as configuration
from moa_jax.command import inference
from moa_jax.engine import loading, run
from moa_jax.errors import UserError
from moa_jax.plan import report
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


@pytest.fixture(params=["as the original", "honest"])
def config(data, request):
    """The configuration of a run of the new system alone, a checkpoint after every call."""
    values = configuration.config_dict({"logistic": toy_system.Config()}).to_dict()
    values["honest"] = request.param == "honest"
    values["data"]["folder"] = str(data)
    values["checkpoint"]["seconds"] = 0.0
    return configuration.parse(values, RECIPES)


def train_and_blend(config, folder):
    workdir, dataset = Workdir(folder), loading.load_data(config)
    run.train(config, workdir, dataset)
    run.blend(config, workdir, dataset, {})
    run.report(workdir)
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
    submission = inference.infer(dataclasses.replace(config, data=new), whole)
    found = Predictions.read(submission.parent / "logistic.parquet")
    expected = Predictions.read(whole.path / "logistic" / "test.parquet")
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-6)

    sets = {path.name for path in (whole.path / "logistic/scored/features").iterdir()}
    assert sets == ({"fold0", "fold1", "fold2"} if config.honest else {"all"})
    plans.check(whole.path)
    assert "| `logistic/scored` | 5 | 6 |" in report.text(config, loading.load_data(config), whole)
    assert "logistic" in (whole.path / "blend" / "report.html").read_text(encoding="utf-8")


def test_its_mistakes_are_told(config):
    values = configuration.config_dict({"logistic": toy_system.Config()}).to_dict()
    values["models"]["logistic"]["optimizer"] = "adamm"
    with pytest.raises(UserError, match="logistic.optimizer: expected one of .*, adamw, "):
        configuration.parse(values, RECIPES)
    dataset = loading.load_data(config)
    for change, message in (
        ({"schedule": "one_cycle"}, "schedule: one_cycle needs pct_start"),
        ({"optimizer": "adam_cycled"}, "schedule: expected one that moves the momentum"),
        ({"folds": 1000}, "folds: expected at most as many"),
    ):
        model = dataclasses.replace(config.models["logistic"], **change)
        wrong = dataclasses.replace(config, models={"logistic": model})
        with pytest.raises(UserError, match=f"^config.models.logistic: {message}"):
            run.check(wrong, dataset)
