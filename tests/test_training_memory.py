"""Memory that a row more takes in training, as BUILD.md states it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FEATURES, LABELS = 100, 10
# Tables of all features in float64 at the peak of folds, transforms and an epoch: 4.5 measured.
MOST_TABLES = 6
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}


def memory(**flags):
    """Returns the most bytes of a process that does one point of growth."""
    words = [f"--{name}={value}" for name, value in flags.items()]
    command = [sys.executable, "-m", "benchmarks.growth_point", *words]
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])["memory"]


@pytest.mark.slow
def test_training_takes_so_many_tables():
    sizes = {"features": FEATURES, "labels": LABELS, "members": 1, "hidden": 16}
    few, many = 3_000, 12_000
    found = (memory(rows=many, **sizes) - memory(rows=few, **sizes)) / (many - few)
    assert found < MOST_TABLES * 8 * FEATURES
