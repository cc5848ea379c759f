"""Tests of both scores: what is to be predicted, and models on the folds of the other question."""

import dataclasses
import json
import pickle
import shutil

import numpy as np
import pytest
import systems
from page import Page

from moa_jax.command import repair
from moa_jax.config import parse, plain
from moa_jax.data import simulate
from moa_jax.data.dataset import Targets
from moa_jax.engine import other_folds, run, unused
from moa_jax.engine.finished_run import FinishedRun
from moa_jax.errors import UserError
from moa_jax.learners import learner
from moa_jax.recipes import RECIPES
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir
from moa_jax.training.metrics import mean_log_loss


@pytest.fixture(scope="module")
def dataset():
    """Compounds of three wells, which are alike and have the same labels."""
    data = simulate.make(rows=90, seed=3, genes=8, cells=4, scored=3, nonscored=0, test_rows=7)
    drugs = np.arange(len(data)) // 3
    features = 0.3 * data.features + data.features[3 * drugs]
    often = (features[3 * drugs][:, [0, 1, 9]] > 0.3) & ~data.is_control[:, None]
    targets = Targets(data.scored.names, often.astype(np.uint8))
    names = np.array([f"drug{n}" for n in drugs], object)
    return dataclasses.replace(data, features=features, scored=targets, drug_id=names)


def tiny(*models, both="logistic", **sections):
    sections = {"parallel": {"strategy": "vmap"}, "answers": {"both_scores": both}, **sections}
    return systems.tiny(*(models or ("logistic", "trees")), **sections)


def test_the_log_tells_it(finished):
    _, record = finished
    said = other_folds.told(record["other_folds"])
    loss = record["other_folds"]["scores"][0]["log_loss"]
    assert said == f"beside that, log loss of new wells of known compounds: logistic {loss:.5f}"
    assert other_folds.told({"whole": "compounds", "scores": [{"name": "", "log_loss": 0.5}]}) == (
        "beside that, log loss of new compounds: blend 0.50000"
    )


