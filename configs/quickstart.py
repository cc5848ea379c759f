"""Both Simple NNs and the 3-stage NN on the embedded real data, and their blend.

    python -m moa_jax.launch --config=configs/quickstart.py --workdir=runs/quickstart

The sizes suit 385 treated rows; they were chosen by cross-validation. All folds keep compounds
whole, so that the scores are those of compounds that no network has seen;
`--config.data.groups=none --config.blend.unlike_splits=allow` takes each model's own folds.
"""

from __future__ import annotations

import ml_collections

from moa_jax.config import DataConfig, ExplainConfig, config_dict, merged_models
from moa_jax.configs import simple_nn, three_stage_nn


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    return config_dict(
        merged_models(simple_nn.get_config("sample"), three_stage_nn.get_config("sample")),
        data=DataConfig(groups="compound"),
        explain=ExplainConfig("best"),
    )
