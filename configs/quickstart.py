"""Both Simple NNs on the embedded real data, and their blend.

python -m moa_jax.launch --config=configs/quickstart.py --workdir=runs/quickstart
"""

from __future__ import annotations

import dataclasses

import ml_collections

from moa_jax.config import config_dict
from moa_jax.recipes import simple_nn

SMALL = {"seeds": (0, 1), "hidden": 512, "epochs": 25, "batch_size": 32}


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    return config_dict(
        {
            f"simple_nn_{name}": dataclasses.replace(config, **SMALL)
            for name, config in simple_nn.ORIGINAL.items()
        }
    )
