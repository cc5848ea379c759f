"""README, BUILD and the configurations' docstrings: what they name exists, and commands parse."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from moa_jax import config as configuration
from moa_jax.command.flags import MODES
from moa_jax.prepare import __main__ as prepare
from moa_jax.prepare.presets import PRESETS
from moa_jax.recipes import RECIPES

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "BUILD.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "configs").glob("[a-z]*.py")),
]


def commands():
    """Command lines of the launcher in all documents, continued lines joined."""
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in text.splitlines():
            found = re.search(r"(-m moa_jax\.launch|^moa-jax) (--.*)", line)
            if found:
                yield pytest.param(found[2], id=f"{document.name}: {found[2][:60]}")


@pytest.mark.parametrize("command", list(commands()))
def test_commands_name_what_exists(command):
    words = [word.lstrip("-").partition("=") for word in shlex.split(command)]
    assert {name for name, equals, _ in words if not equals} <= {"distributed"}
    arguments = {name: value for name, equals, value in words if equals}
    assert arguments.pop("mode", "all") in MODES
    assert arguments.pop("workdir", "runs/x")
    config = arguments.pop("config", None)
    values = {"data": configuration.plain(configuration.DataConfig())}
    if config is not None:
        name, _, variant = config.partition(":")
        if "/" in name:
            assert (ROOT / name).exists()
        module = importlib.import_module(f"moa_jax.configs.{Path(name).stem}")
        values = module.get_config(*[variant][: bool(variant)]).to_dict()
        configuration.parse(values, RECIPES)
    for field in arguments:
        inner = values
        for part in field.split(".")[1:]:
            assert part in inner, f"--{field}"
            inner = inner[part]


def preparations():
    """Command lines of prepare in all documents."""
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8").replace("\\\n", " ")
        for found in re.finditer(r"(?m)^(?:python -m moa_jax\.prepare|moa-jax prepare) (.*)", text):
            yield pytest.param(found[1], id=f"{document.name}: {found[1][:60]}")


@pytest.mark.parametrize("command", list(preparations()))
def test_preparations_name_what_exists(command):
    given = prepare.parser().parse_args(shlex.split(command))
    assert given.out
    assert given.preset in (None, *PRESETS)


def test_there_are_commands():
    assert len(list(preparations())) >= 3
    assert len(list(commands())) >= 6


@pytest.mark.parametrize("document", ["README.md", "BUILD.md", "CONTRIBUTING.md"])
def test_paths_and_links_exist(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    paths = re.findall(r"\b(?:launch|configs|benchmarks|tests|moa_jax)/[\w./]*\w", text)
    for path in [*links, *paths]:
        assert (ROOT / path).exists(), path


def test_every_configuration_is_in_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "configs").glob("[a-z]*.py"):
        assert f"`{path.stem}" in text, path.stem
