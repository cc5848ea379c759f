"""Memory: how much this machine lets a process have, and sizes as people write them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from moa_jax.errors import UserError

CGROUPS = Path("/sys/fs/cgroup")
# Limits by the controller's name in /proc/self/cgroup: version 2 has none.
_LIMITS = {"": ("", "memory.max"), "memory": ("memory", "memory.limit_in_bytes")}


def machine_bytes(mounted: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """Returns the memory of this machine, or what a container or a batch job leaves of it.

    Args:
      mounted: where control groups are mounted, of either version.
      own: the file that names the groups of this process.
    """
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_limits(mounted, own)])


def _limits(mounted: Path, own: Path) -> Iterator[int]:
    """Yields the limits of the process's groups and of all above them."""
    lines = ["0::/", "0:memory:/"]  # a container's own group is the root of what it sees
    with contextlib.suppress(OSError):
        lines += own.read_text().splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            if name not in _LIMITS:
                continue
            folder, file = _LIMITS[name]
            group = PurePosixPath(path)
            for place in (group, *group.parents):
                # Version 2 says `max` where there is no limit, version 1 a number beyond any.
                with contextlib.suppress(OSError, ValueError):
                    yield int((mounted / folder / str(place).lstrip("/") / file).read_text())


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
