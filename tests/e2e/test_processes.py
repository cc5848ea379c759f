"""Two processes of four virtual devices each: one run, killed, and resumed by one on three."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import submissions

from moa_jax.store.predictions import Predictions
from moa_jax.training.checkpoints import Checkpoints, Position

# Rounding of float64, amplified by a few epochs of batch normalisation.
TOLERANCE = 1e-6
ROOT = Path(__file__).parents[2]
# What makes the files of a folder appear late in a process, see there.
LATE = Path(__file__).parent / "late"
DOUBLE = {"JAX_ENABLE_X64": "1"}
# Between processes on CPUs an exchange takes a fifth of a second, of which a deep network that
# shares batches has a hundred per step: tests/test_batch_axis.py shares those of a small one.
OFTEN = (
    "--config.checkpoint.seconds=0",
    "--config.parallel.steps_per_call=2",
    "--config.parallel.devices_per_member=1",
)


# Saves two checkpoints of five members, and reads what is there; the second process finds the
# newest one damaged.
SAVES = """
import json, sys
from pathlib import Path
import jax, numpy as np
from moa_jax.store import processes
from moa_jax.training import checkpoints
from moa_jax.training.checkpoints import Checkpoints, Position
from moa_jax.training.parallel import Devices
from moa_jax.training.slots import Slots

processes.start()
folder, devices = Path(sys.argv[1]), Devices.available("shard_map")
slots, members = Slots(5, 4, 2), {"w": np.arange(30, dtype=np.float32).reshape(5, 6)}
with Checkpoints(folder) as saved:
    for epoch in (1, 2):
        state = devices.put_members(slots.pad({"w": members["w"] * epoch}))
        saved.save(Position(0, epoch, 0), slots.to_save(state))
like = {"w": jax.ShapeDtypeStruct((5, 6), np.float32)}
found = []
with Checkpoints(folder) as saved:
    found.append(saved.restore(lambda position: like))
    read = checkpoints._read_each

    def fail(folder, like):
        if folder.parent.name == "2" and not processes.is_first():
            raise ValueError("damaged")
        return read(folder, like)

    checkpoints._read_each = fail
    found.append(saved.restore(lambda position: like))
print(json.dumps([[position.epoch, state["w"].tolist()] for position, state in found]))
"""

# Saves three checkpoints; from the second one on the second process can write no large file.
FILLS = """
import resource, sys
from pathlib import Path
import numpy as np
from moa_jax.store import ending, processes
from moa_jax.training.checkpoints import Checkpoints, Position
from moa_jax.training.parallel import Devices
from moa_jax.training.slots import Slots

with ending.in_one_line():
    processes.start()
    devices, slots = Devices.available("shard_map"), Slots(4, 4, 1)
    members = {"w": np.random.default_rng(0).random((4, 100_000), np.float32)}
    with Checkpoints(Path(sys.argv[1])) as saved:
        for epoch in (1, 2, 3):
            if epoch == 2 and not processes.is_first():
                resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
            state = devices.put_members(slots.pad(members))
            saved.save(Position(0, epoch, 0), slots.to_save(state))
