"""Memory that a row more takes in inference, as BUILD.md states it."""

import subprocess
import sys
from pathlib import Path

import children
import pytest

ROOT = Path(__file__).parents[1]
FEW, MANY = 20_480, 40_960
# Bytes: of a row its id, in several places; a row of the sample has 6,200 of features.
MOST_BYTES = 1_000
PROGRAM = """
import json, pathlib, sys
from benchmarks import growth_point
rows, workdir, file = int(sys.argv[1]), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
print(json.dumps(growth_point.inference(rows, workdir, file)))
"""


@pytest.mark.slow
def test_inference_takes_a_stated_number_of_bytes(tmp_path):
    workdir = tmp_path / "run"
    flags = "--config=baseline:logistic,smoke", f"--workdir={workdir}"
    subprocess.run([sys.executable, "-m", "moa_jax.launch", *flags], cwd=ROOT, check=True)
    found = []
    for rows in (FEW, MANY):
        found += children.found_by(PROGRAM, str(rows), str(workdir), str(tmp_path / "new.parquet"))
    per_row = (found[1]["memory"] - found[0]["memory"]) / (MANY - FEW)
    assert per_row < MOST_BYTES, per_row
