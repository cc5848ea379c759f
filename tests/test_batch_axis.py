"""Batches spread over devices: the same training, but for rounding, wherever the rows lie."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from moa_jax.training import weights
from moa_jax.training.layout import wave_sizes
from moa_jax.training.parallel import choose_per_member

FOLDER = Path(__file__).parent
# Six members of unequal folds that stop at different epochs; 16 rows to a batch, the last ones
# with fewer, which three devices do not divide.
PROGRAM = r"""
import dataclasses, json, os, re, sys, pathlib
from moa_jax.store import processes
if "JAX_NUM_PROCESSES" in os.environ:
    processes.start()
import flax.linen as nn
import jax
import numpy as np
import toy
from moa_jax.models.efficientnet import drop_connect
from moa_jax.models.layers import BatchNorm, Dense, Dropout
from moa_jax.training import layout, loop, predict, rules
from moa_jax.training.parallel import Devices
from moa_jax.training.progress import MetricsLog


class Network(nn.Module):
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, mask=None, train=False):
        x = BatchNorm(axis_name=self.axis_name)(x, mask, train)
        x = nn.tanh(Dense(8)(x))
        if train:
            x = drop_connect(x, 0.2, self.make_rng("dropout"), self.axis_name)
        x = BatchNorm(axis_name=self.axis_name)(x, mask, train)
        x = Dropout(0.2, self.axis_name)(x, train)
        return Dense(toy.TARGETS)(x), x.mean(-1) ** 2


job = json.loads(sys.argv[1])
folder = pathlib.Path(job["folder"])
folder.mkdir(exist_ok=True)
stage = toy.stage(folds=job["folds"], inner="loop", epochs=8, stop=rules.patience(2), lr=0.3)
forward = dataclasses.replace(stage.forward, network=Network(), shares_batches=True)
stage = dataclasses.replace(stage, forward=forward)
devices = Devices.available("auto").sharing_batches(job["per_member"])
waves = tuple(layout.Wave(*wave) for wave in job["waves"])
settings = layout.Settings(devices, members_at_once=job["at_once"], waves=waves, steps_per_call=3)
run = loop.StageRun(stage, folder, settings, MetricsLog(folder, False))
run.fit()
ids = [m.id for m in stage.members]
predictor = predict.Predictor("toy", forward, folder, ids, devices, stage.member_data)
values, *_ = predict.out_of_fold(stage, predictor, stage.targets)
if processes.is_first():
    np.save(folder / "values.npy", values)
groups = [
    re.findall(r"(?:all-reduce|all-gather|reduce-scatter)\(.*replica_groups=([^ ]*), ", text)
    for programs in (run.programs, *run._of_waves.values())
    for compiling in programs.train._compiling.values()
    for text in [compiling.result()[0].as_text()]
]
print(json.dumps({"strategy": devices.strategy, "groups": sorted(set(sum(groups, [])))}))
"""


def start(folder, devices, per_member, at_once, waves=(), folds=3, **environment):
    job = {"folder": str(folder), "per_member": per_member, "at_once": at_once}
    job |= {"waves": waves, "folds": folds}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(job)],
        env=os.environ
        | {
            "JAX_NUM_CPU_DEVICES": str(devices),
            "JAX_ENABLE_X64": "1",
            "PYTHONPATH": os.pathsep.join([str(FOLDER), str(FOLDER.parent)]),
        }
        | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return json.loads(output.splitlines()[-1])


def train(*arguments):
    return finish(start(*arguments))


def epochs(folder):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return sorted((line["seed"], line["fold"], line["epoch"]) for line in lines)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    train(folder, 1, 1, 6)
    return folder


@pytest.mark.parametrize(
    ("devices", "per_member", "at_once", "groups"),
    [(6, 3, 6, "{{0,1,2},{3,4,5}}"), (4, 4, 1, "{{0,1,2,3}}")],
)
def test_sharing_batches_changes_rounding_alone(
    alone, tmp_path, devices, per_member, at_once, groups
):
    folder = tmp_path / "run"
    told = train(folder, devices, per_member, at_once)
    # Devices of one member exchange statistics and gradients, and none with another's.
    assert told == {"strategy": "shard_map", "groups": [groups]}
    agree(folder, alone)


@pytest.mark.slow
def test_waves_have_as_many_devices_for_each_member_as_leave_a_place_for_all(tmp_path):
    """Ten members on eight devices: a wave of eight, and one of two with four devices each."""
    sizes = wave_sizes(num_members=10, num_devices=8, batch_size=16)
    waves = [(size, choose_per_member(0, "auto", True, 8, size)) for size in sizes]
    assert waves == [(8, 1), (2, 4)]
    train(tmp_path / "alone", 1, 1, 10, (), 5)
    told = train(tmp_path / "waves", 8, 1, 8, waves, 5)
    assert told["groups"] == ["{{0,1,2,3},{4,5,6,7}}"]
    agree(tmp_path / "waves", tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.parametrize("per_member", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_devices_of_two_processes_share_batches(alone, tmp_path, per_member):
    folder = tmp_path / "run"
    with socket.socket() as found:
        found.bind(("localhost", 0))
        address = f"localhost:{found.getsockname()[1]}"
    members = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    both = [start(folder, 2, per_member, 6, **members, JAX_PROCESS_ID=str(i)) for i in range(2)]
    for process in both:
        assert finish(process)["strategy"] == "shard_map"
    agree(folder, alone)


def agree(folder, alone):
    assert epochs(folder) == epochs(alone)
    found, expected = (np.load(f / "values.npy") for f in (folder, alone))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    for file in sorted((alone / "members").iterdir()):
        losses = [weights.read_record(f / "members" / file.name)["loss"] for f in (folder, alone)]
        np.testing.assert_allclose(*losses, rtol=1e-8, atol=1e-9)
        with np.load(file) as one, np.load(folder / "members" / file.name) as other:
            assert sorted(one) == sorted(other)
            for name in one:
                if one[name].dtype.kind == "f":
                    np.testing.assert_allclose(other[name], one[name], rtol=1e-8, atol=1e-9)
