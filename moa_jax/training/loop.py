"""The training loop: step, epoch, validation, rules and checkpoints of the members of a stage.

`train` and `validate` are written for one member. `stage_programs` lifts them to the members of a
`group.Group`, and `StageRun` fits group after group: calls, epochs, checkpoints, weights.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from absl import logging

from moa_jax.errors import UserError
from moa_jax.models import batch_axis
from moa_jax.store import processes, signals
from moa_jax.training import predict, shapes, shared_rows
from moa_jax.training.checkpoints import ONE_AT_A_TIME, Checkpoints, Position
from moa_jax.training.group import Group, Programs
from moa_jax.training.initial import initialise
from moa_jax.training.layout import Layout, Settings
from moa_jax.training.members import Member
from moa_jax.training.parallel import Devices
from moa_jax.training.program import Program
from moa_jax.training.progress import MetricsLog, StageProgress, epoch_records
from moa_jax.training.stage import MemberState, Selected, Stage
from moa_jax.training.trees import EpochReport, MemberFunction, Shared, Training, Tree, Validation


def train(
    stage: Stage, axis_name: str | None = None, inner: str = "vmap", every_step: bool = False
) -> MemberFunction:
    """Returns the program that takes the optimiser steps of an index table, for one member.

    `program(state: MemberState, own: Training, shared: Shared) -> (state, ())`. Steps without real
    rows, and all steps of a stopped member, leave the state untouched. No step is a branch: XLA
    would copy the whole state. In a `loop` each member takes its own number of steps. Under `vmap`
    all take those of the table, and what a member has not is selected away: a GPU's host reads a
    number of steps that is data back at every step. Where rows are shared, see `taken_if`.

    Args:
      stage: the stage.
      axis_name: the mapped axis over which devices share a batch, see `Forward.network_on`.
      inner: how members are lifted, see `parallel.map_members`.
      every_step: take all steps of the table, for a plan to know how many a program takes.
    """
    network = stage.forward.network_on(axis_name)

    def program(state: MemberState, own: Training, shared: Shared) -> tuple[MemberState, tuple]:
        (data, total_steps, _), batches = own
        optimizer = stage.optimizer(total_steps, state.rate.scale, data)
        key = jax.random.wrap_key_data(state.key)
        keywords: dict = dict(stage.keywords(state))

        def take_step(carry, rows, count, shared):
            params, batch_stats, opt, step_number, epoch_loss = carry
            mask = jnp.arange(stage.batch_size) < count
            input_key, dropout_key = jax.random.split(jax.random.fold_in(key, step_number))
            inputs = stage.forward.inputs(shared.inputs, data, rows, input_key, True)
            inputs, own_mask = batch_axis.part((inputs, mask), axis_name)
            targets, cells = shared.targets[rows], shared.cells(rows, mask)

            def loss_and_stats(params):
                outputs, updated = network.apply(
                    {"params": params, "batch_stats": batch_stats},
                    *inputs,
                    mask=own_mask,
                    train=True,
                    rngs={"dropout": dropout_key},
                    mutable=["batch_stats"],
                    **keywords,
                )
                outputs = batch_axis.whole(outputs, len(rows), axis_name)
                return stage.loss(outputs, targets, cells), updated.get("batch_stats", {})

            (loss, new_stats), gradients = jax.value_and_grad(loss_and_stats, has_aux=True)(params)
            # All devices have the same loss. Each has the gradient of their sum in its own rows.
            gradients = batch_axis.mean(gradients, axis_name)
            updates, new_opt = optimizer.update(gradients, opt, params)
            new_params = optax.apply_updates(params, updates)
            return new_params, new_stats, new_opt, step_number + 1, epoch_loss + loss

        real_steps = jnp.where(state.active, jnp.sum(batches.counts > 0), 0)

        def step(index, carry):
            take = functools.partial(take_step, carry, batches.rows[index], batches.counts[index])
            if inner == "loop":
                return shared_rows.taken_if(index < real_steps, take, shared, carry)
            return _keep_if(index < real_steps, take(shared), carry)

        carry = (state.params, state.batch_stats, state.opt, state.step, state.epoch_loss)
        steps = len(batches.counts) if inner == "vmap" or every_step else real_steps
        steps = shared_rows.most(steps, shared)
        carry = jax.lax.fori_loop(0, steps, step, carry)
        params, batch_stats, opt, step_number, epoch_loss = carry
        state = state._replace(
            params=params, batch_stats=batch_stats, opt=opt, step=step_number, epoch_loss=epoch_loss
        )
        return state, ()

    return program


def validate(stage: Stage, axis_name: str | None = None) -> MemberFunction:
    """Returns the program that closes an epoch of one member: loss, the three rules, a restart.

    `program(state: MemberState, own: Validation, shared: Shared) -> (state, EpochReport)`. The
    loss is the mean of batch means, weighted by `stage.valid_weights`. Arguments are those of
    `train`.
    """
    network = stage.forward.network_on(axis_name)
    loss_function = stage.valid_loss or stage.loss

    def program(
        state: MemberState, own: Validation, shared: Shared
    ) -> tuple[MemberState, EpochReport]:
        (data, total_steps, _), batches, epoch_steps = own
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        key = jax.random.wrap_key_data(state.key)
        zero = jnp.zeros((), state.epoch_loss.dtype)
        counts = batches.counts
        if shared.known is not None:
            real = jnp.arange(batches.rows.shape[1]) < counts[:, None]
            counts = shared.known_cells(batches.rows, real)
        batch_weights = stage.valid_weights(counts).astype(zero.dtype)

        def add_batch(total, batch):
            rows, count, weight = batch
            mask = jnp.arange(rows.shape[0]) < count
            inputs = stage.forward.inputs(shared.inputs, data, rows, key, False)
            inputs, own_mask = batch_axis.part((inputs, mask), axis_name)
            outputs = network.apply(variables, *inputs, mask=own_mask, train=False)
            outputs = batch_axis.whole(outputs, len(rows), axis_name)
            loss = loss_function(outputs, shared.targets[rows], shared.cells(rows, mask))
            return total + jnp.where(count > 0, weight * loss, 0), None

        total, _ = jax.lax.scan(add_batch, zero, (*batches, batch_weights))
        loss = total / jnp.sum(batch_weights)

        epoch = state.epoch + 1
        select = stage.select.update(state.select, loss)
        stop = stage.stop.update(state.stop, loss)
        selected = Selected(state.params, state.batch_stats, epoch)
        closed = state._replace(
            epoch=epoch,
            epoch_loss=zero,
            selected=_keep_if(select.better, selected, state.selected),
            select=select,
            stop=stop,
            rate=stage.rate.update(state.rate, loss),
            active=~stop.stop,
        )
        if stage.own_epochs:
            closed = closed._replace(active=closed.active & (state.step < total_steps))
        if stage.restarts:
            kept = closed.selected
            opt = stage.optimizer(total_steps, closed.rate.scale, data).init(kept.params)
            anew = closed._replace(params=kept.params, batch_stats=kept.batch_stats, opt=opt)
            closed = _keep_if(stage.restarts(closed), anew, closed)
        report = EpochReport(state.epoch_loss / epoch_steps, loss, select.loss, state.active)
        return _keep_if(state.active, closed, state), report

    return program


def _keep_if(condition: jax.Array, new: Tree, old: Tree) -> Tree:
    return jax.tree.map(lambda n, o: o if n is o else jnp.where(condition, n, o), new, old)


def stage_programs(
    stage: Stage, devices: Devices, inner: str, runs_once: bool = False, every_step: bool = False
) -> Programs:
    """Returns the programs of a stage, lifted to all members; each is compiled when it is called.

    Args:
      stage: the stage.
      devices, inner: see `parallel.map_members`; in a loop over members stopped ones cost nothing.
      runs_once: see `Program`; a first state is made once in any case.
      every_step: see `train`.
    """
    definition = stage.definition
    program = functools.partial(
        Program, devices=devices, precision=stage.forward.precision, inner=inner
    )
    first = program(
        f"{stage.name}: initialise", initialise(definition), runs_once=True, donate=False
    )
    steps = train(definition, devices.batch_axis, inner, every_step)
    # Of wide dense networks the weights are most of what a step moves.
    updating = devices.updating_in_place() if stage.forward.inner == "auto" else devices
    train_all = program(f"{stage.name}: train", steps, devices=updating, runs_once=runs_once)
    validate_all = program(
        f"{stage.name}: validate",
        validate(definition, devices.batch_axis),
        runs_once=runs_once,
        skip=(lambda s: ~s.active) if inner == "loop" and not devices.shares_rows else None,
    )
    predict_all = predict.lifted(stage.name, stage.forward, devices, inner)
    return Programs(first, train_all, validate_all, predict_all)


class StageRun:
    """Fits the members of a stage, group after group, from wherever an earlier run stopped.

    Attributes:
      stage, folder, settings, log: see `__init__`.
      layout: how members and steps are cut.
      programs: what a group calls.
    """

    def __init__(self, stage: Stage, folder: Path, settings: Settings, log: MetricsLog | None):
        """Describes a run.

        Args:
          stage: what is fitted.
          folder: the stage's; weights go to `members/`, checkpoints to `checkpoints/`.
          settings: how.
          log: where losses are written; None for nowhere.

        Raises:
          UserError: JAX was told to draw other random numbers.
        """
        implementation = str(jax.random.key_impl(jax.random.key(0)))
        if implementation != "threefry2x32":
            # Only threefry draws the same numbers for batched, padded and single members.
            raise UserError(f"JAX_DEFAULT_PRNG_IMPL: expected threefry2x32, found {implementation}")
        self.stage, self.folder, self.log = stage, folder, log
        devices, inner = settings.devices, stage.forward.inner
        at_once = settings.waves or settings.members_at_once
        self.layout = Layout.of(stage, devices.num_shards, at_once, settings.steps_per_call)
        devices = devices.in_lanes(inner, self.layout.slots_per_shard)
        self.settings = dataclasses.replace(settings, devices=devices)
        self.programs = stage_programs(stage, devices, devices.inner(inner))
        self._of_waves: dict[Devices, Programs] = {}

    @property
    def groups(self) -> list[Sequence[Member]]:
        """The members that train together."""
        return self.layout.groups

    @property
    def num_parameters(self) -> int:
        """Trainable parameters of one member."""
        return shapes.num_parameters(shapes.state(self.stage))

    @property
    def compilations(self) -> int:
        return sum(program.compilations for program in self._every_program())

    def _every_program(self) -> list[Program]:
        return [p for programs in (self.programs, *self._of_waves.values()) for p in programs]

    def _compile_seconds(self) -> float:
        return sum(program.compile_seconds for program in self._every_program())

    def _programs_on(self, devices: Devices) -> Programs:
        if devices == self.settings.devices:
            return self.programs
        if devices not in self._of_waves:
            inner = devices.inner(self.stage.forward.inner)
            self._of_waves[devices] = stage_programs(self.stage, devices, inner)
        return self._of_waves[devices]

    def group(self, number: int) -> Group:
        """Returns a group of members by its place among `groups`, to train it step by step."""
        programs = self._programs_on(self.layout.devices(number, self.settings.devices))
        return Group(self.stage, self.settings, self.layout, number, programs, self.shared)

    @functools.cached_property
    def shared(self) -> Shared:
        """What all members read, on the devices, where it stays as long as this run."""
        stage = self.stage
        return self.settings.devices.put_tables(Shared(stage.shared, stage.targets, stage.known))

    def fit(self) -> None:
        """Trains every member; afterwards their weights lie in `members/`.

        Weights of groups that an earlier run finished are made again where one is damaged. Of
        several threads one trains at a time.

        Raises:
          UserError: a validation loss is not finite, or a file cannot be written.
        """
        stage, calls, folder = self.stage, self.layout.calls_per_epoch, self.folder / "checkpoints"
        calls_per_group = stage.epochs * calls
        total = len(self.groups) * calls_per_group
        with (
            ONE_AT_A_TIME,
            contextlib.closing(StageProgress(stage.name, total, self._compile_seconds)) as progress,
            Checkpoints(folder, self._origin, self.settings.cut) as checkpoints,
        ):
            position, state = self._restore(checkpoints)
            if self.log:
                self.log.cut_back(stage.name, position.group, position.epoch)
            progress.skip(position.group * calls_per_group + position.epoch * calls + position.call)
            for number in range(position.group, len(self.groups)):
                group = self.group(number)
                group.begin()
                # What was restored is not held on the host beside what is trained.
                state = group.init() if state is None else group.resumed(state)
                state = self._fit_group(group, position, state, checkpoints, progress)
                group.write_weights(state, self.folder / "members")
                state, position = None, Position(number + 1, 0, 0)

    def _restore(self, checkpoints: Checkpoints) -> tuple[Position, MemberState | None]:
        state = shapes.state(self.stage)

        def template(position: Position) -> MemberState:
            size = len(self.groups[position.group])
            return jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape), leaf.dtype), state
            )

        position, restored = checkpoints.restore(template) or (Position(0, 0, 0), None)
        manifest = self.settings.manifest
        for member in (m for group in self.groups[: position.group] for m in group):
            path = self.folder / "members" / f"{member.name}.npz"
            if manifest and not manifest.is_whole(path):
                logging.warning("%s: missing or damaged, the stage is trained again", path)
                checkpoints.clear()
                return Position(0, 0, 0), None
        return position, restored

    def _origin(self, position: Position) -> str:
        """Returns whose state a checkpoint at a position has, and how calls are counted there."""
        names = [member.name for member in self.groups[position.group]]
        calls = self.layout.calls_per_epoch if position.call else "any"
        return f"{self.settings.run} {self.stage.name} {names} {calls} calls"

    def _fit_group(
        self,
        group: Group,
        start: Position,
        state: MemberState,
        checkpoints: Checkpoints,
        progress: StageProgress,
    ) -> MemberState:
        """Trains a group from `start` on, where `state` holds its members."""
        epochs, calls = self.stage.epochs, self.layout.calls_per_epoch
        last_save, first_call, active = time.monotonic(), start.call, group.active(state)

        def save(position: Position) -> None:
            nonlocal last_save
            checkpoints.save(position, group.slots.to_save(state))
            last_save = time.monotonic()

        def look_up(position: Position) -> None:
            """Saves a checkpoint if one is due or a signal has come, which ends the run then."""
            due = time.monotonic() - last_save >= self.settings.checkpoint_seconds
            due, signal = processes.agree(due, signals.received())
            with signals.saving() if signal else contextlib.nullcontext():
                if due or signal:
                    save(position)
                end(signal, position.epoch + 1)

        def end(signal: int, epoch: int) -> None:
            """Ends the run if a signal has come, when what was saved is written."""
            if signal:
                with signals.saving():
                    checkpoints.wait()
                raise signals.Interrupted(signal, f"{self.stage.name}, epoch {epoch}/{epochs}")

        with signals.watched():
            for epoch in range(start.epoch, epochs):
                for call in range(first_call, calls):
                    state = group.train_steps(state, epoch, call)
                    rows = group.num_rows(epoch, call, active)
                    if call + 1 == calls and epoch + 1 < epochs:
                        group.batches(epoch + 1, 0)  # made while the devices compute
                    jax.block_until_ready(state.step)
                    progress.call(rows, epoch, epochs)
                    look_up(Position(group.number, epoch, call + 1))
                state, report = group.validate(state)
                active = group.active(state)
                records = epoch_records(self.stage.name, group.number, epoch, group.members, report)
                if self.log:
                    self.log.write(records)
                which = f", group {group.number + 1}/{len(self.groups)}" if self.groups[1:] else ""
                losses = report.valid_loss[report.active]
                progress.epoch(epoch + 1, epochs, which, losses, int(active.sum()))
                if not active.any():
                    progress.skip((epochs - epoch - 1) * calls)
                    break
                if epoch + 1 < epochs:
                    look_up(Position(group.number, epoch + 1, 0))
                first_call = 0
            if start.epoch < epochs:
                save(Position(group.number, epochs, 0))
            end(processes.agree(False, signals.received())[1], epochs)
        return state
