"""Tests of the baselines as models of a run: columns, folds, resume, new rows, what is left out."""

import dataclasses
import importlib
import json
import shutil
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import systems
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from moa_jax import config as configuration
from moa_jax.command import inference, repair
from moa_jax.data import simulate
from moa_jax.data.dataset import ORIGINAL_LEVELS, Targets
from moa_jax.engine import loading, participation, run
from moa_jax.errors import UserError
from moa_jax.learners import learner, trees
from moa_jax.plan import report
from moa_jax.recipes import RECIPES, baseline
from moa_jax.store import files, signals
from moa_jax.store.model_files import METRICS
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir

MODELS = ("logistic", "trees", "viability")


@pytest.fixture(scope="module")
def dataset():
    data = simulate.make(rows=90, seed=3, genes=8, cells=4, scored=3, nonscored=0, test_rows=7)
    often = (data.features[:, [0, 1, 9]] > 0.3) & ~data.is_control[:, None]
    drugs = np.array([f"drug{n // 3}" for n in range(len(data))], object)
    targets = Targets(data.scored.names, often.astype(np.uint8))
    return dataclasses.replace(data, scored=targets, drug_id=drugs)


def tiny(*models, **sections):
    return systems.tiny(*(models or MODELS), parallel={"strategy": "vmap"}, **sections)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, dataset):
    folder = tmp_path_factory.mktemp("run")
    config = tiny()
    run.train(config, Workdir(folder), dataset)
    run.blend(config, Workdir(folder), dataset, {})
    return folder, config


def without_cells(data):
    def cut(rows):
        return dataclasses.replace(rows, cells=(), features=rows.gene_values)

    return dataclasses.replace(cut(data), test=cut(data.test))


@pytest.mark.parametrize(
    ("rows", "losses", "chosen", "said"),
    [
        (60, (0.2, 0.3), (0.1, 0.01), "C 0.01 to 0.1 of 0.01 to 1, as 2 inner folds of each fold"),
        (60, (0.2, 0.3), (0.1, 0.1), "C 0.1 of 0.01 to 1, as 2 inner folds of each fold chose."),
        (5001, (0.2, 0.3), (0.1, 0.1), "C 0.1 of 0.01 to 1, as one inner fold of each fold chose."),
        (60, (None, None), (0.1, 0.1), "C 0.1 of 0.01 to 1, there being nothing to choose by."),
    ],
)
def test_notes_tell_what_chose_a_strength(tmp_path, rows, losses, chosen, said):
    members = [
        {"chosen": c, "loss": loss, "train_rows": rows}
        for c, loss in zip(chosen, losses, strict=True)
    ]
    record = {"inputs": 9, "outputs": 3, "members": members}
    files.write_json(tmp_path / baseline.STAGE / METRICS, record)
    recipe = baseline.Config(inner_folds=2, c=(0.01, 0.1, 1.0))
    (note,) = recipe.notes(None, SimpleNamespace(folder=tmp_path))
    assert said in note


def test_columns_are_components_scaled_columns_or_viability(dataset, tmp_path):
    rows = np.flatnonzero(~dataset.is_control)
    scaled = StandardScaler().fit(dataset.features).transform(dataset.features)
    components = PCA(5, svd_solver="covariance_eigh").fit(scaled).transform(scaled)
    expected = {"logistic": components, "trees": scaled, "viability": scaled[:, 8:]}
    for model, columns in expected.items():
        recipe = tiny(model).models[model]
        steps = baseline.profile.Steps(len(dataset))
        found = recipe.columns(dataset.features, 8, steps)[rows]
        np.testing.assert_allclose(np.abs(found), np.abs(columns[rows]), atol=1e-6)
        built = systems.built(recipe, dataset, tmp_path / model, "scored")
        treatment = 0 if model == "viability" else 5  # three times and two doses
        assert built.shared.shape[1:] == (3, columns.shape[1] + treatment)


