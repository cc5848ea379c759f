"""A group: the members of a stage that train together, step by step, on the devices."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from moa_jax.training import members as member_tables
from moa_jax.training import shapes, weights
from moa_jax.training.layout import Layout, Settings
from moa_jax.training.members import member_key
from moa_jax.training.program import Program
from moa_jax.training.slots import stack
from moa_jax.training.stage import MemberState, Stage
from moa_jax.training.trees import (
    Batches,
    EpochReport,
    Finished,
    Own,
    Prediction,
    PredictionShared,
    Shared,
    Training,
    Tree,
    Validation,
)


class Programs(NamedTuple):
    """The programs of a stage, lifted to all members of a group."""

    initialise: Program
    train: Program
    validate: Program
    predict: Program


class Group:
    """The members of a stage that train together, and what they read, on the devices.

    A state is that of all members, [shards, members per shard, ...]; `slots.unpad` makes [members,
    ...] of it. `train_steps` and `validate` take its memory: it must not be used again.

    Attributes:
      stage, settings, layout: the stage, how it is run, and how it is cut.
      number, members: which of the layout's groups this is, and who is in it.
      devices, slots: the devices as this group uses them, and the members' places there.
      shared, own, validation: what all members read, what is each one's, and what validates it.
    """

    def __init__(
        self,
        stage: Stage,
        settings: Settings,
        layout: Layout,
        number: int,
        programs: Programs,
        shared: Shared,
    ):
        """Uploads what members read; `loop.StageRun.group` gives all of the arguments."""
        self.stage, self.settings, self.layout = stage, settings, layout
        self.number, self.members = number, layout.groups[number]
        self.devices = layout.devices(number, settings.devices)
        self.slots = layout.slots(number, self.devices)
        self.shared, self._programs = self.devices.put_shared(shared), programs
        first = sum(len(group) for group in layout.groups[:number])
        data = jax.tree.map(
            lambda a: np.asarray(a)[first : first + len(self.members)], stage.member_data
        )
        steps = np.array([stage.steps_per_epoch(member) for member in self.members], np.int32)
        total = np.array([stage.total_steps(member) for member in self.members], np.int32)
        self.own = self.put(Own(data, total))
        table = member_tables.stacked_tables(
            [member.select_rows for member in self.members],
            stage.batch_size,
            shapes.validation_steps(stage),
        )
        self.validation = Validation(self.own, self.put(Batches(*table)), self.put(steps))
        self._epoch, self._table = -1, Batches(*table)

    def put(self, tree: Tree) -> Tree:
        """Uploads arrays [members, ...], each device its own part."""
        return self.devices.put_members(self.slots.pad(tree))

    def begin(self) -> None:
        """Has the programs that train compiled side by side, where they are not yet."""
        stage, programs = self.stage, self._programs
        of_one = shapes.state(stage), shapes.train(stage, self.layout.steps_per_call)
        state, training, validation = (
            self.devices.member_shapes(tree, self.slots.per_shard)
            for tree in (*of_one, shapes.validation(stage))
        )
        programs.train.begin(state, training, self.shared)
        programs.validate.begin(state, validation, self.shared)

    def init(self) -> MemberState:
        """Returns the state that members start from."""
        stage, base_seed = self.stage, self.settings.base_seed
        keys = [
            jax.random.key_data(member_key(base_seed, member, stage.share_init_across_folds))
            for member in self.members
        ]
        own = self.own
        if stage.start:
            own = own._replace(start=self.put(stack([stage.start(m) for m in self.members])))
        state, _ = self._programs.initialise(self.put(np.stack(keys)), own, self.shared)
        # Padding costs nothing where members run one after another.
        state = state._replace(active=self.devices.put_members(self.slots.taken))
        return self.validate(state)[0] if stage.validates_start else state

    def resumed(self, state: MemberState) -> MemberState:
        """Uploads a state of members [members, ...] that was restored; padding stands still."""
        active = self.slots.pad(state.active) & self.slots.taken
        return self.put(state)._replace(active=self.devices.put_members(active))

    def batches(self, epoch: int, call: int) -> Batches:
        """Returns the batches of a device call, [members, steps, ...] on the host.

        Args:
          epoch: the epoch, from 0, which decides the order of rows.
          call: which of the epoch's `calls_per_epoch`.
        """
        stage, layout = self.stage, self.layout
        if epoch != self._epoch:
            base_seed = self.settings.base_seed
            orders = [stage.epoch_rows(base_seed, member, epoch) for member in self.members]
            steps = layout.calls_per_epoch * layout.steps_per_call
            table = member_tables.stacked_tables(
                orders, stage.batch_size, steps, member_tables.SMALLEST_BATCH
            )
            self._epoch, self._table = epoch, Batches(*table)
        part = slice(call * layout.steps_per_call, (call + 1) * layout.steps_per_call)
        return Batches(*(array[:, part] for array in self._table))

    def num_rows(self, epoch: int, call: int, active: np.ndarray) -> int:
        """Returns the rows of a device call that the members trained on which were `active`."""
        return int(self.batches(epoch, call).counts[active].sum())

    def active(self, state: MemberState) -> np.ndarray:
        """Returns [members] bools on the host: who has not stopped."""
        return np.asarray(self.slots.unpad(state.active))

    def take_steps(self, state: MemberState, batches: Batches) -> MemberState:
        """Returns the state after the steps of a table that lies on the devices, see `put`."""
        own = Training(self.own, batches)
        return self._programs.train(state, own, self.shared)[0]

    def train_steps(self, state: MemberState, epoch: int, call: int | None = None) -> MemberState:
        """Returns the state after a device call of an epoch, or after all its calls."""
        for number in range(self.layout.calls_per_epoch) if call is None else (call,):
            state = self.take_steps(state, self.put(self.batches(epoch, number)))
        return state

    def validate(self, state: MemberState) -> tuple[MemberState, EpochReport]:
        """Closes an epoch: returns the state after the rules, and a report [members]."""
        state, report = self._programs.validate(state, self.validation, self.shared)
        return state, self.slots.unpad(report)

    def predict(self, state: MemberState, rows: np.ndarray) -> np.ndarray:
        """Returns probabilities by the weights kept so far.

        Args:
          state: the members.
          rows: [...] positions of rows, of any shape, that every member predicts.

        Returns:
          [members, ..., targets].
        """
        width, rows = self.stage.forward.rows_at_once, np.asarray(rows)
        steps = member_tables.num_batches(rows.size, width)
        table, _ = member_tables.index_table(rows.ravel(), width, steps)
        kept = {"params": state.selected.params, "batch_stats": state.selected.batch_stats}
        own = Prediction(
            Finished(kept, self.own.data), self.put(np.stack([table] * len(self.members)))
        )
        shared = PredictionShared(self.shared.inputs, np.int32(steps))
        shared = self.devices.put_shared(shared)
        found = self.slots.unpad(self._programs.predict((), own, shared)[1])
        found = found.reshape(len(self.members), steps * width, -1)[:, : rows.size]
        return found.reshape(len(self.members), *rows.shape, -1)

    def write_weights(self, state: MemberState, folder: Path) -> None:
        """Writes what each member keeps of its training to a folder."""
        selected, loss, epoch = self.slots.unpad_for_first(
            (state.selected, state.select.loss, state.epoch)
        )
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
            weights.write(folder / f"{member.name}.npz", kept)
        if self.settings.manifest:
            self.settings.manifest.add(folder / f"{member.name}.npz" for member in self.members)
