"""The competition's data, and what the published blend scores on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What the training files hold, and how many rows have their two most frequent targets.
SIZES = {
    "rows": 23_814, "treated": 21_948, "genes": 772, "cells": 100, "scored": 206, "nonscored": 402,
}  # fmt: skip
POSITIVES = {"nfkb_inhibitor": 832, "proteasome_inhibitor": 726}

# Out-of-fold log loss over treated rows of the blend that is best in cross-validation.
BLEND_SCORE = 0.015107


def is_original_data(data: Mapping[str, Any], positives: Mapping[str, int]) -> bool:
    """Tells whether a run's data are the competition's, so that recorded scores compare.

    Args:
      data: sizes of the data, as in `config.json`.
      positives: number of positive rows by target.
    """
    same_sizes = all(data.get(name) == size for name, size in SIZES.items())
    same_labels = all(positives.get(name) == number for name, number in POSITIVES.items())
    return data.get("source") == "folder" and same_sizes and same_labels
