"""The 2-heads ResNet: non-scored mechanisms, scored ones on the same trunk, the freeze loop.

    python -m moa_jax.launch --config=configs/two_heads_resnet.py --workdir=runs/two_heads \
        --config.data.folder=FOLDER

As in the original's best blend on the leaderboard. Variants: `:v2` as in its best blend in
cross-validation; `:sample` for sizes that suit the rows at hand, see `moa_jax/recipes/sizes.py`,
`:smoke` for one that ends in about a minute on the embedded data. `:v2,smoke` combines variants.
"""

from __future__ import annotations

import dataclasses

import ml_collections

from moa_jax.config import config_dict, variants
from moa_jax.recipes import sizes
from moa_jax.recipes.two_heads_resnet import ORIGINAL

SAMPLE = {"seeds": (23, 228), "folds": 5}
SMOKE = {
    "seeds": (23,), "folds": 5, "hidden": 128, "epochs": 30, "batch_size": 32,
    "gene_components": 2, "cell_components": 2, "loop_epochs": 12,
}  # fmt: skip


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the configuration; see the module for the variants."""
    chosen = variants(variant, "v2", "sample", "smoke")
    config = ORIGINAL["v2" if "v2" in chosen else "v1"]
    if "sample" in chosen:
        config = dataclasses.replace(sizes.from_data(config), **SAMPLE)
    if "smoke" in chosen:
        config = dataclasses.replace(config, **SMOKE)
    return config_dict({"two_heads_resnet": config})
