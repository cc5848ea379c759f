"""Checkpoints: one that is damaged, or of something else, is left out or told in one line."""

import errno
import json
import os
import signal
import time

import jax
import numpy as np
import pytest

from moa_jax.errors import UserError
from moa_jax.store import processes, signals
from moa_jax.training import checkpoints
from moa_jax.training.checkpoints import Checkpoints, Position
from moa_jax.training.parallel import Devices
from moa_jax.training.slots import Slots

STATE = {"weight": np.arange(3.0, dtype=np.float32)}
TEMPLATE = {"weight": jax.ShapeDtypeStruct((3,), np.float32)}


def mine(position):
    return f"mine {position.group}"


@pytest.fixture
def folder(tmp_path):
    with Checkpoints(tmp_path / "saved", mine) as saved:
        for number in (1, 2):
            saved.save(Position(0, number, 0), STATE)
    return tmp_path / "saved"


def restored(folder, origin=mine):
    with Checkpoints(folder, origin) as saved:
        return saved.restore(lambda position: TEMPLATE)


def test_a_changed_position_is_noticed(folder, caplog):
    path = folder / "2" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    meta["position"]["epoch"] = 7
    path.write_text(json.dumps(meta))
    position, state = restored(folder)
    assert position == Position(0, 1, 0) and "damaged checkpoint is left out" in caplog.text
    np.testing.assert_array_equal(state["weight"], STATE["weight"])


def test_damaged_arrays_are_one_line(tmp_path, monkeypatch):
    """Reads of other arrays, which a failed one leaves behind, have nothing to add."""
    state = {str(i): np.random.default_rng(i).random((50, 20)) for i in range(30)}
    like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), state)
    with Checkpoints(tmp_path) as saved:
        saved.save(Position(0, 1, 0), state)
    folder = tmp_path / "1" / "state"
    largest = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    largest.write_bytes(bytes(largest.stat().st_size))
    told = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: told.append(unraisable.exc_value))
    with Checkpoints(tmp_path) as saved:
        assert saved.restore(lambda position: like) is None
    time.sleep(0.2)  # until what was left behind has ended
    assert told == []


@pytest.mark.parametrize("shape", [(6,), (3, 3), (3, 2, 1)])
def test_arrays_of_another_shape_are_left_out(tmp_path, shape):
    """Their bytes may be the same."""
    with Checkpoints(tmp_path) as saved:
        saved.save(Position(0, 1, 0), {"weight": np.arange(6.0).reshape(3, 2)})
        other = {"weight": jax.ShapeDtypeStruct(shape, np.float64)}
        saved.wait()
        assert saved.restore(lambda position: other) is None


def test_checkpoints_of_another_run_are_left_out(folder, caplog):
    """They are sound, which those that do not say whose they are may not be."""
    path = folder / "2" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    del meta["of"]
    path.write_text(json.dumps(meta))
    assert restored(folder, lambda position: "another") is None
    assert f"{folder / '2'}: damaged checkpoint is left out: its checksum differs" in caplog.text
    assert f"{folder / '1'}: checkpoint is left out: it is of another run" in caplog.text
    assert restored(folder)[0] == Position(0, 1, 0), "a sound one was removed"


def test_checkpoints_of_something_else_stay_until_newer_ones_are_saved(folder, caplog):
    with Checkpoints(folder, lambda position: "another", made_with="a.field=3") as saved:
        assert saved.restore(lambda position: TEMPLATE) is None
        saved.save(Position(0, 0, 1), STATE)
    assert restored(folder)[0] == Position(0, 2, 0)
    assert "a.field=3 go on from it as long as it is there" in caplog.text
    with Checkpoints(folder, lambda position: "another") as saved:
        saved.save(Position(0, 0, 2), STATE)
    assert sorted(path.name for path in folder.iterdir()) == ["3", "4"]


def test_checkpoints_that_do_not_say_whose_they_are_are_read(folder):
    for number in "12":
        path = folder / number / "meta" / "metadata"
        meta = json.loads(path.read_text())
        del meta["of"], meta["made_with"]
        (meta["crc32"],) = meta["crc32"]
        path.write_text(json.dumps(meta))
    assert restored(folder)[0] == Position(0, 2, 0)


def test_checkpoints_are_cleared(folder):
    with Checkpoints(folder, mine) as saved:
        saved.clear()
        assert saved.restore(lambda position: TEMPLATE) is None
        saved.save(Position(0, 1, 0), STATE)
    assert restored(folder)[0] == Position(0, 1, 0)


def test_what_cannot_be_opened_is_one_line(folder):
    (folder / "2" / "_CHECKPOINT_METADATA").write_text("[" * 100_000)
    with pytest.raises(UserError, match="saved: damaged, delete this folder: maximum recursion"):
        restored(folder)
    (folder.parent / "file").touch()
    with pytest.raises(UserError, match="file: expected a folder of checkpoints, found a file"):
        restored(folder.parent / "file")


def test_names_that_are_no_checkpoints_are_passed_over(folder):
    for name in ("junk", "-5", "3.5", "9" * 30, "50"):
        (folder / name).mkdir()
    (folder / "7").touch()
    (folder / "8").symlink_to("nowhere")
    assert restored(folder)[0] == Position(0, 2, 0)


def test_a_signal_waits_until_checkpoints_are_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(signals, "_STATE", signals._Signals())
    closed = []

    def interrupted():
        signals._STATE.receive(signal.SIGINT, None)

    with pytest.raises(signals.Interrupted), Checkpoints(tmp_path / "checkpoints") as checkpoints:
        close = checkpoints._manager.close
        monkeypatch.setattr(checkpoints._manager, "wait_until_finished", interrupted)
        monkeypatch.setattr(checkpoints._manager, "close", lambda: closed.append(close()))
    assert closed == [None]


