"""Memory: how much this machine lets a process have, and sizes as people write them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from moa_jax.errors import UserError
from moa_jax.store import cgroups

# The file of a limit, by the controller's name.
_LIMITS = {"": "memory.max", "memory": "memory.limit_in_bytes"}


def machine_bytes(mounted: Path = cgroups.MOUNTED, own: Path = cgroups.OWN) -> int:
    """Returns the memory of this machine, or what a container or a batch job leaves of it.

    Args:
      mounted, own: see `cgroups.folders`.
    """
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_limits(mounted, own)])


def _limits(mounted: Path, own: Path) -> Iterator[int]:
    """Yields the limits of the process's groups and of all above them."""
    for name, folder in cgroups.folders(["memory"], mounted, own):
        # Version 2 says `max` where there is no limit, version 1 a number beyond any.
        with contextlib.suppress(OSError, ValueError):
            yield int((folder / _LIMITS[name]).read_text())


def check_held(path: Path, num_bytes: int) -> None:
    """Checks that a table that is read whole can be held.

    Args:
      path: its file.
      num_bytes: what its rows take so far.

    Raises:
      UserError: that is more than this machine has.
    """
    if num_bytes > (most := machine_bytes()):
        raise UserError(
            f"{path}: expected a table that fits in memory, found more than {size(most)}, which is "
            "what this machine has; leave out rows or columns"
        )


def size(num_bytes: float) -> str:
    """Returns a number of bytes as text.

    >>> [size(n) for n in (512, 1000 * 2**20, 24 * 2**30, 10**15)]
    ['512 B', '1000 MiB', '24 GiB', '909 TiB']
    """
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    power = min(max(int(num_bytes).bit_length() - 1, 0) // 10, len(units) - 1)
    digits = float(f"{num_bytes / 1024**power:.3g}")  # `g` alone writes 1000 as 1e+03
    return f"{digits:g} {units[power]}"
