"""Cores: how many this machine lets a process have."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

from moa_jax.store import cgroups


def available(mounted: Path = cgroups.MOUNTED, own: Path = cgroups.OWN) -> int:
    """Returns the cores that this process may use, by its affinity and its groups' quotas.

    Args:
      mounted, own: see `cgroups.folders`.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min([cores, *_quotas(mounted, own)]))


def _quotas(mounted: Path, own: Path) -> Iterator[int]:
    """Yields the quotas of the process's groups in cores, a part of one counting whole."""
    for name, folder in cgroups.folders(["cpu"], mounted, own):
        # Without one version 2 says `max`, version 1 -1.
        with contextlib.suppress(OSError, ValueError):
            if name:
                files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                quota, period = (int((folder / file).read_text()) for file in files)
            else:
                quota, period = map(int, (folder / "cpu.max").read_text().split())
            if quota > 0 and period > 0:
                yield math.ceil(quota / period)
