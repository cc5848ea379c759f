"""Training steps compiled for an A100 that is not there move, start and hold no more than recorded.

Needs the compiler, which the extra `cuda-plan` brings. A change that adds copies, keeps activations
or takes fusions apart is seen here; so is a new version of XLA, whose figures are then recorded.
"""

import functools
import json
from typing import NamedTuple

import children
import pytest

from moa_jax.plan.topology import has_gpu_compiler

# What a figure may be above the recorded one: kernels move a little from version to version.
MARGIN = 1.03
# How many times less it may be before it is a mistake of counting, or worth recording anew.
LESS = 1.5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not has_gpu_compiler(), reason="the extra cuda-plan is not there"),
]

PROGRAM = r"""
import json, sys
import jax
jax.config.update("jax_platforms", "cpu")
from moa_jax.command import flags
from moa_jax.data import simulate
from moa_jax.plan.outlines import outline
from moa_jax.plan.stage_plan import plan_stage
from moa_jax.plan.topology import topology
from moa_jax.store.workdir import Workdir

flags.parse(["launch", *json.loads(sys.argv[1])])
config = flags.configuration()
data = simulate.make(rows=23814, seed=0, genes=772, cells=100, scored=206, nonscored=402)
target = topology("a100:1")
for built in outline(config, data, Workdir("none"), target):
    step = plan_stage(built, target, config.parallel, config.plan).groups[0].step
    print(json.dumps({
        "stage": built.stage.name, "method": step.method, "GB": step.work.num_bytes / 1e9,
        "kernels": step.work.kernels, "GiB": step.memory_bytes / 2**30,
    }))
"""


class Recorded(NamedTuple):
    """Of one optimiser step of all members on one card: bytes moved and kernels; peak memory."""

    GB: float
    kernels: float
    GiB: float


# By flags, the figures of each stage.
B3 = "--config=deepinsight_efficientnet_b3"
STEPS = {
    f"{B3} --config.models.efficientnet_b3.dtype=bfloat16": {
        "efficientnet_b3/scored": Recorded(39.56, 2551, 4.82),
    },
    f"{B3} --config.models.efficientnet_b3.dtype=float32": {
        "efficientnet_b3/scored": Recorded(90.28, 2427, 9.53),
    },
    "--config=deepinsight_resnest --config.models.resnest_v1.dtype=bfloat16": {
        "resnest_v1/scored": Recorded(61.65, 1986, 7.26),
    },
    "--config=deepinsight_resnest --config.models.resnest_v1.dtype=float32": {
        "resnest_v1/scored": Recorded(129.46, 1874, 13.26),
    },
    "--config=three_stage_nn:ten_folds": {
        "three_stage_nn/nonscored": Recorded(19.10, 54, 6.82),
        "three_stage_nn/scored": Recorded(20.12, 54, 7.28),
        "three_stage_nn/stacked": Recorded(4.95, 50, 1.49),
    },
    "--config=nn_tabnet": {
        "nn_tabnet/nonscored": Recorded(8.52, 43, 2.73),
        "nn_tabnet/scored": Recorded(11.39, 228, 1.78),
    },
    "--config=two_heads_resnet:v2": {
        "two_heads_resnet/nonscored": Recorded(9.00, 128, 3.44),
        "two_heads_resnet/scored": Recorded(8.86, 127, 3.36),
        "two_heads_resnet/loop": Recorded(8.86, 127, 3.36),
    },
}


@functools.cache
def compiled(arguments):
    found = children.found_by(PROGRAM, json.dumps(arguments.split()))
    return {one["stage"]: one for one in found}


@pytest.mark.parametrize("arguments", STEPS)
def test_no_step_is_larger_than_it_was(arguments):
    found = compiled(arguments)
    assert found.keys() == STEPS[arguments].keys()
    for stage, recorded in STEPS[arguments].items():
        print(found[stage])
        assert found[stage]["method"] == "compiled for A100"
        for name, most in recorded._asdict().items():
            assert most / LESS <= found[stage][name] <= MARGIN * most, (stage, name)


def test_bfloat16_moves_half():
    """Of B3's activations; weights and what the optimiser keeps are float32 in both."""
    (half, full) = (
        compiled(f"{B3} --config.models.efficientnet_b3.dtype={dtype}")["efficientnet_b3/scored"]
        for dtype in ("bfloat16", "float32")
    )
    assert half["GB"] < 0.6 * full["GB"]
    assert half["GiB"] < 0.8 * full["GiB"]
