"""Reading a features table, checked as it is, beside pandas, which only parses it."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from benchmarks.row import Peer, Row, Side, Work
from benchmarks.start import folder

# Rows, genes and cells.
SIZES = {"tiny": (20, 6, 2), "quick": (1_500, 772, 100), "full": (24_000, 772, 100)}


@functools.cache
def table(size: str, suffix: str) -> Path:
    """Returns a features file of the competition's layout."""
    import pandas as pd

    rows, genes, cells = SIZES[size]
    generator = np.random.default_rng(0)
    names = [*(f"g-{n}" for n in range(genes)), *(f"c-{n}" for n in range(cells))]
    values = pd.DataFrame(generator.normal(size=(rows, len(names))).round(4), columns=names)
    first = pd.DataFrame(
        {
            "sig_id": [f"id_{n:08x}" for n in range(rows)],
            "cp_type": "trt_cp",
            "cp_time": generator.choice([24, 48, 72], rows),
            "cp_dose": generator.choice(["D1", "D2"], rows),
        }
    )
    path = folder() / f"{size}{suffix}"
    both = pd.concat([first, values], axis=1)
    if suffix == ".parquet":
        both.to_parquet(path, index=False)
    else:
        both.to_csv(path, index=False)
    return path


def ours(suffix: str, size: str) -> Side:
    from moa_jax.data import tables

    path, (rows, genes, cells) = table(size, suffix), SIZES[size]
    moved = path.stat().st_size + 8 * rows * (genes + cells)
    return Side(lambda: tables.read_features(path), rows, Work(moved=moved))


def pandas(suffix: str, size: str) -> Side:
    import pandas as pd

    path, rows = table(size, suffix), SIZES[size][0]
    read = pd.read_parquet if suffix == ".parquet" else pd.read_csv
    return Side(lambda: read(path).iloc[:, 4:].to_numpy(), rows)


ROWS = tuple(
    Row(
        f"reading.{suffix[1:]}", f"features from {suffix}", "rows/s",
        functools.partial(ours, suffix), {"pandas": Peer(functools.partial(pandas, suffix))},
    )
    for suffix in (".csv", ".parquet")
)  # fmt: skip
