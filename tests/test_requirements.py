"""The constraints of the job at the lowest versions are the lower bounds of setup.cfg."""

import configparser
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def requirements():
    """Every requirement of the package and of its extras, as setup.cfg has it."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    sections = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    return [line for section in sections for line in section.split("\n") if line]


def test_constraints_are_the_lower_bounds():
    bounds = set()
    for requirement in requirements():
        # cuda12 and its like are extras of JAX, whose version is bounded once.
        if not re.match(r"jax\[[\w-]+\]$", requirement):
            name, bound = re.fullmatch(r"([\w-]+)>=([\d.]+)(?:,<[\d.]+)?", requirement).groups()
            bounds.add(f"{name}=={bound}")
    lines = (ROOT / "launch" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    assert bounds == {line for line in lines if not line.startswith("#")}
