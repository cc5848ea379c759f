"""A user's mistakes at the command line: one line, exit status 1, nothing half-written."""

import json
import os
import shutil

import pandas as pd
import pytest

from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir


def fails(result, message):
    assert result.returncode == 1, result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("moa-jax: ") and message in last, result.stderr
    assert "Traceback" not in result.stderr
    return last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.seeed=1"], "seeed"),
        (["--config.log.level=1"], "--config.log.level: the configuration has no 'log'"),
        (["--config.models.simple_nn_old.epoch=3"], "Did you mean"),
        (["--config.models.simple_nn_old.epochs=many"], "epochs"),
        (["--config.models.simple_nn_old.epochs=0"], "epochs: expected at least 1, found 0"),
        (["--config.models.simple_nn_old.pct_start=1.5"], "expected between 0.0 and 1.0"),
        (["--config.parallel.strategy=pmapp"], "expected one of auto, vmap, pmap, shard_map"),
        (
            ["--config.parallel.strategy=pmap", "--config.parallel.devices_per_member=2"],
            "expected auto or shard_map with devices_per_member=2, found pmap",
        ),
        (
            ["--config.parallel.devices_per_member=2"],
            "devices_per_member: expected a divisor of 1 devices, found 2",
        ),
        (["--config.data.folder=nowhere"], "nowhere: expected a folder with train_features"),
        (["--config.data.cp_times=24"], "set config.data.cp_times"),
        (["--mode=infer"], "expected a work folder with a config.json"),
        (["--mode=fly"], "mode"),
        (["surplus"], "unexpected argument 'surplus'"),
        (["--config.models.simple_nn_old.folds=150"], "folds: expected"),
        (
            ["--config.data.rows=500"],
            "config.data.rows: given, but read only with config.data.source=simulated, found fold",
        ),
        (
            ["--config.honest=true", "--config.models.simple_nn_old.select_on=fold"],
            "config.models.simple_nn_old.select_on: expected holdout with config.honest=true",
        ),
    ],
)
def test_wrong_flags_and_fields(launch, tmp_path, arguments, message):
    fails(launch(tmp_path / "run", *arguments), message)
    written = {p.name for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert written <= {".lock", "log.txt", "config.json", "environment.json"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("quickstat", "did you mean quickstart?"),
        ("configs/none.py", "configs/none.py: not found; packaged are"),
        ("configs/simple_nn.py:odl", "did you mean old?"),
    ],
)
def test_missing_configuration(launch, tmp_path, config, message):
    fails(launch(tmp_path / "run", config=config), message)
    assert not (tmp_path / "run").exists()


def test_no_configuration(launch, tmp_path):
    fails(launch(tmp_path / "run", config=None), "--config: expected a configuration")


def test_work_folder_of_another_configuration(launch, finished):
    before = (finished / "config.json").read_bytes()
    result = launch(
        finished, "--config.models.simple_nn_old.epochs=4", "--config.parallel.steps_per_call=9"
    )
    line = fails(result, "models.simple_nn_old.epochs: 3 there, 4 now")
    assert "steps_per_call" not in line  # it changes no number
    assert (finished / "config.json").read_bytes() == before


def test_work_folder_of_other_data(launch, finished, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    table = pd.read_csv(tmp_path / "data" / "train_features.csv")
    table.loc[0, "g-0"] += 1e-3
    table.to_csv(tmp_path / "data" / "train_features.csv", index=False)
    result = launch(finished, f"--config.data.folder={tmp_path / 'data'}")
    fails(result, "it differs in data: training rows")


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


MEMBER = "simple_nn_old/scored/members/seed0_fold1.npz"


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (MEMBER, "seed0_fold1.npz: damaged"),
        ("simple_nn_old/scored/features/all/transforms.npz", "transforms.npz: damaged"),
        ("simple_nn_old/scored/features/all/transforms.json", "transforms.json: damaged"),
        ("simple_nn_old/scored/metrics.json", "metrics.json: damaged"),
        ("config.json", "config.json: damaged"),
        ("blend/weights.json", "weights.json: damaged"),
    ],
)
def test_damaged_artefacts_are_named_in_inference(launch, copy, data, damaged, message):
    cut(copy / damaged)
    arguments = ["--mode=infer", f"--config.data.test_features={data / 'test_features.csv'}"]
    fails(launch(copy, *arguments, config=None), message)
    assert not (copy / "infer").exists()


