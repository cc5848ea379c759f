"""Checkpoints of a stage's members, by orbax: real members only, never a device's padding."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from moa_jax.errors import UserError, first_line
from moa_jax.store import disk, files, signals
from moa_jax.training.trees import Tree

Result = TypeVar("Result")
# In the names that orbax gives to folders of checkpoints that are not whole.
TEMPORARY = ".orbax-checkpoint-tmp"
# Held by who has checkpoints: orbax numbers the saves of a whole process, and those of several
# threads would take each other's folders away.
ONE_AT_A_TIME = threading.Lock()


class Position(NamedTuple):
    """How far a stage has come: `call` device calls into `epoch` of member group `group`."""

    group: int
    epoch: int
    call: int

    def number(self, epochs: int, steps: int) -> int:
        """Returns what grows along the way, however many steps a device call takes.

        A run that goes on with calls of another length would else count where it has been before.

        Args:
          epochs: of a group, at most.
          steps: of an epoch, at most, and so its calls.
        """
        return (self.group * epochs + self.epoch) * (steps + 1) + self.call


class _Another(Exception):
    """A checkpoint is of something else than what is trained here."""


def _flatten(state: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def _crc32(arrays: dict[str, np.ndarray], described: str) -> int:
    checksum = zlib.crc32(described.encode())
    for name in sorted(arrays):
        checksum = zlib.crc32(np.ascontiguousarray(arrays[name]).data.cast("B"), checksum)
    return checksum


def _read_each(folder: Path, like: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays of a checkpoint, one read after another.

    Of arrays that are read together the first that fails closes the event loop that the others
    report to, and each of them prints that.
    """
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
        found = {}
        for name, empty in like.items():
            part = ocp.args.PyTreeRestore(item={name: empty}, partial_restore=True)
            found[name] = array = handler.restore(folder, args=part)[name]
            if (array.shape, array.dtype) != (empty.shape, empty.dtype):
                raise ValueError(f"{name}: expected shape {empty.shape}, found {array.shape}")
        return found


class Checkpoints:
    """The newest checkpoints of one stage, in one folder.

    Saves run in the background; an unfinished one is never listed and is removed at the next
    start. Arrays are saved under their path in the state as plain host arrays, so a checkpoint
    does not depend on the devices it was written with. Its checksum covers its position and what
    it is of as well; another one is of that alone.
    """

    def __init__(
        self, folder: Path, origin: Callable[[Position], str] = lambda position: "", keep: int = 2
    ):
        """Opens a folder, which may hold an earlier run's checkpoints.

        Args:
          folder: where they lie.
          origin: for a position, what the state there is of; one of another origin is left out.
          keep: how many are kept.

        Raises:
          UserError: the folder cannot be written, or holds what is no checkpoint.
        """
        self._folder, self._origin = folder, origin
        if os.path.lexists(folder) and not folder.is_dir():
            raise UserError(f"{folder}: expected a folder of checkpoints, found a file; delete it")
        # Orbax would do that in a thread, which nobody waits for where nothing is saved.
        files.remove_each(folder, lambda: list(folder.glob(f"*{TEMPORARY}*")))
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, save_interval_steps=1)
        try:
            self._manager = self._guard(
                lambda: ocp.CheckpointManager(folder.absolute(), options=options)
            )
        # It reads a description of every checkpoint, which may be nested deeper than it can go.
        except (RecursionError, ValueError) as error:
            raise UserError(
                f"{folder}: damaged, delete this folder: {first_line(error)}"
            ) from error

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, error_type, error, traceback) -> None:
        # Of a process that a signal ends meanwhile orbax's threads would leave half a checkpoint.
        with contextlib.nullcontext() if signals.received() else signals.watched():
            if error_type is None:
                self.wait()
                self._guard(self._manager.close)
                return
            # What ends the run is known. The threads end too; what they have to say adds nothing.
            with contextlib.suppress(Exception):
                self._manager.close()

    def save(self, number: int, position: Position, state: Any) -> None:
        """Saves the state of real members ([members, ...] host arrays) as checkpoint `number`.

        All processes call it. What counts is the state that the first one has.

        Raises:
          UserError: the disk is full or the folder cannot be written; earlier ones stay whole.
        """
        arrays = _flatten(state)
        checksum = _crc32(arrays, self._described(position))
        meta = {"position": position._asdict(), "crc32": checksum, "of": self._of(position)}
        content = ocp.args.Composite(
            state=ocp.args.StandardSave(arrays), meta=ocp.args.JsonSave(meta)
        )
        self._guard(lambda: self._manager.save(number, args=content, force=True))

    def wait(self) -> None:
        """Waits until what was saved lies on the disk; raises what `save` raises."""
        self._guard(self._manager.wait_until_finished)
        # What failed in its threads orbax tells where it is asked.
        self._guard(self._manager.check_for_errors)

    def restore(self, template: Callable[[Position], Tree]) -> tuple[Position, Tree] | None:
        """Returns the newest checkpoint that can be read, or None.

        Args:
          template: for a position, a tree of `ShapeDtypeStruct`s with the shapes of its state; an
            IndexError where there is no such position.

        One that is damaged, or of something else, is named in the log and removed, and the one
        before it is used.
        """
        for number in sorted(self._manager.all_steps(), reverse=True):
            try:
                return self._read(number, template)
            except _Another:
                logging.warning(
                    "%s: checkpoint is left out: it is of another run, or of members or steps that "
                    "were put together in other numbers",
                    self._folder / str(number),
                )
            # Whatever a damaged file makes the reader raise, the answer is the same.
            except Exception as error:
                reason = first_line(error)[:200]
                logging.warning(
                    "%s: damaged checkpoint is left out: %s", self._folder / str(number), reason
                )
            self._guard(functools.partial(self._manager.delete, number))
        return None

    def clear(self) -> None:
        """Removes all checkpoints."""
        for number in self._manager.all_steps():
            self._guard(functools.partial(self._manager.delete, number))

    def _read(self, number: int, template: Callable[[Position], Tree]) -> tuple[Position, Tree]:
        part = ocp.args.Composite(meta=ocp.args.JsonRestore())
        meta = self._manager.restore(number, args=part).meta
        position = Position(**meta["position"])
        try:
            leaves, structure = jax.tree_util.tree_flatten_with_path(template(position))
        except IndexError as error:
            raise _Another from error
        # Those of earlier versions do not say it.
        if meta.get("of", self._of(position)) != self._of(position):
            raise _Another
        empty = {
            jax.tree_util.keystr(path): np.empty(leaf.shape, leaf.dtype) for path, leaf in leaves
        }
        arrays = _read_each(self._folder.absolute() / str(number) / "state", empty)
        if _crc32(arrays, self._described(position)) != meta["crc32"]:
            raise ValueError("its checksum differs")
        return position, jax.tree.unflatten(structure, [arrays[name] for name in empty])

    def _of(self, position: Position) -> int:
        return zlib.crc32(self._origin(position).encode())

    def _described(self, position: Position) -> str:
        return f"{tuple(position)} of {self._origin(position)}"

    def _guard(self, write: Callable[[], Result]) -> Result:
        try:
            return write()
        except Exception as error:
            if isinstance(error, OSError) or disk.is_unwritable(error):
                raise UserError(disk.line(self._folder, error, "checkpoint")) from error
            raise
