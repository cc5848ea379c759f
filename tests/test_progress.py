"""Lines about work under way: the time that is left, and what takes long without showing it."""

import time

import pytest
import toy
from test_loop import fit

from moa_jax.training import loop, progress, waiting
from moa_jax.training.progress import StageProgress
from moa_jax.training.reuse import LastUsed


@pytest.fixture
def lines(monkeypatch):
    found = []
    for module in (progress, waiting):
        monkeypatch.setattr(
            module.logging, "info", lambda text, *values: found.append(text % values)
        )
    return found


def test_the_time_left_is_without_compilation(lines, monkeypatch):
    clock, compiled = [100.0], [7.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    stage = StageProgress("stage", 10, lambda: compiled[0])
    clock[0], compiled[0] = 165.0, 67.0  # a minute of compilation, 5 s of training
    stage.call(100, 0, 5)
    stage.close()
    assert lines == ["stage: epoch 1/5 under way; 20 rows/s, 45 s left"]


def test_a_stage_knows_what_it_compiled(tmp_path, monkeypatch):
    made = []

    class Noted(StageProgress):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append((self, self._compile_seconds()))

    monkeypatch.setattr(loop, "StageProgress", Noted)
    monkeypatch.setattr("moa_jax.training.reuse.PROGRAMS", LastUsed(10))
    fit(tmp_path, toy.stage(epochs=1))
    ((stage, before),) = made
    assert before == 0 < stage._compile_seconds()


def test_a_stage_that_fails_ends_its_bar(tmp_path, monkeypatch):
    """The line about it would stand behind the bar."""
    closed = []

    def fail(self, checkpoints):
        raise ZeroDivisionError

    monkeypatch.setattr(StageProgress, "close", lambda self: closed.append(self))
    monkeypatch.setattr(loop.StageRun, "_restore", fail)
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, toy.stage(epochs=1))
    assert len(closed) == 1


def test_what_takes_long_is_told_until_it_ends(lines, monkeypatch):
    monkeypatch.setattr(waiting, "SECONDS_BETWEEN_LINES", 0.05)
    with waiting.told("model: fitting") as begin:
        for number in (1, 2):
            begin(f"set {number} of 2")
            end = time.monotonic() + 5
            while not any(f"set {number}" in line for line in lines) and time.monotonic() < end:
                time.sleep(0.01)
    told = len(lines)
    time.sleep(0.15)
    assert len(lines) == told
    assert {line.partition(",")[0] for line in lines} == {
        "model: fitting: set 1 of 2", "model: fitting: set 2 of 2"
    }  # fmt: skip


def test_what_is_quick_is_not_told(lines):
    with pytest.raises(ZeroDivisionError), waiting.told("model"):
        1 / 0  # noqa: B018
    assert lines == []
