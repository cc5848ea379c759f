"""Starts: importing the package, its help, and whole small runs with and without a cache.

Each is a process of its own. `cold` trains with an empty cache of compiled programs, `warm` the
same in another work folder with what that has left, `second` gives the same command again on the
finished work folder.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.row import Peer, Row, Side
from benchmarks.running import environment

RUNS = {
    "tiny": ("simple_nn:old,smoke", ("folds=2", "epochs=1", "seeds=(0,)", "hidden=8")),
    "quick": ("simple_nn:old,smoke", ("folds=2", "epochs=1", "seeds=(0,)")),
    "full": ("quickstart", ()),
}


@functools.cache
def folder() -> Path:
    """Returns a folder that goes with the process."""
    path = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def process(*arguments: str, cache: Path | None = None) -> None:
    """Runs Python to its end.

    Raises:
      RuntimeError: it failed; the last line that it said.
    """
    cached = {} if cache is None else {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment() | cached, capture_output=True, text=True
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        raise RuntimeError(f"{' '.join(arguments)}: status {done.returncode}: {last}")


def imported(name: str, size: str) -> Side:
    return Side(lambda: process("-c", f"import {name}"))


def helped(size: str) -> Side:
    return Side(lambda: process("-m", "moa_jax.launch", "--help"))


def launched(size: str, workdir: Path, cache: Path) -> None:
    config, fields = RUNS[size]
    process(
        "-m", "moa_jax.launch", f"--config={config}", f"--workdir={workdir}",
        *(f"--config.models.simple_nn_old.{field}" for field in fields), cache=cache,
    )  # fmt: skip


def cold(size: str) -> Side:
    numbers = itertools.count()

    def run() -> None:
        own = folder() / f"cold-{next(numbers)}"
        launched(size, own / "run", own / "cache")

    return Side(run)


def warm(size: str) -> Side:
    numbers = itertools.count()
    return Side(lambda: launched(size, folder() / f"warm-{next(numbers)}", folder() / "cache"))


def second(size: str) -> Side:
    # The first run, which is left out, trains.
    return Side(lambda: launched(size, folder() / "second", folder() / "cache"))


ROWS = (
    Row(
        "start.import", "import of the package", "s", functools.partial(imported, "moa_jax"),
        {
            "scikit-learn": Peer(functools.partial(imported, "sklearn.ensemble")),
            "PyTorch": Peer(functools.partial(imported, "torch"), ("torch",), "moa-jax[torch]"),
            "JAX": Peer(functools.partial(imported, "jax")),
        },
    ),
    Row("start.help", "moa-jax --help", "s", helped),
    Row("start.cold", "a run, nothing compiled before", "s", cold, most=1, warms=False),
    Row("start.warm", "the same with compiled programs cached", "s", warm, most=2),
    Row("start.second", "the same, finished already", "s", second, most=3),
)  # fmt: skip
