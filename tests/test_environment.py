"""launch/environment.sh: pip runs where something is missing, and at no other time."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Writes down what pip is asked for; nothing else is run.
PYTHON = """#!/bin/sh
if [ "$2" = pip ]; then
  shift 2
  echo "$*" >> pip.log
  test ! -e broken
fi
"""


@pytest.fixture
def checkout(tmp_path):
    """A copy of the scripts in which Python is one that does nothing."""
    shutil.copytree(ROOT / "launch", tmp_path / "launch")
    for name in ("setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON, encoding="utf-8")
    python.chmod(0o755)
    return tmp_path


def installed(checkout, script, *arguments, **environment):
    """Runs a script and returns what it has pip install, None where pip does not run."""
    log = checkout / "pip.log"
    log.unlink(missing_ok=True)
    outer = {n: v for n, v in os.environ.items() if n not in ("EXTRAS", "CONSTRAINTS")}
    subprocess.run(
        ["bash", f"launch/{script}.sh", *arguments],
        cwd=checkout, env=outer | {"PYTHON": sys.executable} | environment,
        check="broken" not in os.listdir(checkout), capture_output=True,
    )  # fmt: skip
    return log.read_text(encoding="utf-8").strip().rpartition(" -e ")[2] if log.exists() else None


def test_scripts_that_take_turns_install_once(checkout):
    assert installed(checkout, "quickstart") == "."
    assert installed(checkout, "test") == ".[dev]"
    for script in ("quickstart", "test", "quickstart"):
        assert installed(checkout, script) is None
    assert installed(checkout, "test", EXTRAS="torch,hub") == ".[dev,torch,hub]"
    assert installed(checkout, "quickstart", EXTRAS="hub") is None
    assert installed(checkout, "test") is None


def test_other_requirements_install_again(checkout):
    lowest = {"CONSTRAINTS": "launch/lowest.txt"}
    assert installed(checkout, "test") == ".[dev]"
    assert installed(checkout, "quickstart", **lowest) == "."
    assert installed(checkout, "quickstart", **lowest) is None
    # Of the development extra nothing is known under these versions.
    assert installed(checkout, "test", **lowest) == ".[dev]"
    with open(checkout / "setup.cfg", "a", encoding="utf-8") as file:
        file.write("# other\n")
    assert installed(checkout, "test", **lowest) == ".[dev]"


def test_what_failed_is_installed_again(checkout):
    assert installed(checkout, "quickstart") == "."
    (checkout / "broken").touch()
    assert installed(checkout, "quickstart", CONSTRAINTS="launch/lowest.txt") == "."
    (checkout / "broken").unlink()
    assert installed(checkout, "quickstart") == "."
    assert installed(checkout, "quickstart") is None


def test_arguments_of_a_script_are_no_extras(checkout):
    assert installed(checkout, "quickstart", "runs/mine") == "."
