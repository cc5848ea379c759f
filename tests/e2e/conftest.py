"""A small data folder, and the command line on it in a process of its own."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from e2e.forks import Forks

from moa_jax.data import simulate

ROOT = Path(__file__).parents[2]
SIMPLE = "tests/e2e/tiny.py:simple_nn_old,simple_nn_new"
TINY = "tests/e2e/tiny.py"


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Makes a folder once for all workers; those that need it meanwhile wait. Nobody changes it."""
    session = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent

    def once(name, make):
        folder, part = session / f"once_{name}", session / f"once_{name}.part"
        with Path(f"{folder}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir()
                make(part)
                part.rename(folder)
        return folder

    return once


@pytest.fixture(scope="session")
def data(once):
    """160 training rows with gene and cell columns, drugs, and 28 test rows."""
    sizes = {"rows": 160, "genes": 12, "cells": 6, "scored": 4, "nonscored": 3, "test_rows": 28}
    return once("data", lambda folder: simulate.write(folder, seed=1, **sizes))


@pytest.fixture
def without(data, tmp_path):
    """Copies the data without a file, or without the columns of a prefix."""

    def copy(absent):
        folder = shutil.copytree(data, tmp_path / "data")
        if absent.endswith(".csv"):
            (folder / absent).unlink()
            return folder
        for stem in ("train_features", "test_features"):
            table = pd.read_csv(folder / f"{stem}.csv")
            kept = [name for name in table.columns if not name.startswith(absent)]
            table[kept].to_csv(folder / f"{stem}.csv", index=False)
        return folder

    return copy


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Where the command keeps compiled programs: a folder of each worker's own."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def launch(data, cache):
    """Runs the command line on the small data; returns the finished process, or a running one."""
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XDG_CACHE_HOME": str(cache),
        "PYTHONPATH": str(ROOT),
    }

    forks = Forks(ROOT, environment)

    def run(workdir, *arguments, config=SIMPLE, background=False, env=None, under=()):
        chosen = [f"--config={config}", f"--config.data.folder={data}"] if config else []
        imported = any(name.startswith("JAX_") for name in env or {})
        if not (background or imported or under):
            return forks.run([*chosen, f"--workdir={workdir}", *arguments], env or {})
        start = subprocess.Popen if background else subprocess.run
        options = {} if background else {"check": False}
        return start(
            [
                *under,
                sys.executable,
                "-m",
                "moa_jax.launch",
                *chosen,
                f"--workdir={workdir}",
                *arguments,
            ],
            cwd=ROOT,
            env=environment | (env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    yield run
    forks.close()


@pytest.fixture(scope="session")
def finished(launch, once, cache, tmp_path_factory):
    """A work folder of both Simple NNs, trained and blended, and its programs in the cache."""

    def train(folder):
        result = launch(folder / "run")
        assert result.returncode == 0, result.stderr
        shutil.copytree(cache, folder / "cache")

    made = once("finished", train)
    shutil.copytree(made / "cache", cache, dirs_exist_ok=True)
    return shutil.copytree(made / "run", tmp_path_factory.mktemp("finished") / "run")
