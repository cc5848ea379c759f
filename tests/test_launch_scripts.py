"""launch/: what starts on one GPU, on eight, on two nodes and on a TPU slice, without either."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from moa_jax.store import peers, processes, signals

ROOT = Path(__file__).parents[1]
# Writes down what it is called with; nothing is run.
PYTHON = """#!/bin/sh
if [ "$2" = pip ]; then
  echo "$*" >> {log}/pip
else
  for word in "$JAX_PLATFORMS" "$CUDA_VISIBLE_DEVICES" "$@"; do echo "$word"; done >> {log}/python
fi
"""
# Two of the tasks of a job.
SRUN = """#!/bin/sh
echo "${SRUN_CPUS_PER_TASK:-}" > {log}/srun
for task in 0 1; do SLURM_PROCID=$task "$@"; done
"""
# A host of the slice, whose shell reads the command and knows no variable of ours.
GCLOUD = """#!/bin/bash
for word in "$@"; do
  echo "$word" >> {log}/gcloud
  case "$word" in --command=*) (cd {home} && env -u EXTRAS sh -c "${word#--command=}");; esac
done
"""
# Whatever a shell might take for its own goes through.
FLAGS = ["--config=best_cv", "--workdir=/mnt/my runs/a", "--config.data.groups=it's $HOME", "--x=*"]
CALL = ["-m", "moa_jax.launch"]


@pytest.fixture
def start(tmp_path):
    """Starts a script of a copy of the checkout; returns what its commands were called with."""
    home, log, tools = tmp_path / "home", tmp_path / "log", tmp_path / "bin"
    checkout = home / "moa_jax"
    shutil.copytree(ROOT / "launch", checkout / "launch")
    for name in ("setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout)
    log.mkdir()
    for path, text in (
        (checkout / ".venv" / "bin" / "python", PYTHON),
        (tools / "srun", SRUN),
        (tools / "gcloud", GCLOUD),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("{log}", str(log)).replace("{home}", str(home)))
        path.chmod(0o755)

    def run(script, *arguments, status=0, **environment):
        outer = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("JAX_", "SLURM_", "CUDA")) and name != "EXTRAS"
        }
        outer |= {"PATH": f"{tools}{os.pathsep}{outer['PATH']}", "PYTHON": sys.executable}
        result = subprocess.run(
            ["bash", script, *arguments],
            cwd=checkout, env=outer | environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == status, result.stderr
        called = {path.name: path.read_text().splitlines() for path in log.iterdir()}
        return called | {"errors": result.stderr}

    run.checkout = checkout
    return run


@pytest.mark.parametrize(
    ("environment", "extra", "platform", "gpus"),
    [
        ({}, "cuda13", "cuda", ""),
        ({"CUDA_VISIBLE_DEVICES": "0", "CUDA": "12"}, "cuda12", "cuda", "0"),
        ({"JAX_PLATFORMS": "cpu"}, "cuda13", "cpu", ""),
    ],
    ids=["all", "one", "other"],
)
def test_gpus_of_a_machine(start, environment, extra, platform, gpus):
    called = start("launch/gpu.sh", *FLAGS, **environment)
    assert called["python"] == [platform, gpus, *CALL, *FLAGS]
    assert called["pip"][-1].endswith(f"-e .[{extra}]")


def test_two_nodes_by_slurm(start, tmp_path):
    # Slurm runs a copy of the script, in its own folder.
    copy = shutil.copy(ROOT / "launch" / "slurm.sh", tmp_path / "slurm_script")
    environment = {"SLURM_SUBMIT_DIR": str(start.checkout), "SLURM_CPUS_PER_TASK": "8"}
    called = start(copy, *FLAGS, **environment)
    assert called["python"] == ["cuda", "", *CALL, "--distributed", *FLAGS] * 2
    assert called["srun"] == ["8"]
    assert "pip" not in called, "nodes may have no network"
    shutil.rmtree(start.checkout / ".venv")
    assert "bash launch/environment.sh cuda13" in start(copy, status=1, **environment)["errors"]


def test_what_slurm_is_asked_for():
    text = (ROOT / "launch" / "slurm.sh").read_text(encoding="utf-8")
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", text, re.MULTILINE))
    assert {"nodes": "2", "ntasks-per-node": "8", "gpus-per-task": "1"}.items() <= asked.items()
    # Its warning is one that a run answers by a checkpoint, with more time than that may take.
    name, seconds = asked["signal"].split("@")
    assert signal.Signals[f"SIG{name}"] in signals.SIGNALS
    assert int(seconds) > signals.GRACE_SECONDS


def test_a_tpu_slice(start):
    called = start("launch/tpu_slice.sh", "my-slice", "us-west4-a", *FLAGS)
    assert called["gcloud"][:6] == [
        "compute",
        "tpus",
        "tpu-vm",
        "ssh",
        "my-slice",
        "--zone=us-west4-a",
    ]
    assert "--worker=all" in called["gcloud"]
    assert called["python"] == ["tpu", "", *CALL, "--distributed", *FLAGS]
    assert called["pip"][-1].endswith("-e .[tpu]")
    called = start("launch/tpu_slice.sh", "my-slice", "us-west4-a", *FLAGS, EXTRAS="torch,hub")
    assert called["pip"][-1].endswith("-e .[tpu,torch,hub]")
    without_zone = ("my-slice", "--config=best_cv", "--workdir=a")
    for wrong in ((), ("my-slice", "us-west4-a"), without_zone, (*without_zone[1:], "--x")):
        assert "usage:" in start("launch/tpu_slice.sh", *wrong, status=1)["errors"]


def test_a_tpu_vm(start):
    assert start("launch/tpu_vm.sh", *FLAGS)["python"] == ["tpu", "", *CALL, *FLAGS]


def test_the_manual_names_every_script_that_there_is():
    text = (ROOT / "BUILD.md").read_text(encoding="utf-8")
    named = set(re.findall(r"launch/(\w+\.sh)", text))
    there = {path.name for path in (ROOT / "launch").glob("*.sh")}
    assert named <= there and there - named <= {"results.sh"}
    for line in re.findall(r"^bash (launch/.*)$", text, re.MULTILINE):
        assert shlex.split(line, comments=True)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        # All tasks of a node see all of its GPUs: JAX takes the one of the task's number.
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, None),
        # Each sees its own, with --gpus-per-task or --gpu-bind.
        ({"CUDA_VISIBLE_DEVICES": "0", "SLURM_GPUS_PER_TASK": "1"}, [0]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1f"}, [0]),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_GPUS_PER_TASK": "a100:2"}, [0, 1]),
        # With --gpus-per-task and --gpu-bind=none each sees those of the others as well.
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7", "SLURM_GPUS_PER_TASK": "2"}, [6, 7]),
        ({"CUDA_VISIBLE_DEVICES": "0", "JAX_LOCAL_DEVICE_IDS": "0"}, None),
        ({}, None),
    ],
)
def test_a_task_of_slurm_takes_its_own_gpus(monkeypatch, environment, expected):
    taken = []
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_GPUS_PER_TASK", "JAX_LOCAL_DEVICE_IDS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"SLURM_LOCALID": "3"} | environment).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        jax.distributed, "initialize", lambda **given: taken.append(given["local_device_ids"])
    )
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    monkeypatch.setattr(peers, "watch", lambda: None)
    processes.start()
    assert taken == [expected]
