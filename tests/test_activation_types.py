"""Types of activations that are left to the machine: what they become and what keeps them."""

import dataclasses
import types

import jax
import pytest
import systems

from moa_jax.config import PlanConfig, RunConfig
from moa_jax.data import simulate
from moa_jax.engine import activation_types, participation
from moa_jax.plan import outlines, report
from moa_jax.recipes.deepinsight_cnn import Config
from moa_jax.recipes.simple_nn import ORIGINAL
from moa_jax.store.workdir import Workdir

IMAGES = RunConfig({"image": Config(), "dense": ORIGINAL["old"]})


@pytest.fixture(scope="module")
def rows():
    return simulate.make(rows=60, genes=9, cells=4, scored=3, nonscored=0, test_rows=0, seed=3)


@pytest.fixture
def accelerated(monkeypatch):
    """Every device multiplies bfloat16 from now on."""
    monkeypatch.setattr(activation_types, "multiplies_bfloat16", lambda device: True)


def dtype(config):
    return config.models["image"].dtype


def of_type(name):
    return dataclasses.replace(IMAGES, models={"image": Config(dtype=name)})


@pytest.mark.parametrize(
    ("platform", "capability", "expected"),
    [
        ("tpu", None, True),
        ("gpu", "8.0", True),
        ("gpu", "10.0", True),
        ("gpu", "7.5", False),
        ("gpu", "gfx90a", False),
        ("gpu", None, False),
        ("cpu", None, False),
    ],
)
def test_devices_that_multiply_bfloat16(platform, capability, expected):
    device = types.SimpleNamespace(platform=platform, device_kind="fake")
    if capability is not None:
        device.compute_capability = capability
    assert activation_types.multiplies_bfloat16(device) == expected


def test_a_new_folder_has_the_type_of_its_devices(rows, tmp_path, accelerated):
    for config, expected in (
        (IMAGES, "bfloat16"),
        (of_type("float32"), "float32"),
        (dataclasses.replace(IMAGES, precision="float64"), "float32"),
    ):
        found, _ = participation.of(config, Workdir(tmp_path / "new"), rows)
        assert dtype(found) == expected


def test_one_device_without_it_is_enough_for_float32(rows, tmp_path):
    """As all of this machine are: results of a CPU stay what they were."""
    assert dtype(participation.of(IMAGES, Workdir(tmp_path), rows)[0]) == "float32"
    assert dtype(participation.of(of_type("bfloat16"), Workdir(tmp_path), rows)[0]) == "bfloat16"


def test_the_device_that_is_chosen_decides(rows, tmp_path, monkeypatch):
    """Such as a CPU beside a GPU, which has the units."""
    parallel = dataclasses.replace(IMAGES.parallel, strategy="vmap")
    config, first = dataclasses.replace(IMAGES, parallel=parallel), jax.devices()[0]
    if first == (last := jax.devices()[-1]):
        pytest.skip("there is one device")
    monkeypatch.setattr(activation_types, "multiplies_bfloat16", lambda device: device == first)
    assert dtype(participation.of(config, Workdir(tmp_path), rows)[0]) == "bfloat16"
    with jax.default_device(last):
        assert dtype(participation.of(config, Workdir(tmp_path), rows)[0]) == "float32"


@pytest.mark.parametrize("made_with", ["float32", "bfloat16"])
def test_another_machine_goes_on_in_the_type_of_the_folder(rows, tmp_path, monkeypatch, made_with):
    Workdir(tmp_path).bind(of_type(made_with), rows, "vmap")
    has_units = made_with == "float32"
    monkeypatch.setattr(activation_types, "multiplies_bfloat16", lambda device: has_units)
    found, _ = participation.of(of_type("auto"), Workdir(tmp_path), rows)
    assert dtype(found) == made_with
    Workdir(tmp_path).bind(found, rows, "vmap")  # it is the same run


@pytest.mark.parametrize(
    ("text", "expected"), [("gpu:8", "bfloat16"), ("t4:2", "float32"), ("cpu", "float32")]
)
def test_a_plan_is_of_the_type_of_its_cards(rows, tmp_path, monkeypatch, text, expected):
    planned = []
    monkeypatch.setattr(outlines, "outline", lambda config, *_: planned.append(config) or [])
    config = dataclasses.replace(IMAGES, plan=PlanConfig(topology=text))
    report.text(config, rows, systems.Unbound(tmp_path))
    assert [dtype(config) for config in planned] == [expected]
