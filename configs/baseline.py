"""Baselines: what a network is to be better than, on any data.

    python -m moa_jax.launch --config=configs/baseline.py --workdir=runs/baseline \
        --config.data.folder=FOLDER

Logistic regression of principal components; boosted trees, where LightGBM is installed; and
logistic regression of viability or numbers of cells alone, where the data have such columns. They
are models like others, with folds that keep compounds whole where these are known, and are
regularised by inner folds. Times, doses and types are those that the data have.

Variants: `:logistic`, `:trees` or `:viability` for one of them, which then must apply to the data;
`:smoke` for a size that ends within a minute on the embedded data.
"""

from __future__ import annotations

import dataclasses

import ml_collections

from moa_jax.config import LEVELS_OF_FILES, BlendConfig, DataConfig, config_dict, variants
from moa_jax.recipes import baseline

MODELS = {
    "logistic": baseline.Config(),
    "trees": baseline.Config(model="trees", optional=True),
    "viability": baseline.Config(model="viability", optional=True),
}
DATA = DataConfig(**LEVELS_OF_FILES)
# Of some hundred rows the best weights out of fold are not those of new rows.
BLEND = BlendConfig(mean="log_odds", prior=3.0)
SMOKE = {"folds": 3, "components": 20, "c": (1e-3, 1e-2), "rounds": (5, 10)}


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the configuration; see the module for the variants."""
    chosen = variants(variant, *MODELS, "smoke")
    models = {
        name: dataclasses.replace(config, optional=False)
        for name, config in MODELS.items()
        if name in chosen
    }
    sizes = SMOKE if "smoke" in chosen else {}
    every = (models or MODELS).items()
    return config_dict(
        {name: dataclasses.replace(config, **sizes) for name, config in every},
        data=DATA,
        blend=BLEND,
    )
