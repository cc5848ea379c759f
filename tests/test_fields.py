"""Tests of the list of a configuration's fields, and of what the docstrings say of each."""

import dataclasses
import importlib
import shlex

import pytest
from ml_collections.config_flags.tuple_parser import TupleParser

from moa_jax import config as configuration
from moa_jax.command import fields
from moa_jax.config import BlendConfig, DataConfig, PredictionFiles, RunConfig, choice, number
from moa_jax.engine import configurations
from moa_jax.recipes import RECIPES


@dataclasses.dataclass(frozen=True)
class Base:
    """A base.

    Attributes:
      width, depth: size of the network,
        in units.
      rates: of the base.
    """

    width: int = number(3, 1)
    depth: int = number(2, 1, 9)


@dataclasses.dataclass(frozen=True)
class Section(Base):
    """A section.

    Attributes:
      rates: one for each layer: `0.5` drops half.
      kind: `a`, or b.

    More is said here, such as kind: nothing.
    """

    rates: tuple[float, ...] = number((0.0, 0.5), 0.0, 1.0, length=2)
    kind: str = configuration.switch(choice("", "", "a", "b"))


def test_meanings_of_a_class_and_its_bases():
    assert fields.meanings(Section) == {
        "width": "size of the network, in units.",
        "depth": "size of the network, in units.",
        "rates": "one for each layer: `0.5` drops half.",
        "kind": "`a`, or b.",
    }
    assert fields.meanings(int) == {}


def test_facts_of_every_field():
    found = {f.name: f for f in fields.listed(RunConfig({"mine": Section()}))}
    facts = {name: dataclasses.astuple(field)[1:4] for name, field in found.items()}
    assert facts["models.mine.width"] == ("int", "3", "at least 1")
    assert facts["models.mine.depth"] == ("int", "2", "between 1 and 9")
    rates = ("float, ...", "0.0,0.5", "2 values; between 0.0 and 1.0")
    assert facts["models.mine.rates"] == rates
    assert facts["models.mine.kind"] == ("str", "''", " | a | b; a fidelity switch")
    assert facts["honest"] == ("bool", "False", "")
    assert facts["data.cp_doses"] == ("str, ...", "\"('D1', 'D2')\"", "")
    assert facts["blend.files"] == ("by name", "none", "")
    assert found["plan.efficiency"].meaning.startswith("share of the devices' peak FLOPs")


def test_entries_of_a_mapping():
    blend = BlendConfig(weights={"mine": 0.5}, files={"theirs": PredictionFiles(oof="a.csv")})
    found = {f.name: f for f in fields.listed(RunConfig({}, blend=blend))}
    assert (found["blend.weights.mine"].type, found["blend.weights.mine"].value) == ("float", "0.5")
    assert found["blend.files.theirs.oof"].value == "a.csv"
    assert found["blend.files.theirs.oof"].meaning.startswith("out-of-fold predictions")


@pytest.mark.parametrize("value", [(24, 48, 72), (0.5,), (1e-3, 1e3), ("D1", "D2"), ("D1",), ()])
def test_what_is_shown_of_a_tuple_is_what_a_flag_takes(value):
    (word,) = shlex.split(fields._shown(value))
    assert TupleParser().parse(word) == value


@pytest.mark.parametrize("name", configurations.packaged())
def test_every_field_of_every_configuration_has_a_meaning(name):
    module = importlib.import_module(f"moa_jax.configs.{name}")
    variant = ["mine,theirs"] if name == "blend_files" else []
    values = module.get_config(*variant).to_dict()
    found = list(fields.listed(configuration.parse(values, RECIPES)))
    assert {field.name for field in found} >= configuration.flat(values).keys()
    assert [field.name for field in found if not field.meaning] == []


def test_page():
    page = fields.text(RunConfig({"mine": Section()}, data=DataConfig(rows=77))).splitlines()
    (line,) = (i for i, text in enumerate(page) if text.startswith("data.rows "))
    assert page[line].split() == ["data.rows", "int", "77", "(at", "least", "50)"]
    assert page[line + 1] == "    training rows of simulated data, controls included."
    assert max(map(len, page)) <= 100
