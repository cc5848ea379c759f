"""A population of dense networks that finds its own sizes, for profiles of any kind.

    python -m moa_jax.launch --config=configs/profiles.py --workdir=runs/profiles \
        --config.data.folder=FOLDER

Members draw their hyperparameters, and a greedy choice among them by out-of-fold predictions makes
the ensemble: nothing is set for a data set. Compounds stay whole in folds where they are known;
`--config.models.profile_nn.split=stratified` asks for new wells of known compounds instead.

Variant: `:smoke` for a size that ends within a minute on the embedded data.
"""

from __future__ import annotations

import ml_collections

from moa_jax.config import config_dict, variants
from moa_jax.recipes import profile_nn

SMOKE = {
    "members": 10,
    "folds": 3,
    "widths": (32, 32, 32, 32, 16),
    "components": 20,
    "steps": (50, 200),
    "epoch_steps": 50,
}


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the configuration; see the module for the variants."""
    chosen = variants(variant, "smoke")
    return config_dict({"profile_nn": profile_nn.Config(**SMOKE if "smoke" in chosen else {})})
