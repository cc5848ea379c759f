"""Standard streams that nobody reads, or that are closed, and a user without a home folder."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from moa_jax.command import console
from moa_jax.engine import progress_lines
from moa_jax.errors import UserError
from moa_jax.pretrained import published
from moa_jax.store import cache
from moa_jax.training.progress import StageProgress

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "moa_jax.launch"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("what", [["--help"], ["--config=simple_nn", "--fields"]])
def test_who_reads_may_leave(what):
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [*COMMAND, *what], env=ENVIRONMENT, stdout=write, stderr=subprocess.PIPE, text=True,
        check=False,
    )  # fmt: skip
    os.close(write)
    assert (result.returncode, result.stderr) == (0, "")


def test_what_an_encoding_has_not_is_escaped():
    result = subprocess.run(
        [*COMMAND, "--config=simple_nn", "--fields", "--config.data.folder=Zelle_\u00e9"],
        env=ENVIRONMENT | {"PYTHONIOENCODING": "ascii"}, capture_output=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert rb"Zelle_\xe9" in result.stdout


@pytest.mark.parametrize("closed", [(0, 1, 2), (2,), (1,)])
def test_a_closed_stream_is_no_place_for_a_file(tmp_path, closed):
    """What a library prints would stand in a file that was opened in its place."""
    program = """
import os, sys
from moa_jax.store import ending
with ending.in_one_line():
    with open(sys.argv[1], "w") as file:
        os.write(1, b"1")  # as what is not Python's does
        os.write(2, b"2")
        print("printed")
        print("told", file=sys.stderr)
        file.write("content")
"""
    close = "; ".join(f"os.close({number})" for number in closed)
    start = f"import os, sys; {close}; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    path = tmp_path / "table"
    result = subprocess.run(
        [sys.executable, "-c", start, "-c", program, str(path)], env=ENVIRONMENT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0 and path.read_text() == "content"
    assert result.stdout == ("" if 1 in closed else "1printed\n")
    assert result.stderr == ("" if 2 in closed else "2told\n")


def test_a_program_without_a_terminal(monkeypatch, caplog):
    monkeypatch.setattr(sys, "stderr", None)
    with progress_lines.shown(True):
        progress = StageProgress("stage", 1)
        progress.epoch(1, 1, "", jax.numpy.ones(1), 1)
        progress.close()


def test_nobody_knows_a_home_folder(monkeypatch, caplog):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", home)
    assert cache.folder() is None
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        console.use_compilation_cache()
        assert jax.config.values["jax_compilation_cache_dir"] is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert "set XDG_CACHE_HOME" in caplog.text
    with pytest.raises(UserError, match="found no home folder; set XDG_CACHE_HOME"):
        published.fetch("efficientnet_b0")
