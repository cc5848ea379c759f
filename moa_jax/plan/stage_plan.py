"""Plan of a stage: its members, memory and time on devices that need not be there."""

from __future__ import annotations

import dataclasses

from moa_jax.config import ParallelConfig, PlanConfig
from moa_jax.plan import roofline
from moa_jax.plan.step import Step, step_of
from moa_jax.plan.topology import Topology
from moa_jax.recipes.system import BuiltStage
from moa_jax.training import shapes
from moa_jax.training.layout import Layout, members_that_fit
from moa_jax.training.parallel import check_per_member, choose_per_member
from moa_jax.training.stage import Stage

# A validation step is a forward pass, a training step about three: products with the weights, and
# of the gradients with inputs and with weights.
FORWARD_SHARE = 1 / 3


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """What training a stage takes.

    Attributes:
      name: `<model>/<stage>`.
      inputs: number of the network's inputs.
      members, groups, slots: networks, how many groups train in turn, and a group's slots.
      per_member: devices that share the batches of each.
      epochs, steps: most epochs that a member may have, and optimiser steps of each.
      expected_epochs: how many it is expected to have.
      parameters: trainable parameters of one member.
      at_most: whether a selection of columns, which only a fit knows, may leave fewer; parameters,
        memory and FLOPs are then bounds too.
      step: what an optimiser step of a device takes; None if the compiler finds that it does not
        fit, and with it the next three.
      flops: of all members in all epochs, validation included.
      flops_seconds, bytes_seconds: time of the products, and of reading and writing memory, if no
        member stops early; the longer one counts.
    """

    name: str
    inputs: int
    members: int
    groups: int
    slots: int
    per_member: int
    epochs: int
    steps: int
    expected_epochs: float
    parameters: int
    at_most: bool = False
    step: Step | None = None
    flops: float | None = None
    flops_seconds: float | None = None
    bytes_seconds: float | None = None

    @property
    def longest(self) -> float | None:
        """Seconds if no member stops early, compilation included."""
        return self._seconds(1.0)

    @property
    def expected(self) -> float | None:
        """Seconds if members stop when they are expected to, compilation included."""
        return self._seconds(self.expected_epochs / self.epochs)

    def _seconds(self, share: float) -> float | None:
        if self.step is None or self.flops_seconds is None or self.bytes_seconds is None:
            return None
        return share * max(self.flops_seconds, self.bytes_seconds) + self.step.compile_seconds


def plan_stage(
    built: BuiltStage, target: Topology, parallel: ParallelConfig, plan: PlanConfig
) -> StagePlan:
    """Compiles a stage's training program and returns what it takes.

    Args:
      built: the stage's outline.
      target: the devices.
      parallel: how members are spread.
      plan: the share of peaks that is reached, and the epochs that are expected.
    """
    stage, card, count = built.stage, target.card, target.num_devices
    assert isinstance(stage, Stage)
    check_per_member(parallel.devices_per_member, count)

    def shared_by(num_members: int) -> int:
        wanted, strategy = parallel.devices_per_member, parallel.strategy
        return choose_per_member(wanted, strategy, stage.forward.shares_batches, count, num_members)

    at_once = parallel.members_at_once or members_that_fit(
        stage, count // shared_by(len(stage.members)), count * card.memory_bytes
    )
    per_member = shared_by(min(at_once, len(stage.members)))
    layout = Layout.of(stage, count // per_member, at_once, parallel.steps_per_call)
    steps = max(map(stage.steps_per_epoch, stage.members))
    known = StagePlan(
        name=stage.name,
        inputs=built.num_inputs,
        at_most=built.at_most,
        members=len(stage.members),
        groups=len(layout.groups),
        slots=layout.slots_per_shard * count // per_member,
        per_member=per_member,
        epochs=stage.epochs,
        steps=steps,
        expected_epochs=_expected(built, plan.epochs),
        parameters=shapes.num_parameters(shapes.state(stage)),
    )
    found = step_of(stage, target, layout, per_member)
    if found is None:
        return known
    forward_steps = FORWARD_SHARE * shapes.validation_steps(stage)
    total_steps = stage.mean_epochs * (steps + forward_steps)
    in_turn = found.work.times(len(layout.groups) * total_steps)
    seconds = roofline.times(in_turn, card, plan.efficiency)
    # Of a batch that devices share, one device's part is counted.
    of_member = sum(found.work.flops.values()) * per_member / layout.slots_per_shard
    return dataclasses.replace(
        known,
        step=found,
        flops=len(stage.members) * total_steps * of_member,
        flops_seconds=seconds.flops,
        bytes_seconds=seconds.bytes,
    )


def _expected(built: BuiltStage, wanted: int) -> float:
    """Returns the epochs that members are expected to have, on average."""
    assert isinstance(built.stage, Stage)
    longest = built.stage.epochs
    return min(wanted or built.expected_epochs or longest, longest)
