"""Every network's training step compiles for TPUs, without one, and members do not communicate.

Needs the compiler, libtpu, which the extra `tpu` brings: other versions than JAX's own may fail.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPOLOGIES = ("v4:2x2x1", "v5e:2x2", "v6e:2x2")
COLLECTIVES = r"all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all"
# By configuration; the sizes that a compiler cares for are the originals', but for images.
DENSE = {
    "simple_nn:old": ["simple_nn_old/scored"],
    "three_stage_nn": ["three_stage_nn/nonscored", "three_stage_nn/scored",
                       "three_stage_nn/stacked"],
    "nn_tabnet": ["nn_tabnet/nonscored", "nn_tabnet/scored"],
    "two_heads_resnet": ["two_heads_resnet/nonscored", "two_heads_resnet/scored",
                         "two_heads_resnet/loop"],
}  # fmt: skip
IMAGES = {
    "deepinsight_efficientnet_b3": ["efficientnet_b3/scored"],
    "deepinsight_resnest": ["resnest_v1/scored"],
}
FEWER_LAYERS = {
    "deepinsight_efficientnet_b3": {"network": "efficientnet_b0"},
    "deepinsight_resnest": {},
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not there"),
]

PROGRAM = """
import json, re, sys
import jax
jax.config.update("jax_platforms", "cpu")
from moa_jax import config as configuration, launch, plan
from moa_jax.data import simulate
from moa_jax.recipes import CONFIGS
from moa_jax.training import shapes
from moa_jax.training.loop import Layout
from moa_jax.workdir import Workdir

arguments, topology, strategy, collectives = json.loads(sys.argv[1])
launch.parse_flags(["launch", *arguments])
config = configuration.parse(launch._CONFIG.value.to_dict(), CONFIGS)
data = simulate.make(rows=2400, seed=0, genes=772, cells=100, scored=206, nonscored=402)
target = plan.topology(topology, strategy)
for stage in plan.outline(config, data, Workdir("none"), target):
    layout = Layout.of(stage, target.num_devices, len(stage.members), 8)
    inner = plan.choose_inner(stage.forward.inner, "tpu")
    slots = 1 if inner == "loop" else layout.slots_per_device
    compiled = plan.compiled_step(stage, target.compile_for, inner, slots, layout.steps_per_call)
    found = sorted(set(re.findall(collectives, compiled.as_text())))
    print(json.dumps({
        "stage": stage.name, "collectives": found, "slots": slots,
        "memory": plan.peak_bytes(compiled), "devices": target.num_devices,
        "state": slots * shapes.num_bytes(shapes.state(stage)),
        "aliased": compiled.memory_analysis().alias_size_in_bytes,
    }))
"""


def compile_all(config, topology, strategy="shard_map", arguments=()):
    job = json.dumps([[f"--config={config}", *arguments], topology, strategy, COLLECTIVES])
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, job],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    return [json.loads(line) for line in lines]


def check(found, stages, capacity=16 * 2**30):
    assert [stage["stage"] for stage in found] == stages
    for stage in found:
        print(f"{stage['stage']}: {stage['slots']} slots per device, "
              f"{stage['memory'] / 2**20:.0f} MiB")  # fmt: skip
        assert stage["devices"] == 4
        assert stage["collectives"] == []
        # The new state takes the old one's place.
        assert stage["aliased"] >= stage["state"]
        assert stage["state"] < stage["memory"] < capacity


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("config", DENSE)
def test_dense_networks(config, topology):
    check(compile_all(config, topology), DENSE[config])


def test_pmap():
    check(compile_all("simple_nn:old", "v5e:2x2", "pmap"), DENSE["simple_nn:old"])


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("config", IMAGES)
def test_image_networks(config, topology):
    """Every layer is there, at fewer pixels, rows and repeats, which take minutes to compile."""
    model = IMAGES[config][0].split("/")[0]
    small = {"resolution": 64, "batch_size": 8, **FEWER_LAYERS[config]}
    arguments = [f"--config.models.{model}.{name}={value}" for name, value in small.items()]
    check(compile_all(config, topology, arguments=arguments), IMAGES[config])
