"""Drivers: the features that move a mechanism's probability most, of `attributions.parquet`."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pandas as pd

from moa_jax.store import files

# Features named of each mechanism.
MOST_FEATURES = 8


@dataclasses.dataclass(frozen=True)
class Driver:
    """A mechanism and the features that drive it: name, attribution, and its share of the most."""

    mechanism: str
    features: tuple[tuple[str, float, float], ...]


def read(path: Path) -> tuple[Driver, ...]:
    """Reads the features of each mechanism with the largest mean attribution, either way from 0.

    Raises:
      UserError: the file is damaged.
    """
    if not os.path.lexists(path):
        return ()
    files.check_regular(path)
    with files.parsing(path):
        table = pd.read_parquet(path)
        if "compound" in table.columns and table["compound"].isna().any():
            table = table[table["compound"].isna()]  # those of a mechanism as such
        means = table.groupby(["mechanism", "feature"], sort=False)["attribution"].mean()
        found = []
        for mechanism, of_one in means.groupby(level=0, sort=False):
            values = of_one.droplevel(0).astype(float)
            top = values.iloc[np.argsort(-values.abs().to_numpy(), kind="stable")[:MOST_FEATURES]]
            most = float(top.abs().max()) or 1.0
            features = tuple((str(name), value, abs(value) / most) for name, value in top.items())
            found.append(Driver(str(mechanism), features))
        return tuple(found)
