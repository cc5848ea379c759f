"""The two Simple NNs of the original, with old and with new (drug-aware) cross-validation.

    python -m moa_jax.launch --config=configs/simple_nn.py --workdir=runs/simple_nn \
        --config.data.folder=FOLDER

Variants: `:old` or `:new` for one of the two; `:sample` for sizes that suit the rows at hand, see
`moa_jax/recipes/sizes.py`, `:smoke` for one that ends within a minute on the embedded data.
`:old,smoke` combines variants.
"""

from __future__ import annotations

import dataclasses

import ml_collections

from moa_jax.config import BlendConfig, config_dict, variants
from moa_jax.recipes import simple_nn, sizes

SAMPLE = {"seeds": (0, 1)}
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
    chosen = variants(variant, "old", "new", "sample", "smoke")
    models = {}
    for name, config in simple_nn.ORIGINAL.items():
        if "sample" in chosen:
            config = dataclasses.replace(sizes.from_data(config), **SAMPLE)
        if "smoke" in chosen:
            config = dataclasses.replace(config, **SMOKE)
        if name in chosen or not chosen & simple_nn.ORIGINAL.keys():
            models[f"simple_nn_{name}"] = config
    # The original blends both, though their folds keep different things whole.
    blend = BlendConfig(unlike_splits="allow" if len(models) > 1 else "stop")
    return config_dict(models, blend=blend)
