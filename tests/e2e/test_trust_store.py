"""A work folder is believed as far as its checksums go, and --repair makes the rest again."""

import json
import shutil

import numpy as np
import pytest
from trust.damages import damage, restore

from moa_jax.store import files

MEMBER = "simple_nn_old/scored/members/seed0_fold1.npz"
RESULTS = (".parquet", ".npz", "submission.csv", "transforms.json", "folds.csv")


@pytest.fixture(scope="module")
def folder(finished, tmp_path_factory):
    """A copy of the finished work folder, to be damaged and restored."""
    return shutil.copytree(finished, tmp_path_factory.mktemp("damaged") / "run")


@pytest.fixture
def copy(finished, folder):
    restore(finished, folder)
    return folder


def fails(result, *messages):
    assert result.returncode == 1 and "Traceback" not in result.stderr
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("moa-jax: ")
    for message in messages:
        assert message in line


def infer(launch, copy, data):
    arguments = ["--mode=infer", f"--config.data.test_features={data / 'test_features.csv'}"]
    return launch(copy, *arguments, config=None)


def results(folder):
    paths = (path for path in folder.rglob("*") if path.name.endswith(RESULTS))
    return {
        path.relative_to(folder): path.read_bytes()
        for path in paths
        if "checkpoints" not in path.parts and "infer" not in path.parts
    }


def swap(path):
    shutil.copyfile(path.with_name("seed0_fold2.npz"), path)


def drop_member(path):
    path = path.parents[1] / "metrics.json"
    stored = json.loads(path.read_text())
    stored["members"].pop()
    path.write_text(json.dumps(stored))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swap, "seed0_fold1.npz: damaged, "),
        (drop_member, "scored/metrics.json: damaged, expected "),
        (lambda path: (path.unlink(), path.mkdir()), "seed0_fold1.npz: expected a file, found a"),
    ],
)
def test_inference_believes_no_changed_artefact(launch, copy, data, change, message):
    change(copy / MEMBER)
    fails(infer(launch, copy, data), message, "or run with --repair")


def test_a_model_of_another_run_is_refused(launch, finished, copy, data, tmp_path):
    """All shapes agree; the manifest alone tells that its files are of another run."""
    path = copy / "simple_nn_new" / "manifest.json"
    files.write_sealed(path, files.read_sealed(path, "") | {"run": "0123456789abcdef"})
    for result in (infer(launch, copy, data), launch(copy), launch(copy, "--mode=blend")):
        fails(result, "simple_nn_new/manifest.json: expected the run ", "found '0123456789abcdef'")


def test_repair_ends_with_the_same_bytes(launch, finished, copy):
    rng = np.random.default_rng(0)
    damage("flipped", copy / "simple_nn_new" / "scored" / "oof.parquet", rng)
    damage("deleted", copy / "simple_nn_old/scored/features/all/transforms.npz", rng)
    fails(launch(copy, "--mode=train"), "oof.parquet: damaged", "or run with --repair")
    result = launch(copy, "--repair")
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stderr.splitlines() if ": removed: " in line]
    assert any("simple_nn_new/scored: removed: " in line for line in lines)
    assert any("simple_nn_old/scored/features/all: removed: " in line for line in lines)
    assert not any("simple_nn_old/scored: " in line for line in lines)
    expected, found = results(finished), results(copy)
    assert expected.keys() == found.keys()
    for path, content in expected.items():
        assert found[path] == content, path


def test_repair_has_its_modes_and_its_limits(launch, copy, data):
    result = launch(copy, "--repair", "--mode=blend")
    fails(result, "--repair: expected --mode=train or all, which train, found blend")
    damage("truncated", copy / "config.json", np.random.default_rng(0))
    fails(launch(copy, "--repair", "--mode=train"), "config.json: damaged", "cannot be repaired")
