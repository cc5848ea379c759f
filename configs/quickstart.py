"""Both Simple NNs and the 3-stage NN on the embedded real data, and their blend.

    python -m moa_jax.launch --config=configs/quickstart.py --workdir=runs/quickstart

The sizes suit 385 treated rows; they were chosen by cross-validation.
"""

from __future__ import annotations

import dataclasses

import ml_collections

from moa_jax.config import config_dict
from moa_jax.recipes import simple_nn, three_stage_nn

SEEDS = (0, 1)
SMALL = {"hidden": 256, "batch_size": 32, "max_learning_rate": 3e-3, "epochs": 30}
FAST = {**SMALL, "max_learning_rate": 1e-2}


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    simple = {
        f"simple_nn_{name}": dataclasses.replace(
            config,
            seeds=SEEDS,
            gene_factors=30,
            cell_factors=15,
            gene_clusters=min(config.gene_clusters, 15),
            cell_clusters=min(config.cell_clusters, 5),
            **SMALL,
        )
        for name, config in simple_nn.ORIGINAL.items()
    }
    original = three_stage_nn.Config()
    stages = {
        "nonscored": dataclasses.replace(original.nonscored, **{**FAST, "epochs": 20}),
        "scored": dataclasses.replace(original.scored, **SMALL),
        "stacked": dataclasses.replace(original.stacked, **{**FAST, "hidden": 128, "epochs": 60}),
    }
    three_stage = dataclasses.replace(
        original,
        seeds=SEEDS,
        features=three_stage_nn.Features(
            gene_factors=30, cell_factors=15, gene_umap=10, cell_umap=5
        ),
        **stages,
    )
    return config_dict({**simple, "three_stage_nn": three_stage})
