"""Inference at the command line: bound to its work folder, to one file, and done once."""

import os
import shutil

import pandas as pd
import pytest
import submissions

SIMPLE = "tests/e2e/tiny.py:simple_nn_old,simple_nn_new"
INFER = "--mode=infer"


def fails(result, message):
    assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("moa-jax: ") and message in last, result.stderr
    return last


@pytest.fixture(scope="module")
def new(data, tmp_path_factory):
    """Two files of test rows whose names are alike up to the first dot."""
    folder, table = tmp_path_factory.mktemp("new"), pd.read_csv(data / "test_features.csv")
    table.to_csv(folder / "new.v1.csv", index=False)
    table.iloc[::-1].to_csv(folder / "new.v2.csv", index=False)
    return folder


def flag(file):
    return f"--config.data.test_features={file}"


def test_files_of_one_stem_lie_apart_and_are_predicted_once(launch, finished, new, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "run")
    files = [new / "new.v1.csv", new / "new.v2.csv"]
    for file in files:
        result = launch(workdir, INFER, flag(file), config=None)
        assert result.returncode == 0, result.stderr
    one, two = (
        submissions.read(submissions.inferred(workdir, f) / "submission.csv") for f in files
    )
    assert one.ids.tolist() == two.ids[::-1].tolist()
    path = submissions.inferred(workdir, files[0]) / "simple_nn_old.parquet"
    before = path.read_bytes()
    again = launch(workdir, INFER, flag(files[0]), config=None)
    assert again.returncode == 0 and "made earlier of the same content" in again.stderr
    assert str(path.parent) in again.stderr and "compiled" not in again.stderr
    path.write_bytes(before[:100] + b"x" + before[101:])
    # What the work folder says is accepted where it is said once more.
    same = [
        "--config.seed=0", "--config.blend.unlike_splits=allow", "--config.blend.nested_folds=5",
    ]  # fmt: skip
    mended = launch(workdir, INFER, flag(files[0]), *same, config=SIMPLE)
    assert mended.returncode == 0 and "compiled" in mended.stderr
    assert path.read_bytes() == before


def test_every_other_field_is_named(launch, finished, new, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "run")
    others = {
        "blend.method": ("tpe", "slsqp there, tpe now"),
        "blend.trials": ("9", "500 there, 9 now"),
        "blend.unlike_splits": ("stop", "allow there, stop now"),
        "data.cp_doses": ("('D2','D1')", "['D1', 'D2'] there, ['D2', 'D1'] now"),
        "data.groups": ("none", "auto there, none now"),
        "models.simple_nn_old.hidden": ("17", "16 there, 17 now"),
        "precision": ("float64", "float32 there, float64 now"),
        "seed": ("1", "0 there, 1 now"),
    }
    # A line has room for five of them.
    for names in (list(others)[:5], list(others)[5:]):
        given = [f"--config.{name}={others[name][0]}" for name in names]
        result = launch(workdir, INFER, flag(new / "new.v1.csv"), *given, config=None)
        line = fails(result, "expected the fields that its models were trained and blended with")
        assert line.endswith("; ".join(f"{name}: {others[name][1]}" for name in names))
    # So is another configuration, and an environment that changes the arithmetic.
    result = launch(
        workdir, INFER, flag(new / "new.v1.csv"), config="tests/e2e/tiny.py:simple_nn_old"
    )
    fails(result, "models.simple_nn_new.batch_size: 32 there, absent now")
    result = launch(workdir, INFER, flag(new / "new.v1.csv"), config=None,
                    env={"JAX_ENABLE_X64": "1"})  # fmt: skip
    fails(result, "found others: precision: float32 there, float64 now")
    assert not (workdir / "infer").exists()


def test_a_pipe_is_not_waited_for(launch, finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "run")
    os.mkfifo(tmp_path / "new.csv")
    result = launch(workdir, INFER, flag(tmp_path / "new.csv"), config=None)
    fails(result, "new.csv: expected a file, found a pipe or a device")
    assert not (workdir / "infer").exists()


OWN = """
from moa_jax.config import config_dict
from moa_jax.recipes import simple_nn
def get_config():
  return config_dict({"%s": simple_nn.ORIGINAL["old"]})
"""


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "table.csv",
            "open('executed', 'w')\n",
            "table.csv: expected a file whose name ends in .py",
        ),
        ("own.py", "\n1 / 0\n", "own.py line 2: ZeroDivisionError: division by zero"),
        ("own.py", OWN % "/elsewhere/run", "config.models./elsewhere/run: expected a name of at"),
    ],
)
def test_configurations_that_are_refused(launch, tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    fails(launch(tmp_path / "run", config=tmp_path / name), message)
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {name}


@pytest.mark.parametrize(
    ("workdir", "config", "message"),
    [
        ("", SIMPLE, "--workdir: expected a folder, found an empty text"),
        ("x" * 300, None, "xxx: File name too long"),
    ],
)
def test_odd_work_folders(launch, workdir, config, message):
    fails(launch(workdir, INFER, config=config), message)


def test_fixed_weights_of_another_sum_stop_before_training(launch, tmp_path):
    given = [f"--config.blend.weights.simple_nn_{cv}=0.6" for cv in ("old", "new")]
    result = launch(tmp_path / "run", "--config.blend.method=fixed", *given)
    fails(
        result,
        "config.blend.weights: expected a sum of 1 with config.blend.method=fixed, found 1.2",
    )
    assert not (tmp_path / "run").exists()
