"""The command line from CSV to submission, and inference with the work folder alone."""

import json
import shutil

import numpy as np
import pandas as pd
import plans
import pytest
import submissions

from moa_jax.store.predictions import Predictions
from moa_jax.training.metrics import mean_log_loss

MODELS = ("simple_nn_new", "simple_nn_old")
RESULTS = ["submission.csv", "blend/oof.parquet"] + [
    f"{model}/{file}" for model in MODELS for file in ("oof.parquet", "test.parquet")
]


def contents(workdir):
    return {name: (workdir / name).read_bytes() for name in RESULTS}


def test_the_plan_is_of_the_run(finished):
    plans.check(finished)


def test_work_folder_is_complete(finished):
    stage = {"folds.csv", "members", "checkpoints", "features", "oof.parquet", "test.parquet"}
    for model in MODELS:
        assert {p.name for p in (finished / model / "scored").iterdir()} >= stage
        assert len(list((finished / model / "scored" / "members").glob("*.npz"))) == 6
        assert (finished / model / "scored" / "checkpoints").iterdir()
    for name in ("config.json", "environment.json", "log.txt", "metrics.jsonl", "submission.csv",
                 "blend/weights.json", "blend/report.html"):  # fmt: skip
        assert (finished / name).stat().st_size > 0
    assert not list(finished.rglob("*tmp*")), "temporary files are left"


def test_submission_follows_the_sample_and_controls_are_0(finished, data):
    submission = pd.read_csv(finished / "submission.csv")
    sample = pd.read_csv(data / "sample_submission.csv")
    assert submission.columns.tolist() == sample.columns.tolist()
    assert submission["sig_id"].tolist() == sample["sig_id"].tolist()
    test = pd.read_csv(data / "test_features.csv").set_index("sig_id")
    control = (test.loc[submission["sig_id"], "cp_type"] == "ctl_vehicle").to_numpy()
    values = submission.drop(columns="sig_id").to_numpy()
    assert control.any() and (values[control] == 0).all()
    assert ((values[~control] > 0) & (values[~control] < 1)).all()


def test_scores_are_those_of_the_files(finished, data):
    truth = pd.read_csv(data / "train_targets_scored.csv").set_index("sig_id")
    for model in MODELS:
        oof = Predictions.read(finished / model / "oof.parquet")
        labels = truth.loc[oof.ids, list(oof.targets)].to_numpy()
        recorded = json.loads((finished / model / "metrics.json").read_text())
        score = mean_log_loss(labels, oof.values)
        assert recorded["scores"]["treated"] == pytest.approx(score, rel=1e-12)
        rows, controls = len(oof.ids), len(truth) - len(oof.ids)
        printed = score * rows / (rows + controls) * 4 / 5
        assert recorded["scores"]["printed"] == pytest.approx(printed, rel=1e-12)


def test_out_of_fold_rows_were_not_trained_on(finished):
    """Every treated row is predicted once per seed, by a member of the fold it belongs to."""
    for model in MODELS:
        folds = pd.read_csv(finished / model / "scored" / "folds.csv")
        oof = Predictions.read(finished / model / "oof.parquet")
        assert folds.groupby("seed")["sig_id"].apply(set).map(len).tolist() == [len(oof.ids)] * 2
        assert set(folds["sig_id"]) == set(oof.ids) and set(folds["fold"]) == {0, 1, 2}


def test_blend_is_no_worse_than_its_best_model(finished):
    found = json.loads((finished / "blend" / "weights.json").read_text())
    assert found["loss"] <= found["best_model_loss"] + 1e-9
    assert sum(found["weights"].values()) == pytest.approx(1, abs=1e-12)
    assert len(found["nested"]["weights"]) == 5
    assert found["nested"]["loss"] >= found["loss"]


