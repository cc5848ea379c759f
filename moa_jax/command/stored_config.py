"""The configuration that a work folder was made with, as a configuration file."""

from __future__ import annotations

import ml_collections

from moa_jax.store.workdir import Workdir


def get_config(workdir: str) -> ml_collections.ConfigDict:
    """Returns the ConfigDict in `workdir/config.json`."""

    def tuples(value):
        if isinstance(value, dict):
            return {name: tuples(inner) for name, inner in value.items()}
        return tuple(value) if isinstance(value, list) else value

    return ml_collections.ConfigDict(tuples(Workdir(workdir).read()["config"]))
