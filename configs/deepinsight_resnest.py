"""ResNeSt on DeepInsight images: resnest50_fast_2s2x40d.

    python -m moa_jax.launch --config=configs/deepinsight_resnest.py --workdir=runs/resnest \
        --config.data.folder=FOLDER

Weights start from those that the authors of ResNeSt trained on ImageNet, as the original's do: from
the file resnest50_fast_2s2x40d-9d126481.pth, which is fetched once; that takes a network and, to
read it, the extra `torch`. BUILD.md says how to bring it to a machine without a network. With
`--config.models.NAME.pretrained=none` weights start at random, NAME being `resnest_v1` or, of
`:v2`, `resnest_v2`. Variants: `:v2` with dropout before the head; from random weights `:sample`,
for sizes that suit the rows at hand (`moa_jax/recipes/sizes.py`), and `:smoke`, both of which end
in minutes on the embedded data, which are too few for an image network. `:v2,smoke` combines
variants.
"""

from __future__ import annotations

import dataclasses

import ml_collections

from moa_jax.config import config_dict, variants
from moa_jax.configs.deepinsight_efficientnet_b3 import SAMPLE, SMOKE
from moa_jax.recipes import sizes
from moa_jax.recipes.deepinsight_cnn import ORIGINAL


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the configuration; see the module for the variants."""
    chosen = variants(variant, "v2", "sample", "smoke")
    name = "resnest_v2" if "v2" in chosen else "resnest_v1"
    config = ORIGINAL[name]
    if "sample" in chosen:
        config = dataclasses.replace(sizes.from_data(config), **SAMPLE)
    if "smoke" in chosen:
        config = dataclasses.replace(config, **SMOKE)
    return config_dict({name: config})
