"""Blends at the command line: of files from elsewhere, by every method, and in inference."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import submissions

from moa_jax.store.predictions import Predictions
from moa_jax.training.metrics import mean_log_loss

SIMPLE = "tests/e2e/tiny.py:simple_nn_old,simple_nn_new"
FILES = "configs/blend_files.py:mine,theirs"


@pytest.fixture(scope="module")
def outside(data, tmp_path_factory):
    """Files of two made-up models, rows and columns in an order of their own, as overrides."""
    folder = tmp_path_factory.mktemp("outside")
    truth = pd.read_csv(data / "train_targets_scored.csv").set_index("sig_id")
    test = pd.read_csv(data / "test_features.csv")["sig_id"]
    generator = np.random.default_rng(0)
    flags = []
    for name, suffix, noise in (("mine", "csv", 1.0), ("theirs", "parquet", 1.2)):
        values = 1 / (1 + np.exp(2 - 3 * truth - noise * generator.normal(size=truth.shape)))
        test_values = pd.DataFrame(generator.random((len(test), 4)), test, truth.columns)
        for kind, table in (("oof", values), ("test", test_values)):
            path = folder / f"{name}_{kind}.{suffix}"
            table = table[table.columns[::-1]].sample(frac=1, random_state=1).reset_index()
            table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
            flags.append(f"--config.blend.files.{name}.{kind}={path}")
    return flags


def read(workdir, name):
    return json.loads((workdir / "blend" / name).read_text())


def test_files_from_elsewhere_are_blended(launch, outside, data, tmp_path):
    result = launch(tmp_path / "run", "--mode=blend", *outside, config=FILES)
    assert result.returncode == 0, result.stderr
    found = read(tmp_path / "run", "weights.json")
    blended = Predictions.read(tmp_path / "run" / "blend" / "oof.parquet")
    truth = pd.read_csv(data / "train_targets_scored.csv").set_index("sig_id")
    labels = truth.loc[blended.ids, list(blended.targets)].to_numpy()
    assert found["score"] == pytest.approx(mean_log_loss(labels, blended.values), rel=1e-14)
    assert found["score"] < found["best_model_loss"] and found["best_model"] == "mine"
    paths = [flag.split("=")[1] for flag in outside if ".test=" in flag]
    submission = submissions.read(tmp_path / "run" / "submission.csv")
    tests = [pd.read_csv(paths[0]), pd.read_parquet(paths[1])]
    expected = sum(
        weight * table.set_index("sig_id").loc[submission.ids, list(submission.targets)]
        for weight, table in zip(found["weights"].values(), tests, strict=True)
    )
    np.testing.assert_allclose(submission.values, expected, rtol=1e-14)
    targets = pd.read_csv(tmp_path / "run" / "blend" / "targets.csv")
    assert targets["loss"].mean() == pytest.approx(found["score"], rel=1e-12)
    assert targets["positives"].sum() == labels.sum()
    analysed = read(tmp_path / "run", "analysis.json")
    controls = (pd.read_csv(data / "test_features.csv")["cp_type"] == "ctl_vehicle").sum()
    assert analysed["test"]["rows"] == len(submission.ids) - controls
    assert sum(part["cells"] for part in analysed["calibration"]) == labels.size
    assert analysed["without"]["mine"] > found["score"]
    # A work folder of files cannot predict new rows, and says so.
    new = f"--config.data.test_features={data / 'test_features.csv'}"
    result = launch(tmp_path / "run", "--mode=infer", new, config=None)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "found one of mine, whose predictions come from a file" in result.stderr


def test_without_out_of_fold_predictions_weights_are_fixed(launch, outside, tmp_path):
    tests = [flag for flag in outside if ".test=" in flag]
    none = ["--config.blend.files.mine.oof=", "--config.blend.files.theirs.oof="]
    fixed = ["--config.blend.method=fixed", "--config.blend.weights.mine=0.75",
             "--config.blend.normalise=divide"]  # fmt: skip
    for leftover in ("oof.parquet", "targets.csv"):  # of an earlier blend in this folder
        (tmp_path / "run" / "blend").mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / "blend" / leftover).touch()
    result = launch(tmp_path / "run", "--mode=blend", *tests, *none, *fixed, config=FILES)
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "run" / "blend" / "targets.csv").exists()
    found = read(tmp_path / "run", "weights.json")
    assert found["weights"] == {"mine": 0.6, "theirs": 0.4} and "score" not in found
    assert (tmp_path / "run" / "submission.csv").exists()
    assert (tmp_path / "run" / "blend" / "report.html").exists()
    assert not (tmp_path / "run" / "blend" / "oof.parquet").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--config.blend.files.mine.oof=nowhere.csv"], "nowhere.csv: expected a file, found none"),
        (["--config.blend.files.theirs.test="], "files.theirs.test: expected a file, because mine"),
        (["--config.blend.files.mine.oof="], "files.mine.oof: expected a file for blend.method=sl"),
    ],
)
def test_mistakes_leave_nothing_half_written(launch, outside, tmp_path, changed, message):
    result = launch(tmp_path / "run", "--mode=blend", *outside, *changed, config=FILES)
    assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
    assert message in result.stderr.strip().splitlines()[-1]
    written = {p.name for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert written <= {".lock", "log.txt"}


def test_models_and_files_together(launch, finished, outside, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    theirs = [flag for flag in outside if ".theirs." in flag]
    result = launch(tmp_path / "run", "--mode=blend", *theirs, config=f"{SIMPLE},theirs")
    assert result.returncode == 0, result.stderr
    weights = read(tmp_path / "run", "weights.json")["weights"]
    assert set(weights) == {"simple_nn_old", "simple_nn_new", "theirs"}


@pytest.mark.parametrize("method", ["per_target", "tpe"])
def test_inference_by_every_method_from_a_copied_folder(launch, finished, data, tmp_path, method):
    if method == "tpe":
        pytest.importorskip("optuna")
    shutil.copytree(finished, tmp_path / "here")
    options = [f"--config.blend.method={method}", "--config.blend.trials=15"]
    result = launch(tmp_path / "here", "--mode=blend", *options)
    assert result.returncode == 0, result.stderr
    found = read(tmp_path / "here", "weights.json")
    assert found["method"] == method and found["nested"]["loss"] >= found["loss"]
    shutil.move(tmp_path / "here", tmp_path / "there")
    shutil.copy(data / "test_features.csv", tmp_path / "new.csv")
    new = f"--config.data.test_features={tmp_path / 'new.csv'}"
    # The configuration names a folder of training data; it is not read.
    result = launch(
        tmp_path / "there", "--mode=infer", new, "--config.data.folder=absent", config=None
    )
    assert result.returncode == 0, result.stderr
    expected = submissions.read(tmp_path / "there" / "submission.csv")
    predicted = submissions.read(
        submissions.inferred(tmp_path / "there", tmp_path / "new.csv") / "submission.csv"
    )
    np.testing.assert_allclose(
        predicted.aligned(expected.ids).values, expected.values, rtol=0, atol=1e-6
    )
