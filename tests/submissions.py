"""Predictions in CSV, as a run writes its submission, for tests to look at."""

import pandas as pd

from moa_jax.store.predictions import Predictions


def read(path):
    # Numbers by way of text: not every version of pandas parses them to the last bit.
    table = pd.read_csv(path, dtype=str).set_index("sig_id")
    return Predictions(
        table.index.to_numpy(object), tuple(table), table.to_numpy(str).astype(float)
    )


def inferred(workdir, file):
    """Returns the folder of the predictions of a file's rows."""
    (folder,) = (workdir / "infer").glob(f"{file.name}-*")
    return folder
