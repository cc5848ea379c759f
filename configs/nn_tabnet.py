"""The 2-stage NN + TabNet: a dense network for non-scored mechanisms, TabNet for scored ones.

    python -m moa_jax.launch --config=configs/nn_tabnet.py --workdir=runs/nn_tabnet \
        --config.data.folder=FOLDER

Variant: `:smoke` for a size that ends in about a minute on the embedded data.
"""

from __future__ import annotations

import dataclasses

import ml_collections

from moa_jax.config import config_dict, variants
from moa_jax.recipes.nn_tabnet import Config


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the configuration; see the module for the variants."""
    config = Config()
    if "smoke" in variants(variant, "smoke"):
        config = Config(
            folds=5,
            nonscored=dataclasses.replace(
                config.nonscored,
                seeds=(0,),
                split_seeds=(512,),
                hidden=64,
                epochs=4,
                batch_size=64,
                gene_components=10,
                cell_components=5,
                gene_umap=4,
                cell_umap=3,
            ),
            scored=dataclasses.replace(
                config.scored,
                seeds=(0,),
                gene_factors=10,
                cell_factors=5,
                n_d=8,
                n_a=8,
                epochs=20,
                patience=5,
                batch_size=128,
                virtual_batch_size=64,
                milestones=(10, 15),
            ),
        )
    return config_dict({"nn_tabnet": config})
