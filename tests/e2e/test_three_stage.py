"""The 3-stage NN from CSV to submission: its stages, and inference through all of them."""

import json
import shutil

import numpy as np
import pandas as pd
import plans
import pytest
import submissions

from moa_jax.features.transforms import TRANSFORMS
from moa_jax.store import arrays, transform_files
from moa_jax.store.predictions import Predictions

MODEL = "three_stage_nn"
CONFIG = f"tests/e2e/tiny.py:{MODEL}"
WITH_UMAP = f"--config.models.{MODEL}.features.umap=true"
STAGES = ("nonscored", "scored", "stacked")


@pytest.fixture(scope="module")
def trained(launch, tmp_path_factory):
    """Work folders of the recipe with and without UMAP."""
    folders = {}
    for name, flags in (("plain", []), ("umap", [WITH_UMAP])):
        folders[name] = tmp_path_factory.mktemp(name) / "run"
        result = launch(folders[name], *flags, config=CONFIG)
        assert result.returncode == 0, result.stderr
    return folders


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_stages_hand_on_their_predictions(trained):
    for workdir, embedded in ((trained["plain"], 0), (trained["umap"], 4)):
        model = workdir / MODEL
        plans.check(workdir)
        assert metrics(model)["stages"] == list(STAGES)
        targets = metrics(model / "nonscored")["outputs"]
        profile = 18 + 4 + 2 + embedded
        assert metrics(model / "nonscored")["inputs"] == profile + 5
        assert metrics(model / "scored")["inputs"] == profile + targets + 5
        assert metrics(model / "stacked")["inputs"] == 4
        for earlier, later in (("nonscored", "scored"), ("scored", "stacked")):
            folder = model / later / "features" / "all"
            fitted = transform_files.load(folder, TRANSFORMS)["predictions"]
            oof = Predictions.read(model / earlier / "oof.parquet").values
            expected = np.percentile(oof, 100 * fitted.references_, axis=0)
            np.testing.assert_allclose(fitted.quantiles_, expected, rtol=1e-12)


def test_folds_of_the_stages(trained):
    """Stages 1 and 3 split at random within blocks of consecutive rows, stage 2 by labels."""
    folds = {}
    for stage in STAGES:
        table = pd.read_csv(trained["plain"] / MODEL / stage / "folds.csv")
        by_seed = [group["fold"].to_numpy() for _, group in table.groupby("seed")]
        np.testing.assert_array_equal(*by_seed)
        folds[stage] = by_seed[0]
    for stage in ("nonscored", "stacked"):
        blocks = folds[stage][: len(folds[stage]) // 3 * 3].reshape(-1, 3)
        assert (np.sort(blocks, axis=1) == [0, 1, 2]).all()
    assert len({tuple(f) for f in folds.values()}) == 3


def infer(launch, workdir, features):
    result = launch(workdir, "--mode=infer", f"--config.data.test_features={features}", config=None)
    assert result.returncode == 0, result.stderr
    return Predictions.read(submissions.inferred(workdir, features) / f"{MODEL}.parquet")


@pytest.mark.parametrize("name", ["plain", "umap"])
def test_inference_from_a_copied_work_folder(trained, launch, data, tmp_path, name):
    """Rows that were there at fit time are predicted as then, with UMAP too, in any company."""
    shutil.copytree(trained[name], tmp_path / "moved")
    table = pd.read_csv(data / "test_features.csv")
    table.sample(frac=0.5, random_state=0).to_csv(tmp_path / "half.csv", index=False)
    found = infer(launch, tmp_path / "moved", tmp_path / "half.csv")
    expected = Predictions.read(trained[name] / MODEL / "test.parquet").aligned(found.ids)
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_new_rows_are_predicted_one_by_one(trained, launch, data, tmp_path):
    """With UMAP a row that was never seen has the same answer alone and among others."""
    table = pd.read_csv(data / "test_features.csv")
    columns = [c for c in table.columns if c.startswith(("g-", "c-"))]
    table[columns] += 0.01
    table = table[table["cp_type"] == "trt_cp"]
    table.to_csv(tmp_path / "all.csv", index=False)
    table.head(1).to_csv(tmp_path / "one.csv", index=False)
    together = infer(launch, trained["umap"], tmp_path / "all.csv")
    alone = infer(launch, trained["umap"], tmp_path / "one.csv")
    np.testing.assert_allclose(alone.values[0], together.values[0], rtol=0, atol=1e-7)
    fitted = Predictions.read(trained["umap"] / MODEL / "test.parquet").aligned(together.ids)
    assert not np.allclose(together.values, fitted.values, atol=1e-7)


@pytest.mark.parametrize(
    "absent",
    [
        pytest.param("train_targets_nonscored.csv", marks=pytest.mark.slow),
        pytest.param("test_features.csv", marks=pytest.mark.slow),
        "c-",
    ],
)
def test_data_without_an_optional_part(launch, without, tmp_path, absent):
    folder = f"--config.data.folder={without(absent)}"
    result = launch(tmp_path / "run", folder, config=CONFIG)
    assert result.returncode == 0, result.stderr
    model = metrics(tmp_path / "run" / MODEL)
    skipped = absent == "train_targets_nonscored.csv"
    assert model["stages"] == list(STAGES[1:] if skipped else STAGES)
    assert len(model["notes"]) == 2  # and that the chain is not nested
    assert (tmp_path / "run" / "submission.csv").exists() == (absent != "test_features.csv")
    if skipped:
        assert "left out" in result.stderr


@pytest.mark.slow
def test_honest_run_has_one_pipeline_and_one_split_per_fold(launch, tmp_path):
    folds = f"--config.models.{MODEL}.folds=4"
    result = launch(tmp_path / "run", "--config.honest=true", folds, WITH_UMAP, config=CONFIG)
    assert result.returncode == 0, result.stderr
    model = tmp_path / "run" / MODEL
    splits = [(model / stage / "folds.csv").read_bytes() for stage in STAGES]
    assert splits[0] == splits[1] == splits[2]
    left_out = {
        "nonscored": {"without0-1-2", "without0-1-3", "without0-2-3", "without1-2-3"},
        "scored": {f"without{a}-{b}" for b in range(4) for a in range(b)},
        "stacked": {"fold0", "fold1", "fold2", "fold3"},
    }
    for stage in STAGES:
        assert {path.name for path in (model / stage / "features").iterdir()} == left_out[stage]
    assert "Nested: 28 networks in 3 stages instead of 24" in result.stderr
    # The rank-gauss without folds 0 and 1 knows the others' rows, by networks that saw neither.
    seen, _ = arrays.read(model / "nonscored" / "nested.npz", "nested predictions")
    folds = pd.read_csv(model / "scored" / "folds.csv").query("seed == 0")["fold"].to_numpy()
    others = seen["0-1"][~np.isin(folds, [0, 1])]
    folder = model / "scored" / "features" / "without0-1"
    fitted = transform_files.load(folder, TRANSFORMS)["predictions"]
    np.testing.assert_allclose(fitted.quantiles_[0], others.min(0), rtol=1e-12)
    np.testing.assert_allclose(fitted.quantiles_[-1], others.max(0), rtol=1e-12)


def test_transforms_of_a_fold_need_the_same_folds(launch, tmp_path):
    result = launch(tmp_path / "run", f"--config.models.{MODEL}.transforms=per_fold", config=CONFIG)
    assert result.returncode == 1
    assert "same_folds: expected true with transforms=per_fold" in result.stderr
