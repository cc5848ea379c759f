"""The training loop: groups of members, epochs, validation, checkpoints and exact resume."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from moa_jax.errors import UserError
from moa_jax.store import processes
from moa_jax.training import members as member_tables
from moa_jax.training import programs, shapes, weights
from moa_jax.training.checkpoints import Checkpoints, Position
from moa_jax.training.members import Member, member_key
from moa_jax.training.parallel import MEMORY_SHARE, Devices, Program, Slots, stack
from moa_jax.training.progress import MetricsLog, StageProgress
from moa_jax.training.stage import MemberState, Stage

# Batch normalisation is undefined for a single row.
SMALLEST_BATCH = 2
Tree = Any


@dataclasses.dataclass(frozen=True)
class Settings:
    """How stages are run, as opposed to what they compute.

    Attributes:
      devices: devices and strategy.
      base_seed: the run's seed, from which every key and permutation derives.
      members_at_once: members trained together; see `members_that_fit`.
      steps_per_call: at most this many optimiser steps per device call.
      checkpoint_seconds: time between checkpoints; 0 saves after every call.
    """

    devices: Devices
    base_seed: int = 0
    members_at_once: int = 1
    steps_per_call: int = 64
    checkpoint_seconds: float = 300.0


def members_that_fit(stage: Stage, num_shards: int, memory_bytes: int) -> int:
    """Returns how many members may train at once within a share of the devices' memory together.

    A member needs its state, its gradients and one more copy of the state. Members of image
    networks, which run one after another on every platform, train in waves of one per shard: a
    wave that has stopped costs nothing.
    """
    if stage.forward.inner == "loop":
        return min(num_shards, len(stage.members))
    state = shapes.state(stage)
    per_member = 2 * shapes.num_bytes(state) + shapes.num_bytes(state.params)
    count = max(int(MEMORY_SHARE * memory_bytes // per_member), num_shards)
    return min(count, len(stage.members))


def even_groups(members: Sequence[Member], members_at_once: int) -> list[Sequence[Member]]:
    """Cuts members into the fewest groups of at most `members_at_once`, as equal as can be."""
    num_groups = -(-len(members) // members_at_once)
    size = -(-len(members) // num_groups)
    return [members[i : i + size] for i in range(0, len(members), size)]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the members and steps of a stage are cut into groups, slots and device calls.

    Attributes:
      groups: the members that train together.
      slots_per_shard: members that one shard has of a group, padding included.
      calls_per_epoch, steps_per_call: device calls of an epoch, and optimiser steps of each.
    """

    groups: list[Sequence[Member]]
    slots_per_shard: int
    calls_per_epoch: int
    steps_per_call: int

    @classmethod
    def of(cls, stage: Stage, num_shards: int, members_at_once: int, steps_per_call: int) -> Layout:
        """Returns the layout with at most so many members and steps at once."""
        groups = even_groups(stage.members, members_at_once)
        steps = max(stage.steps_per_epoch(member) for member in stage.members)
        calls_per_epoch = -(-steps // steps_per_call)
        return cls(
            groups, -(-len(groups[0]) // num_shards), calls_per_epoch, -(-steps // calls_per_epoch)
        )


def stage_program(
    stage: Stage, name: str, devices: Devices, inner: str, runs_once: bool = False
) -> Program:
    """Returns a stage's program, lifted to all members.

    Args:
      stage: the stage.
      name: `initialise`, `train` or `validate`.
      devices, inner: see `parallel.map_members`.
      runs_once: see `Program`.
    """
    starts = name == "initialise"
    spread = {} if starts else {"axis_name": devices.batch_axis}
    return Program(
        f"{stage.name}: {name}",
        getattr(programs, name)(stage, **spread),
        devices,
        runs_once=runs_once,
        inner=inner,
        donate=not starts,
        skip=(lambda state: ~state.active) if inner == "loop" and not starts else None,
    )


class StageRun:
    """Fits the members of a stage, group after group, from wherever an earlier run stopped."""

    def __init__(self, stage: Stage, folder: Path, settings: Settings, log: MetricsLog):
        """`folder` is the stage's; weights go to `members/`, checkpoints to `checkpoints/`."""
        if jax.config.jax_default_prng_impl != "threefry2x32":
            # Only threefry draws the same numbers for batched, padded and single members.
            raise UserError(
                "JAX_DEFAULT_PRNG_IMPL: expected threefry2x32, "
                f"found {jax.config.jax_default_prng_impl}"
            )
        self.stage, self.folder, self.settings, self.log = stage, folder, settings, log
        layout = Layout.of(
            stage,
            settings.devices.num_shards,
            settings.members_at_once,
            settings.steps_per_call,
        )
        self.groups, self.slots_per_shard = layout.groups, layout.slots_per_shard
        self.calls_per_epoch, self.steps_per_call = layout.calls_per_epoch, layout.steps_per_call
        inner = settings.devices.inner(stage.forward.inner)
        self.programs = {
            name: stage_program(
                stage, name, settings.devices, inner, runs_once=name == "initialise"
            )
            for name in ("initialise", "train", "validate")
        }

    @property
    def num_parameters(self) -> int:
        """Trainable parameters of one member."""
        return shapes.num_parameters(shapes.state(self.stage))

    @property
    def compilations(self) -> int:
        return sum(program.compilations for program in self.programs.values())

    def fit(self) -> None:
        """Trains every member; afterwards their weights lie in `members/`.

        Raises:
          UserError: a validation loss is not finite, or a file cannot be written.
        """
        stage = self.stage
        shared = self.settings.devices.put_shared(
            {"inputs": stage.shared, "targets": stage.targets}
        )
        calls_per_group = stage.epochs * self.calls_per_epoch
        progress = StageProgress(stage.name, len(self.groups) * calls_per_group)
        with Checkpoints(self.folder / "checkpoints") as checkpoints:
            position, state = self._restore(checkpoints)
            self.log.cut_back(stage.name, position.group, position.epoch)
            progress.skip(
                position.group * calls_per_group
                + position.epoch * self.calls_per_epoch
                + position.call
            )
            for number in range(position.group, len(self.groups)):
                group = _Group(self, number, shared)
                state = group.fit(state, position, checkpoints, progress)
                group.write_weights(state)
                state, position = None, Position(number + 1, 0, 0)
        progress.close()

    def _restore(self, checkpoints: Checkpoints) -> tuple[Position, MemberState | None]:
        state = shapes.state(self.stage)

        def template(position: Position) -> MemberState:
            size = len(self.groups[position.group])
            return jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape), leaf.dtype), state
            )

        return checkpoints.restore(template) or (Position(0, 0, 0), None)


