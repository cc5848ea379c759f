"""The two Simple NNs of the original, with old and with new (drug-aware) cross-validation.

    python -m moa_jax.launch --config=configs/simple_nn.py --workdir=runs/simple_nn \
        --config.data.folder=FOLDER

Variants: `:old` or `:new` for one of the two, `:smoke` for a size that ends within a minute on
the embedded data; `:old,smoke` combines them.
"""

from __future__ import annotations

import dataclasses

import ml_collections

from moa_jax.config import config_dict, variants
from moa_jax.recipes import simple_nn

SMOKE = {
    "seeds": (0,),
    "epochs": 15,
    "batch_size": 32,
    "hidden": 64,
    "gene_factors": 10,
    "cell_factors": 5,
}


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the configuration; see the module for the variants."""
    chosen = variants(variant, "old", "new", "smoke")
    names = [name for name in simple_nn.ORIGINAL if name in chosen] or list(simple_nn.ORIGINAL)
    changes = SMOKE if "smoke" in chosen else {}
    return config_dict(
        {
            f"simple_nn_{name}": dataclasses.replace(simple_nn.ORIGINAL[name], **changes)
            for name in names
        }
    )
