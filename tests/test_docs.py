"""README, BUILD and the configurations' docstrings: what they name exists, and commands parse."""

import dataclasses
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
# They hand on what they are given.
SCRIPTS = r"launch/(?:gpu|slurm|tpu_slice|tpu_vm)\.sh(?: NAME ZONE)?"
PAGES = ("README.md", "BUILD.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md")


def commands():
    """Command lines of the launcher in all documents, continued lines joined."""
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in text.splitlines():
            found = re.search(rf"(-m moa_jax\.launch|^moa-jax|{SCRIPTS}) (--.*)", line)
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


@pytest.mark.parametrize("document", PAGES)
def test_paths_and_links_exist(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!http)([^)#]+)", text)
    paths = re.findall(r"(?<![/.])\b(?:launch|configs|benchmarks|tests|moa_jax)/[\w./]*\w", text)
    for path in links:
        assert (ROOT / document).parent.joinpath(path).exists(), path
    for path in paths:
        assert (ROOT / path).exists(), path


def headings(text):
    """Places that a link may lead to within a page, as GitHub names them after its headings."""
    text = re.sub(r"(?ms)^```.*?^```", "", text)
    titles = re.findall(r"(?m)^#+ (.*)$", text)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", PAGES)
def test_links_lead_to_headings(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    for path, place in re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", text):
        page = (ROOT / document).parent / path if path else ROOT / document
        assert place in headings(page.read_text(encoding="utf-8")), f"{path}#{place}"


def names(section):
    """Names of a section's fields, and of those of sections within."""
    for field in dataclasses.fields(section):
        yield field.name
        value = getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            yield from names(value)


@pytest.mark.parametrize("document", [*PAGES, *(f"configs/{path.name}" for path in DOCUMENTS[3:])])
def test_fields_that_are_named_exist(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    run = configuration.plain(configuration.RunConfig({}))
    of_models = {name for recipe in RECIPES.values() for name in names(recipe())}
    for field in re.findall(r"(?:--|`)config\.([a-z]\w*(?:\.\w+)*)", text):
        section, _, rest = field.partition(".")
        if section == "models":
            assert not rest or rest.partition(".")[2].split(".")[-1] in of_models, field
        elif section not in ("json", "py"):
            assert section in run, field
            assert not rest or rest.partition(".")[0] in run[section], field


def test_every_configuration_is_in_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "configs").glob("[a-z]*.py"):
        assert f"`{path.stem}" in text, path.stem