def test_missing_member_is_named(launch, copy, data):
    (copy / MEMBER).unlink()
    arguments = ["--mode=infer", f"--config.data.test_features={data / 'test_features.csv'}"]
    fails(launch(copy, *arguments, config=None), "seed0_fold1.npz: not found")


def test_renamed_column_at_inference(launch, copy, data, tmp_path):
    table = pd.read_csv(data / "test_features.csv").rename(columns={"g-3": "g_3"})
    table.to_csv(tmp_path / "new.csv", index=False)
    arguments = ["--mode=infer", f"--config.data.test_features={tmp_path / 'new.csv'}"]
    fails(launch(copy, *arguments, config=None), "expected a column g-3, found none; found g_3")
    assert not (copy / "infer").exists()


def test_other_levels_at_inference(launch, copy, data):
    """The order of levels is that of the network's inputs."""
    arguments = [
        "--mode=infer", f"--config.data.test_features={data / 'test_features.csv'}",
        "--config.data.cp_doses=('D2','D1')", "--config.data.ignore=Metadata_",
        "--config.data.folder=absent",
    ]  # fmt: skip
    result = launch(copy, *arguments, config=None)
    line = fails(result, "data.cp_doses: ['D1', 'D2'] there, ['D2', 'D1'] now; data.ignore: ")
    assert "folder" not in line
    assert "config.data.folder: given, but mode infer does not read it" in result.stderr
    assert not (copy / "infer").exists()


def test_inference_without_a_file(launch, copy):
    fails(launch(copy, "--mode=infer", config=None), "config.data.test_features: expected a file")


def test_damaged_predictions_are_named_in_the_blend(launch, copy):
    cut(copy / "simple_nn_new" / "oof.parquet")
    before = (copy / "submission.csv").read_bytes()
    fails(launch(copy, "--mode=blend"), "simple_nn_new/oof.parquet: damaged")
    assert (copy / "submission.csv").read_bytes() == before


def test_predictions_of_other_rows_in_the_blend(launch, copy):
    path = copy / "simple_nn_new" / "oof.parquet"
    found = Predictions.read(path)
    Predictions(found.ids[1:], found.targets, found.values[1:]).write(path)
    Workdir(copy).manifest("simple_nn_new").add([path])
    fails(launch(copy, "--mode=blend"), f"the first is {found.ids[0]!r}")


def test_blend_before_training(launch, tmp_path):
    fails(launch(tmp_path / "run", "--mode=blend"), "train first")


def test_drug_aware_folds_without_drugs(launch, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "train_drug.csv").unlink()
    result = launch(
        tmp_path / "run", f"--config.data.folder={tmp_path / 'data'}",
        config="tests/e2e/tiny.py:simple_nn_new",
    )  # fmt: skip
    fails(result, "train_drug: expected for split=compound, found none")


def test_two_runs_in_one_work_folder(launch, copy):
    import fcntl

    with open(copy / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fails(launch(copy), "another run is using this work folder")


def test_full_disk_leaves_earlier_files_whole(launch, copy):
    """A file size limit of 1 KiB stands for the full disk: every write past it fails."""
    before = (copy / "blend" / "oof.parquet").read_bytes()
    submission = (copy / "submission.csv").read_bytes()
    limited = ("bash", "-c", 'ulimit -f 1; exec "$@"', "bash")
    result = launch(copy, "--mode=blend", under=limited)
    fails(result, "cannot be written")
    assert (copy / "blend" / "oof.parquet").read_bytes() == before
    assert (copy / "submission.csv").read_bytes() == submission
    assert not list(copy.rglob("*.tmp-*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_unwritable_work_folder(launch, tmp_path):
    tmp_path.chmod(0o500)
    fails(launch(tmp_path / "run"), f"{tmp_path / 'run'}: cannot be written")


def test_work_folder_that_is_a_file(launch, tmp_path):
    (tmp_path / "run").touch()
    fails(launch(tmp_path / "run"), "cannot be written")


def test_stored_configuration_is_complete(finished):
    stored = json.loads((finished / "config.json").read_text())
    assert stored["config"]["models"]["simple_nn_old"]["epochs"] == 3
    assert stored["data"]["columns"]["genes"] == [f"g-{i}" for i in range(12)]
    assert set(stored["resolved"].values()) == {6}