def test_a_row_is_predicted_by_the_model_of_its_fold(finished, dataset):
    folder, config = finished
    treated = dataset.take(np.flatnonzero(~dataset.is_control))
    for model in MODELS:
        recipe = config.models[model]
        stage = systems.built(recipe, dataset, folder / "again" / model, "scored")
        found = Predictions.read(folder / model / "oof.parquet").values
        by_fold = {member.fold: member for member in stage.members}
        split = recipe.split_rows(treated)
        (folds,) = split.folds.values()
        assert all(len(set(folds[treated.drug_id == d])) == 1 for d in treated.drug_id)
        for number, fold in enumerate(by_fold):
            own = np.flatnonzero(folds == fold)
            rows = np.flatnonzero(folds != fold)
            x = np.asarray(stage.shared[:, number], float)
            fit = learner.fit(recipe.learner, x[rows], stage.targets[rows], split.units[rows], 2, 0)
            np.testing.assert_allclose(found[own], fit.model.predict(x[own]), atol=1e-12)
        record = json.loads((folder / model / "scored" / "metrics.json").read_text())
        assert [m["chosen"] in recipe.learner.strengths for m in record["members"]] == [True] * 3
        (note,) = [n for n in json.loads((folder / model / "metrics.json").read_text())["notes"]
                   if n.startswith("A baseline")]  # fmt: skip
        assert recipe.learner.name in note


def test_models_have_the_same_folds_as_networks(dataset):
    treated = dataset.take(np.flatnonzero(~dataset.is_control))
    networks = systems.tiny("profile_nn").models["profile_nn"]
    (theirs,) = {f.tobytes() for f in networks.split_rows(treated, [0, 1]).folds.values()}
    (own,) = tiny("logistic").models["logistic"].split_rows(treated).folds.values()
    assert own.tobytes() == theirs


@pytest.mark.parametrize("name", ["baseline", "profiles", "quickstart"])
@pytest.mark.parametrize("known", [True, False], ids=["compounds", "rows"])
def test_models_of_a_configuration_compare(dataset, name, known):
    """Of any data: no field is set for compounds that are there or not."""
    made = importlib.import_module(f"moa_jax.configs.{name}").get_config()
    config = loading.settled(configuration.parse(made.to_dict(), RECIPES))
    data = dataset if known else dataclasses.replace(dataset, drug_id=None)
    run.check(config, data)
    assert run.unlike_splits(config, data).keys() == {"compounds" if known else "rows"}
    assert len(config.models) == {"baseline": 3, "profiles": 4, "quickstart": 5}[name]


def test_new_rows_are_predicted_by_the_work_folder_alone(finished, dataset, tmp_path):
    folder, config = finished
    simulated = tmp_path / "new"
    simulated.mkdir()
    path = simulated / "test_features.csv"
    test = dataset.test
    head = ["sig_id", "cp_type", "cp_time", "cp_dose", *test.genes, *test.cells]
    lines = [",".join(head)]
    for row in range(len(test)):
        kind = "ctl_vehicle" if test.is_control[row] else "trt_cp"
        values = [test.ids[row], kind, test.cp_time[row], test.cp_dose[row], *test.features[row]]
        lines.append(",".join(map(str, values)))
    path.write_text("\n".join(lines) + "\n")
    new = dataclasses.replace(config.data, test_features=str(path))
    submission = inference.infer(dataclasses.replace(config, data=new), Workdir(folder))
    for model in MODELS:
        found = Predictions.read(submission.parent / f"{model}.parquet").values
        expected = Predictions.read(folder / model / "test.parquet").values
        np.testing.assert_allclose(found, expected, atol=1e-12)
    assert not found[test.is_control].any() and found.any()


@pytest.mark.parametrize("model", ["logistic", "trees"])
def test_a_killed_run_goes_on(dataset, tmp_path, monkeypatch, model):
    config, fits = tiny(model), []
    fit = learner.fit

    def counted(*arguments):
        fits.append(1)
        if len(fits) == 3:
            raise KeyboardInterrupt
        return fit(*arguments)

    monkeypatch.setattr(learner, "fit", counted)
    with pytest.raises(KeyboardInterrupt):
        run.train(config, Workdir(tmp_path / "killed"), dataset)
    fits[:] = [1] * 4
    run.train(config, Workdir(tmp_path / "killed"), dataset)
    assert len(fits) == 5  # of three members two had been fitted
    run.train(config, Workdir(tmp_path / "whole"), dataset)
    for name in (
        "oof.parquet",
        "test.parquet",
        *(f"scored/members/seed0_fold{k}.npz" for k in range(3)),
    ):
        one, two = ((tmp_path / kind / model / name).read_bytes() for kind in ("killed", "whole"))
        assert one == two, name


