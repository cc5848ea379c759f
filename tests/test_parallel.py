"""map_members: strategies, inner loops, padding, donation and compilations."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from moa_jax.store import processes
from moa_jax.training.parallel import (
    Devices,
    choose_inner,
    choose_per_member,
    choose_strategy,
    map_members,
)
from moa_jax.training.program import Program
from moa_jax.training.slots import Slots

DEVICES = len(jax.devices())


def fn(state, own, shared):
    """A step that multiplies, so that its rounding would show another order of operations."""
    product = jnp.tanh(shared @ (state["w"] * own))
    return {"w": state["w"] + product.mean(0)}, {"norm": jnp.sum(product**2)}


def arguments(members, devices):
    generator = np.random.default_rng(0)
    state = {"w": generator.normal(size=(members, 9, 4)).astype(np.float32)}
    own = generator.normal(size=members).astype(np.float32)
    shared = generator.normal(size=(30, 9)).astype(np.float32)
    slots = Slots(members, len(devices.devices), -(-members // len(devices.devices)))
    state, own = devices.put_members(slots.pad((state, own)))
    return slots, state, own, devices.put_shared(shared)


def results(strategy, inner, members=5):
    devices = Devices.available(strategy)
    slots, state, own, shared = arguments(members, devices)
    program = map_members(fn, devices, inner=inner).lower(state, own, shared).compile()
    return slots.unpad(program(state, own, shared))


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("inner", ["vmap", "loop"])
def test_pmap_and_shard_map_are_bit_equal(inner):
    jax.tree.map(np.testing.assert_array_equal, results("pmap", inner), results("shard_map", inner))


@pytest.mark.parametrize("strategy", ["vmap", "pmap", "shard_map"])
@pytest.mark.parametrize("inner", ["vmap", "loop"])
def test_every_way_agrees_with_a_plain_loop_over_members(strategy, inner):
    slots, state, own, shared = arguments(5, Devices.available("vmap"))
    state, own = slots.unpad((state, own))
    plain = [fn({"w": state["w"][i]}, own[i], np.asarray(shared)) for i in range(5)]
    expected = jax.tree.map(lambda *a: np.stack(a), *plain)
    found = results(strategy, inner)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6), found, expected)


def test_padding_repeats_member_0_and_is_cut_off():
    slots = Slots(5, 4, 2)
    assert (slots.num_slots, slots.per_shard) == (8, 2)
    padded = slots.pad(np.arange(5))
    assert padded.tolist() == [[0, 4], [1, 0], [2, 0], [3, 0]]
    assert slots.unpad(padded).tolist() == [0, 1, 2, 3, 4]


def test_the_first_process_alone_keeps_what_it_writes(monkeypatch):
    slots = Slots(5, 4, 2)
    padded = slots.pad({"w": np.arange(15.0).reshape(5, 3), "step": np.arange(5)})
    jax.tree.map(np.testing.assert_array_equal, slots.unpad_for_first(padded), slots.unpad(padded))
    monkeypatch.setattr(processes, "is_first", lambda: False)
    found = slots.unpad_for_first(padded)
    for name, array in slots.unpad(padded).items():
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
        assert not found[name].any() and not any(found[name].strides), "it takes memory"


def test_of_several_processes_each_saves_what_it_holds(monkeypatch):
    slots = Slots(5, 4, 2)
    padded = slots.pad({"w": np.arange(15.0).reshape(5, 3)})
    assert slots.to_save(padded)["w"].shape == (5, 3)
    monkeypatch.setattr(processes, "are_several", lambda: True)
    assert slots.to_save(padded) is padded


def test_skipped_members_stay_and_are_a_branch_not_a_selection():
    devices = Devices.available("vmap")
    slots, state, own, shared = arguments(3, devices)
    before = slots.unpad(state)
    state = {**state, "stopped": jnp.array([[False, True, False]])}

    def step(state, own, shared):
        new, out = fn({"w": state["w"]}, own, shared)
        return {**new, "stopped": state["stopped"]}, out

    mapped = map_members(step, devices, inner="loop", skip=lambda s: s["stopped"], donate=False)
    assert "conditional" in mapped.lower(state, own, shared).compile().as_text()
    after, out = slots.unpad(mapped(state, own, shared))
    np.testing.assert_array_equal(after["w"][1], before["w"][1])
    assert (after["w"][0] != before["w"][0]).all() and out["norm"][1] == 0 != out["norm"][0]


def test_donated_state_is_gone():
    devices = Devices.available("vmap")
    _, state, own, shared = arguments(3, devices)
    map_members(fn, devices)(state, own, shared)
    assert state["w"].is_deleted()


def test_member_programs_need_no_communication():
    devices = Devices.available("shard_map")
    _, state, own, shared = arguments(8, devices)
    text = map_members(fn, devices).lower(state, own, shared).compile().as_text()
    for collective in ("all-reduce", "all-gather", "collective-permute", "all-to-all"):
        assert collective not in text


def test_program_compiles_once_per_shape():
    devices = Devices.available("vmap")
    program = Program("test", fn, devices, donate=False)
    _, state, own, shared = arguments(3, devices)
    for _ in range(3):
        program(state, own, shared)
    assert program.compilations == 1
    _, state, own, shared = arguments(4, devices)
    program(state, own, shared)
    assert program.compilations == 2


def test_strategy_for_this_machine():
    assert choose_strategy("auto", 1) == "vmap"
    assert choose_strategy("auto", 8) == "pmap"
    assert choose_strategy("auto", 8, num_processes=2) == "shard_map"
    assert choose_strategy("shard_map", 1) == "shard_map"


def test_inner_for_this_platform():
    assert choose_inner("auto", "cpu") == Devices.available("vmap").inner("auto") == "loop"
    assert choose_inner("auto", "gpu") == choose_inner("auto", "tpu") == "vmap"
    assert choose_inner("vmap", "cpu") == "vmap"


@pytest.mark.parametrize(
    ("devices", "members", "expected"),
    [(8, 1, 8), (8, 2, 4), (8, 3, 2), (8, 5, 1), (8, 10, 1), (6, 2, 3), (5, 2, 1), (1, 4, 1)],
)
def test_devices_without_a_member_share_the_batches_of_image_networks(devices, members, expected):
    assert choose_per_member(0, "auto", True, devices, members) == expected
    assert choose_per_member(0, "shard_map", True, devices, members) == expected
    assert choose_per_member(0, "pmap", True, devices, members) == 1
    assert choose_per_member(0, "auto", False, devices, members) == 1
    # A run that wanted two each is read back on any number.
    assert choose_per_member(2, "auto", True, devices, members) == 2 - devices % 2


def test_wrong_options_are_programming_errors():
    with pytest.raises(ValueError, match="inner"):
        map_members(fn, Devices.available("vmap"), inner="scan")
    with pytest.raises(ValueError, match="skip"):
        map_members(fn, Devices.available("vmap"), skip=lambda s: s)


@pytest.mark.slow
def test_predictions_agree_on_1_2_and_8_devices():
    """Members of unequal folds, trained on other device counts, differ by float64 rounding."""
    program = """
