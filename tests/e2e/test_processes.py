"""Two processes of four virtual devices each: one run, killed, and resumed by one on three."""

import json
import os
import signal
import socket

import numpy as np
import pytest
import submissions

from moa_jax.store.predictions import Predictions

# Rounding of float64, amplified by a few epochs of batch normalisation.
TOLERANCE = 1e-6
DOUBLE = {"JAX_ENABLE_X64": "1"}
# Between processes on CPUs an exchange takes a fifth of a second, of which a deep network that
# shares batches has a hundred per step: tests/test_batch_axis.py shares those of a small one.
OFTEN = (
    "--config.checkpoint.seconds=0",
    "--config.parallel.steps_per_call=2",
    "--config.parallel.devices_per_member=1",
)


def start_two(launch, workdir, config):
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = found.getsockname()[1]
    return [
        launch(
            workdir,
            *OFTEN,
            "--distributed",
            config=config,
            background=True,
            env=DOUBLE
            | {
                "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": str(number),
                "JAX_NUM_CPU_DEVICES": "4",
            },
        )
        for number in range(2)
    ]


def finish(two):
    errors = [process.communicate(timeout=300)[1] for process in two]
    assert [process.returncode for process in two] == [0, 0], "\n".join(errors)
    return errors


def kill_after(two, text):
    """Kills both when the first has logged the text."""
    for line in two[0].stderr:
        if text in line:
            break
    else:
        raise AssertionError(f"{text!r} was not logged: {two[1].communicate()[1]}")
    for process in two:
        process.send_signal(signal.SIGKILL)
    for process in two:
        process.communicate()
        assert process.returncode == -signal.SIGKILL


def agree(here, there, model):
    for name, read in (
        (f"{model}/oof.parquet", Predictions.read),
        (f"{model}/test.parquet", Predictions.read),
        ("submission.csv", submissions.read),
    ):
        one, other = (read(folder / name) for folder in (here, there))
        assert one.ids.tolist() == other.ids.tolist()
        np.testing.assert_allclose(one.values, other.values, rtol=0, atol=TOLERANCE, err_msg=name)
    epochs = [
        [
            (line["stage"], line["seed"], line["fold"], line["epoch"])
            for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        ]
        for folder in (here, there)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert len(set(epochs[0])) == len(epochs[0]), "an epoch was written twice"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "members"), [("simple_nn_old", 6), ("efficientnet", 2)], ids=["dense", "cnn"]
)
def test_two_processes_are_killed_and_one_goes_on(launch, tmp_path, model, members):
    config = f"tests/e2e/tiny.py:{model}"
    alone = launch(tmp_path / "alone", *OFTEN, config=config, env=DOUBLE)
    assert alone.returncode == 0, alone.stderr

    _, second = finish(start_two(launch, tmp_path / "two", config))
    agree(tmp_path / "two", tmp_path / "alone", model)
    environment = json.loads((tmp_path / "two" / "environment.json").read_text())
    assert (environment["strategy"], len(environment["devices"])) == ("shard_map", 8)
    assert "validation loss" not in second, "the second process tells what the first does"

    kill_after(start_two(launch, tmp_path / "killed", config), "epoch 2/3")
    assert os.listdir(tmp_path / "killed" / model / "scored" / "checkpoints")
    resumed = launch(
        tmp_path / "killed", *OFTEN, config=config, env=DOUBLE | {"JAX_NUM_CPU_DEVICES": "3"}
    )
    assert resumed.returncode == 0, resumed.stderr
    agree(tmp_path / "killed", tmp_path / "alone", model)
    assert len(list((tmp_path / "killed" / model / "scored" / "members").iterdir())) == members
    # Epochs before the kill were not done again.
    assert "epoch 1/3" not in resumed.stderr


def test_who_takes_part_must_be_known(launch, tmp_path):
    result = launch(tmp_path / "run", "--distributed")
    assert result.returncode == 1
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("moa-jax: --distributed:") and "JAX_NUM_PROCESSES" in line
    assert not (tmp_path / "run").exists()


def test_buckets_are_mounted(launch):
    result = launch("gs://bucket/run")
    assert result.returncode == 1
    assert "--workdir: expected a folder, found gs://bucket/run" in result.stderr