@pytest.fixture(params=[1, 2], ids=["", "two devices each"])
def spread(request):
    """Five members on the devices: their places, their arrays there and on the host."""
    if len(jax.devices()) % request.param:
        pytest.skip("needs an even number of devices")
    devices = Devices.available("shard_map").sharing_batches(request.param)
    slots = Slots(5, devices.num_shards, -(-5 // devices.num_shards))
    members = {"w": np.arange(30, dtype=np.float32).reshape(5, 6), "step": np.arange(5, dtype="i4")}
    return slots, devices.put_members(slots.pad(members)), members


def shapes(members):
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), members)


def test_shards_are_saved_as_they_lie_and_read_as_members(tmp_path, spread):
    """Wherever they are read: their number is nowhere asked for."""
    slots, arrays, members = spread
    with Checkpoints(tmp_path, mine) as saved:
        saved.save(Position(0, 1, 0), arrays)
        jax.block_until_ready(
            jax.jit(lambda t: jax.tree.map(lambda a: -a, t), donate_argnums=0)(arrays)
        )
    meta = json.loads((tmp_path / "1" / "meta" / "metadata").read_text())
    assert len(meta["crc32"]) == slots.num_shards
    with Checkpoints(tmp_path, mine) as saved:
        position, found = saved.restore(lambda position: shapes(members))
    assert position == Position(0, 1, 0)
    jax.tree.map(np.testing.assert_array_equal, found, members)


@pytest.mark.parametrize("change", ["another", "fewer"])
def test_every_shard_has_its_checksum(tmp_path, spread, change, caplog):
    _, arrays, members = spread
    with Checkpoints(tmp_path, mine) as saved:
        saved.save(Position(0, 1, 0), arrays)
    path = tmp_path / "1" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    last = meta["crc32"].pop()
    if change == "another":
        meta["crc32"].append(last ^ 1)
    path.write_text(json.dumps(meta))
    with Checkpoints(tmp_path, mine) as saved:
        assert saved.restore(lambda position: shapes(members)) is None
    assert "damaged checkpoint is left out" in caplog.text


def test_checksums_come_from_the_processes_that_hold_the_shards(tmp_path, spread, monkeypatch):
    slots, arrays, members = spread
    own = checkpoints._held

    def first_half(array):
        return {shard: part for shard, part in own(array).items() if shard < slots.num_shards / 2}

    def others(found):
        monkeypatch.setattr(checkpoints, "_held", lambda array: {
            shard: part for shard, part in own(array).items() if shard >= slots.num_shards / 2
        })  # fmt: skip
        return found

    whole = checkpoints._checksums(arrays, "described")
    halves = []
    monkeypatch.setattr(processes, "gathered", lambda found: halves.append(found) or found[None])
    monkeypatch.setattr(checkpoints, "_held", first_half)
    checkpoints._checksums(arrays, "described")
    others(None)
    checkpoints._checksums(arrays, "described")
    assert np.stack(halves).max(0).tolist() == whole
    monkeypatch.setattr(processes, "gathered", lambda found: np.stack([found, halves[0]]))
    assert checkpoints._checksums(arrays, "described") == whole


def test_one_process_that_finds_damage_decides_for_all(folder, monkeypatch, caplog):
    found = iter([2, 0])
    monkeypatch.setattr(
        processes, "gathered", lambda own: np.stack([own, np.array(next(found), own.dtype)])
    )
    assert restored(folder)[0] == Position(0, 1, 0)
    said = f"{folder / '2'}: damaged checkpoint is left out: another process finds it so"
    assert said in caplog.text and not (folder / "2").exists()


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (MemoryError(), MemoryError, "^$"),
        (TimeoutError(), TimeoutError, "^$"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: x"), jax.errors.JaxRuntimeError, "RESOUR"),
        *[
            (OSError(number, os.strerror(number)), UserError, rf"saved/2: checkpoint cannot be "
             rf"read: {os.strerror(number)}; mend that")
            for number in (errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOMEM)
        ],
        # As tensorstore has it.
        (ValueError("PERMISSION_DENIED: Error reading local file \"/a/manifest.ocdbt\": Failed to "
         "open: \"/a/manifest.ocdbt\": Permission denied [os_error_code='13']"), UserError,
         "saved/2: checkpoint cannot be read: Permission denied; mend that"),
    ],
)  # fmt: skip
def test_what_is_no_damage_removes_nothing(folder, monkeypatch, error, raised, message):
    def fail(*arguments):
        raise error

    with monkeypatch.context() as patch, pytest.raises(raised, match=message):
        patch.setattr(checkpoints, "_read_each", fail)
        restored(folder)
    assert restored(folder)[0] == Position(0, 2, 0)


def test_a_signal_while_a_checkpoint_is_read_removes_nothing(folder, monkeypatch):
    """A library may have made another error of what the signal raised."""

    def fail(*arguments):
        try:
            signals._STATE.receive(signal.SIGINT, None)
        except signals.Interrupted:
            raise ValueError("cancelled") from None

    with monkeypatch.context() as patch, pytest.raises(signals.Interrupted):
        patch.setattr(signals, "_STATE", signals._Signals())
        patch.setattr(checkpoints, "_read_each", fail)
        restored(folder)
    assert restored(folder)[0] == Position(0, 2, 0)


def test_files_that_are_missing_are_damage(folder, monkeypatch):
    for number in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
        error = OSError(number, os.strerror(number))
        assert checkpoints._check_is_damage(folder, error) is None
