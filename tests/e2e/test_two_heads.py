"""The 2-heads ResNet from CSV to submission: its stages, and inference from a copied folder."""

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

MODEL = "two_heads_resnet"
CONFIG = f"tests/e2e/tiny.py:{MODEL}"
STAGES = ["nonscored", "scored", "loop"]


@pytest.fixture(scope="module")
def trained(launch, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("two_heads") / "run"
    result = launch(workdir, config=CONFIG)
    assert result.returncode == 0, result.stderr
    return workdir


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_stages_inputs_and_notes(trained):
    model = trained / MODEL
    plans.check(trained)
    assert metrics(model)["stages"] == STAGES
    assert "after the freeze loop" in metrics(model)["notes"][0]
    # 12 genes, 6 cells, 5 one-hot columns, 2 means, 4 and 2 components.
    assert [metrics(model / stage)["inputs"] for stage in STAGES] == [31] * 3
    assert [metrics(model / stage)["outputs"] for stage in STAGES] == [3, 4, 4]
    members = [f"seed{seed}_fold{fold}" for seed in (0, 1) for fold in (0, 1, 2)]
    assert sorted(path.name for path in (model / "scored" / "features").iterdir()) == members
    fitted = transform_files.load(model / "scored" / "features" / members[0], TRANSFORMS)
    assert list(fitted) == ["scale", "gene_components", "cell_components", "predictors"]
    assert len(fitted["predictors"].kept_) == 7
    reported = Predictions.read(model / "oof.parquet").values
    np.testing.assert_array_equal(reported, Predictions.read(model / "loop" / "oof.parquet").values)
    assert (reported != Predictions.read(model / "scored" / "oof.parquet").values).any()
    assert "after the freeze loop" in (trained / "blend" / "report.html").read_text()


def test_folds_are_those_of_the_training_seeds(trained):
    tables = [
        pd.read_csv(trained / MODEL / stage / "folds.csv", dtype={"sig_id": str})
        for stage in STAGES
    ]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    pd.testing.assert_frame_equal(tables[0], tables[2])
    one, other = (group["fold"].to_numpy() for _, group in tables[0].groupby("seed"))
    assert (one != other).any()


def test_inference_from_a_copied_work_folder(trained, launch, data, tmp_path):
    shutil.copytree(trained, tmp_path / "moved")
    features = tmp_path / "half.csv"
    pd.read_csv(data / "test_features.csv").sample(frac=0.5, random_state=0).to_csv(
        features, index=False
    )
    result = launch(
        tmp_path / "moved",
        "--mode=infer",
        f"--config.data.test_features={features}",
        config=None,
    )
    assert result.returncode == 0, result.stderr
    found = Predictions.read(
        submissions.inferred(tmp_path / "moved", features) / f"{MODEL}.parquet"
    )
    expected = Predictions.read(trained / MODEL / "test.parquet").aligned(found.ids)
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-6)
    table = pd.read_csv(features).set_index("sig_id").loc[found.ids]
    controls = (table["cp_type"] == "ctl_vehicle").to_numpy()
    assert (found.values[controls] == 0).all() and (found.values[~controls] > 0).all()


@pytest.mark.parametrize(
    "absent", ["train_targets_nonscored.csv", pytest.param("c-", marks=pytest.mark.slow)]
)
def test_data_without_an_optional_part(launch, without, tmp_path, absent):
    result = launch(
        tmp_path / "run",
        f"--config.data.folder={without(absent)}",
        f"--config.models.{MODEL}.freeze_loop=off",
        config=CONFIG,
    )
    assert result.returncode == 0, result.stderr
    model = metrics(tmp_path / "run" / MODEL)
    skipped = absent == "train_targets_nonscored.csv"
    assert model["stages"] == (STAGES[1:2] if skipped else STAGES[:2])
    scored = metrics(tmp_path / "run" / MODEL / "scored")
    assert scored["inputs"] == (31 if skipped else 31 - 6 - 1 - 2)
    assert sum("left out" in note for note in model["notes"]) == 1
    assert (tmp_path / "run" / "submission.csv").exists()


@pytest.mark.slow
def test_honest_run_reports_predictions_from_before_the_loop(launch, tmp_path):
    result = launch(
        tmp_path / "run",
        "--config.honest=true",
        f"--config.models.{MODEL}.freeze_loop=intended",
        f"--config.models.{MODEL}.split=stratified",
        config=CONFIG,
    )
    assert result.returncode == 0, result.stderr
    model = tmp_path / "run" / MODEL
    assert metrics(model)["stages"] == STAGES
    assert "before the freeze loop" in metrics(model)["notes"][0]
    np.testing.assert_array_equal(
        Predictions.read(model / "oof.parquet").values,
        Predictions.read(model / "scored" / "oof.parquet").values,
    )
    # A tenth of the training rows decides the epoch; the loop trains on the fold's own rows.
    scored, loop = (metrics(model / stage)["members"][0] for stage in ("scored", "loop"))
    rows = len(pd.read_csv(model / "scored" / "folds.csv")) // 2
    assert scored["train_rows"] == round(0.9 * (rows - scored["valid_rows"]))
    assert loop["train_rows"] == loop["valid_rows"] == scored["valid_rows"]
