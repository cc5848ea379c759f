"""Predictions in CSV, as a run writes its submission, for tests to look at."""

import pandas as pd

from moa_jax.store.predictions import Predictions


def read(path):
    table = pd.read_csv(path, dtype={"sig_id": str}, float_precision="round_trip")
    table = table.set_index("sig_id")
    return Predictions(table.index.to_numpy(object), tuple(table), table.to_numpy(float))
