"""Every recipe at a size for tests; the variant names the models, all of them by default.

`theirs` adds a model whose predictions come from files.

--config=tests/e2e/tiny.py:simple_nn_old,three_stage_nn
"""

import dataclasses

from moa_jax.config import BlendConfig, PredictionFiles, config_dict, variants
from moa_jax.recipes import (
    baseline,
    deepinsight_cnn,
    nn_tabnet,
    profile_nn,
    simple_nn,
    three_stage_nn,
    two_heads_resnet,
)

DENSE = {"hidden": 16, "epochs": 3, "batch_size": 32}
SIMPLE = {
    "seeds": (0, 1), "folds": 3, "gene_factors": 4, "cell_factors": 2,
    "gene_clusters": 3, "cell_clusters": 2, **DENSE,
}  # fmt: skip
THREE_STAGE = three_stage_nn.Config(
    seeds=(0, 1),
    folds=3,
    features=three_stage_nn.FeaturesConfig(
        gene_factors=4, cell_factors=2, umap=False, gene_umap=2, cell_umap=2
    ),
)
NN_TABNET = nn_tabnet.Config(
    folds=3,
    nonscored=nn_tabnet.DenseConfig(
        seeds=(0, 1), split_seeds=(512, 0), gene_components=4, cell_components=2, umap=False,
        gene_umap=2, cell_umap=2, **DENSE,
    ),
    scored=nn_tabnet.TabNetConfig(
        seeds=(0, 1), gene_factors=4, cell_factors=2, gene_clusters=3, cell_clusters=2,
        n_d=4, n_a=4, epochs=6, milestones=(3, 5), patience=2, batch_size=64, virtual_batch_size=16,
    ),
)  # fmt: skip
MODELS = {
    "simple_nn_old": dataclasses.replace(simple_nn.ORIGINAL["old"], **SIMPLE),
    "simple_nn_new": dataclasses.replace(simple_nn.ORIGINAL["new"], **SIMPLE),
    "three_stage_nn": dataclasses.replace(
        THREE_STAGE,
        **{
            stage: dataclasses.replace(getattr(THREE_STAGE, stage), **DENSE)
            for stage in (three_stage_nn.NONSCORED, three_stage_nn.SCORED, three_stage_nn.STACKED)
        },
    ),
    "nn_tabnet": NN_TABNET,
    "two_heads_resnet": dataclasses.replace(
        two_heads_resnet.ORIGINAL["v2"],
        seeds=(0, 1),
        folds=3,
        gene_components=4,
        cell_components=2,
        num_predictors=7,
        loop_epochs=12,
        **DENSE,
    ),
    "efficientnet": dataclasses.replace(
        deepinsight_cnn.ORIGINAL["efficientnet_b3"],
        network="efficientnet_b0",
        folds=2,
        resolution=32,
        epochs=3,
        batch_size=32,
        head_width=16,
        pretrained="none",
    ),
}
# A population is chosen by its name.
POPULATION = {
    "profile_nn": profile_nn.Config(
        members=8, folds=3, inputs=("standard", "components", "components"),
        widths=(8, 8, 4), depths=(1, 2, 1), components=5, steps=(4, 16), epoch_steps=4,
        batch_size=16,
    )
}  # fmt: skip
# So are baselines.
BASELINE = baseline.Config(
    folds=3, components=5, c=(1e-2, 1e-1, 1.0), rounds=(2, 6), leaf_rows=3, tree_columns=4,
    inner_folds=2, optional=True,
)  # fmt: skip
BASELINES = {
    name: dataclasses.replace(BASELINE, model=name) for name in ("logistic", "trees", "viability")
}


def get_config(variant=""):
    chosen = variants(variant, *MODELS, *POPULATION, *BASELINES, "theirs") or MODELS
    models = {
        name: model for name, model in (MODELS | POPULATION | BASELINES).items() if name in chosen
    }
    files = {"theirs": PredictionFiles()} if "theirs" in chosen else {}
    return config_dict(models, blend=BlendConfig(files=files, unlike_splits="allow"))
