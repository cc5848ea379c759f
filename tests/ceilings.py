"""Steps of accelerators that are not there, compiled and held against what was recorded of them."""

import functools
import json
from typing import NamedTuple

import children

# What a figure may be above the recorded one: kernels move a little from version to version.
MARGIN = 1.03
# How many times less it may be before it is a mistake of counting, or worth recording anew.
LESS = 1.5

# Of every stage the members that train first.
PROGRAM = r"""
import json, sys
import jax
jax.config.update("jax_platforms", "cpu")
from moa_jax.command import flags
from moa_jax.data import simulate
from moa_jax.plan.outlines import outline
from moa_jax.plan.stage_plan import groups_of
from moa_jax.plan.step import step_of
from moa_jax.plan.topology import topology
from moa_jax.store.workdir import Workdir

arguments, devices = json.loads(sys.argv[1])
flags.parse(["launch", *arguments])
config = flags.configuration()
data = simulate.make(rows=23814, seed=0, genes=772, cells=100, scored=206, nonscored=402)
target = topology(devices)
for built in outline(config, data, Workdir("none"), target):
    group = next(groups_of(built.stage, target, config.parallel))
    step = step_of(built.stage, target, group.layout, group.per_member)
    print(json.dumps({
        "stage": built.stage.name, "method": step.method, "GB": step.work.num_bytes / 1e9,
        "kernels": step.work.kernels, "GiB": step.memory_bytes / 2**30,
    }))
"""


class Recorded(NamedTuple):
    """Of one optimiser step of one device: bytes moved and kernels; peak memory."""

    GB: float
    kernels: float
    GiB: float


@functools.cache
def compiled(arguments, topology):
    """Returns the figures of each stage of a configuration, by its name.

    Args:
      arguments: flags, as a text.
      topology: devices, as in `config.plan.topology`.
    """
    found = children.found_by(PROGRAM, json.dumps([arguments.split(), topology]))
    return {one["stage"]: one for one in found}


def check(arguments, topology, method, steps):
    """Compiles the stages of a configuration, and holds each against what was recorded of it."""
    found = compiled(arguments, topology)
    assert found.keys() == steps.keys()
    for stage, recorded in steps.items():
        print(found[stage])
        assert found[stage]["method"] == method
        for name, most in recorded._asdict().items():
            assert most / LESS <= found[stage][name] <= MARGIN * most, (stage, name)
