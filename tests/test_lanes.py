"""Lanes: members of one CPU side by side are those one after another, bit for bit."""

import threading

import jax
import numpy as np
import pytest
import toy
from test_loop import Stopped, fit, flat, kept, records, stop_after

from moa_jax.store import cores
from moa_jax.training import footprint, lanes, rules
from moa_jax.training.lanes import Lanes
from moa_jax.training.parallel import Devices
from moa_jax.training.predict import Predictor, out_of_fold
from moa_jax.training.slots import Slots

# All of a stage in one group, or in two, each call saved.
WHOLE, SAVED = {"members_at_once": 8}, {"members_at_once": 5, "checkpoint_seconds": 0}


def test_what_this_thread_asks_of_jax_holds_for_all_lanes():
    def asked(_):
        names = ("debug_nans", "disable_jit", "transfer_guard_host_to_device")
        return [getattr(jax.config, f"jax_{name}") for name in names]

    before = lanes.side_by_side(asked, [(0,), (1,)])
    assert before[:2] == [Lanes((False, False)), Lanes((False, False))]
    with jax.debug_nans(True), jax.disable_jit(True), jax.transfer_guard("log"):
        found = lanes.side_by_side(asked, [(0,), (1,)])
    assert found == [Lanes((True, True)), Lanes((True, True)), Lanes(("log", "log"))]


def on_cores(monkeypatch, count):
    monkeypatch.setattr(cores, "available", lambda: count)


def dense(**changes):
    """The toy stage with members that stop at different epochs."""
    return toy.stage(inner="auto", stop=rules.patience(1), lr=0.3, **changes)


def same(first, second):
    one, other = kept(first), kept(second)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(flat(one[name]), flat(other[name]))
        assert one[name][1:] == other[name][1:]
    assert records(first) == records(second)


@pytest.mark.parametrize(
    ("members", "cores", "expected"),
    [(14, 2, 2), (13, 2, 2), (9, 4, 3), (5, 16, 3), (3, 2, 2), (2, 2, 1), (1, 8, 1), (8, 1, 1)],
)
def test_lanes_fill_the_cores_and_have_two_members_each(monkeypatch, members, cores, expected):
    on_cores(monkeypatch, cores)
    devices = Devices.available("vmap").in_lanes("auto", members)
    assert devices.lanes == expected
    slots = devices.slots(members, members)
    assert slots.num_shards == expected and slots.num_slots - members < slots.per_shard


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("cores", [2, 3])
def test_a_stage_in_lanes_has_the_same_bits(tmp_path, monkeypatch, cores):
    stage, found = dense(), {}
    for count in (1, cores):
        folder = tmp_path / str(count)
        on_cores(monkeypatch, count)
        run = fit(folder, stage, **WHOLE)
        assert run.settings.devices.lanes == count
        devices = Devices.available("vmap")
        ids, data = [member.id for member in stage.members], stage.member_data
        predictor = Predictor("toy", stage.forward, folder, ids, devices, data)
        assert predictor.devices.lanes == count
        found[count] = out_of_fold(stage, predictor, stage.targets).values
    same(tmp_path / "1", tmp_path / str(cores))
    assert len({w.epochs_run for w in kept(tmp_path / "1").values()}) > 1
    np.testing.assert_array_equal(found[1], found[cores])


def test_a_run_goes_on_with_other_lanes(tmp_path, monkeypatch):
    stage = dense(epochs=3)
    on_cores(monkeypatch, 1)
    fit(tmp_path / "whole", stage, **SAVED)
    on_cores(monkeypatch, 2)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, 4)
        fit(tmp_path / "resumed", stage, **SAVED)
    on_cores(monkeypatch, 4)
    fit(tmp_path / "resumed", stage, **SAVED)
    same(tmp_path / "whole", tmp_path / "resumed")


def test_lanes_are_called_side_by_side():
    meeting = threading.Barrier(3, timeout=60)
    found = lanes.side_by_side(lambda number: meeting.wait() and number, [(1,), (2,), (3,)])
    assert isinstance(found, Lanes) and sum(number == 0 for number in found.parts) == 1


def test_what_a_lane_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        lanes.side_by_side(lambda number: 1 // number, [(1,), (0,)])


def test_one_program_serves_all_lanes(tmp_path, monkeypatch):
    on_cores(monkeypatch, 2)
    assert fit(tmp_path, dense(epochs=1), **WHOLE).compilations == 3


def test_neighbours_train_side_by_side_and_padding_not_at_all(tmp_path, monkeypatch):
    on_cores(monkeypatch, 2)
    stage = dense(folds=3, seeds=(0,), epochs=1)
    group = fit(tmp_path, stage, **WHOLE).group(0)
    placed = group.put(np.arange(3))
    assert [part.tolist() for part in placed.parts] == [[[0, 2]], [[1, 0]]]
    state = group.init()
    assert np.asarray(state.active).tolist() == [[True, True], [True, False]]
    resumed = group.resumed(group.slots.unpad(state))
    assert np.asarray(resumed.active).tolist() == [[True, True], [True, False]]
    state = group.train_steps(state, 0)
    steps = stage.steps_per_epoch(stage.members[0])
    assert np.asarray(state.step)[1, 1] == 0 < steps == np.asarray(state.step)[0, 0]
    assert group.slots.unpad(state.step).shape == (3,)


def test_lanes_are_of_dense_networks_on_one_cpu(monkeypatch):
    on_cores(monkeypatch, 2)
    one, several = Devices.available("vmap"), Devices.available("pmap")
    assert one.in_lanes("auto", 8).lanes == 2
    for devices, inner in ((one, "vmap"), (one, "loop"), (several, "auto")):
        assert devices.in_lanes(inner, 8) is devices
    monkeypatch.setattr(Devices, "inner", lambda self, name: "vmap")  # as on a GPU
    assert one.in_lanes("auto", 8) is one


def test_every_lane_has_a_batch_in_memory(monkeypatch):
    stage, found = dense(), []
    for count in (1, 2):
        on_cores(monkeypatch, count)
        found.append(footprint.of_stage(stage, Devices.available("vmap"), 8, 3).batches)
    tables = 8 * 4 * 3 * stage.batch_size
    assert found[1] - tables == 2 * (found[0] - tables)


def test_a_whole_array_is_that_of_its_lanes():
    array = np.arange(24.0).reshape(3, 4, 2)
    cut = lanes.cut({"a": array}, jax.device_put)["a"]
    np.testing.assert_array_equal(np.asarray(cut), array)
    assert lanes.cut(cut, jax.device_put) is cut
    np.testing.assert_array_equal(Slots(12, 3, 4).unpad(cut), array.swapaxes(0, 1).reshape(12, 2))
