"""The packaged configurations come from the tree that the package comes from."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# As setuptools writes it for an editable install: packages by name, asked after sys.path.
INSTALLED = f"""
import importlib.util, sys

class Finder:
    places = {{"moa_jax": {str(ROOT / "moa_jax")!r}, "moa_jax.configs": {str(ROOT / "configs")!r}}}

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name in cls.places:
            return importlib.util.spec_from_file_location(name, cls.places[name] + "/__init__.py")

sys.meta_path = [f for f in sys.meta_path if "Editable" not in getattr(f, "__name__", "")]
"""
PROGRAM = """
import moa_jax.configs
print(moa_jax.__file__)
print(moa_jax.configs.__path__[0])
from moa_jax.configs import best_cv
print(best_cv.__file__)
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A second checkout."""
    folder = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("moa_jax", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    return folder


def run(program, *options, cwd, env=None):
    command = [sys.executable, *options, "-c", program]
    result = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def of(checkout):
    return [
        str(checkout / "moa_jax" / "__init__.py"),
        str(checkout / "configs"),
        str(checkout / "configs" / "best_cv.py"),
    ]


def test_on_the_path_before_what_is_installed(checkout, tmp_path):
    program = INSTALLED + "sys.meta_path.append(Finder)" + PROGRAM
    environment = {"PYTHONPATH": str(checkout)}
    assert run(program, cwd=tmp_path, env=environment) == of(checkout)


def test_what_is_installed_is_found_without_it(tmp_path):
    """The finder of the test above does what an editable install does."""
    program = INSTALLED + "sys.meta_path.append(Finder)" + PROGRAM
    assert run(program, "-I", cwd=tmp_path) == of(ROOT)


def test_a_checkout_that_is_not_installed(checkout, tmp_path):
    program = f"{INSTALLED}sys.path.insert(0, {str(checkout)!r}){PROGRAM}"
    assert run(program, "-I", cwd=tmp_path) == of(checkout)


def test_without_any_library(checkout, tmp_path):
    program = f"import sys; sys.path.insert(0, {str(checkout)!r}){PROGRAM.rpartition('from')[0]}"
    assert run(program, "-I", "-S", cwd=tmp_path) == of(checkout)[:2]
