"""Control groups: where Linux says what a container or a batch job leaves of a machine."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

MOUNTED = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def folders(controllers: Collection[str], mounted: Path, own: Path) -> Iterator[tuple[str, Path]]:
    """Yields the folders of the process's groups and of all above them, there or not.

    Args:
      controllers: names of those of version 1; that of version 2 has none, and is among them.
      mounted: where control groups are mounted, of either version.
      own: the file that names the groups of this process.

    Yields:
      A controller's name, empty for version 2, and a folder.
    """
    # A container's own group is the root of what it sees.
    lines = [f"0:{name}:/" for name in ("", *controllers)]
    with contextlib.suppress(OSError):
        lines += own.read_text().splitlines()
    for line in lines:
        _, named, path = line.split(":", 2)
        for name in named.split(","):
            if name and name not in controllers:
                continue
            group = PurePosixPath(path)
            for place in (group, *group.parents):
                yield name, mounted / name / str(place).lstrip("/")
