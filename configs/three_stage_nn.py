"""The 3-stage NN: non-scored mechanisms, scored ones, and scored ones from their predictions.

    python -m moa_jax.launch --config=configs/three_stage_nn.py --workdir=runs/three_stage_nn \
        --config.data.folder=FOLDER

5 folds as in the original's best blend on the leaderboard. Variants: `:ten_folds` as in its best
blend in cross-validation; `:sample` for sizes that suit the rows at hand, see
`moa_jax/recipes/sizes.py`, `:smoke` for one that ends in about a minute on the embedded data.
`:ten_folds,smoke` combines variants.
"""

from __future__ import annotations

import dataclasses

import ml_collections

from moa_jax.config import config_dict, variants
from moa_jax.recipes import sizes
from moa_jax.recipes.three_stage_nn import Config, FeaturesConfig

SMOKE = {"epochs": 15, "batch_size": 32}
SMOKE_FEATURES = FeaturesConfig(gene_factors=10, cell_factors=5, gene_umap=4, cell_umap=3)


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the configuration; see the module for the variants."""
    chosen = variants(variant, "ten_folds", "sample", "smoke")
    config = Config(folds=10 if "ten_folds" in chosen else 5)
    if "sample" in chosen:
        config = dataclasses.replace(sizes.from_data(config), seeds=(0, 1))
    if "smoke" in chosen:
        config = dataclasses.replace(
            config,
            seeds=(0,),
            features=SMOKE_FEATURES,
            nonscored=dataclasses.replace(config.nonscored, **SMOKE, hidden=64),
            scored=dataclasses.replace(config.scored, **SMOKE, hidden=64),
            stacked=dataclasses.replace(config.stacked, **SMOKE, hidden=32),
        )
    return config_dict({"three_stage_nn": config})
