"""Checkpoints of a stage's members, by orbax; each process writes what its devices hold."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
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
from moa_jax.store import disk, files, processes, signals
from moa_jax.training.slots import members_of
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


class _Another(Exception):
    """A checkpoint is of something else than what is trained here.

    Attributes:
      made_with: the fields that it was made with; empty where it does not say.
    """

    def __init__(self, made_with: str):
        super().__init__(made_with)
        self.made_with = made_with


# What processes find of a checkpoint; where they differ the largest counts.
_SOUND, _OF_ANOTHER, _DAMAGED = range(3)


def _named(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a tree by their paths."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _crc32(arrays: dict[str, np.ndarray], described: str) -> int:
    checksum = zlib.crc32(described.encode())
    for name in sorted(arrays):
        checksum = zlib.crc32(np.ascontiguousarray(arrays[name]).data.cast("B"), checksum)
    return checksum


def _held(array: Any) -> dict[int, np.ndarray]:
    """Returns the shards of an array that this process answers for, by their number."""
    if not isinstance(array, jax.Array):
        return {0: array}
    first = (shard for shard in array.addressable_shards if shard.replica_id == 0)
    return {shard.index[0].start or 0: np.asarray(shard.data) for shard in first}


def _checksums(arrays: dict[str, Any], described: str) -> list[int]:
    """Returns the checksum of every shard, each made where the shard lies."""
    one = next(iter(arrays.values()))
    found = np.zeros(one.shape[0] if isinstance(one, jax.Array) else 1, np.uint32)
    held = {name: _held(array) for name, array in arrays.items()}
    for shard in _held(one):
        found[shard] = _crc32({name: parts[shard] for name, parts in held.items()}, described)
    return processes.gathered(found).max(0).tolist()


def _read_each(folder: Path, like: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the arrays of a checkpoint as [shards, members per shard, ...], read one by one.

    Of arrays that are read together the first that fails closes the event loop that the others
    report to, and each of them prints that.
    """
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
        found = {}
        for name, one in like.items():
            part = ocp.args.PyTreeRestore(
                item={name: 0},
                restore_args={name: ocp.RestoreArgs(restore_type=np.ndarray)},
                partial_restore=True,
            )
            array = handler.restore(folder, args=part)[name]
            # Members on the host are one shard.
            found[name] = array = array[None] if array.ndim == len(one.shape) else array
            if (array.shape[2:], array.dtype) != (one.shape[1:], one.dtype):
                raise ValueError(f"{name}: expected shape {one.shape}, found {array.shape}")
        return found


def _check_is_damage(folder: Path, error: Exception) -> None:
    """Raises what keeps a checkpoint from being read that may be sound."""
    if isinstance(error, MemoryError | TimeoutError | jax.errors.JaxRuntimeError):
        raise error
    # A library may have made another error of it.
    if signals.received():
        raise signals.Interrupted(signals.received()) from error
    if line := disk.unreadable(folder, error, "checkpoint"):
        raise UserError(f"{line}; mend that, or delete this folder") from error


def _wait_unless_failed(*, key: str, timeout_ms: int) -> None:
    """Waits for the other processes in one of orbax's threads.

    One whose writing has failed would wait here for twenty minutes, as the others are elsewhere,
    before anybody hears of it; when it ends, they do.
    """
    if sys.exception() is None:
        ocp.multihost.get_barrier_sync_fn()(key=key, timeout_ms=timeout_ms)


def _explained(made_with: str) -> str:
    """Returns why a checkpoint of something else is left out, and what would go on from it."""
    said = "it is of another run, or of members or steps that were put together in other numbers"
    return f"{said}: {made_with} go on from it as long as it is there" if made_with else said


