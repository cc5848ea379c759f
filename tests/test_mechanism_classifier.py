"""MechanismClassifier: the command line's numbers, kinds of X and Y, saving, searches, mistakes."""

import copy
import dataclasses
import datetime
import gc
import pickle
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from absl import logging
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, PredefinedSplit, cross_val_predict
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

import moa_jax
from moa_jax import MechanismClassifier
from moa_jax.command import inference
from moa_jax.config import LEVELS_OF_FILES, DataConfig, config_dict, merged_models
from moa_jax.configs import simple_nn, three_stage_nn
from moa_jax.data import simulate
from moa_jax.engine import configurations, loading, run, settings
from moa_jax.engine.finished_run import FinishedRun
from moa_jax.errors import UserError
from moa_jax.estimators import mechanism_targets, row_names
from moa_jax.recipes import profile_nn
from moa_jax.store import files
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir
from moa_jax.training.progress import StageProgress

SMALL = {
    "members": 2, "inputs": ("standard",), "widths": (8,), "depths": (1,), "steps": (40, 40),
    "epoch_steps": 40,
}  # fmt: skip
CONFIG = config_dict({"profile_nn": profile_nn.Config(**SMALL)}, data=DataConfig(**LEVELS_OF_FILES))
TINY = {"config": CONFIG, "folds": 2}
# With the levels of the wells, so that rows without any have programs of the same shapes.
LEVELS = {"data.cp_times": [24, 48, 72], "data.cp_doses": ["D1", "D2"]}
BARE = TINY | {"overrides": LEVELS}
# A network that learns quickly.
QUICK = {
    "members": 1, "choices": 1, "widths": [16], "steps": [100, 100], "epoch_steps": 100,
    "learning_rate": [0.02, 0.02], "dropout": [0, 0], "input_dropout": [0, 0],
    "input_noise": [0, 0],
}  # fmt: skip
# What refuses weights of rows cannot be equal to what repeats or leaves out rows by them.
NO_WEIGHTS = dict.fromkeys(
    (
        "check_sample_weights_not_overwritten",
        "check_sample_weight_equivalence_on_dense_data",
        "check_sample_weight_equivalence_on_sparse_data",
        "check_classifiers_one_label_sample_weights",
    ),
    "unequal weights of rows are refused: networks of an ensemble do not weigh rows",
)
# Checks that train nothing.
CHEAP = {
    f"check_{name}"
    for name in (
        "estimator_cloneable", "estimator_tags_renamed", "valid_tag_types", "estimator_repr",
        "no_attributes_set_in_init", "estimators_unfitted", "mixin_order", "complex_data",
        "do_not_raise_errors_in_init_or_set_params", "all_zero_sample_weights_error",
        "estimators_empty_data_messages", "estimator_sparse_tag", "estimator_sparse_array",
        "estimator_sparse_matrix", "classifiers_regression_target", "supervised_y_no_nan",
        "parameters_default_constructible", "fit2d_1sample", "get_params_invariance", "set_params",
        "fit1d", "requires_y_none",
    )
}  # fmt: skip
CHECKED = MechanismClassifier(CONFIG, folds=2, overrides=QUICK)


@pytest.mark.slow
@parametrize_with_checks([CHECKED], expected_failed_checks=lambda _: NO_WEIGHTS)
def test_scikit_learn(estimator, check):
    check(estimator)


