"""The original's winning submission: seven models, all trained, predicted and blended.

    python -m moa_jax.launch --config=configs/best_lb.py --workdir=runs/best_lb \
        --config.data.folder=FOLDER

3-stage NN with five folds, NN + TabNet, Simple NN with the old and the new cross-validation,
2-heads ResNet V1, EfficientNet-B3 and ResNeSt V2, with the weights of the submission, which were
chosen by hand and are of sum 1.0; `--config.blend.method=slsqp` searches them instead. Simple NN
with the old cross-validation has its own weight: the released blending script reads the file of
the new one in its place, which the submission did not. The image networks start from published
weights, which are fetched once and read by the extra `torch`; `--config.models.NAME.pretrained`
names a file of them, or `none`: see the configurations of these. Variants: `:sample` and `:smoke`,
every model at the size of its own variant, image networks from random weights.

At the competition's size time and memory are those of the two image networks, in bfloat16, for
which `--mode=plan` expects 0.7 hours on eight A100 GPUs and, compilation aside, 4.2 on one, if
members stop where the original's did, and 2.7 and 20 if none stops early. They take 5 to 8 GiB per
device and, with `--config.models.NAME.remat=true`, less. On two CPU cores they would take months:
there `:sample` takes about ten minutes on the embedded data; its sizes grow with the rows, up to
the original's. BUILD.md derives the figures.
"""

from __future__ import annotations

import ml_collections

from moa_jax.config import BlendConfig, config_dict, merged_models, variants
from moa_jax.configs import (
    deepinsight_efficientnet_b3,
    deepinsight_resnest,
    nn_tabnet,
    simple_nn,
    three_stage_nn,
    two_heads_resnet,
)

# (0.37 A + 0.10 C + 0.18 D + 0.15 E) * 0.9 + 0.10 F + 0.09 G + 0.09 B of the original's formula.
WEIGHTS = {
    "three_stage_nn": 0.333,
    "nn_tabnet": 0.1,
    "simple_nn_old": 0.09,
    "simple_nn_new": 0.09,
    "two_heads_resnet": 0.09,
    "efficientnet_b3": 0.162,
    "resnest_v2": 0.135,
}


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the configuration; see the module for the variants."""
    size = ",".join(variants(variant, "sample", "smoke"))
    models = merged_models(
        three_stage_nn.get_config(size),
        nn_tabnet.get_config(size),
        simple_nn.get_config(size),
        two_heads_resnet.get_config(size),
        deepinsight_efficientnet_b3.get_config(size),
        deepinsight_resnest.get_config(f"v2,{size}"),
    )
    return config_dict(
        models, blend=BlendConfig(method="fixed", weights=WEIGHTS, unlike_splits="allow")
    )
