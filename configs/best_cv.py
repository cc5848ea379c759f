"""The original's best blend in cross-validation: five models, all trained, predicted and blended.

    python -m moa_jax.launch --config=configs/best_cv.py --workdir=runs/best_cv \
        --config.data.folder=FOLDER

3-stage NN with ten folds, 2-heads ResNet V2, EfficientNet-B3, and ResNeSt V1 and V2. Weights are
searched by SLSQP as the original's were; `--config.blend.method=fixed` takes those that the
original found, of a loss of 0.015107 on its own predictions. The image networks start from
published weights, which are fetched once and read by the extra `torch`;
`--config.models.NAME.pretrained` names a file of them, or `none`: see the configurations of these.
Variants: `:sample` and `:smoke`, every model at the size of its own variant, image networks from
random weights.

At the competition's size `--mode=plan` expects 1.0 hours on eight A100 GPUs and, compilation aside,
5.8 on one, if members stop where the original's did, and 3.8 and 27 if none stops early. Nearly all
of it is the image networks', in bfloat16, which take 5 to 8 GiB per device and, with
`--config.models.NAME.remat=true`, less. On two CPU cores they would take months: there `:sample`
takes about twelve minutes on the embedded data and `:smoke` nine. Sizes of `:sample` grow with the
rows, up to the original's. BUILD.md derives the figures.
"""

from __future__ import annotations

import ml_collections

from moa_jax.config import BlendConfig, config_dict, merged_models, variants
from moa_jax.configs import (
    deepinsight_efficientnet_b3,
    deepinsight_resnest,
    three_stage_nn,
    two_heads_resnet,
)

WEIGHTS = {
    "three_stage_nn": 0.36704255,
    "two_heads_resnet": 0.0808577,
    "efficientnet_b3": 0.17120266,
    "resnest_v1": 0.10876667,
    "resnest_v2": 0.27213043,
}


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the configuration; see the module for the variants."""
    size = ",".join(variants(variant, "sample", "smoke"))
    models = merged_models(
        three_stage_nn.get_config(f"ten_folds,{size}"),
        two_heads_resnet.get_config(f"v2,{size}"),
        deepinsight_efficientnet_b3.get_config(size),
        deepinsight_resnest.get_config(size),
        deepinsight_resnest.get_config(f"v2,{size}"),
    )
    return config_dict(models, blend=BlendConfig(weights=WEIGHTS))