def test_a_signal_ends_the_run_after_a_member(dataset, tmp_path, monkeypatch):
    config = tiny("logistic")
    monkeypatch.setattr(signals, "received", lambda: signal.SIGTERM)
    with pytest.raises(signals.Interrupted) as raised:
        run.train(config, Workdir(tmp_path), dataset)
    assert raised.value.line.endswith("goes on from logistic/scored, after seed0_fold0")
    stored = (tmp_path / "logistic" / "scored" / "members").iterdir()
    assert [path.name for path in stored] == ["seed0_fold0.npz"]


def test_a_damaged_model_is_told_and_repaired(finished, dataset, tmp_path):
    folder, config = finished
    shutil.copytree(folder, tmp_path / "run")
    path = tmp_path / "run" / "trees" / "scored" / "members" / "seed0_fold1.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(UserError, match=r"seed0_fold1\.npz: damaged"):
        run.train(config, Workdir(tmp_path / "run"), dataset)
    repair.repair(config, Workdir(tmp_path / "run"), dataset)
    run.train(config, Workdir(tmp_path / "run"), dataset)
    assert path.read_bytes() == whole


def test_the_plan_says_what_the_host_fits(dataset, tmp_path):
    said = report.text(tiny(), dataset, Workdir(tmp_path))
    assert "`logistic/scored`: logistic regression of 10 inputs, 3 members, fitted on the" in said
    assert "`trees/scored`: boosted trees of 17 inputs, 3 members" in said
    assert "not in the table" in said and "| stage |" not in said


def test_what_does_not_apply_is_left_out_with_a_note(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(trees, "is_installed", lambda: False)
    config, data, workdir = (
        tiny(explain={"model": "best"}),
        without_cells(dataset),
        Workdir(tmp_path),
    )
    said = report.text(config, data, workdir)
    assert "`viability` is left out: there are no columns of viability" in said
    run.train(config, workdir, data)
    run.blend(config, workdir, data, {})
    assert workdir.read()["config"]["models"].keys() == {"logistic"}
    # The best model is one that the host fits, which has no gradients to explain it by.
    assert not (tmp_path / "blend" / "attributions.parquet").exists()
    record = json.loads((tmp_path / "blend" / "weights.json").read_text())
    assert record["left_out"].keys() == {"trees", "viability"}
    run.report(workdir)
    page = (tmp_path / "blend" / "report.html").read_text()
    assert "The model trees is left out: trees need LightGBM" in page
    assert "The model viability is left out: there are no columns of viability" in page
    # What is installed later changes nothing in a work folder, nor does naming all for inference.
    monkeypatch.setattr(trees, "is_installed", lambda: True)
    again, reasons = participation.of(config, workdir, workdir.read()["data"])
    assert [*again.models] == ["logistic"] and reasons["trees"] == participation.WITHOUT
    workdir.check(again)
    run.blend(config, workdir, data, {})


def test_what_must_take_part_stops_the_run(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(trees, "is_installed", lambda: False)
    for model, message in (
        ("trees", r"config\.models\.trees: model: trees need LightGBM: pip install"),
        ("viability", r"config\.models\.viability: model: there are no columns of viability"),
    ):
        config = configuration.parse(
            {"models": {model: {"recipe": "baseline", "model": model}}}, RECIPES
        )
        with pytest.raises(UserError, match=message):
            run.train(config, Workdir(tmp_path), without_cells(dataset))
    with pytest.raises(UserError, match="expected a model that applies to the data, found viabil"):
        run.train(tiny("viability"), Workdir(tmp_path), without_cells(dataset))
    assert not list(tmp_path.iterdir())


def test_weights_of_what_is_left_out_are_told(dataset, tmp_path):
    blend = {"method": "fixed", "weights": {"logistic": 0.5, "viability": 0.5}}
    with pytest.raises(UserError, match=r"expected a sum of 1 .* found 0\.5"):
        run.train(
            tiny("logistic", "viability", blend=blend), Workdir(tmp_path), without_cells(dataset)
        )


@pytest.mark.parametrize("name", ["c", "rounds"])
def test_strengths_are_in_order(dataset, name):
    recipe = dataclasses.replace(baseline.Config(folds=3), **{name: (3, 1)})
    with pytest.raises(UserError, match=f"{name}: expected values in ascending order"):
        recipe.check(dataset)


def test_an_honest_run_keeps_compounds_whole():
    recipe = baseline.Config(split="original", frequent_above=5).honest()
    assert (recipe.split, recipe.frequent_above) == ("auto", 0)
    assert recipe.original() == baseline.Config()
    assert [d.name for d in recipe.stages(ORIGINAL_LEVELS, True)] == ["scored"]