class Checkpoints:
    """The newest checkpoints of one stage, in one folder.

    Saves run in the background; an unfinished one is never listed and is removed at the next
    start. Arrays are saved under their path in the state. One process saves those of the members,
    [members, ...]. Of several each saves the shards that its devices hold, and the arrays are
    [shards, members per shard, ...], padding included: read as the members that were dealt to them
    they are the same, so a checkpoint does not depend on the devices and processes it was written
    with. Each shard has a checksum, made where the shard lies, which covers position and origin as
    well; another one is of the origin alone.
    """

    def __init__(
        self,
        folder: Path,
        origin: Callable[[Position], str] = lambda position: "",
        made_with: str = "",
        keep: int = 2,
    ):
        """Opens a folder, which may hold an earlier run's checkpoints.

        Args:
          folder: where they lie.
          origin: for a position, what the state there is of; one of another origin is left out.
          made_with: the fields that decide the origin, to be told where it is another.
          keep: how many are kept.

        Raises:
          UserError: the folder cannot be written, or holds what is no checkpoint.
        """
        self._folder, self._origin, self._made_with = folder, origin, made_with
        if os.path.lexists(folder) and not folder.is_dir():
            raise UserError(f"{folder}: expected a folder of checkpoints, found a file; delete it")
        # Orbax would do that in a thread, which nobody waits for where nothing is saved.
        files.remove_each(folder, lambda: list(folder.glob(f"*{TEMPORARY}*")))
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            save_interval_steps=1,
            async_options=ocp.options.AsyncOptions(barrier_sync_fn=_wait_unless_failed),
        )
        try:
            self._manager = self._guard(
                lambda: ocp.CheckpointManager(folder.absolute(), options=options)
            )
        # It reads a description of every checkpoint, which may be nested deeper than it can go.
        except (RecursionError, ValueError) as error:
            raise UserError(
                f"{folder}: damaged, delete this folder: {first_line(error)}"
            ) from error
        # The number of the newest one, which every process counts on from.
        self._newest = processes.said_by_first(max(self._manager.all_steps(), default=0))

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

    def save(self, position: Position, state: Any) -> None:
        """Saves the state of all members.

        All processes call it.

        Args:
          position: where the state is.
          state: host arrays [members, ...], or arrays on the devices of all processes, [shards,
            members per shard, ...], as `Slots` deals members to them; both as `Slots.to_save` gives
            them. They may be used up as soon as this returns.

        Raises:
          UserError: the disk is full or the folder cannot be written; earlier ones stay whole.
        """
        arrays = _named(state)
        meta = {
            "position": position._asdict(),
            "crc32": _checksums(arrays, self._described(position)),
            "of": self._of(position),
            "made_with": self._made_with,
        }
        content = ocp.args.Composite(
            state=ocp.args.StandardSave(arrays), meta=ocp.args.JsonSave(meta)
        )
        self._newest += 1
        self._guard(lambda: self._manager.save(self._newest, args=content, force=True))

    def wait(self) -> None:
        """Waits until what was saved lies on the disk; raises what `save` raises."""
        self._guard(self._manager.wait_until_finished)
        # What failed in its threads orbax tells where it is asked.
        self._guard(self._manager.check_for_errors)

    def restore(self, template: Callable[[Position], Tree]) -> tuple[Position, Tree] | None:
        """Returns the newest checkpoint of what is trained here, host arrays, or None.

        Args:
          template: for a position, a tree of `ShapeDtypeStruct`s with the shapes of its state,
            [members, ...]; an IndexError where there is no such position.

        One that is damaged is named in the log and removed, and the one before it is used. One of
        something else is named and passed over; it stays until as many newer ones are saved as are
        kept. Of several processes, all of which read, one that finds damage decides for all.

        Raises:
          UserError: one that may be sound cannot be read.
        """
        for number in processes.said_by_first(sorted(self._manager.all_steps(), reverse=True)):
            folder, found, reason = self._folder / str(number), None, ""
            try:
                verdict, found = _SOUND, self._read(folder.absolute(), template)
            except _Another as error:
                verdict, reason = _OF_ANOTHER, error.made_with
            # Whatever a damaged file makes the reader raise, the answer is the same.
            except Exception as error:
                _check_is_damage(folder, error)
                verdict, reason = _DAMAGED, first_line(error)[:200]
            verdict = processes.gathered(np.array(verdict, np.int32)).max()
            if verdict == _SOUND:
                return found
            if verdict == _OF_ANOTHER:
                logging.warning("%s: checkpoint is left out: %s", folder, _explained(reason))
                continue
            reason = reason or "another process finds it so"
            logging.warning("%s: damaged checkpoint is left out: %s", folder, reason)
            self._guard(functools.partial(self._manager.delete, number))
        return None

    def clear(self) -> None:
        """Removes all checkpoints."""
        for number in self._manager.all_steps():
            self._guard(functools.partial(self._manager.delete, number))

    def _read(self, folder: Path, template: Callable[[Position], Tree]) -> tuple[Position, Tree]:
        # Where orbax's manager reads, processes wait for each other, and one may fail.
        with contextlib.closing(ocp.JsonCheckpointHandler()) as handler:
            meta = handler.restore(folder / "meta")
        position, another = Position(**meta["position"]), _Another(meta.get("made_with", ""))
        try:
            like = template(position)
        except IndexError as error:
            raise another from error
        # Those of earlier versions do not say it.
        if meta.get("of", self._of(position)) != self._of(position):
            raise another
        arrays = _read_each(folder / "state", _named(like))
        # Those of earlier versions have a number alone, of one shard.
        checksums = np.atleast_1d(meta["crc32"]).tolist()
        for name, array in arrays.items():
            if len(array) != len(checksums):
                raise ValueError(f"{name}: expected {len(checksums)} shards, found {len(array)}")
        for shard, checksum in enumerate(checksums):
            own = {name: array[shard] for name, array in arrays.items()}
            if _crc32(own, self._described(position)) != checksum:
                raise ValueError("its checksum differs")
        leaves, structure = jax.tree.flatten(like)
        members = [
            members_of(array, one.shape[0])
            for array, one in zip(arrays.values(), leaves, strict=True)
        ]
        return position, jax.tree.unflatten(structure, members)

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
