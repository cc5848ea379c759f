"""Trains every recipe in two checkouts and tells whether their predictions are the same bits.

    python benchmarks/same_results.py BEFORE AFTER --out=FOLDER [--only=NAME ...] [--devices=1]

BEFORE and AFTER are checkouts, each with a `.venv` of its own. Out-of-fold, test and inference
predictions of every configuration are compared; where they differ, the largest difference is
printed, and the exit status is 1. A run that is finished under `--out`, of the same code with the
same arguments, is not trained again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

RUNS = {
    "simple_nn": ["--config=configs/simple_nn.py:smoke"],
    "simple_nn_honest": ["--config=configs/simple_nn.py:smoke", "--config.honest=true"],
    "three_stage_nn": ["--config=configs/three_stage_nn.py:smoke"],
    "three_stage_nn_honest": ["--config=configs/three_stage_nn.py:smoke", "--config.honest=true"],
    "nn_tabnet": ["--config=configs/nn_tabnet.py:smoke"],
    "nn_tabnet_honest": ["--config=configs/nn_tabnet.py:smoke", "--config.honest=true"],
    "two_heads_resnet": ["--config=configs/two_heads_resnet.py:smoke"],
    "two_heads_resnet_honest": [
        "--config=configs/two_heads_resnet.py:v2,smoke", "--config.honest=true",
    ],
    "two_heads_resnet_intended": [
        "--config=configs/two_heads_resnet.py:smoke",
        "--config.models.two_heads_resnet.freeze_loop=intended",
    ],
    "efficientnet_b3": ["--config=configs/deepinsight_efficientnet_b3.py:smoke"],
    "efficientnet_b0_honest": [
        "--config=configs/deepinsight_efficientnet_b3.py:smoke", "--config.honest=true",
        "--config.models.efficientnet_b3.network=efficientnet_b0",
        "--config.models.efficientnet_b3.resolution=32",
    ],
    "resnest": ["--config=configs/deepinsight_resnest.py:smoke"],
    "profiles": ["--config=configs/profiles.py:smoke"],
    "profiles_honest": ["--config=configs/profiles.py:smoke", "--config.honest=true"],
}  # fmt: skip


def train(checkout: Path, folder: Path, arguments: list[str], devices: int) -> None:
    """Runs a configuration from training to inference of the embedded test rows."""
    finished, identity = folder / "finished", _identity(checkout, arguments, devices)
    if finished.exists() and finished.read_text() == identity:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    test = checkout.resolve() / "moa_jax" / "data" / "sample" / "test_features.csv.gz"
    command = [
        str(checkout.resolve() / ".venv" / "bin" / "python"), "-m", "moa_jax.launch",
        *arguments, f"--workdir={folder.resolve()}", f"--config.data.test_features={test}",
    ]  # fmt: skip
    log = folder.with_suffix(".log")
    with open(log, "w") as opened:
        result = subprocess.run(command, cwd=checkout, env=environment, stderr=opened)
    if result.returncode:
        raise SystemExit(f"{folder.name}: failed in {checkout}, see {log}")
    finished.write_text(identity)


def _identity(checkout: Path, arguments: list[str], devices: int) -> str:
    """Returns a text that tells the code of a checkout and how it is run."""
    sources = sorted([*checkout.glob("moa_jax/**/*.py"), *checkout.glob("configs/*.py")])
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    return json.dumps({"sources": digest, "arguments": arguments, "devices": devices})


def largest_difference(before: Path, after: Path) -> dict[str, float]:
    """Returns the largest difference of every file of predictions, by its path in the folder."""
    found = {}
    here, there = _predictions(before), _predictions(after)
    for name in sorted(here.keys() | there.keys()):
        first, second = _read(here.get(name, before / name)), _read(there.get(name, after / name))
        found[name] = _difference(first, second)
    return found


def _predictions(folder: Path) -> dict[str, Path]:
    """Returns the files of predictions by path, without the folder that an inference has there."""
    found = {}
    for path in (*folder.rglob("*.parquet"), *folder.rglob("submission.csv")):
        parts = path.relative_to(folder).parts
        found["/".join(("infer", path.name) if parts[0] == "infer" else parts)] = path
    return found


def _difference(first: pd.DataFrame, second: pd.DataFrame) -> float:
    """Returns 0 for the same bits, infinity where names, texts, types or missing values differ."""
    if len(first) != len(second) or not first.dtypes.equals(second.dtypes):
        return np.inf
    return max((_of_column(first[name], second[name]) for name in first.columns), default=0.0)


def _of_column(first: pd.Series, second: pd.Series) -> float:
    if not pd.api.types.is_numeric_dtype(first) or pd.api.types.is_bool_dtype(first):
        return 0.0 if first.equals(second) else np.inf
    here, there = first.to_numpy(), second.to_numpy()
    if here.tobytes() == there.tobytes():
        return 0.0
    if (np.isnan(here) != np.isnan(there)).any():
        return np.inf
    largest = float(np.nan_to_num(np.abs(here - there)).max())
    # Zeros of two signs differ by nothing, and yet not in nothing.
    return max(largest, np.finfo(float).tiny)


def _read(path: Path) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame()
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--devices", type=int, default=1)
    options = parser.parse_args()
    differ = False
    print("| run | files | largest difference |\n| --- | --- | --- |", flush=True)
    for name in options.only:
        folders = [options.out / side / name for side in ("before", "after")]
        for checkout, folder in zip((options.before, options.after), folders, strict=True):
            train(checkout, folder, RUNS[name], options.devices)
        found = largest_difference(*folders)
        worst = max(found, key=found.get)
        differ |= found[worst] > 0
        where = f" in {worst}" if found[worst] else ""
        print(f"| {name} | {len(found)} | {found[worst]:g}{where} |", flush=True)
    sys.exit(int(differ))


if __name__ == "__main__":
    main()