def test_scikit_learn_without_training():
    done = set()
    for estimator, check in estimator_checks_generator(CHECKED):
        if (name := check.func.__name__) in CHEAP:
            check(estimator)
            done.add(name)
    assert done == CHEAP


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data folder: controls, compounds, times, doses, viability, and test rows."""
    path = tmp_path_factory.mktemp("data")
    simulate.write(path, rows=60, genes=6, cells=2, scored=3, nonscored=0, test_rows=7, seed=1)
    return path


def table(folder, stem):
    return pd.read_csv(next(folder.glob(f"{stem}.csv*"))).set_index("sig_id")


def read(path):
    """A submission, whose numbers are those that were written in every version of pandas."""
    return pd.read_csv(path, dtype=str).set_index("sig_id").map(float)


@pytest.fixture(scope="module")
def wells(folder):
    X, Y = table(folder, "train_features"), table(folder, "train_targets_scored")
    return X, Y, table(folder, "train_drug")["drug_id"].reindex(X.index)


@pytest.fixture(scope="module")
def fitted(wells):
    X, Y, drugs = wells
    return MechanismClassifier(**TINY).fit(X, Y, groups=drugs)


@pytest.fixture(scope="module")
def commanded(folder, tmp_path_factory):
    """The work folder that the command line makes of the data folder."""
    workdir = Workdir(tmp_path_factory.mktemp("run"))
    config = settings.resolved(CONFIG, folds=2)
    data = dataclasses.replace(config.data, folder=str(folder))
    config = loading.settled(dataclasses.replace(config, data=data))
    dataset = loading.load_data(config)
    run.train(config, workdir, dataset)
    run.blend(config, workdir, dataset, run.outside_sources(config, dataset))
    run.report(workdir)
    data = dataclasses.replace(config.data, test_features=str(folder / "test_features.csv"))
    return workdir.path, inference.infer(dataclasses.replace(config, data=data), workdir).parent


@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names")
def test_columns_without_names_are_those_of_fit_by_their_places(wells):
    """Names decide what a column is, and columns of cells stand behind those of genes."""
    X, Y, _ = wells
    treated = X["cp_type"] == "trt_cp"
    X = X.loc[treated, ["c-0", "g-1", "cp_time", "g-0", "c-1"]]
    Y = (X["g-1"] > 0).to_numpy()
    with_names, without = (MechanismClassifier(**TINY).fit(given, Y) for given in (X, X.to_numpy()))
    for model in (with_names, without):
        expected = model.predict_proba(X)
        for given in (X.to_numpy(), X.set_axis(range(5), axis=1), X):
            np.testing.assert_array_equal(model.predict_proba(given), expected)


def test_numbers_are_those_of_the_command_line(folder, fitted, wells, commanded):
    there, inferred = commanded
    here = fitted._run.folder
    for name in ("blend/oof.parquet", "blend/mechanisms.csv"):
        assert files.sha256(here / name) == files.sha256(there / name), name
    members = sorted(path.relative_to(there) for path in there.glob("profile_nn/*/members/*.npz"))
    assert len(members) == 4
    for name in members:
        weights = [np.load(root / name) for root in (here, there)]
        assert all((weights[0][key] == weights[1][key]).all() for key in weights[0].files)
    oof = Predictions.read(there / "blend" / "oof.parquet")
    X, Y, _ = wells
    treated = (X["cp_type"] == "trt_cp").to_numpy()
    np.testing.assert_array_equal(fitted.oof_[treated], oof.aligned(X.index[treated]).values)
    assert (fitted.oof_[~treated] == 0).all() and (~treated).any()
    test = table(folder, "test_features")
    submission = read(inferred / "submission.csv")
    np.testing.assert_array_equal(fitted.predict_proba(test), submission.loc[test.index, Y.columns])
    assert fitted.scores_["log_loss"] == files.read_json(there / "blend/weights.json")["score"]


def test_answers_of_compounds_and_scores(folder, fitted, wells):
    X, Y, drugs = wells
    test = table(folder, "test_features")
    compounds = np.array([f"d{number // 2}" for number in range(len(test))])
    found = fitted.predict_compounds(test, compounds)
    treated = (test["cp_type"] == "trt_cp").to_numpy()
    assert set(found["compound"]) == set(compounds[treated])
    assert len(found) == 3 * found["compound"].nunique()
    assert {"mechanism", "probability", "rank", "confident", "replicates"} <= set(found.columns)
    best = found[found["rank"] == 1].set_index("compound")["probability"]
    assert (best >= found.groupby("compound")["probability"].max().loc[best.index] - 1e-12).all()
    order = np.random.default_rng(0).permutation(len(test))
    again = fitted.predict_compounds(test.iloc[order], compounds[order])
    keys = ["compound", "mechanism"]
    pd.testing.assert_frame_equal(
        *(one.sort_values(keys, ignore_index=True) for one in (found, again)), rtol=1e-12
    )
    with pytest.raises(ValueError, match="compounds: expected the compound of each row"):
        fitted.predict_compounds(test)
    mechanisms = fitted.scores_["mechanisms"]
    treated = (X["cp_type"] == "trt_cp").to_numpy()
    for index, name in enumerate(Y.columns):
        labels, p = Y[name].to_numpy()[treated], fitted.oof_[treated, index]
        if labels.any():
            assert mechanisms.loc[name, "roc_auc"] == pytest.approx(roc_auc_score(labels, p))
            expected = average_precision_score(labels, p)
            assert mechanisms.loc[name, "average_precision"] == pytest.approx(expected)


def test_explanations_are_those_of_the_command_line(folder, fitted, wells, commanded):
    X, Y, drugs = wells
    test = table(folder, "test_features")
    names = list(Y.columns[:2])
    workdir, _ = commanded
    config = fitted._run.config
    explain = dataclasses.replace(config.explain, model="best", mechanisms=tuple(names))
    data = dataclasses.replace(config.data, test_features=str(folder / "test_features.csv"))
    config = dataclasses.replace(config, data=data, explain=explain)
    made = inference.infer(config, Workdir(workdir)).parent / "attributions.parquet"
    found = fitted.explain(test, names)
    pd.testing.assert_frame_equal(found, pd.read_parquet(made), check_exact=True)
    assert set(found["mechanism"]) == set(names)
    assert {*X.columns} - {"cp_type"} <= set(found["feature"])
    single = fitted.explain(test, names[0], by="row")
    treated = (test["cp_type"] == "trt_cp").sum()
    assert set(single["mechanism"]) == {names[0]} and single["sig_id"].nunique() == treated
    compounds = np.array([f"d{number // 2}" for number in range(len(test))])
    assert "compound" in fitted.explain(test, names[0], by="compound", compounds=compounds)
    with pytest.raises(ValueError, match="target: expected mechanisms, found no 'moa'"):
        fitted.explain(test, "moa")
    with pytest.raises(ValueError, match="by: expected one of"):
        fitted.explain(test, by="well")
    with pytest.raises(ValueError, match="compounds: expected the compound of each row"):
        fitted.explain(test, by="compound")


def test_conventions(fitted, wells):
    X, Y, _ = wells
    assert fitted.mechanisms_.tolist() == list(Y.columns)
    assert [found.tolist() for found in fitted.classes_] == [[0, 1]] * 3
    assert fitted.n_features_in_ == X.shape[1]
    assert fitted.feature_names_in_.tolist() == list(X.columns)
    assert fitted.predict(X).shape == fitted.oof_.shape == Y.shape
    np.testing.assert_array_equal(fitted.predict(X), fitted.predict_proba(X) > 0.5)
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(X.rename(columns={"g-0": "g-9"}))
    with pytest.raises(NotFittedError):
        MechanismClassifier().scores_  # noqa: B018


def test_groups_are_kept_whole(fitted, wells, monkeypatch):
    X, Y, drugs = wells
    folds = pd.read_csv(next(fitted._run.folder.glob("profile_nn/*/folds.csv")))
    fold = folds[folds["seed"] == folds["seed"].min()].set_index("sig_id")["fold"]
    treated = X.index[X["cp_type"] == "trt_cp"]
    assert (fold.loc[treated].groupby(drugs.loc[treated]).nunique() == 1).all()
    # Of a column of X, which new rows need not have.
    named = MechanismClassifier(**TINY, groups="made_by").fit(X.assign(made_by=drugs), Y)
    np.testing.assert_array_equal(named.oof_, fitted.oof_)
    np.testing.assert_array_equal(named.predict(X), named.predict(X.assign(made_by="any")))
    assert "made_by" not in named.feature_names_in_
    assert named.predict_compounds(X.assign(made_by=drugs))["compound"].nunique() > 1


def test_groups_of_models_that_cut_rows_otherwise():
    found = settings.resolved("simple_nn:old,smoke", grouped=True)
    assert found.data.groups == "compound"
    assert {model.split for model in found.models.values()} == {"compound"}
    assert settings.resolved("simple_nn:old,smoke").data.groups == "auto"
    assert settings.resolved("profiles", grouped=True).data.groups == "auto"
    fields = {"data.groups": "none"}
    assert settings.resolved("simple_nn:old,smoke", fields, grouped=True).data.groups == "none"
    with pytest.raises(UserError, match="groups: expected the compound of each row"):
        whole = MechanismClassifier(CONFIG, overrides={"data.groups": "compound"})
        whole.fit(np.zeros((8, 2)), np.eye(8, 2, dtype=int))


def test_controls_times_and_doses_reach_the_networks(fitted, wells):
    X, _, _ = wells
    treated = X[X["cp_type"] == "trt_cp"]
    assert (fitted.predict_proba(treated.assign(cp_type="ctl_vehicle")) == 0).all()
    dose = treated["cp_dose"].map({"D1": "D2", "D2": "D1"})
    assert (
        fitted.predict_proba(treated) != fitted.predict_proba(treated.assign(cp_dose=dose))
    ).any()
    with pytest.raises(ValueError, match=r"X: column cp_dose, .* one of D1, D2, found 'D3'"):
        fitted.predict(treated.assign(cp_dose="D3"))


@pytest.fixture(scope="module")
def arrays(wells):
    """The treated wells without names: programs of one shape are compiled once."""
    X, Y, drugs = wells
    treated = (X["cp_type"] == "trt_cp").to_numpy()
    values = X.loc[treated, [name for name in X if name[:2] in ("g-", "c-")]].to_numpy()
    return values, Y[treated].to_numpy(), drugs[treated].to_numpy()


def test_arrays_frames_and_annotated_data_are_one(arrays):
    anndata = pytest.importorskip("anndata")
    X, Y, groups = arrays
    first = MechanismClassifier(**BARE).fit(X, Y, groups=groups)
    assert first.mechanisms_.tolist() == ["label_0", "label_1", "label_2"]
    names, labels = [*"abcdefgh"], [*"xyz"]
    frame = pd.DataFrame(X, columns=names)
    second = MechanismClassifier(**BARE).fit(frame, pd.DataFrame(Y, columns=labels), groups)
    assert second.mechanisms_.tolist() == labels
    index = frame.index.astype(str)
    obs = pd.DataFrame(Y, index, labels).assign(compound=groups)
    data = anndata.AnnData(X, obs, pd.DataFrame(index=names))
    third = MechanismClassifier(**BARE, groups="compound").fit(data, labels)
    assert third.mechanisms_.tolist() == labels
    for other, given in ((second, frame), (third, data)):
        np.testing.assert_array_equal(other.oof_, first.oof_)
        np.testing.assert_array_equal(other.predict_proba(given), first.predict_proba(X))
    assert third.predict_compounds(data)["compound"].nunique() == len(set(groups))
    with pytest.raises(ValueError, match="Y: expected columns of obs, found no 'moa'"):
        third.fit(data, "moa")
    with pytest.raises(ValueError, match="Y: rows are those of X in another order"):
        third.fit(data, obs[labels][::-1])


def test_classes_are_labels_that_sum_to_one(arrays, tmp_path):
    X, _, groups = arrays
    y = np.array(["low", "middle", "top"])[np.digitize(X[:, 0], [-0.5, 0.5])]
    found = MechanismClassifier(**BARE).fit(X, y, groups)
    assert found.classes_.tolist() == found.mechanisms_.tolist() == ["low", "middle", "top"]
    labels = pd.DataFrame({name: (y == name) * 1 for name in found.classes_})
    of_labels = MechanismClassifier(**BARE).fit(X, labels, groups)
    for one, other in (
        (found.predict_proba(X), of_labels.predict_proba(X)),
        (found.oof_, of_labels.oof_),
    ):
        np.testing.assert_array_equal(one, other / other.sum(1, keepdims=True))
    best = found.predict_proba(X).argmax(1)
    np.testing.assert_array_equal(found.predict(X), found.classes_[best])
    found.save(tmp_path / "model")
    loaded = MechanismClassifier.load(tmp_path / "model")
    assert loaded.classes_.dtype == found.classes_.dtype
    np.testing.assert_array_equal(loaded.predict(X), found.predict(X))
    loaded.classes_ = np.arange(3).astype("datetime64[D]")
    loaded.save(tmp_path / "days")
    again = MechanismClassifier.load(tmp_path / "days")
    np.testing.assert_array_equal(again.classes_, loaded.classes_)
    with pytest.raises(ValueError, match="rows with controls, which have no class"):
        kinds = np.where(np.arange(len(X)) < 5, "ctl_vehicle", "trt_cp")
        found.fit(pd.DataFrame(X, columns=[*"abcdefgh"]).assign(cp_type=kinds), y)


def test_save_load_and_copies(tmp_path, fitted, wells, folder):
    X, _, _ = wells
    expected = fitted.predict_proba(X)
    fitted.save(tmp_path / "model")
    fitted.save(tmp_path / "model")  # an earlier one is replaced
    loaded = MechanismClassifier.load(tmp_path / "model")
    others = {"loaded": loaded, "pickled": pickle.loads(pickle.dumps(fitted))}
    others["copied"] = copy.deepcopy(loaded)
    for name, other in others.items():
        np.testing.assert_array_equal(other.predict_proba(X), expected, err_msg=name)
        np.testing.assert_array_equal(other.oof_, fitted.oof_)
        assert other.scores_["log_loss"] == fitted.scores_["log_loss"]
        assert other.feature_names_in_.tolist() == fitted.feature_names_in_.tolist()
    assert loaded.get_params()["folds"] == 2
    loaded.report(tmp_path / "report.html")
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8")
    # The folder is one of the command line's.
    config = loaded._run.config
    data = dataclasses.replace(config.data, test_features=str(folder / "test_features.csv"))
    made = inference.infer(dataclasses.replace(config, data=data), Workdir(tmp_path / "model"))
    np.testing.assert_array_equal(
        read(made),
        loaded.predict_proba(table(folder, "test_features")),
    )
    with pytest.raises(UserError, match="expected a new, an empty or a saved folder"):
        fitted.save(tmp_path / "model")  # which now has an inference in it


def test_a_tilde_is_told(fitted):
    for write in (fitted.save, fitted.report):
        with pytest.raises(UserError, match=r"path: ~/model: expected .* write \$HOME"):
            write("~/model")


def test_damage_is_told(tmp_path, fitted):
    folder = tmp_path / "model"
    with pytest.raises(UserError, match="expected a saved MechanismClassifier, found none"):
        MechanismClassifier.load(folder)
    fitted.save(folder)
    path = folder / "estimator.json"
    text = path.read_text()
    path.write_text(text.replace('"folds": 2', '"folds": 3'))
    with pytest.raises(UserError, match=r"estimator\.json"):
        MechanismClassifier.load(folder)
    path.write_text(text)
    MechanismClassifier.load(folder)
    weights = next(folder.glob("profile_nn/*/members/*.npz"))
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(UserError, match=weights.name):
        MechanismClassifier.load(folder)


def test_nothing_stays(wells, tmp_path, monkeypatch, capfd):
    X, Y, drugs = wells
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    found = MechanismClassifier(**TINY).fit(X, Y, groups=drugs)
    assert list(tmp_path.iterdir()) == [tmp_path / "temporary"]
    assert capfd.readouterr() == ("", "")
    other = copy.deepcopy(found)
    del found
    gc.collect()
    assert len(list((tmp_path / "temporary").iterdir())) == 1
    other.predict(X)
    del other
    gc.collect()
    assert not list((tmp_path / "temporary").iterdir())
    with pytest.raises(UserError):
        MechanismClassifier(**TINY | {"folds": 1000}).fit(X, Y)
    gc.collect()
    assert not list((tmp_path / "temporary").iterdir())


def test_a_work_folder_and_lines(wells, tmp_path, capfd, fitted):
    X, Y, drugs = wells
    found = MechanismClassifier(**TINY, workdir=tmp_path / "run", verbose=True)
    found.fit(X, Y, groups=drugs)
    assert "out-of-fold log loss" in capfd.readouterr().err
    assert (tmp_path / "run" / "blend" / "weights.json").exists()
    np.testing.assert_array_equal(found.oof_, fitted.oof_)
    found.fit(X, Y, groups=drugs)
    assert "finished by an earlier run" in capfd.readouterr().err
    with pytest.raises(UserError, match="belongs to another run"):
        found.fit(X, Y.iloc[:, :2], groups=drugs)
    found.save(tmp_path / "run")
    loaded = MechanismClassifier.load(tmp_path / "run")
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
def test_a_terminal_has_a_bar_where_it_has_lines(level, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    before = logging.get_verbosity()
    logging.set_verbosity(level)
    try:
        progress = StageProgress("stage", 3)
        assert progress._bar.disable == (level == logging.WARNING)
        progress.close()
    finally:
        logging.set_verbosity(before)


def test_searches_and_cross_validation(arrays):
    X, Y, groups = arrays
    model, size = MechanismClassifier(**BARE), len(X)
    twice = [np.concatenate([one, one]) for one in arrays]
    halves = PredefinedSplit(np.repeat([0, 1], size))
    found = cross_val_predict(
        model, *twice[:2], cv=halves, method="predict_proba", params={"groups": twice[2]}
    )
    expected = model.fit(X, Y, groups=groups).predict_proba(X)
    np.testing.assert_array_equal(found, np.concatenate([expected, expected]))
    everything = [(np.arange(size), np.arange(size))]
    search = GridSearchCV(
        clone(model).set_params(groups="made_by"), {"random_state": np.array([0, 1])},
        cv=everything, refit=False,
        scoring=lambda fitted, X, Y: fitted.predict_proba(X)[0, 0], error_score="raise",
    ).fit(pd.DataFrame(X).rename(columns=str).assign(made_by=groups), Y)  # fmt: skip
    scores = search.cv_results_["mean_test_score"]
    assert scores[0] == expected[0, 0] != scores[1]


def test_clone_mirrors_every_parameter():
    changed = MechanismClassifier(
        "quickstart", groups="a", seeds=2, folds=3, workdir="b", overrides={"members": 2},
        random_state=4, verbose=True,
    )  # fmt: skip
    assert clone(changed).get_params() == changed.get_params()
    assert {*moa_jax.__all__} == {
        "DeepInsight", "MechanismClassifier", "TabNetClassifier", "TabNetPretrainer",
        "TabNetRegressor", "__version__",
    }  # fmt: skip
    assert all(hasattr(moa_jax, name) for name in moa_jax.__all__)


def test_configurations(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(configurations.packaged()["profiles"].read_text(encoding="utf-8"))
    given = configurations.get_config(f"{file}:smoke")
    for config in (f"{file}:smoke", given, given.to_dict()):
        assert settings.resolved(config) == settings.resolved("profiles:smoke")


def test_fields_are_set_where_they_are():
    several = merged_models(simple_nn.get_config("sample"), three_stage_nn.get_config("sample"))
    fields = {"epochs": np.int64(4), "models.three_stage_nn.folds": 3, "data.groups": "compound"}
    found = settings.resolved(config_dict(several), fields, seeds=3, folds=4, seed=7)
    assert found.seed == 7
    assert found.models["simple_nn_old"].seeds == (0, 1, 2)
    assert found.models["simple_nn_old"].folds == 4
    assert found.models["three_stage_nn"].folds == 3
    assert {found.models["simple_nn_new"].epochs, found.models["three_stage_nn"].scored.epochs} == {
        4
    }
    assert settings.resolved("profiles", seeds=5).models["profile_nn"].members == 5
    assert settings.resolved("simple_nn:old", seeds=[4, 2]).models["simple_nn_old"].seeds == (4, 2)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"config": "profils"}, r"^config: profils: not found; .*did you mean profiles\?"),
        ({"config": "profiles:smok"}, "did you mean smoke"),
        ({"config": 3}, "config: expected the name of a configuration, .* found 3"),
        ({"overrides": {"member": 2}}, r"member: .*did you mean members\?; there are .*folds"),
        ({"overrides": {"data.cp_time": 2}}, r"data\.cp_time: .*did you mean data\.cp_times"),
        ({"overrides": [1]}, r"overrides: expected values by name of field, found \[1\]"),
        ({"overrides": {"members": 0}}, "config.models.profile_nn.members: expected between 1"),
        ({"overrides": {"milestones": (1,)}}, "milestones: expected a field of the configuration"),
        ({"overrides": {"patience": 2, "pct_start": 0.1, "trials": 3}}, "trials: expected a field"),
        ({"config": "simple_nn:old", "overrides": {"frequent_above": 3}}, "given, but read only"),
        (
            {"config": CONFIG, "folds": 1},
            "config.models.profile_nn.folds: expected between 2 and 1000",
        ),
        (
            {"config": CONFIG, "folds": "a"},
            "config.models.profile_nn.folds: expected int, found 'a'",
        ),
        ({"seeds": "a"}, "seeds: expected a number of networks or their seeds, found 'a'"),
        ({"config": CONFIG, "seeds": [3, 1]}, "seeds: expected a number for profile_nn"),
        ({"seed": 2.5}, "config.seed: expected int, found 2.5"),
    ],
)
def test_mistakes_in_parameters(parameters, message):
    with pytest.raises(UserError, match=message):
        settings.resolved(**{"config": "profiles:smoke", **parameters})


def test_levels_and_unknown_labels_of_the_data(wells):
    X, Y, drugs = wells
    X = X.assign(cp_dose=np.where(X["cp_dose"] == "D1", "low", "high"), cp_time=X["cp_time"] / 8)
    Y = Y.astype(float)
    Y.iloc[0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        MechanismClassifier(**TINY).fit(X, Y, groups=drugs)
    fields = {"data.missing_targets": "mask"}
    found = MechanismClassifier(**TINY | {"overrides": fields}).fit(X, Y, groups=drugs)
    data = found._run.config.data
    assert (data.cp_times, data.cp_doses) == ((3, 6, 9), ("high", "low"))
    assert found.predict_proba(X).shape == Y.shape


def test_mistakes_in_data():
    X = np.random.default_rng(0).normal(size=(60, 4))
    Y = (X[:, :2] > 0).astype(int)
    frame, labels = pd.DataFrame(X, columns=[*"abcd"]), pd.DataFrame(Y, columns=["x", "y"])
    model = MechanismClassifier(**TINY)
    weights = np.ones(60)
    weights[0] = 2
    for given, message in {
        (("sample_weight", tuple(weights)),): "sample_weight: expected None or equal weights",
        (("Y", "other"),): "Y: rows are those of X in another order",
        (("Y", "three"),): "Y: expected labels of 0 and 1, found 3",
        (("Y", "short"),): "inconsistent numbers of samples",
        (("Y", "twice"),): "Y: expected labels of different names, found several of 'x'",
        (("groups", "compuond"),): "groups: expected a column of X, found no 'compuond'",
        (("groups", (1, 2)),): "groups: expected one for each of 60 rows",
        (("groups", (None, *range(59))),): "groups: row 0: expected a name, found None",
        (("X", "same"),): "X: expected columns of different names, found several of 'a'",
        (("X", "huge"),): "X: column a, row 0: expected a number between",
        (("X", "mixed"),): "X: expected columns whose names are all texts, found int, str",
        (("X", "text"),): "X: column maker: expected numbers, found 'A'; leave it out, or name",
        (("X", "nan"),): "X: column c, row 3: expected a number, found NaN; fill in",
        (("X", "inf"),): "X: column c, row 3: expected a number, found inf; fill in",
        (("X", "array"),): "X: column g-2, row 3: expected a number, found NaN; fill in",
        (("Y", "unknown"),): "Y: row 3: expected a label in every column, found NaN; overrides",
        (("Y", "nameless"),): "Y: row 3: expected a class, found NaN; leave out rows",
        (("Y", "ids"),): "Y: expected classes of other names than 'sig_id'",
        (("X", "masked"),): "X: expected a value in every cell, found 1 masked",
        (("Y", "masked"),): "Y: expected a value in every cell, found 1 masked",
        (("X", "empty"),): "X: expected columns of features, found none",
        (("Y", "lists"),): r"Y: expected a class, or .*, found \['a'\]; .*MultiLabelBinarizer",
        (("X", "later"), ("Y", "earlier")): "Y: expected the rows of X, found none of 59",
        (("X", "named"), ("Y", "renamed")): "Y: rows are those of X in another order",
        (("X", "arrow"), ("Y", "renamed")): "Y: rows are those of X in another order",
        (("X", "named"), ("Y", "indexed")): "Y: rows are those of X in another order",
        (("X", "both"), ("Y", "lettered")): "Y: rows are those of X in another order",
        (("X", "dates"),): "X: column b: expected numbers, found datetime.date.2020, 9, 3.",
        (("X", "digits"),): "X: column b: expected numbers, found 1000",
        (("X", "nothing"),): "X: column b: expected numbers, found <NA>",
        (("X", "fields"),): "X: expected numbers, found fields a, b, c, d;",
        (("X", "compounds"),): "X: column drug_id: names compounds, .* give groups='drug_id'",
        (("groups", "drugs"),): r"groups: rows are those of X .* order; give groups.loc\[X.index\]",
    }.items():
        named = frame.assign(sig_id=[f"w{row}" for row in range(60)])
        others = {
            "named": named, "arrow": pa.Table.from_pandas(named),
            "renamed": labels.assign(sig_id=named["sig_id"].tolist()[::-1]),
            "indexed": labels.set_axis(named["sig_id"].tolist()[::-1]),
            "both": named.set_axis([f"r{row}" for row in range(60)]),
            "lettered": labels.set_axis([f"r{row}" for row in range(60)][::-1]),
            "dates": frame.assign(b=[datetime.date(2020, 9, 3)] * 60),
            "digits": frame.assign(b=pd.Series([10**400] * 60, dtype=object)),
            "nothing": frame.assign(b=pd.Series([pd.NA] * 60, dtype=object)),
            "fields": frame.to_records(index=False), "compounds": frame.assign(drug_id=range(60)),
            "other": labels.iloc[::-1], "three": labels.replace(1, 3), "short": labels[:50],
            "twice": labels.set_axis(["x", "x"], axis=1),
            "same": frame.set_axis([*"aacd"], axis=1),
            "huge": frame.assign(a=np.where(np.arange(60) == 0, 1e16, 1.0)),
            "mixed": frame.set_axis([0, *"bcd"], axis=1), "text": frame.assign(maker=[*"AB"] * 30),
            "nan": frame.assign(c=frame["c"].where(frame.index != 3)),
            "inf": frame.assign(c=frame["c"].where(frame.index != 3, np.inf)),
            "array": frame.assign(c=frame["c"].where(frame.index != 3)).to_numpy(),
            "unknown": labels.assign(x=labels["x"].where(labels.index != 3)),
            "nameless": pd.Series([*"ab"] * 30).where(labels.index != 3),
            "ids": ["a", "sig_id"] * 30,
            "drugs": pd.Series([*"ab"] * 30).iloc[::-1],
            "masked": np.ma.masked_array(X, np.arange(240).reshape(60, 4) == 1),
            "empty": frame[[]], "lists": [["a"], ["a", "b"]] * 30,
            "later": frame.set_axis(range(1, 61)), "earlier": labels.set_axis(range(-1, 59)),
        }  # fmt: skip
        arguments = {"X": frame, "Y": labels}
        for name, value in given:
            is_key = isinstance(value, str) and value in others
            arguments[name] = others[value] if is_key else value
        with pytest.raises(ValueError, match=message):
            model.fit(**arguments)
    with pytest.raises(UserError, match="groups: expected the name of a column of X, found"):
        MechanismClassifier(groups=[1, 2]).fit(X, Y)
    with pytest.raises(UserError, match="random_state: expected an integer or None, found 'a'"):
        MechanismClassifier(random_state="a").fit(X, Y)


@pytest.mark.parametrize("kinds", [["trt_cp", "ctl_vehicle"], ["trt_cp"]])
def test_a_label_that_is_known_of_controls_alone(kinds):
    """Which have no mechanism: nothing could be learned, and no score would be a number."""
    kind = np.resize(kinds, 60)
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=[*"abc"])
    Y = pd.DataFrame({"x": np.where(kind == "trt_cp", np.nan, 0.0), "y": np.arange(60) % 3 == 0})
    model = MechanismClassifier(**TINY | {"overrides": {"data.missing_targets": "mask"}})
    with pytest.raises(ValueError, match="Y: x: expected labels of treated rows, found none but"):
        model.fit(X.assign(cp_type=kind), Y)


def test_rows_that_were_drawn_have_one_order():
    """Ids may be numbers that are those of the index, too, which other rows have."""
    order = np.random.default_rng(0).permutation(60)[:40]
    X = pd.DataFrame({"a": 1.0, "sig_id": range(1, 61)})
    for rows, Y in (
        (X.iloc[order], pd.Series([*"ab"] * 30).iloc[order]),
        (X[::-1].reset_index(drop=True), pd.Series([*"ab"] * 30, index=range(60, 0, -1))),
    ):
        row_names.check_order("Y", rows, Y)


def test_classes_of_many_digits_stay_whole():
    values = [2**60, 2**60 + 1] * 3
    for given in (values, pd.Series(values, dtype="Int64"), pd.array(values, dtype="UInt64")):
        assert mechanism_targets.labels(given, np.zeros((6, 1))).classes.tolist() == values[:2]


def test_an_answer_among_the_columns_is_told(monkeypatch):
    def train(*_):
        raise RuntimeError("trained")

    monkeypatch.setattr(FinishedRun, "train", train)
    X = np.random.default_rng(0).normal(size=(60, 4))
    Y = np.where(X[:, 0] > 0, "a", "b")
    for frame, is_told in ((X, False), (np.column_stack([X, 3 * (Y == "a")]), True)):
        with warnings.catch_warnings(record=True) as caught, pytest.raises(RuntimeError):
            warnings.simplefilter("always")
            MechanismClassifier(**TINY).fit(frame, Y)
        line = "X: columns that are an answer: 1, such as g-4; nothing is learned"
        told = [one for one in caught if line in str(one.message)]
        assert [one.filename for one in told] == [__file__] * is_told


@pytest.mark.slow
def test_double_precision(wells):
    X, Y, drugs = wells
    found = MechanismClassifier(**TINY | {"overrides": {"precision": "float64"}})
    found.fit(X.iloc[:40], Y.iloc[:40], drugs.iloc[:40])
    weights = np.load(next(Path(found._run.folder).glob("profile_nn/*/members/*.npz")))
    assert {weights[name].dtype for name in weights.files if name.endswith("kernel")} == {
        np.dtype("float64")
    }
    # A program of its own predicts in the same precision.
    assert len(np.unique(found.predict_proba(X).astype(np.float32))) > 3
