"""The command in processes of their own, forked from one that has imported its libraries.

A start of Python with JAX takes seconds, which most tests of the command would spend for nothing.
No backend of JAX is there before the fork. Tests of what a start itself does, of kills and of other
devices start an interpreter.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path


class Forks:
    """Runs of the command, one after another."""

    def __init__(self, folder: Path, environment: Mapping[str, str]):
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess:
        """Returns the finished process of `python -m moa_jax.launch` with these arguments.

        The environment is added to; what libraries read when they are imported has been read.
        """
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / name for name in ("stdout", "stderr")]
            job = {
                "arguments": list(arguments),
                "paths": list(map(str, paths)),
                "environment": dict(environment),
            }
            self._server.stdin.write(json.dumps(job) + "\n")
            self._server.stdin.flush()
            status = self._server.stdout.readline()
            assert status, "the process to fork from has ended"
            written = [path.read_text(encoding="utf-8") for path in paths]
        return subprocess.CompletedProcess(list(arguments), int(status), *written)

    def close(self) -> None:
        with self._server as server:
            server.stdin.close()


def serve() -> None:
    """Forks for every line of the standard input, and answers with the exit status."""
    import_libraries()
    # JAX warns of every fork, lest a backend's threads are there.
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
    while line := sys.stdin.readline():
        job = json.loads(line)
        child = os.fork()
        if not child:
            os.environ.update(job["environment"])
            become(job["arguments"], job["paths"])
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def import_libraries() -> None:
    import iterstrat.ml_stratifiers  # noqa: F401
    import sklearn.cluster
    import sklearn.decomposition
    import sklearn.preprocessing  # noqa: F401

    from moa_jax.command import console  # noqa: F401
    from moa_jax.engine import run  # noqa: F401
    from moa_jax.plan import report  # noqa: F401
    from moa_jax.recipes import (  # noqa: F401
        image_features,
        profile_features,
        two_heads_features,
    )


def become(arguments: Sequence[str], paths: Sequence[str]) -> None:
    """Runs the command in this process, its output going to files."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(paths, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = ["moa_jax", *arguments]
    sys.path[0] = os.getcwd()
    runpy.run_module("moa_jax.launch", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve()
