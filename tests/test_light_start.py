"""Light start: help and a user's mistake do not wait for what only a run needs."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import moa_jax

ROOT = Path(__file__).parents[1]
HEAVY = {"flax", "iterstrat", "jax", "numba", "optax", "orbax", "pandas", "pyarrow", "scipy",
         "sklearn", "umap"}  # fmt: skip
# Of these the configurations and whatever names a recipe's fields are made.
LIGHT = """
    answers.calibration answers.compounds answers.confidence answers.mechanism_scores answers.rule
    answers.table
    config errors schema
    command.console command.entry command.fields command.flags command.stored_config command.usage
    data.dataset data.folds
    engine.configurations engine.settings engine.unused
    features.factors features.one_hot features.rank_gauss features.row_statistics
    features.selection features.standard_scale features.umap
    models.hyperparameters recipes
    store.files store.processes store.transform_files store.workdir
""".split()
COMMAND = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
from moa_jax import launch
launch.cli()
"""
# An idle core takes about 0.15 s for help and 0.3 s for a mistake; slow ones get more.
SECONDS = 2.5


def run(program, *arguments):
    """Returns the finished process, the modules that it had at its end and its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    modules = set(json.loads(result.stderr.splitlines()[-1]))
    return result, modules, seconds


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(flag):
    result, modules, seconds = run(COMMAND, flag)
    assert result.returncode == 0
    assert result.stdout.startswith("moa-jax ")
    assert modules & (HEAVY | {"numpy"}) == set()
    assert seconds < SECONDS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=quickstart", "--wrkdir=runs/mine"], "Unknown command line flag 'wrkdir'"),
        (["--config=quickstat"], "did you mean quickstart?"),
        (["--config=simple_nn:odl"], "did you mean old?"),
        (["--config=simple_nn:old", "--config.models.simple_nn_old.epoch=3"], "Did you mean"),
        (["--config=simple_nn:old", "--config.models.simple_nn_old.epochs=0"], "at least 1"),
        (["--config=simple_nn:old", "--config.models.simple_nn_old.optimizer=adamm"], "adamw"),
        ([], "--config: expected a configuration"),
    ],
)
def test_a_mistake(arguments, message):
    result, modules, seconds = run(COMMAND, *arguments)
    assert result.returncode == 1
    assert message in result.stderr.splitlines()[-2]
    assert modules & HEAVY == set()
    assert seconds < SECONDS


def test_fields():
    result, modules, seconds = run(COMMAND, "--config=quickstart", "--fields")
    assert result.returncode == 0
    assert "models.profile_nn.members" in result.stdout
    assert modules & HEAVY == set()
    assert seconds < SECONDS


def test_the_log_begins_before_what_trains_is_read(tmp_path):
    """The data come before: where they are not found, nothing of that was imported."""
    result, modules, seconds = run(
        COMMAND, "--config=quickstart", f"--workdir={tmp_path}", "--config.data.folder=nowhere"
    )
    assert result.returncode == 1
    assert "nowhere" in result.stderr and (tmp_path / "log.txt").exists()
    assert modules & (HEAVY - {"jax", "pandas", "pyarrow"}) == set()
    assert seconds < 2 * SECONDS


def test_light_modules():
    program = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(f"moa_jax.{name}")
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""
    result, modules, _ = run(program, *LIGHT)
    assert result.returncode == 0, result.stderr
    assert modules & HEAVY == set()


@pytest.mark.parametrize("module", ["launch", "prepare"])
def test_a_system_without_posix(module):
    """Windows has neither of both modules, nor the signal."""
    program = f"""
import runpy, signal, sys
sys.modules["fcntl"] = sys.modules["resource"] = None
del signal.SIGUSR1
import moa_jax
print(moa_jax.__version__)
runpy.run_module("moa_jax.{module}", run_name="__main__")
"""
    result = subprocess.run(
        [sys.executable, "-c", program, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert result.stdout.splitlines() == [moa_jax.__version__]
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("moa-jax: expected Linux or macOS")
    assert "on Windows use WSL" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--help"], 0, "usage: moa-jax prepare"),
        (["wells.csv", "--out=data", "--preset=jmp"], 1, "did you mean jump?"),
        (["wells.csv"], 1, "--out: expected a folder to write"),
    ],
)
def test_prepare(arguments, status, message):
    result, modules, seconds = run(COMMAND, "prepare", *arguments)
    assert result.returncode == status
    assert message in result.stdout + result.stderr
    assert modules & (HEAVY | {"numpy", "h5py", "anndata"}) == set()
    assert seconds < SECONDS
