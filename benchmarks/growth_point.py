"""One point of how cost grows: a process that does the steps of a run at given sizes once.

It prints a line of JSON: seconds of each measure, and bytes of `memory`, the most that the process
held beyond what its libraries take.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# Rows, features, labels, members and width of the pass that is not measured.
SMALL = (64, 40, 3, 1, 8)


def training(rows: int, features: int, labels: int, members: int, hidden: int) -> dict[str, float]:
    """Returns the costs of folds, transforms, an epoch, and the prediction of all rows.

    A small pass before it loads the libraries, so that neither their time nor their memory counts.
    """
    _training(*SMALL)
    base = _most_bytes()
    found = _training(rows, features, labels, members, hidden)
    return found | {"memory": _most_bytes() - base}


def _training(rows: int, features: int, labels: int, members: int, hidden: int) -> dict[str, float]:
    from benchmarks.simple_nn import training_on
    from benchmarks.transforms import correlated
    from moa_jax.data import folds
    from moa_jax.recipes import profile
    from moa_jax.recipes.simple_nn import Config, SimpleProfile

    values = correlated(rows, features)
    generator = np.random.default_rng(1)
    targets = (generator.random((rows, labels)) < 0.02).astype(np.float32)
    genes = features - features // 8
    count = min(90, features // 10)
    described = SimpleProfile(
        factors={"gene": count, "cell": max(1, count // 2)},
        clusters={"gene": 15, "cell": 5},
        drop_first_column=True,
    )
    found: dict[str, float] = {}
    _timed(found, "folds", lambda: folds.multilabel_stratified(targets, 5, 0, shuffle=True))
    steps = profile.Steps(rows)
    table = _timed(found, "transforms", lambda: described.columns(values, genes, steps))
    table = table.astype(np.float32)
    ours = training_on(table, targets, Config(hidden=hidden), members)
    epoch, predict = ours.epoch(), ours.forward(np.arange(rows))
    for side in (epoch, predict):
        side.run()  # compiles
    _timed(found, "epoch", epoch.run)
    _timed(found, "predict", predict.run)
    return found


def inference(rows: int, workdir: Path, file: Path) -> dict[str, float]:
    """Returns the costs of a process that predicts so many new rows of a file by a finished run."""
    from benchmarks.running import process
    from moa_jax.data import tables

    _write(tables.sample_folder() / "test_features.csv.gz", rows, file)
    found: dict[str, float] = {}
    flags = ("--mode=infer", f"--workdir={workdir}", f"--config.data.test_features={file}")
    _timed(found, "infer", lambda: process("-m", "moa_jax.launch", *flags))
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return found | {"memory": most * _RSS_UNIT}


def _write(source: Path, rows: int, file: Path, at_once: int = 4_096) -> None:
    """Writes a features table whose rows are near those of another one, no two alike.

    What a reader has in memory of a file is a group of rows, which are as many in small files.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pd.read_csv(source)
    generator, writer = np.random.default_rng(0), None
    numbers = table.select_dtypes("float").columns
    with contextlib.ExitStack() as stack:
        for first in range(0, rows, at_once):
            own = np.arange(first, min(first + at_once, rows))
            part = table.iloc[own % len(table)].assign(sig_id=[f"new_{n}" for n in own])
            noise = generator.normal(scale=1e-3, size=(len(own), len(numbers)))
            part[numbers] = part[numbers].to_numpy() + noise
            found = pa.Table.from_pandas(part, preserve_index=False)
            writer = writer or stack.enter_context(pq.ParquetWriter(file, found.schema))
            writer.write_table(found)


_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def _most_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def _timed(found: dict[str, float], name: str, run: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = run()
    found[name] = time.perf_counter() - start
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("rows", "features", "labels", "members", "hidden"):
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--workdir", type=Path, help="of a finished run that predicts --rows rows")
    parser.add_argument("--file", type=Path, help="where these rows are written")
    options = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):
        if options.workdir:
            found = inference(options.rows, options.workdir, options.file)
        else:
            found = training(
                options.rows, options.features, options.labels, options.members, options.hidden
            )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
