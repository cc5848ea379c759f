"""EfficientNet-B3 on DeepInsight images.

    python -m moa_jax.launch --config=configs/deepinsight_efficientnet_b3.py \
        --workdir=runs/efficientnet_b3 --config.data.folder=FOLDER \
        --config.models.efficientnet_b3.pretrained=hub

`pretrained=hub` starts from the published noisy-student weights as the original does, and needs
the extra `hub` and a network; a file that was fetched before may be named instead. Without either
weights start at random. Variants `:sample` and `:smoke` for sizes that end in minutes on the
embedded data, which are too few for an image network.
"""

from __future__ import annotations

import dataclasses

import ml_collections

from moa_jax.config import config_dict, variants
from moa_jax.recipes.deepinsight_cnn import ORIGINAL

# These suit any image network.
SAMPLE = {
    "folds": 3, "resolution": 32, "epochs": 8, "half_period": 8, "batch_size": 32,
    "learning_rate": 3e-3,
}  # fmt: skip
SMOKE = {
    "folds": 2, "resolution": 64, "epochs": 3, "batch_size": 32, "learning_rate": 3e-3,
}  # fmt: skip


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the configuration; see the module for the variants."""
    chosen = variants(variant, "sample", "smoke")
    config = ORIGINAL["efficientnet_b3"]
    if "sample" in chosen:
        config = dataclasses.replace(config, **SAMPLE)
    if "smoke" in chosen:
        config = dataclasses.replace(config, **SMOKE)
    return config_dict({"efficientnet_b3": config})
