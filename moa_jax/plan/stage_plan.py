"""Plan of a stage: its members, memory and time on devices that need not be there."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import NamedTuple

from moa_jax.config import ParallelConfig, PlanConfig
from moa_jax.plan import roofline
from moa_jax.plan.step import Step, step_of
from moa_jax.plan.topology import Topology
from moa_jax.recipes.system import BuiltStage
from moa_jax.training import shapes
from moa_jax.training.layout import (
    Layout,
    Wave,
    devices_each,
    members_at_once,
    shares_rows,
    waves,
)
from moa_jax.training.parallel import check_per_member
from moa_jax.training.stage import Stage

# A validation step is a forward pass, a training step about three: products with the weights, and
# of the gradients with inputs and with weights.
FORWARD_SHARE = 1 / 3


class GroupPlan(NamedTuple):
    """Groups of a stage's members that are alike and train in turn.

    Attributes:
      groups: how many there are.
      slots: places of each.
      per_member: devices that share the batches of each member.
      layout: how members and steps are cut.
      step: what an optimiser step of a device takes; None if the compiler finds that it does not
        fit, or nothing is compiled yet.
    """

    groups: int
    slots: int
    per_member: int
    layout: Layout
    step: Step | None = None

    @property
    def flops(self) -> float:
        """FLOPs of one member's step: of a batch that devices share, each does a part."""
        assert self.step is not None
        each = sum(self.step.work.flops.values()) / self.layout.slots_per_shard
        return self.per_member * each


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """What training a stage takes.

    Attributes:
      name: `<model>/<stage>`.
      inputs: number of the network's inputs.
      members: networks.
      groups: how they train in turn.
      epochs, steps: most epochs that a member may have, and optimiser steps of each.
      expected_epochs: how many it is expected to have.
      parameters: trainable parameters of one member.
      at_most: whether a selection of columns, which only a fit knows, may leave fewer; parameters,
        memory and FLOPs are then bounds too.
      flops: of all members in all epochs, validation included; None where one group does not fit,
        and with it the next two.
      flops_seconds, bytes_seconds: time of the products, and of reading and writing memory, if no
        member stops early.
      step_seconds: the longer one of the two, of each group.
    """

    name: str
    inputs: int
    members: int
    groups: tuple[GroupPlan, ...]
    epochs: int
    steps: int
    expected_epochs: float
    parameters: int
    at_most: bool = False
    flops: float | None = None
    flops_seconds: float | None = None
    bytes_seconds: float | None = None
    step_seconds: float | None = None

    @property
    def fits(self) -> bool:
        """Whether the compiler finds room for every group."""
        return all(group.step for group in self.groups)

    @property
    def longest(self) -> float | None:
        """Seconds if no member stops early, compilation included."""
        return self._seconds(1.0)

    @property
    def expected(self) -> float | None:
        """Seconds if members stop when they are expected to, compilation included."""
        return self._seconds(self.expected_epochs / self.epochs)

    @property
    def compile_seconds(self) -> float:
        """Time that compiling took here."""
        return sum(group.step.compile_seconds for group in self.groups if group.step)

    def _seconds(self, share: float) -> float | None:
        if self.step_seconds is None:
            return None
        return share * self.step_seconds + self.compile_seconds


def plan_stage(
    built: BuiltStage, target: Topology, parallel: ParallelConfig, plan: PlanConfig
) -> StagePlan:
    """Compiles a stage's training programs and returns what they take.

    Args:
      built: the stage's outline.
      target: the devices.
      parallel: how members are spread.
      plan: the share of peaks that is reached, and the epochs that are expected.
    """
    stage = built.stage
    assert isinstance(stage, Stage)
    check_per_member(parallel.devices_per_member, target.num_devices)
    memory_bytes = target.num_devices * target.card.memory_bytes
    spread = shares_rows(stage, target.num_devices, memory_bytes, parallel)
    groups = [
        one._replace(step=step_of(stage, target, one.layout, one.per_member, spread))
        for one in groups_of(stage, target, parallel)
    ]
    steps = stage.longest_epoch
    found = StagePlan(
        name=stage.name,
        inputs=built.num_inputs,
        at_most=built.at_most,
        members=len(stage.members),
        groups=tuple(groups),
        epochs=stage.epochs,
        steps=steps,
        expected_epochs=_expected(built, plan.epochs),
        parameters=shapes.num_parameters(shapes.state(stage)),
    )
    if not found.fits:
        return found
    forward_steps = FORWARD_SHARE * shapes.validation_steps(stage)
    total_steps = stage.mean_epochs * (steps + forward_steps)
    times = [
        roofline.times(one.step.work.times(one.groups * total_steps), target.card, plan.efficiency)
        for one in groups
        if one.step
    ]
    of_members = sum(len(members) * one.flops for one in groups for members in one.layout.groups)
    return dataclasses.replace(
        found,
        flops=total_steps * of_members,
        flops_seconds=sum(one.flops for one in times),
        bytes_seconds=sum(one.bytes for one in times),
        step_seconds=sum(max(one) for one in times),
    )


def groups_of(stage: Stage, target: Topology, parallel: ParallelConfig) -> Iterator[GroupPlan]:
    """Yields the groups in which a stage's members train on the devices, those alike as one."""
    count, steps = target.num_devices, parallel.steps_per_call
    at_once = members_at_once(stage, count, count * target.card.memory_bytes, parallel)
    alike: list[tuple[int, int | tuple[Wave, ...]]] = []
    if isinstance(at_once, int):
        alike = [
            (
                devices_each(stage.forward, min(at_once, len(stage.members)), count, parallel),
                at_once,
            )
        ]
    for wave, same in itertools.groupby(waves(stage, at_once, count, parallel)):
        alike.append((wave.devices_each, tuple(same)))
    for per_member, members in alike:
        layout = Layout.of(stage, count // per_member, members, steps)
        slots = layout.slots_per_shard * count // per_member
        yield GroupPlan(len(layout.groups), slots, per_member, layout)


def _expected(built: BuiltStage, wanted: int) -> float:
    """Returns the epochs that members are expected to have, on average."""
    assert isinstance(built.stage, Stage)
    longest = built.stage.epochs
    return min(wanted or built.expected_epochs or longest, longest)
