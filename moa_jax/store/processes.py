"""Several processes that train as one: each has its part of the devices, the first one writes.

All processes run the same program on the same data and take the same decisions. What is written is
written by the first, and all go on when each of them sees it; the work folder is one that they
share. Of a checkpoint each writes what its devices hold.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from moa_jax.errors import UserError, first_line
from moa_jax.store import peers

if TYPE_CHECKING:
    import numpy as np

# Bytes of the first exchange of a text, its length among them; longer ones take a second.
_SHORT = 1024


def start() -> None:
    """Joins the other processes; must come before anything asks for devices.

    On Cloud TPU and under Slurm or Open MPI everything is found out; elsewhere the environment
    names it: JAX_COORDINATOR_ADDRESS (host:port of the first process), JAX_NUM_PROCESSES and
    JAX_PROCESS_ID.

    Raises:
      UserError: neither tells who takes part, or the coordinator does not answer.
    """
    # JAX is imported late here: whoever only reads or writes files does not wait for it.
    import jax

    # That service would take SIGTERM for itself, before anything else hears of it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            num_processes=_number("JAX_NUM_PROCESSES"),
            process_id=_number("JAX_PROCESS_ID"),
            local_device_ids=_own_gpus(),
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"--distributed: {first_line(error)} Expected a TPU pod, Slurm, Open MPI, or "
            "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
        ) from error
    peers.watch()


def _number(variable: str) -> int | None:
    text = os.environ.get(variable)
    if text is None:
        return None
    if not text.isdecimal():
        raise UserError(f"{variable}: expected a number, found {text!r}")
    return int(text)


def _own_gpus() -> list[int] | None:
    """Returns which of the GPUs that Slurm shows to this task are its own; None where JAX knows.

    JAX takes a task for one of those that see all GPUs of their node. With `--gpus-per-task` Slurm
    shows each its own, unless `--gpu-bind=none` goes with it.
    """
    visible, wanted = os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("SLURM_GPUS_PER_TASK")
    if "SLURM_LOCALID" not in os.environ or not visible or "JAX_LOCAL_DEVICE_IDS" in os.environ:
        return None
    count = len(visible.split(","))
    # It may begin with the kind of GPU.
    each = (wanted or "").rpartition(":")[2]
    if not each.isdecimal() or int(each) == 0:
        return [0] if count == 1 else None
    first = 0 if count <= int(each) else int(os.environ["SLURM_LOCALID"]) * int(each)
    return list(range(first, min(first + int(each), count)))


def are_several() -> bool:
    jax = sys.modules.get("jax")  # without it there was no `start`
    return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Tells whether this process writes; without `start` it always does."""
    return not are_several() or sys.modules["jax"].process_index() == 0


def wait(where: str) -> None:
    """Waits until all processes are here; `where` tells those apart that are not."""
    if are_several():
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(where)


def said_by_first(value: Any) -> Any:
    """Returns what the first process says, for all to go by what it sees; all must come here.

    Args:
      value: plain values, as JSON has them; only the first process's counts. Where there are
        several, tuples become lists.
    """
    if not are_several():
        return value
    text = json.dumps(value).encode() if is_first() else b""
    short = _exchanged(len(text).to_bytes(4, "little") + text[: _SHORT - 4], _SHORT)
    length = int.from_bytes(short[:4], "little")
    found = short[4 : 4 + length]
    if length > len(found):
        # Every size is a program of its own, so there are few sizes.
        found = _exchanged(text, 1 << length.bit_length())[:length]
    return json.loads(found)


def _exchanged(own: bytes, size: int) -> bytes:
    """Returns the first process's bytes, filled up to a size."""
    import numpy as np
    from jax.experimental import multihost_utils

    filled = np.frombuffer(own.ljust(size, b"\0"), np.uint8)
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(filled)))


def agree(decision: bool, signal: int) -> tuple[bool, int]:
    """Returns what all processes go by, of what they may see differently: time and signals.

    They exchange both at once.

    Args:
      decision: the first process's counts.
      signal: number of a signal that this process received, 0 without one; any process's counts.
    """
    if not are_several():
        return decision, signal
    import numpy as np

    found = gathered(np.array([decision, signal], np.int32))
    return bool(found[0, 0]), int(found[:, 1].max())


def gathered(own: np.ndarray) -> np.ndarray:
    """Returns what every process has, [processes, ...]; all must come here.

    Args:
      own: a few numbers of at most 32 bits, of one shape and type in all processes.
    """
    if not are_several():
        return own[None]
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(own)
