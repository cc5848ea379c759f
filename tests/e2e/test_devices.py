"""Every recipe on other numbers of devices: the same epochs and, but for rounding, files."""

import json

import numpy as np
import pandas as pd
import pytest

MODELS = ("simple_nn_old", "simple_nn_new", "three_stage_nn", "nn_tabnet", "two_heads_resnet",
          "efficientnet")  # fmt: skip
COUNTS = (1, 2, 5, 8)
# What is found is far less in float64; in float32 it is in BUILD.md, at most 4e-4 of the two heads.
DOUBLE, SINGLE = 1e-6, 5e-3

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(launch, tmp_path_factory):
    """Trains a model once for a number of devices, a strategy and a dtype."""
    folder, done = tmp_path_factory.mktemp("devices"), {}

    def train(model, devices, double=True, strategy="auto"):
        key = (model, devices, double, strategy)
        if key not in done:
            workdir = folder / "_".join(map(str, key))
            result = launch(
                workdir,
                "--mode=train",
                f"--config.parallel.strategy={strategy}",
                config=f"tests/e2e/tiny.py:{model}",
                env={"JAX_NUM_CPU_DEVICES": str(devices), "JAX_ENABLE_X64": str(int(double))},
            )
            assert result.returncode == 0, result.stderr
            done[key] = workdir
        return done[key]

    return train


def epochs(workdir, model):
    """Returns kept and last epoch of every member, by stage, seed and fold."""
    return {
        (file.parent.name, member["seed"], member["fold"]): (member["epoch"], member["epochs_run"])
        for file in sorted((workdir / model).glob("*/metrics.json"))
        for member in json.loads(file.read_text())["members"]
    }


def difference(here, there, model):
    """Returns the largest difference of predictions in all files of a model."""
    files = sorted((here / model).rglob("*.parquet"))
    assert len(files) >= 4
    largest = 0.0
    for file in files:
        one, other = (
            pd.read_parquet(w / file.relative_to(here)).set_index("sig_id") for w in (here, there)
        )
        assert one.index.equals(other.index)
        # Controls have no spread.
        assert one.isna().equals(other.isna()), file
        largest = max(largest, np.nanmax(np.abs(one.to_numpy() - other.to_numpy())))
    return largest


@pytest.mark.parametrize("model", MODELS)
def test_float64_agrees_on_any_number_of_devices(trained, model):
    one = trained(model, COUNTS[0])
    for count in COUNTS[1:]:
        many = trained(model, count)
        environment = json.loads((many / "environment.json").read_text())
        assert (environment["strategy"], len(environment["devices"])) == ("pmap", count)
        assert epochs(many, model) == epochs(one, model)
        found = difference(many, one, model)
        print(f"{model}, float64, {count} devices: {found:.1e}")
        assert found < DOUBLE


@pytest.mark.parametrize("model", MODELS)
def test_float32_agrees_but_for_rounding(trained, model):
    found = difference(trained(model, 8, double=False), trained(model, 1, double=False), model)
    print(f"{model}, float32, 8 devices: {found:.1e}")
    assert found < SINGLE


@pytest.mark.parametrize("model", MODELS)
def test_pmap_and_shard_map_write_the_same_bytes(trained, model):
    here, there = trained(model, 5), trained(model, 5, strategy="shard_map")
    files = sorted((here / model).rglob("*.parquet")) + sorted((here / model).rglob("*.npz"))
    assert len(files) >= 6
    for file in files:
        assert file.read_bytes() == (there / file.relative_to(here)).read_bytes(), file
