"""A DeepInsight CNN from CSV to submission, killed on its way, and inference from a copy."""

import itertools
import json
import random
import shutil
import time

import numpy as np
import pandas as pd
import plans
import pytest
import submissions

from moa_jax.deepinsight import inputs
from moa_jax.store.predictions import Predictions
from moa_jax.training.metrics import mean_log_loss_epsilon

MODEL = "efficientnet"
CONFIG = f"tests/e2e/tiny.py:{MODEL}"
RESULTS = ("submission.csv", "metrics.jsonl", f"{MODEL}/oof.parquet", f"{MODEL}/test.parquet")
# Two steps of an epoch's three per device call, and a checkpoint after every call.
OFTEN = ("--config.checkpoint.seconds=0", "--config.parallel.steps_per_call=2")
KILLS = 3


@pytest.fixture(scope="module")
def trained(launch, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("deepinsight") / "run"
    result = launch(workdir, *OFTEN, config=CONFIG)
    assert result.returncode == 0, result.stderr
    return workdir


@pytest.mark.slow
def test_files_notes_and_scores(trained, data):
    model = json.loads((trained / MODEL / "metrics.json").read_text())
    stage = json.loads((trained / MODEL / "scored" / "metrics.json").read_text())
    assert model["stages"] == ["scored"] and "at random" in model["notes"][0]
    # Type, dose, time, 12 genes and 6 cells; waves of one member.
    assert (stage["inputs"], stage["outputs"], stage["groups"]) == (21, 4, 2)
    assert [member["epochs_run"] for member in stage["members"]] == [3, 3]
    plans.check(trained)
    maps = list((trained / "feature_maps").glob("*/fold*"))
    assert sorted(folder.name for folder in maps) == ["fold0", "fold1"]
    assert list(inputs.load_fold(maps[0])) == ["scale", "map"]
    table = pd.read_csv(data / "train_features.csv").set_index("sig_id")
    every = Predictions.read(trained / MODEL / "scored" / "oof.parquet")
    assert sorted(every.ids) == sorted(table.index)
    treated = table.index[table["cp_type"] == "trt_cp"]
    reported = Predictions.read(trained / MODEL / "oof.parquet")
    assert list(reported.ids) == list(treated)
    np.testing.assert_array_equal(reported.values, every.aligned(treated, "oof").values)
    assert (every.values > 0).all()
    # The original's score counts what the networks predict of controls.
    labels = pd.read_csv(data / "train_targets_scored.csv").set_index("sig_id")
    expected = mean_log_loss_epsilon(labels.loc[every.ids, list(every.targets)], every.values)
    analysed = json.loads((trained / "blend" / "analysis.json").read_text())
    for scores in (model["scores"], analysed["scores"][MODEL]):
        assert scores["epsilon_all"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
def test_a_killed_run_goes_on(trained, launch, tmp_path):
    rng = random.Random(0)
    for _ in range(KILLS):
        process = launch(tmp_path / "run", *OFTEN, config=CONFIG, background=True)
        # Some epochs further than the last start.
        epochs = (line for line in process.stderr if "epoch" in line)
        list(itertools.islice(epochs, rng.randint(1, 2)))
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        process.communicate()
    result = launch(tmp_path / "run", *OFTEN, config=CONFIG)
    assert result.returncode == 0, result.stderr
    for name in RESULTS:
        assert (tmp_path / "run" / name).read_bytes() == (trained / name).read_bytes(), name


@pytest.mark.slow
def test_inference_from_a_copied_work_folder(trained, launch, data, tmp_path):
    shutil.copytree(trained, tmp_path / "moved")
    features = tmp_path / "half.csv"
    pd.read_csv(data / "test_features.csv").sample(frac=0.5, random_state=0).to_csv(
        features, index=False
    )
    arguments = ("--mode=infer", f"--config.data.test_features={features}")
    result = launch(tmp_path / "moved", *arguments, config=None)
    assert result.returncode == 0, result.stderr
    found = Predictions.read(
        submissions.inferred(tmp_path / "moved", features) / f"{MODEL}.parquet"
    )
    expected = Predictions.read(trained / MODEL / "test.parquet").aligned(found.ids, "test")
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-6)
    table = pd.read_csv(features).set_index("sig_id").loc[found.ids]
    controls = (table["cp_type"] == "ctl_vehicle").to_numpy()
    assert (found.values[controls] == 0).all() and (found.values[~controls] > 0).all()


@pytest.mark.slow
def test_without_viability_columns_and_honest(without, launch, tmp_path):
    result = launch(
        tmp_path / "run",
        f"--config.data.folder={without('c-')}",
        "--config.honest=true",
        config=CONFIG,
    )
    assert result.returncode == 0, result.stderr
    stage = json.loads((tmp_path / "run" / MODEL / "scored" / "metrics.json").read_text())
    assert stage["inputs"] == 15
    member = stage["members"][0]
    assert member["train_rows"] == round(0.9 * (160 - member["valid_rows"]))
