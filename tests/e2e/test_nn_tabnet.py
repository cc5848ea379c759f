"""The 2-stage NN + TabNet from CSV to submission, and inference through both stages."""

import json
import shutil

import numpy as np
import pandas as pd
import plans
import pytest
import submissions

from moa_jax.features.transforms import TRANSFORMS
from moa_jax.store import transform_files
from moa_jax.store.predictions import Predictions
from moa_jax.training import weights

MODEL = "nn_tabnet"
CONFIG = f"tests/e2e/tiny.py:{MODEL}"
STAGES = ["nonscored", "scored"]


@pytest.fixture(scope="module")
def trained(launch, tmp_path_factory):
    workdir = tmp_path_factory.mktemp(MODEL) / "run"
    result = launch(workdir, config=CONFIG)
    assert result.returncode == 0, result.stderr
    return workdir


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_the_first_stage_hands_its_predictions_on(trained):
    model = trained / MODEL
    plans.check(trained, selects=(f"{MODEL}/nonscored",))
    assert metrics(model)["stages"] == STAGES
    first, second = metrics(model / "nonscored"), metrics(model / "scored")
    fitted = transform_files.load(model / "nonscored" / "features" / "all", TRANSFORMS)
    selected = fitted["selection"].kept_
    assert first["inputs"] == len(selected) + 5
    # Codes, columns, 2 + 2 factors in pairs twice and 2 more, clusters, statistics, predictions.
    assert second["inputs"] == 2 + 18 + 4 + 2 + 4 + 5 + 12 + first["outputs"]
    assert (first["network"], second["network"]) == ("TwoLayerMLP", "TabNet")
    fitted = transform_files.load(model / "scored" / "features" / "all", TRANSFORMS)["predictions"]
    oof = Predictions.read(model / "nonscored" / "oof.parquet").values
    expected = np.percentile(oof, 100 * fitted.references_, axis=0)
    np.testing.assert_allclose(fitted.quantiles_, expected, rtol=1e-12)


def test_every_seed_has_its_own_folds(trained):
    for stage in STAGES:
        table = pd.read_csv(trained / MODEL / stage / "folds.csv")
        first, second = (group["fold"].to_numpy() for _, group in table.groupby("seed"))
        assert (first != second).any()


def test_members_end_by_patience_and_keep_their_best_epoch(trained):
    lines = (trained / "metrics.jsonl").read_text().splitlines()
    records = pd.DataFrame(map(json.loads, lines)).query(f"stage == '{MODEL}/scored'")
    for (seed, fold), group in records.groupby(["seed", "fold"]):
        name = f"seed{seed}_fold{fold}.npz"
        kept = weights.read_record(trained / MODEL / "scored" / "members" / name)
        losses = group["valid_loss"].to_numpy()
        assert kept["epoch"] == 1 + losses.argmin()
        assert kept["epochs_run"] == len(losses) == min(6, kept["epoch"] + 2)


def test_inference_from_a_copied_work_folder(trained, launch, data, tmp_path):
    shutil.copytree(trained, tmp_path / "moved")
    table = pd.read_csv(data / "test_features.csv")
    features = tmp_path / "half.csv"
    table.sample(frac=0.5, random_state=0).to_csv(features, index=False)
    flags = ("--mode=infer", f"--config.data.test_features={features}")
    result = launch(tmp_path / "moved", *flags, config=None)
    assert result.returncode == 0, result.stderr
    found = Predictions.read(
        submissions.inferred(tmp_path / "moved", features) / f"{MODEL}.parquet"
    )
    expected = Predictions.read(trained / MODEL / "test.parquet").aligned(found.ids)
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_data_without_non_scored_targets(launch, without, tmp_path):
    folder = f"--config.data.folder={without('train_targets_nonscored.csv')}"
    result = launch(tmp_path / "run", folder, config=CONFIG)
    assert result.returncode == 0, result.stderr
    model = metrics(tmp_path / "run" / MODEL)
    assert model["stages"] == STAGES[1:]
    assert len(model["notes"]) == 1 and "left out" in result.stderr
    assert (tmp_path / "run" / "submission.csv").exists()
