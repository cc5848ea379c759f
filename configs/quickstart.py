"""Networks that find their sizes, baselines beside them, and the original's Simple NN.

    python -m moa_jax.launch --config=configs/quickstart.py --workdir=runs/quickstart

The models of `configs/profiles.py` at its quick size, and for company the Simple NN at a size
that suits the rows at hand. All are on folds that keep compounds whole where these are
known, so that the scores are those of compounds that no network has seen; beside them stands how
well logistic regression predicts new wells of compounds that it knows.
"""

from __future__ import annotations

import ml_collections

from moa_jax.config import config_dict, merged_models
from moa_jax.configs import baseline, profiles, simple_nn


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    models = merged_models(profiles.get_config("quick"), simple_nn.get_config("old,sample"))
    models["simple_nn_old"] |= {"split": "auto", "frequent_above": 0}
    return config_dict(
        models,
        data=baseline.DATA,
        blend=baseline.BLEND,
        answers=profiles.ANSWERS,
        explain=profiles.EXPLAIN,
    )
