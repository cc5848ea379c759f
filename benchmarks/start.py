"""Starts: importing the package, its help, and whole small runs with and without a cache.

Each is a process of its own. `cold` trains a short quickstart with an empty cache of compiled
programs, `warm` the same in another work folder with what that has left, `second` gives the same
command again on the finished work folder, which inference then predicts with.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import shutil
import tempfile
from pathlib import Path

from benchmarks import finished
from benchmarks.row import Peer, Row, Side
from benchmarks.running import process

RUN = "quickstart"


@functools.cache
def folder() -> Path:
    """Returns a folder that goes with the process."""
    path = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def imported(name: str, size: str) -> Side:
    return Side(lambda: process("-c", f"import {name}"))


def helped(size: str) -> Side:
    return Side(lambda: process("-m", "moa_jax.launch", "--help"))


def cold(size: str) -> Side:
    return Side(lambda: finished.train(RUN, size))


def warm(size: str) -> Side:
    numbers = itertools.count()
    finished.trained(RUN, size)
    cache = finished.places(RUN, size)[1]
    return Side(lambda: finished.launched(RUN, size, folder() / f"warm-{next(numbers)}", cache))


def second(size: str) -> Side:
    workdir, cache = finished.trained(RUN, size), finished.places(RUN, size)[1]
    return Side(lambda: finished.launched(RUN, size, workdir, cache))


# The run comes first: rows of other groups are about it, too.
ROWS = (
    Row(
        "start.cold", "a short quickstart, nothing compiled before", "s", cold,
        most=1, warms=False,
    ),
    Row(
        "start.warm", "the same with compiled programs cached", "s", warm, most=1, warms=False,
    ),
    Row("start.second", "the same, finished already", "s", second, most=3, warms=False),
    Row(
        "start.import", "import of the package", "s", functools.partial(imported, "moa_jax"),
        {
            "scikit-learn": Peer(functools.partial(imported, "sklearn.ensemble")),
            "PyTorch": Peer(functools.partial(imported, "torch"), ("torch",), "moa-jax[torch]"),
            "JAX": Peer(functools.partial(imported, "jax")),
        },
    ),
    Row("start.help", "moa-jax --help", "s", helped),
)  # fmt: skip
