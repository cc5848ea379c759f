"""The built wheel, installed outside the checkout, runs a packaged configuration."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ("moa_jax", "configs", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


@pytest.mark.slow
def test_wheel_runs_outside_the_checkout(tmp_path):
    source, target, elsewhere = tmp_path / "source", tmp_path / "target", tmp_path / "elsewhere"
    source.mkdir()
    elsewhere.mkdir()
    for name in SOURCE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)

    def run(*arguments, **options):
        command = [sys.executable, *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True, check=False, **options)
        assert result.returncode == 0, result.stdout + result.stderr
        return result

    run("-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, source)
    (wheel,) = tmp_path.glob("*.whl")
    run("-m", "pip", "install", "--no-deps", "--target", target, wheel)
    environment = os.environ | {"PYTHONPATH": str(target), "XDG_CACHE_HOME": str(tmp_path)}
    where = run("-c", "import moa_jax; print(moa_jax.__file__)", cwd=elsewhere, env=environment)
    assert where.stdout.startswith(str(target))
    command = [target / "bin" / "moa-jax", "--config=simple_nn:old,smoke", "--workdir=run"]
    run(*command, cwd=elsewhere, env=environment)
    submission = pd.read_csv(elsewhere / "run" / "submission.csv")
    assert submission.shape == (106, 24)
