"""A device without memory left is one line, with the field that would take less."""

import dataclasses
import types

import jax
import pytest
import systems
import toy

from moa_jax.config import ParallelConfig
from moa_jax.data import simulate
from moa_jax.errors import UserError
from moa_jax.recipes import fitting, prediction, system
from moa_jax.training import exhausted
from moa_jax.training.layout import Settings
from moa_jax.training.members import MemberId
from moa_jax.training.parallel import Devices
from moa_jax.training.program import Program

FULL = jax.errors.JaxRuntimeError(
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 12884901888 bytes.\nBuffers: ..."
)
SAID = "(Out of memory while trying to allocate 12884901888 bytes)"


def raises(*arguments, **options):
    raise FULL


class Full:
    """A predictor that finds no room."""

    rows_at_once = 128
    __call__ = means = raises

    def __init__(self, *arguments):
        pass


class FullAtOnce(Full):
    """A predictor that finds no room for its weights."""

    __init__ = raises


@pytest.fixture
def run(tmp_path):
    """A model, its data and its context."""
    config = systems.tiny("simple_nn_old", parallel={"members_at_once": 4})
    dataset = simulate.make(rows=60, seed=1, genes=8, cells=4, scored=3, nonscored=2)
    context = systems.context(tmp_path, "simple_nn_old")
    model = config.models["simple_nn_old"]
    return model, dataset, dataclasses.replace(context, config=config)


def test_training_without_memory_is_told(run, monkeypatch):
    monkeypatch.setattr(Program, "compiled", raises)
    with pytest.raises(UserError) as error:
        system.fit(*run)
    assert str(error.value) == (
        "config.parallel.members_at_once: training simple_nn_old/scored ran out of memory on the "
        f"device with 4 members at once; 2 need less {SAID}"
    )


def test_predicting_training_rows_without_memory_is_told(run, monkeypatch):
    monkeypatch.setattr(fitting.StageRun, "fit", lambda self: None)
    monkeypatch.setattr(fitting, "Predictor", Full)
    with pytest.raises(UserError, match="^simple_nn_old/scored: predicting by .* ran out"):
        system.fit(*run)
    monkeypatch.setattr(fitting, "Predictor", FullAtOnce)
    with pytest.raises(UserError, match="^simple_nn_old/scored: predicting by .* ran out"):
        system.fit(*run)


def test_predicting_new_rows_without_memory_is_told(run, monkeypatch):
    _, dataset, context = run
    features = types.SimpleNamespace(predictions_of=None, table=lambda *arguments: None)
    stage = {"name": "scored", "full_name": lambda own: f"{own.model}/scored"}
    design = types.SimpleNamespace(**stage, features=features)
    monkeypatch.setattr(prediction.finished, "trained_members", lambda *_: ([MemberId(0, 0)], 3))
    monkeypatch.setattr(prediction, "StoredSets", lambda *_: None)
    monkeypatch.setattr(prediction, "predictor_of", Full)
    predict = prediction.trained([design], context)
    with pytest.raises(UserError, match=r"predict_rows: .* with 1024 rows at once; 512 need less"):
        predict(dataset)
    monkeypatch.setattr(prediction, "predictor_of", FullAtOnce)
    with pytest.raises(UserError, match="^simple_nn_old/scored: predicting by .* ran out"):
        prediction.trained([design], context)


def test_members_at_once_that_are_asked_for_count(run, monkeypatch):
    model, dataset, context = run
    monkeypatch.setattr(Program, "compiled", raises)
    # A work folder that was made with another number.
    workdir = type(context.workdir)
    monkeypatch.setattr(
        workdir, "resolved", lambda self, name, value, asked=False: value if asked else 9
    )
    with pytest.raises(UserError, match="with 4 members at once; 2 need less"):
        system.fit(model, dataset, context)


def test_other_errors_of_the_device_are_kept(run, monkeypatch):
    other = jax.errors.JaxRuntimeError("INTERNAL: not RESOURCE_EXHAUSTED")
    with pytest.raises(jax.errors.JaxRuntimeError), exhausted.told(lambda: "here"):
        raise other


@pytest.mark.parametrize(
    ("shards", "per_member", "at_once", "shares", "remat", "expected"),
    [
        (1, 1, 8, False, None, "members_at_once: .* with 8 members at once; 4 need less"),
        (2, 1, 8, False, None, "members_at_once: .* with 8 members at once; 4 need less"),
        # Two on one of the devices and one on the others is two at once.
        (2, 1, 3, False, None, "members_at_once: .* with 3 members at once; 2 need less"),
        (1, 1, 99, False, None, "members_at_once: .* with 8 members at once; 4 need less"),
        (4, 1, 4, True, False, "devices_per_member: .* with 1 devices .*; 2 need less each"),
        (2, 2, 2, True, False, "devices_per_member: .* with 2 devices .*; 4 need less each"),
        (1, 4, 1, True, False, r"models\.net\.remat: .* true, in another --workdir, needs less"),
        (1, 4, 1, True, True, "one member on each; .*MEM_FRACTION"),
        (1, 1, 1, False, None, "one member on each; .*MEM_FRACTION"),
        (2, 1, 2, False, None, r"parallel\.rows: .* on each of 2 devices; sharded needs less"),
    ],
)
def test_the_field_is_one_that_lowers_it(shards, per_member, at_once, shares, remat, expected):
    stage = toy.stage()
    assert len(stage.members) == 8
    stage = dataclasses.replace(
        stage, forward=dataclasses.replace(stage.forward, shares_batches=shares)
    )
    device = types.SimpleNamespace(platform="gpu")
    devices = Devices("shard_map", (device,) * shards * per_member, per_member)
    settings = Settings(devices, members_at_once=at_once)
    with pytest.raises(UserError, match=expected):
        with exhausted.told(lambda: exhausted.of_training(stage, settings, "net", remat, "auto")):
            raise FULL


@pytest.mark.parametrize(
    ("shares", "field", "value"), [(False, "rows", "sharded"), (True, "devices_per_member", 2)]
)
def test_a_strategy_that_shares_nothing_is_told_with_the_field(
    run, monkeypatch, shares, field, value
):
    model, dataset, context = run
    monkeypatch.setattr(Program, "compiled", raises)
    of_training = exhausted.of_training

    def of_one(stage, settings, *others):
        forward = dataclasses.replace(stage.forward, shares_batches=shares)
        return of_training(dataclasses.replace(stage, forward=forward), settings, *others)

    monkeypatch.setattr(exhausted, "of_training", of_one)
    config = dataclasses.replace(context.config, parallel=ParallelConfig("pmap", 2))
    devices = dataclasses.replace(Devices.available("pmap"), devices=tuple(jax.devices()[:2]))
    with pytest.raises(UserError) as error:
        system.fit(model, dataset, dataclasses.replace(context, config=config, devices=devices))
    said = str(error.value)
    assert said.startswith(f"config.parallel.{field}: training simple_nn_old/scored ran out")
    assert f"; {value}, with config.parallel.strategy=auto, need" in said
    # Both together are accepted, and the field alone is not.
    systems.tiny("simple_nn_old", parallel={field: value, "strategy": "auto"})
    with pytest.raises(UserError, match="strategy: expected auto or shard_map"):
        systems.tiny("simple_nn_old", parallel={field: value, "strategy": "pmap"})
