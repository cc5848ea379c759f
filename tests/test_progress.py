"""Lines about work under way: the time that is left, and what takes long without showing it."""

import time

import numpy as np
import pytest
import toy
from test_loop import fit

from moa_jax.errors import UserError
from moa_jax.training import loop, progress, waiting
from moa_jax.training.members import Member
from moa_jax.training.progress import StageProgress, epoch_records
from moa_jax.training.reuse import LastUsed
from moa_jax.training.trees import EpochReport


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


def test_members_of_a_nested_stage_are_told_by_what_they_leave_out():
    """Their number is that of no fold."""
    rows = np.arange(2)
    every = [Member(3, 7, rows, rows, rows, (1, 3)), Member(3, 7, rows, rows, rows, (3,))]
    losses = np.array([0.25, 0.5])
    nested, plain = epoch_records("stage", 0, 1, every, EpochReport(*[losses] * 3, losses > 0))
    assert progress._tag(nested) == "stage/seed3_without1-3" and progress._is_record(nested)
    assert progress._tag(plain) == "stage/seed3_fold7" and "blocks" not in plain
    diverged = EpochReport(losses, losses * np.nan, losses, losses > 0)
    for member, place in zip(every, ("without1-3", "fold 7"), strict=True):
        with pytest.raises(UserError, match=f"loss nan of seed 3, {place} in epoch 2"):
            epoch_records("stage", 0, 1, [member], diverged)
