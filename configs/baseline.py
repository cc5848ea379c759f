"""Baselines: what a network is to be better than, on any data.

    python -m moa_jax.launch --config=configs/baseline.py --workdir=runs/baseline \
        --config.data.folder=FOLDER

Logistic regression of principal components; boosted trees, where LightGBM is installed; and
logistic regression of viability or numbers of cells alone, where the data have such columns. They
are models like others, with folds that keep compounds whole where these are known, and are
regularised by inner folds. Times, doses and types are those that the data have.

Variants: `:logistic`, `:trees` or `:viability` for one of them, which then must apply to the data.
"""

from __future__ import annotations

import ml_collections

from moa_jax.config import LEVELS_OF_FILES, DataConfig, config_dict, variants
from moa_jax.recipes import baseline

MODELS = {
    "logistic": baseline.Config(),
    "trees": baseline.Config(model="trees", optional=True),
    "viability": baseline.Config(model="viability", optional=True),
}
DATA = DataConfig(**LEVELS_OF_FILES)


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the configuration; see the module for the variants."""
    chosen = variants(variant, *MODELS)
    if not chosen:
        return config_dict(MODELS, data=DATA)
    models = {name: baseline.Config(model=name) for name in MODELS if name in chosen}
    return config_dict(models, data=DATA)