class _Group:
    """The members of a stage that train together."""

    def __init__(self, run: StageRun, number: int, shared: Tree):
        stage, devices = run.stage, run.settings.devices
        self.run, self.number, self.shared = run, number, shared
        self.members = run.groups[number]
        self.slots = Slots(len(self.members), devices.num_shards, run.slots_per_shard)
        first = sum(len(group) for group in run.groups[:number])
        data = jax.tree.map(
            lambda a: np.asarray(a)[first : first + len(self.members)], stage.member_data
        )
        steps = np.array([stage.steps_per_epoch(member) for member in self.members], np.int32)
        total_steps = stage.epochs * steps
        self.own = self._put({"data": data, "total_steps": total_steps})
        rows, counts = member_tables.stacked_tables(
            [member.select_rows for member in self.members],
            stage.batch_size,
            shapes.validation_steps(stage),
        )
        self.validation = self._put(
            {
                "data": data,
                "rows": rows,
                "counts": counts,
                "epoch_steps": steps,
                "total_steps": total_steps,
            }
        )

    def _put(self, tree: Tree) -> Tree:
        return self.run.settings.devices.put_members(self.slots.pad(tree))

    def initial_state(self) -> MemberState:
        run, stage, base_seed = self.run, self.run.stage, self.run.settings.base_seed
        keys = [
            jax.random.key_data(member_key(base_seed, member, stage.share_init_across_folds))
            for member in self.members
        ]
        own = self.own
        if stage.start:
            own = {**own, "start": self._put(stack([stage.start(m) for m in self.members]))}
        state, _ = run.programs["initialise"](self._put(np.stack(keys)), own, self.shared)
        if stage.validates_start:
            state, _ = run.programs["validate"](state, self.validation, self.shared)
        return state

    def fit(
        self,
        state: MemberState | None,
        start: Position,
        checkpoints: Checkpoints,
        progress: StageProgress,
    ) -> MemberState:
        """Trains the group from `start` on; `state` holds its members, or None for a new start."""
        run, stage = self.run, self.run.stage
        calls = run.calls_per_epoch
        state = self.initial_state() if state is None else self._put(state)
        last_save = time.monotonic()

        def save(position: Position) -> None:
            nonlocal last_save
            number = (position.group * stage.epochs + position.epoch) * (calls + 1) + position.call
            checkpoints.save(number, position, self.slots.unpad(state))
            last_save = time.monotonic()

        def is_due() -> bool:
            due = time.monotonic() - last_save >= run.settings.checkpoint_seconds
            return processes.agree(due)

        first_call = start.call
        for epoch in range(start.epoch, stage.epochs):
            rows, counts = self._epoch_table(epoch)
            for call in range(first_call, calls):
                part = slice(call * run.steps_per_call, (call + 1) * run.steps_per_call)
                batch = {"rows": rows[:, part], "counts": counts[:, part]}
                own = {**self.own, **self._put(batch)}
                state, _ = run.programs["train"](state, own, self.shared)
                jax.block_until_ready(state.step)
                progress.call(int(batch["counts"].sum()), epoch, stage.epochs)
                if is_due():
                    save(Position(self.number, epoch, call + 1))
            state, report = run.programs["validate"](state, self.validation, self.shared)
            still_active = self._report(epoch, report, state, progress)
            if not still_active:
                progress.skip((stage.epochs - epoch - 1) * calls)
                break
            if is_due() and epoch + 1 < stage.epochs:
                save(Position(self.number, epoch + 1, 0))
            first_call = 0
        if start.epoch < stage.epochs:
            save(Position(self.number, stage.epochs, 0))
        return state

    def _epoch_table(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        run, stage = self.run, self.run.stage
        orders = [
            member_tables.epoch_order(
                run.settings.base_seed, member, epoch, stage.share_init_across_folds
            )
            for member in self.members
        ]
        steps = run.calls_per_epoch * run.steps_per_call
        return member_tables.stacked_tables(orders, stage.batch_size, steps, SMALLEST_BATCH)

    def _report(self, epoch: int, report: Tree, state: MemberState, progress) -> bool:
        """Logs a finished epoch and returns whether any member trains on."""
        run, stage = self.run, self.run.stage
        report = self.slots.unpad(report)
        trained = report["active"]
        for member, loss, active in zip(self.members, report["valid_loss"], trained, strict=True):
            if active and not np.isfinite(loss):
                raise UserError(
                    f"{stage.name}: training diverged: validation loss {loss} of seed "
                    f"{member.seed}, fold {member.fold} in epoch {epoch + 1}; "
                    "a lower learning rate may help"
                )
        run.log.write(
            [
                {
                    "stage": stage.name,
                    "group": self.number,
                    "epoch": epoch + 1,
                    "seed": member.seed,
                    "fold": member.fold,
                    **{
                        name: float(report[name][index])
                        for name in ("train_loss", "valid_loss", "best_loss")
                    },
                }
                for index, member in enumerate(self.members)
                if trained[index]
            ]
        )
        active = self.slots.unpad(state.active)
        group = f", group {self.number + 1}/{len(run.groups)}" if len(run.groups) > 1 else ""
        progress.epoch(
            epoch + 1, stage.epochs, group, report["valid_loss"][trained], int(active.sum())
        )
        return bool(active.any())

    def write_weights(self, state: MemberState) -> None:
        selected, loss, epoch = self.slots.unpad((state.selected, state.select.loss, state.epoch))
        for index, member in enumerate(self.members):
            params, batch_stats = jax.tree.map(
                lambda a, i=index: a[i], (selected.params, selected.batch_stats)
            )
            kept = weights.MemberWeights(
                {"params": params, "batch_stats": batch_stats},
                int(selected.epoch[index]),
                int(epoch[index]),
                float(loss[index]),
            )
            weights.write(self.run.folder / "members" / f"{member.name}.npz", kept)
