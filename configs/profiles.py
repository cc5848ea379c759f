"""The whole answer for profiles of any kind: networks of many sizes, baselines, and their blend.

    python -m moa_jax.launch --config=configs/profiles.py --workdir=runs/profiles \
        --config.data.folder=FOLDER

Nothing is set for a data set. `profile_nn` is a population of dense networks whose members draw
their hyperparameters, and of which a greedy choice by out-of-fold predictions makes the ensemble.
Beside it stand the baselines of `configs/baseline.py`, those that apply, on the same folds: whether
the networks were worth it is in the report. The blend weighs all by out-of-fold predictions, the
fewer these are the nearer to equal weights.
Compounds stay whole in folds where they are known; `--config.data.predict=wells` parts them, to
predict new wells of known ones, as a prepared folder says where its wells to predict are such. The
other score is found for logistic regression, and for all with `--config.answers.both_scores=all`.
Times, doses and types are those that the data have.

Variants: `:networks` without the baselines; `:quick` for fewer members and shorter ones; `:smoke`
for a size that ends within a minute on the embedded data.
"""

from __future__ import annotations

import ml_collections

from moa_jax.config import AnswersConfig, ExplainConfig, config_dict, merged_models, variants
from moa_jax.configs import baseline
from moa_jax.recipes import profile_nn

QUICK = {"members": 12, "steps": (150, 800)}
SMOKE = {
    "members": 10,
    "folds": 3,
    "widths": (32, 32, 32, 32, 16),
    "components": 20,
    "steps": (50, 200),
    "epoch_steps": 50,
}

EXPLAIN = ExplainConfig("best")
# The score of the other question, of what takes least time.
ANSWERS = AnswersConfig(both_scores="logistic")


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the configuration; see the module for the variants."""
    chosen = variants(variant, "quick", "smoke", "networks")
    sizes = (QUICK if "quick" in chosen else {}) | (SMOKE if "smoke" in chosen else {})
    networks = config_dict(
        {"profile_nn": profile_nn.Config(**sizes)}, data=baseline.DATA, explain=EXPLAIN
    )
    if "networks" in chosen:
        return networks
    baselines = baseline.get_config("smoke" if "smoke" in chosen else "")
    return config_dict(
        merged_models(networks, baselines),
        data=baseline.DATA,
        blend=baseline.BLEND,
        answers=ANSWERS,
        explain=EXPLAIN,
    )