import sys, pathlib, tempfile, numpy as np
import toy
from moa_jax.training import layout, loop, predict
from moa_jax.training.parallel import Devices
from moa_jax.training.progress import MetricsLog
from moa_jax.training import rules
folder = pathlib.Path(sys.argv[1]); folder.mkdir()
stage = toy.stage(epochs=6, stop=rules.patience(2), lr=0.3)
devices = Devices.available("auto")
settings = layout.Settings(devices, members_at_once=8, steps_per_call=3)
loop.StageRun(stage, folder, settings, MetricsLog(folder, False)).fit()
ids = [m.id for m in stage.members]
predictor = predict.Predictor("toy", stage.forward, folder, ids, devices, stage.member_data)
values, *_ = predict.out_of_fold(stage, predictor, stage.targets)
from moa_jax.training import weights
epochs = [weights.read(folder / "members" / f"{own.name}.npz").epochs_run for own in ids]
np.savez(folder / "result.npz", values=values, epochs=epochs, strategy=devices.strategy)
"""
    import os
    import tempfile

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in (1, 2, 8):
            here = Path(__file__).parent
            environment = os.environ | {
                "JAX_NUM_CPU_DEVICES": str(count),
                "JAX_ENABLE_X64": "1",
                "PYTHONPATH": f"{here}{os.pathsep}{here.parent}",
            }
            target = Path(folder) / str(count)
            subprocess.run(
                [sys.executable, "-c", program, str(target)], env=environment, check=True
            )
            found[count] = dict(np.load(target / "result.npz"))
    assert [str(found[c]["strategy"]) for c in (1, 2, 8)] == ["vmap", "pmap", "pmap"]
    assert (found[1]["epochs"] < 6).any()  # some member stopped early
    for count in (2, 8):
        np.testing.assert_array_equal(found[count]["epochs"], found[1]["epochs"])
        np.testing.assert_allclose(found[count]["values"], found[1]["values"], atol=1e-6)


def test_one_device_is_the_one_that_is_chosen():
    chosen = jax.devices()[-1]
    with jax.default_device(chosen):
        assert Devices.available("vmap").devices == (chosen,)
    assert Devices.available("vmap").devices == (jax.devices()[0],)