def test_metrics_log_has_one_line_per_epoch_and_member(finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2 * 3 * 2 * 3
    assert {line["stage"] for line in lines} == {f"{model}/scored" for model in MODELS}


def test_a_second_run_does_nothing_again(finished, launch):
    before = contents(finished)
    result = launch(finished)
    assert result.returncode == 0 and contents(finished) == before
    assert result.stderr.count("finished by an earlier run") == 2
    assert "compiled" not in result.stderr


def test_two_runs_give_the_same_bytes(finished, launch, tmp_path):
    assert launch(tmp_path / "again").returncode == 0
    assert contents(tmp_path / "again") == contents(finished)


@pytest.fixture
def moved(finished, tmp_path):
    """The work folder in another place."""
    shutil.copytree(finished, tmp_path / "moved")
    return tmp_path / "moved"


def infer(launch, workdir, features):
    result = launch(workdir, "--mode=infer", f"--config.data.test_features={features}", config=None)
    assert result.returncode == 0, result.stderr
    return submissions.read(submissions.inferred(workdir, features) / "submission.csv")


def test_inference_needs_the_work_folder_only(moved, launch, data, tmp_path):
    trained = submissions.read(moved / "submission.csv")
    table = pd.read_csv(data / "test_features.csv", dtype={"sig_id": str})
    # Other order, other columns' order, repeated many times under new names: more than a chunk.
    many = pd.concat(
        [table.assign(sig_id=table["sig_id"] + f"_{i}") for i in range(50)], ignore_index=True
    ).sample(frac=1, random_state=0)
    many[many.columns[::-1]].to_csv(tmp_path / "many.csv.gz", index=False)
    found = infer(launch, moved, tmp_path / "many.csv.gz")
    assert found.ids.tolist() == many["sig_id"].tolist()
    original = trained.aligned([name.rsplit("_", 1)[0] for name in found.ids])
    np.testing.assert_allclose(found.values, original.values, rtol=0, atol=1e-6)
    control = (many["cp_type"] == "ctl_vehicle").to_numpy()
    assert (found.values[control] == 0).all()
    folder = submissions.inferred(moved, tmp_path / "many.csv.gz")
    assert {p.name for p in folder.iterdir()} == {
        "submission.csv", "simple_nn_old.parquet", "simple_nn_new.parquet", "inference.json",
        "predictions.csv", "predictions.parquet",
    }  # fmt: skip


def test_inference_of_a_single_row(moved, launch, data, tmp_path):
    table = pd.read_csv(data / "test_features.csv")
    table[table["cp_type"] == "trt_cp"].head(1).to_parquet(tmp_path / "one.parquet")
    found = infer(launch, moved, tmp_path / "one.parquet")
    expected = submissions.read(moved / "submission.csv").aligned(found.ids)
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-6)


def test_one_recipe_alone_writes_a_submission(launch, tmp_path):
    result = launch(tmp_path / "run", config="tests/e2e/tiny.py:simple_nn_new")
    assert result.returncode == 0, result.stderr
    weights = json.loads((tmp_path / "run" / "blend" / "weights.json").read_text())
    assert weights["weights"] == {"simple_nn_new": 1.0}
    single = Predictions.read(tmp_path / "run" / "simple_nn_new" / "test.parquet")
    submission = submissions.read(tmp_path / "run" / "submission.csv")
    np.testing.assert_array_equal(submission.values, single.aligned(submission.ids).values)


def test_modes_in_turn_give_what_all_gives(launch, finished, tmp_path):
    for mode in ("train", "blend"):
        assert launch(tmp_path / "run", f"--mode={mode}").returncode == 0
    assert contents(tmp_path / "run") == contents(finished)


def test_fixed_weights(launch, moved):
    weights = ["--config.blend.weights.simple_nn_old=0.25",
               "--config.blend.weights.simple_nn_new=0.75"]  # fmt: skip
    result = launch(moved, "--mode=blend", "--config.blend.method=fixed", *weights)
    assert result.returncode == 0, result.stderr
    parts = [Predictions.read(moved / f"simple_nn_{cv}" / "test.parquet") for cv in ("old", "new")]
    submission = submissions.read(moved / "submission.csv")
    expected = 0.25 * parts[0].values + 0.75 * parts[1].values
    np.testing.assert_allclose(
        submission.values,
        Predictions(parts[0].ids, parts[0].targets, expected).aligned(submission.ids).values,
        rtol=1e-14,
    )


def test_honest_run_selects_on_rows_outside_the_reported_fold(launch, tmp_path):
    result = launch(
        tmp_path / "run", "--config.honest=true", config="tests/e2e/tiny.py:simple_nn_old"
    )
    assert result.returncode == 0, result.stderr
    stage = tmp_path / "run" / "simple_nn_old" / "scored"
    assert {p.name for p in (stage / "features").iterdir()} == {"fold0", "fold1", "fold2"}
    metrics = json.loads((stage / "metrics.json").read_text())
    treated = json.loads((tmp_path / "run" / "config.json").read_text())["data"]["treated"]
    for member in metrics["members"]:
        left = treated - member["train_rows"] - member["valid_rows"]
        # About a tenth: a hold-out parts no compound.
        assert 0.05 < left / (treated - member["valid_rows"]) <= 0.1


@pytest.mark.parametrize("absent", ["test_features.csv", "c-", "g-", "train_targets_nonscored.csv"])
def test_data_without_an_optional_part(launch, without, tmp_path, absent):
    folder = f"--config.data.folder={without(absent)}"
    result = launch(tmp_path / "run", folder, config="tests/e2e/tiny.py:simple_nn_old")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run" / "submission.csv").exists() == (absent != "test_features.csv")
    notes = json.loads((tmp_path / "run" / "simple_nn_old" / "metrics.json").read_text())["notes"]
    assert len(notes) == (absent != "train_targets_nonscored.csv")


@pytest.mark.slow
def test_eight_devices_agree_with_one(finished, launch, tmp_path):
    env = {"JAX_NUM_CPU_DEVICES": "8"}
    assert launch(tmp_path / "run", env=env).returncode == 0
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["strategy"] == "pmap" and len(environment["devices"]) == 8
    for model in MODELS:
        one = Predictions.read(finished / model / "test.parquet")
        eight = Predictions.read(tmp_path / "run" / model / "test.parquet")
        np.testing.assert_allclose(one.values, eight.values, rtol=0, atol=2e-5)
