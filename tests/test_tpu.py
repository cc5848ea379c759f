"""Every network's training step compiles for TPUs, without one, and members do not communicate.

Devices that share the batches of a member do, with each other. On a v5e a step moves, starts and
holds no more than was recorded: a change that adds copies is seen here.

Needs the compiler, libtpu, which the extra `tpu` brings: other versions than JAX's own may fail.
"""

import importlib.metadata
import importlib.util
import json

import ceilings
import children
import pytest
from ceilings import Recorded

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

# The compiler of the figures below, which JAX 0.10 asks for: others keep other arrays on the chip.
RECORDED_WITH = "0.0.42"
# By flags, the figures of each stage on one of eight devices, of the members that train first.
STEPS = {
    "--config=deepinsight_efficientnet_b3 --config.models.efficientnet_b3.dtype=bfloat16": {
        "efficientnet_b3/scored": Recorded(42.61, 7042, 6.21),
    },
    "--config=deepinsight_efficientnet_b3 --config.models.efficientnet_b3.dtype=float32": {
        "efficientnet_b3/scored": Recorded(86.69, 13127, 10.61),
    },
    "--config=deepinsight_resnest --config.models.resnest_v1.dtype=bfloat16": {
        "resnest_v1/scored": Recorded(51.87, 5377, 7.45),
    },
    "--config=deepinsight_resnest --config.models.resnest_v1.dtype=float32": {
        "resnest_v1/scored": Recorded(127.76, 5696, 14.44),
    },
    "--config=three_stage_nn:ten_folds": {
        "three_stage_nn/nonscored": Recorded(1.680, 97, 1.24),
        "three_stage_nn/scored": Recorded(1.785, 93, 1.36),
        "three_stage_nn/stacked": Recorded(0.106, 106, 0.26),
    },
    "--config=two_heads_resnet:v2": {
        "two_heads_resnet/nonscored": Recorded(0.481, 338, 0.72),
        "two_heads_resnet/scored": Recorded(0.530, 319, 0.66),
        "two_heads_resnet/loop": Recorded(0.540, 322, 0.66),
    },
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not there"),
]

PROGRAM = r"""
import json, re, sys
import jax
jax.config.update("jax_platforms", "cpu")
from moa_jax.command import flags
from moa_jax.data import simulate
from moa_jax.plan import hlo, traffic
from moa_jax.plan.outlines import outline
from moa_jax.plan.step import compiled_step, peak_bytes
from moa_jax.plan.topology import topology
from moa_jax.store.workdir import Workdir
from moa_jax.training import shapes
from moa_jax.training.layout import Layout
from moa_jax.training.parallel import choose_inner

arguments, grid, strategy, per_member, collectives = json.loads(sys.argv[1])
flags.parse(["launch", *arguments])
config = flags.configuration()
data = simulate.make(rows=2400, seed=0, genes=772, cells=100, scored=206, nonscored=402)
target = topology(grid, strategy)
for built in outline(config, data, Workdir("none"), target):
    stage = built.stage
    devices = target.compile_for.sharing_batches(per_member)
    layout = Layout.of(stage, devices.num_shards, len(stage.members), 8)
    inner = choose_inner(stage.forward.inner, "tpu")
    slots = 1 if inner == "loop" else layout.slots_per_shard
    compiled = compiled_step(stage, devices, inner, slots, layout.steps_per_call)
    text = compiled.as_text()
    found = sorted(set(re.findall(collectives, text)))
    groups = sorted(set(re.findall(r"replica_groups=(\{\{.*?\}\}|[^,]*\]),", text)))
    work = traffic.of_program(hlo.parse(text)).times(1 / layout.steps_per_call)
    print(json.dumps({
        "stage": stage.name, "GB": work.num_bytes / 1e9, "kernels": work.kernels,
        "collectives": found, "groups": groups, "slots": slots,
        "memory": peak_bytes(compiled), "devices": len(devices.devices),
        "state": slots * shapes.num_bytes(shapes.state(stage)),
        "aliased": compiled.memory_analysis().alias_size_in_bytes,
    }))
"""


def compile_all(config, topology, strategy="shard_map", arguments=(), per_member=1):
    flags = [f"--config={config}", *arguments]
    job = json.dumps([flags, topology, strategy, per_member, COLLECTIVES])
    return children.found_by(PROGRAM, job)


def check(found, stages, capacity=16 * 2**30, groups=()):
    assert [stage["stage"] for stage in found] == stages
    for stage in found:
        print(f"{stage['stage']}: {stage['slots']} slots per device, "
              f"{stage['memory'] / 2**20:.0f} MiB, {stage['GB']:.3g} GB and "
              f"{stage['kernels']:.0f} kernels per step")  # fmt: skip
        assert stage["devices"] == 4
        assert stage["groups"] == list(groups)
        assert bool(stage["collectives"]) == bool(groups)
        # The new state takes the old one's place.
        assert stage["aliased"] >= stage["state"]
        assert stage["state"] < stage["memory"] < capacity


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("config", DENSE)
def test_dense_networks(config, topology):
    check(compile_all(config, topology), DENSE[config])


@pytest.mark.parametrize("topology", ["v5e:2x2"])
def test_pmap(topology):
    check(compile_all("simple_nn:old", topology, "pmap"), DENSE["simple_nn:old"])


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("config", IMAGES)
def test_image_networks(config, topology):
    check(compile_all(config, topology, arguments=smaller(config)), IMAGES[config])


@pytest.mark.parametrize("config", IMAGES)
def test_v5e_moves_less_in_bfloat16(config):
    """Activations are half as large; weights and what the optimiser keeps are float32 in both."""
    model = IMAGES[config][0].split("/")[0]
    full, half = (
        compile_all(
            config,
            "v5e:2x2",
            arguments=[*smaller(config), f"--config.models.{model}.dtype={dtype}"],
        )
        for dtype in ("float32", "bfloat16")
    )
    check(half, IMAGES[config])
    assert half[0]["GB"] < full[0]["GB"]


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_sharing_batches(topology):
    config = "deepinsight_efficientnet_b3"
    found = compile_all(config, topology, arguments=smaller(config), per_member=2)
    check(found, IMAGES[config], groups=["{{0,1},{2,3}}"])


@pytest.mark.parametrize("arguments", STEPS)
def test_no_step_is_larger_than_it_was(arguments):
    found = importlib.metadata.version("libtpu")
    if not found.startswith(RECORDED_WITH):
        pytest.skip(f"recorded with libtpu {RECORDED_WITH}, this is {found}")
    ceilings.check(arguments, "v5e:2x4", "compiled for v5e", STEPS[arguments])


def smaller(config):
    """Returns flags for every layer, at fewer pixels, rows and repeats: these take minutes."""
    model = IMAGES[config][0].split("/")[0]
    small = {"resolution": 64, "batch_size": 8, **FEWER_LAYERS[config]}
    return [f"--config.models.{model}.{name}={value}" for name, value in small.items()]
