"""Predictions of models from elsewhere, blended: nothing is trained.

    python -m moa_jax.launch --config=configs/blend_files.py:mine,theirs --workdir=runs/blended \
        --config.data.folder=FOLDER

The names after the colon are the models'. Their files are NAME_oof.csv and NAME_test.csv in the
current folder unless `--config.blend.files.NAME.oof=FILE` and `.test=FILE` say otherwise; an empty
path means that there is none. Without out-of-fold predictions weights can only be fixed:
`--config.blend.method=fixed --config.blend.weights.NAME=0.5`.
"""

from __future__ import annotations

import ml_collections

from moa_jax.config import BlendConfig, PredictionFiles, config_dict
from moa_jax.errors import UserError


def get_config(names: str = "") -> ml_collections.ConfigDict:
    """Returns the configuration of models with these names, separated by commas."""
    models = list(dict.fromkeys(name for name in names.split(",") if name))
    if not models:
        raise UserError("--config: expected names of models, as in blend_files:mine,theirs")
    files = {name: PredictionFiles(f"{name}_oof.csv", f"{name}_test.csv") for name in models}
    return config_dict({}, blend=BlendConfig(files=files))
