"""Checkpoints: one that is damaged, or of something else, is left out or told in one line."""

import json
import signal
import time

import jax
import numpy as np
import pytest

from moa_jax.errors import UserError
from moa_jax.store import signals
from moa_jax.training.checkpoints import Checkpoints, Position

STATE = {"weight": np.arange(3.0, dtype=np.float32)}
TEMPLATE = {"weight": jax.ShapeDtypeStruct((3,), np.float32)}


def mine(position):
    return f"mine {position.group}"


@pytest.fixture
def folder(tmp_path):
    with Checkpoints(tmp_path / "saved", mine) as saved:
        for number in (1, 2):
            saved.save(number, Position(0, number, 0), STATE)
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
        saved.save(1, Position(0, 1, 0), state)
    folder = tmp_path / "1" / "state"
    largest = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    largest.write_bytes(bytes(largest.stat().st_size))
    told = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: told.append(unraisable.exc_value))
    with Checkpoints(tmp_path) as saved:
        assert saved.restore(lambda position: like) is None
    time.sleep(0.2)  # until what was left behind has ended
    assert told == []


def test_arrays_of_another_shape_are_left_out(folder):
    """Their bytes are the same."""
    with Checkpoints(folder, mine) as saved:
        other = {"weight": jax.ShapeDtypeStruct((3, 1), np.float32)}
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


def test_checkpoints_that_do_not_say_whose_they_are_are_read(folder):
    for number in "12":
        path = folder / number / "meta" / "metadata"
        meta = json.loads(path.read_text())
        del meta["of"]
        path.write_text(json.dumps(meta))
    assert restored(folder)[0] == Position(0, 2, 0)


def test_checkpoints_are_cleared(folder):
    with Checkpoints(folder, mine) as saved:
        saved.clear()
        assert saved.restore(lambda position: TEMPLATE) is None
        saved.save(1, Position(0, 1, 0), STATE)
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
