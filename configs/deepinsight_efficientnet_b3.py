"""EfficientNet-B3 on DeepInsight images.

    python -m moa_jax.launch --config=configs/deepinsight_efficientnet_b3.py \
        --workdir=runs/efficientnet_b3 --config.data.folder=FOLDER

Weights start from the published noisy-student ones as the original's do: from a file of 50 MB that
is fetched once, which takes a network and, to be read, the extra `torch`. BUILD.md says how to
bring it to a machine without a network. `--config.models.efficientnet_b3.pretrained=hub` needs the
extra `hub` in place of `torch`, `none` neither: weights then start at random, as they do in the
variants `:sample`, whose sizes suit the rows at hand (`moa_jax/recipes/sizes.py`), and `:smoke`.
Both end in minutes on the embedded data, which are too few for an image network.
"""

from __future__ import annotations

import dataclasses

import ml_collections

from moa_jax.config import config_dict, variants
from moa_jax.recipes import sizes
from moa_jax.recipes.deepinsight_cnn import ORIGINAL

# These suit any image network.
SAMPLE = {"folds": 3, "learning_rate": 3e-3, "pretrained": "none"}
SMOKE = {
    "folds": 2, "resolution": 64, "epochs": 3, "batch_size": 32, "learning_rate": 3e-3,
    "pretrained": "none",
}  # fmt: skip


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the configuration; see the module for the variants."""
    chosen = variants(variant, "sample", "smoke")
    config = ORIGINAL["efficientnet_b3"]
    if "sample" in chosen:
        config = dataclasses.replace(sizes.from_data(config), **SAMPLE)
    if "smoke" in chosen:
        config = dataclasses.replace(config, **SMOKE)
    return config_dict({"efficientnet_b3": config})
