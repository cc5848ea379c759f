"""Scores that the original recorded, to stand beside those on its own data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Log loss of the out-of-fold predictions over treated rows, by recipe and the fields that tell its
# versions apart.
MODELS = (
    ("three_stage_nn", {"folds": 5}, 0.015606),
    ("three_stage_nn", {"folds": 10}, 0.015461),
    ("simple_nn", {"cv": "old"}, 0.015846),
    ("simple_nn", {"cv": "new"}, 0.016976),
    ("nn_tabnet", {}, 0.016234),
    ("two_heads_resnet", {"version": "v1"}, 0.015887),
    ("two_heads_resnet", {"version": "v2"}, 0.015660),
    ("deepinsight_cnn", {"version": "efficientnet_b3"}, 0.016016),
    ("deepinsight_cnn", {"version": "resnest_v1"}, 0.015819),
    ("deepinsight_cnn", {"version": "resnest_v2"}, 0.015756),
)
BEST_CV_BLEND = 0.015107

# The convention, of `metrics.conventions`, that each recipe's original prints.
CONVENTIONS = {
    "three_stage_nn": "printed",
    "simple_nn": "printed",
    "nn_tabnet": "printed_treated",
    "two_heads_resnet": "epsilon",
    "deepinsight_cnn": "epsilon_all",
}

# What the original's training files hold, and how many rows have its two most frequent targets.
SIZES = {
    "rows": 23_814, "treated": 21_948, "genes": 772, "cells": 100, "scored": 206, "nonscored": 402,
}  # fmt: skip
POSITIVES = {"nfkb_inhibitor": 832, "proteasome_inhibitor": 726}


def is_original_data(data: Mapping[str, Any], positives: Mapping[str, int]) -> bool:
    """Tells whether a run's data are the competition's.

    Args:
      data: sizes of the data, as in `config.json`.
      positives: number of positive rows by target.
    """
    same_sizes = all(data.get(name) == size for name, size in SIZES.items())
    same_labels = all(positives.get(name) == number for name, number in POSITIVES.items())
    return data.get("source") == "folder" and same_sizes and same_labels


def score(config: Mapping[str, Any]) -> float | None:
    """Returns what the original recorded for a model, None where it has no such model.

    Args:
      config: the model's configuration, nested.
    """
    for recipe, fields, recorded in MODELS:
        same = all(config.get(name) == value for name, value in fields.items())
        if config.get("recipe") == recipe and same:
            return recorded
    return None