def complete(config, folder, data):
    workdir = Workdir(folder)
    run.train(config, workdir, data)
    run.train_on_other_folds(config, workdir, data)
    run.blend(config, workdir, data, {})
    return json.loads((folder / "blend" / "answers.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory, dataset):
    folder = tmp_path_factory.mktemp("run")
    return folder, complete(tiny(), folder, dataset)


def test_a_run_from_python_has_both_scores_too(finished, dataset, tmp_path):
    """As the command line has them, of the same configuration."""
    _, record = finished
    made = FinishedRun.train(tiny(), dataset, tmp_path / "python")
    assert json.loads((made.folder / "blend" / "answers.json").read_text()) == record
    copy = pickle.loads(pickle.dumps(made))
    copy.write_report(tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.headed("New wells")


def test_models_of_an_auto_split_follow_what_is_to_be_predicted():
    def splits(**sections):
        config = systems.tiny("logistic", "simple_nn_old", **sections)
        return [model.split for model in config.models.values()]

    assert splits() == ["auto", "original"]
    assert splits(data={"predict": "wells"}) == ["stratified", "original"]
    assert splits(data={"predict": "compounds"}) == ["compound", "original"]
    assert splits(data={"predict": "wells", "groups": "none"}) == ["stratified", "original"]
    assert splits(data={"predict": "wells"}, honest=True) == ["stratified", "stratified"]
    # A work folder's own configuration, read again, is the same.
    once = systems.tiny("logistic", data={"predict": "wells"})
    assert parse(plain(once), RECIPES) == once
    both = systems.tiny("logistic", data={"predict": "wells", "groups": "compound"})
    with pytest.raises(UserError, match=r"data.predict: given, but read only with .*groups=auto"):
        unused.check(both, {"data.predict": "wells"})


def test_new_compounds_need_compounds(dataset):
    config = systems.tiny("logistic", data={"predict": "compounds"})
    with pytest.raises(UserError, match="train_drug: expected .*config.data.predict=wells"):
        run.check(config, dataclasses.replace(dataset, drug_id=None))


def test_the_other_score_is_that_of_a_run_on_such_folds(finished, dataset, tmp_path):
    folder, record = finished
    assert record["other_folds"]["whole"] == "rows"
    (score,) = record["other_folds"]["scores"]
    assert score["name"] == "logistic" and score["low"] < score["log_loss"] < score["high"]
    config = tiny("logistic", both="none", data={"predict": "wells"})
    other = complete(config, tmp_path, dataset)
    assert "other_folds" not in other and not (tmp_path / "other_folds").exists()
    found = Predictions.read(folder / "other_folds" / "logistic" / "oof.parquet").values
    expected = Predictions.read(tmp_path / "logistic" / "oof.parquet").values
    np.testing.assert_array_equal(found, expected)
    alone = next(one for one in other["scores"] if one["name"] == "logistic")
    assert {name: alone[name] for name in score} == score
    labels = dataset.targets.values[~dataset.is_control]
    assert score["log_loss"] == pytest.approx(mean_log_loss(labels, expected), rel=1e-12)
    # Wells of a compound are alike: known compounds are easier.
    own = next(one for one in record["scores"] if one["name"] == "logistic")
    assert score["log_loss"] < own["log_loss"]
    assert not (folder / "other_folds" / "trees").exists()


def test_the_report_shows_both(finished):
    folder, record = finished
    run.report(Workdir(folder))
    page = Page((folder / "blend" / "report.html").read_text(encoding="utf-8"))
    head, *rows = next(rows for rows in page.tables if rows[0][:2] == ["Model", "Log loss"])
    assert head[-2] == "New wells"
    assert {len(row) for row in rows} == {len(head)}
    by_name = {row[0].split()[0]: row[-2] for row in rows}
    (score,) = record["other_folds"]["scores"]
    assert by_name["logistic"].startswith(f"{score['log_loss']:.5f} (")
    assert by_name["trees"] == by_name["Blend"] == "–"
    text = " ".join(page.text.split())
    assert "stands in the column “New wells”" in text
    assert "both_scores=all fills that column" in text


def test_a_run_of_rows_has_the_score_of_compounds_and_of_the_blend(dataset, tmp_path):
    config = tiny(both="all", data={"predict": "wells"})
    record = complete(config, tmp_path, dataset)["other_folds"]
    assert record["whole"] == "compounds"
    by_name = {score["name"]: score["log_loss"] for score in record["scores"]}
    assert by_name.keys() == {"logistic", "trees", ""}
    assert by_name[""] <= min(by_name["logistic"], by_name["trees"]) + 1e-9
    run.report(Workdir(tmp_path))
    page = Page((tmp_path / "blend" / "report.html").read_text(encoding="utf-8"))
    text = " ".join(page.text.split())
    assert "the column “New compounds” has how well" in text and "both_scores=all" not in text


def test_what_is_finished_is_left_and_what_is_damaged_is_repaired(
    finished, dataset, tmp_path, monkeypatch
):
    folder, record = finished
    shutil.copytree(folder, tmp_path / "run")
    fits, fit = [], learner.fit
    monkeypatch.setattr(learner, "fit", lambda *a: fits.append(1) or fit(*a))
    assert complete(tiny(), tmp_path / "run", dataset) == record
    assert not fits
    path = tmp_path / "run" / "other_folds" / "logistic" / "scored" / "members" / "seed0_fold1.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(UserError, match=r"seed0_fold1\.npz: damaged"):
        complete(tiny(), tmp_path / "run", dataset)
    repair.repair(tiny(), Workdir(tmp_path / "run"), dataset)
    assert complete(tiny(), tmp_path / "run", dataset) == record
    assert path.read_bytes() == whole


def test_where_there_is_one_score(dataset, tmp_path):
    def found(config, data):
        return other_folds.of(config, Workdir(tmp_path), data)

    assert found(tiny(), dataset) is not None
    assert found(tiny(both="none"), dataset) is None
    assert found(tiny("trees"), dataset) is None  # not a matter of seconds
    assert found(tiny("trees", both="all"), dataset) is not None
    assert found(tiny(), dataclasses.replace(dataset, drug_id=None)) is None
    single = np.array([f"drug{n}" for n in range(len(dataset))], object)
    assert found(tiny(), dataclasses.replace(dataset, drug_id=single)) is None
    two = np.array([f"drug{n % 2}" for n in range(len(dataset))], object)
    assert found(tiny(data={"predict": "wells"}), dataclasses.replace(dataset, drug_id=two)) is None


def test_no_other_score_is_advised_where_there_can_be_none(finished, dataset, tmp_path):
    def left(config, data, record=None):
        return other_folds.left_to_score(config, Workdir(tmp_path), data, record)

    folder, stored = finished
    single = np.array([f"drug{n}" for n in range(len(dataset))], object)
    alone = dataclasses.replace(dataset, drug_id=single)
    for config in (tiny(both="none"), tiny(both="all")):
        assert left(config, dataset) == left(config, dataset, stored["other_folds"]) == "possible"
        assert left(config, alone) == left(config, dataclasses.replace(dataset, drug_id=None))
        assert left(config, alone) == "impossible"
    every = {"scores": [{"name": name} for name in ("logistic", "trees", "")]}
    assert left(tiny(), dataset, every) == "complete"
    # Predictions from files are of these folds alone: without the blend all that can be is scored.
    mine = {"files": {"mine": {"oof": "mine.csv", "split": "compounds"}}}
    config = tiny(blend=mine)
    assert left(config, dataset) == "possible"
    assert left(config, dataset, {"scores": every["scores"][:2]}) == "complete"
    assert left(dataclasses.replace(config, models={}), dataset) == "impossible"

    shutil.copytree(folder, tmp_path / "run")
    path = tmp_path / "run" / "blend" / "analysis.json"
    analysed = json.loads(path.read_text())
    assert analysed["both_scores"] == "possible"
    for said in ("complete", "impossible"):
        path.write_text(json.dumps(analysed | {"both_scores": said}))
        run.report(Workdir(tmp_path / "run"))
        page = Page((path.with_name("report.html")).read_text(encoding="utf-8")).text
        assert "keep compounds whole: the score says how" in " ".join(page.split())
        assert "both_scores=all" not in page
        assert ("data.predict=wells" in page) == (said == "complete")