"""


def as_one_of_two(number, port, devices):
    """Returns the variables of one of two processes, with so many virtual devices."""
    return {
        "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": str(number),
        "JAX_NUM_CPU_DEVICES": str(devices),
    }


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def run_two(program, folder):
    """Returns how two processes end, of two devices each, and what they write."""
    port = free_port()
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}
    two = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(folder)],
            env=os.environ | path | as_one_of_two(number, port, 2),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    try:
        found = [process.communicate(timeout=120) for process in two]
    finally:
        for process in two:
            process.kill()
    return [process.returncode for process in two], found


def start_two(launch, workdir, config, *arguments, second=(), env=None):
    """Starts two processes; `second` are arguments, and `env` variables, of the second alone."""
    port = free_port()
    return [
        launch(
            workdir,
            *OFTEN,
            "--distributed",
            *arguments,
            *(second if number else ()),
            config=config,
            background=True,
            env=DOUBLE | as_one_of_two(number, port, 4) | ((env or {}) if number else {}),
        )
        for number in range(2)
    ]


def finish(two):
    # The deep network takes nine minutes of processor time, most of it to be compiled twice.
    errors = [process.communicate(timeout=1200)[1] for process in two]
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


def test_each_process_saves_what_it_holds_and_all_read_the_same(tmp_path):
    folder = tmp_path / "checkpoints"
    statuses, results = run_two(SAVES, folder)
    assert statuses == [0, 0], results
    one, other = (json.loads(printed.splitlines()[-1]) for printed, _ in results)
    members = np.arange(30.0).reshape(5, 6)
    assert one == other == [[2, (2 * members).tolist()], [1, members.tolist()]]
    assert "2: damaged checkpoint is left out: another process" in results[0][1]
    assert [path.name for path in folder.iterdir()] == ["1"]
    written = [p for p in (folder / "1" / "state").glob("ocdbt.process_*/d/*") if p.is_file()]
    assert len({path.parents[1] for path in written}) == 2
    # One process, on other devices.
    with Checkpoints(folder) as saved:
        like = {"w": jax.ShapeDtypeStruct((5, 6), np.float32)}
        position, found = saved.restore(lambda position: like)
    assert position == Position(0, 1, 0)
    np.testing.assert_array_equal(found["w"], members)


def test_a_process_that_cannot_write_its_part_ends_both(tmp_path):
    statuses, results = run_two(FILLS, tmp_path / "checkpoints")
    assert statuses == [1, 1], results
    for _, errors in results:
        line = errors.strip().splitlines()[-1]
        assert "checkpoints: checkpoint cannot be written: File too large" in line


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


@pytest.mark.slow
def test_files_may_appear_late(launch, tmp_path):
    """The second process sees what is written to the work folder half a second later."""
    workdir, log = tmp_path / "run", tmp_path / "hidden"
    late = {
        "PYTHONPATH": f"{LATE}{os.pathsep}{ROOT}",
        "LATE_FOLDER": str(workdir),
        "LATE_SECONDS": "0.5",
        "LATE_LOG": str(log),
    }
    config, one = "tests/e2e/tiny.py:simple_nn_old", ("--config.checkpoint.seconds=0",)
    kill_after(start_two(launch, workdir, config, env=late), "epoch 2/3")
    # Begun again at once, the second one does not see yet what the first goes on from.
    _, errors = finish(start_two(launch, workdir, config, *one, env=late))
    assert "damaged" not in errors
    hidden = {os.path.relpath(line, workdir) for line in log.read_text().splitlines()}
    assert {"config.json", "simple_nn_old/manifest.json", "submission.csv"} <= hidden
    # All is finished, and found so by both.
    finish(start_two(launch, workdir, config, *one, env=late))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("--config.data.folder=/nowhere", "/nowhere"),
        ("--config.seed=1", "expected all processes to have the same configuration and data"),
    ],
    ids=["alone", "other"],
)
def test_a_mistake_of_one_process_ends_both(launch, tmp_path, second, message):
    config = "tests/e2e/tiny.py:simple_nn_old"
    two = start_two(launch, tmp_path / "run", config, second=(second,))
    for number, process in enumerate(two):
        errors = process.communicate(timeout=120)[1]
        assert process.returncode == 1, errors
        line = errors.strip().splitlines()[-1]
        begin = "moa-jax: " if number else "moa-jax: process 1: "
        assert line.startswith(begin) and message in line
        assert "Traceback" not in errors and "Terminating" not in errors


@pytest.mark.slow
def test_a_signal_to_one_process_outside_training_ends_both(launch, tmp_path):
    two = start_two(launch, tmp_path / "run", "tests/e2e/tiny.py:simple_nn_old")
    while not (tmp_path / "run" / "log.txt").exists():
        assert two[0].poll() is None
        time.sleep(0.05)
    two[1].send_signal(signal.SIGTERM)
    for process in two:
        errors = process.communicate(timeout=120)[1]
        assert process.returncode == 143, errors
        assert "interrupted by SIGTERM" in errors.strip().splitlines()[-1]


def test_who_takes_part_must_be_known(launch, tmp_path):
    result = launch(tmp_path / "run", "--distributed")
    assert result.returncode == 1
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("moa-jax: --distributed:") and "JAX_NUM_PROCESSES" in line
    assert "must be called before" not in line  # anything that asks for devices
    assert not (tmp_path / "run").exists()


def test_buckets_are_mounted(launch):
    result = launch("gs://bucket/run")
    assert result.returncode == 1
    assert "--workdir: expected a folder, found gs://bucket/run" in result.stderr
