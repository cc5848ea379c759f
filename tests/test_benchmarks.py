"""The benchmarks run, at sizes that take seconds."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPT, TABNET, IMAGES, IMAGE_NETWORKS = (
    FOLDER / f"{name}.py" for name in ("simple_nn", "tabnet", "images", "image_networks")
)
TINY = ("--rows=96", "--features=9", "--hidden=16", "--outputs=5", "--batch=16", "--steps=2")


def run(*command):
    return subprocess.run([sys.executable, *command], capture_output=True, text=True)


def test_simple_nn_prints_every_way_and_the_share_of_the_peak():
    pytest.importorskip("torch")
    found = run(str(SCRIPT), *TINY, "--repetitions=1")
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert [line.split()[0] for line in lines[3:7]] == ["moa_jax", "original", "tuned", "fused"]
    assert "GFLOP/s" in found.stdout and "of our best step" in found.stdout


def test_tabnet_prints_every_way():
    pytest.importorskip("pytorch_tabnet.tab_model")
    sizes = ("--rows=96", "--features=9", "--outputs=5", "--batch=32", "--steps=1")
    found = run(str(TABNET), "speed", *sizes, "--repetitions=1")
    assert found.returncode == 0, found.stderr
    ways = [line[:12].strip() for line in found.stdout.splitlines()[3:]]
    assert ways == ["one", "ten in turn", "ten stacked", "library", "tuned"]


def test_images_prints_every_way():
    sizes = ("--rows=50", "--features=30", "--resolution=9", "--batch=16", "--sample=20")
    found = run(str(IMAGES), *sizes, "--repetitions=1")
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert lines[0].startswith("50 rows of 30 features, 9 pixels a side")
    assert [line.split()[0] for line in lines[2:]] == ["moa_jax", "pandas", "numpy"]
    assert lines[2].split()[-1] == "1.0"


def test_image_networks_print_every_convolution():
    pytest.importorskip("torch")
    found = run(str(IMAGE_NETWORKS), "layers", "--side=6", "--batch=1", "--repetitions=1")
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()[3:]
    assert {line.split()[0] for line in lines} == {"depthwise", "grouped", "pointwise", "dense"}
    assert sum(" gradients " in line for line in lines) == len(lines) / 2


@pytest.mark.slow
def test_image_networks_print_every_pass():
    for package in ("torch", "geffnet", "resnest"):
        pytest.importorskip(package)
    found = run(str(IMAGE_NETWORKS), "steps", "--side=40", "--batch=2", "--repetitions=1")
    assert found.returncode == 0, found.stderr
    passes = [line.split(", compiled")[0] for line in found.stdout.splitlines()[3:]]
    assert passes == [
        f"{name} at 40, {which}" for name in ("b3", "r2") for which in ("forward", "step")
    ]


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed")
@pytest.mark.parametrize(
    ("script", "install"),
    [
        (SCRIPT, "moa-jax[torch]"),
        (TABNET, "moa-jax[torch] pytorch-tabnet"),
        (IMAGE_NETWORKS, "moa-jax[torch] geffnet resnest"),
    ],
)
def test_missing_torch_is_one_line(script, install):
    found = run(str(script))
    assert found.returncode == 1
    assert found.stderr.splitlines() == [
        f"torch: expected for the comparison, not installed; pip install {install}"
    ]


def test_same_results_finds_the_largest_difference(tmp_path):
    """Files go by name and rows by id; another order or a missing file differs infinitely."""
    spec = importlib.util.spec_from_file_location("same_results", FOLDER / "same_results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    before, after = tmp_path / "before", tmp_path / "after"
    table = pd.DataFrame({"sig_id": ["a", "b"], "x": [0.25, 0.5]})
    for folder in (before, after):
        (folder / "model").mkdir(parents=True)
        table.to_csv(folder / "submission.csv", index=False)
        table.to_parquet(folder / "model" / "oof.parquet")
    assert module.largest_difference(before, after) == {
        "model/oof.parquet": 0, "submission.csv": 0,
    }  # fmt: skip
    table.assign(x=[0.25, 0.625]).to_csv(after / "submission.csv", index=False)
    assert module.largest_difference(before, after)["submission.csv"] == 0.125
    table.assign(x=[0.25, np.nan]).to_csv(after / "submission.csv", index=False)
    assert module.largest_difference(before, after)["submission.csv"] == np.inf
    for other in (table.assign(x=table["x"].astype(np.float32)), table[::-1]):
        other.to_parquet(after / "model" / "oof.parquet")
        assert module.largest_difference(before, after)["model/oof.parquet"] == np.inf
    table.to_parquet(after / "model" / "test.parquet")
    found = module.largest_difference(before, after)
    assert found["model/oof.parquet"] == found["model/test.parquet"] == np.inf
