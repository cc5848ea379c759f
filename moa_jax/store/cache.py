"""The user's cache: files that can be made or fetched again."""

from __future__ import annotations

import os
from pathlib import Path


def folder() -> Path | None:
    """Returns the package's own folder, `~/.cache/moa_jax` by default.

    None without XDG_CACHE_HOME where the system knows of no home either, as of a container that is
    run under a number.
    """
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return Path(caches) / "moa_jax"
    try:
        return Path.home() / ".cache" / "moa_jax"
    except RuntimeError:
        return None
