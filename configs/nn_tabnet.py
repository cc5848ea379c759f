"""The 2-stage NN + TabNet: a dense network for non-scored mechanisms, TabNet for scored ones.

    python -m moa_jax.launch --config=configs/nn_tabnet.py --workdir=runs/nn_tabnet \
        --config.data.folder=FOLDER

Variants: `:sample` for sizes that suit the rows at hand, see `moa_jax/recipes/sizes.py`, `:smoke`
for one that ends in about a minute on the embedded data.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import ml_collections

from moa_jax.config import config_dict, variants
from moa_jax.recipes import sizes
from moa_jax.recipes.nn_tabnet import Config

SAMPLE_NONSCORED = {"seeds": (0, 1), "split_seeds": (512, 0)}
SAMPLE_SCORED = {"seeds": (0, 1)}
SMOKE_NONSCORED = {
    "seeds": (0,), "split_seeds": (512,), "hidden": 64, "epochs": 4, "batch_size": 64,
    "gene_components": 10, "cell_components": 5, "gene_umap": 4, "cell_umap": 3,
}  # fmt: skip
SMOKE_SCORED = {
    "seeds": (0,), "gene_factors": 10, "cell_factors": 5, "n_d": 8, "n_a": 8, "epochs": 20,
    "patience": 5, "batch_size": 128, "virtual_batch_size": 64, "milestones": (10, 15),
}  # fmt: skip


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the configuration; see the module for the variants."""
    chosen = variants(variant, "sample", "smoke")
    config = Config()
    if "sample" in chosen:
        config = _resized(sizes.from_data(config), SAMPLE_NONSCORED, SAMPLE_SCORED)
    if "smoke" in chosen:
        config = _resized(config, SMOKE_NONSCORED, SMOKE_SCORED)
    return config_dict({"nn_tabnet": config})


def _resized(config: Config, nonscored: dict[str, Any], scored: dict[str, Any]) -> Config:
    return dataclasses.replace(
        config,
        folds=5,
        nonscored=dataclasses.replace(config.nonscored, **nonscored),
        scored=dataclasses.replace(config.scored, **scored),
    )
