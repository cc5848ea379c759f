"""What a full disk is told of: one line, and nothing else."""

import contextlib
import errno
import logging
import os
import resource
import shutil
import warnings

import jax
import numpy as np
import pytest

from moa_jax.command import console
from moa_jax.errors import UserError
from moa_jax.store import disk, files
from moa_jax.training import weights
from moa_jax.training.checkpoints import Checkpoints, Position
from moa_jax.training.progress import MetricsLog


@contextlib.contextmanager
def files_of_at_most(size):
    """A limit on the size of files stands for a full disk: every write past it fails."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def caused_by(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EFBIG, "File too large"),
        OSError("Error writing bytes to file. Detail: [errno 28] No space left on device"),
        ValueError("RESOURCE_EXHAUSTED: ... [OS error 28: ENOSPC No space left on device]\nmore"),
        caused_by(RuntimeError("a writer failed"), OSError(errno.ENOSPC, "full")),
    ],
)
def test_a_full_disk_is_one_line_with_the_free_space(tmp_path, error):
    with pytest.raises(UserError) as raised, files.writing(tmp_path / "absent" / "table.csv"):
        raise error
    line = str(raised.value)
    assert line.startswith(f"{tmp_path}/absent/table.csv: cannot be written: ")
    assert "iB free on its file system" in line and "\n" not in line


def test_other_errors_are_what_they_were(tmp_path):
    with pytest.raises(UserError, match=r"cannot be written: Permission denied$"):
        with files.writing(tmp_path):
            raise PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(ZeroDivisionError), files.writing(tmp_path):
        raise ZeroDivisionError
    assert not disk.is_full(OSError(errno.EACCES, "no"))


def test_free_space_is_that_of_the_file_system(tmp_path, monkeypatch):
    found = os.statvfs(tmp_path)
    values = [3 * 2**20 // 4096 if i == 4 else value for i, value in enumerate(found)]
    values[0] = values[1] = 4096
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(values))
    assert disk.free(tmp_path / "a" / "b") == "3 MiB free on its file system"
    values[6] = values[7] = 0  # f_ffree, f_favail
    assert "and no more files free" in disk.free(tmp_path)


def test_a_checkpoint_on_a_full_disk(tmp_path, capfd):
    state = {"weights": np.arange(40_000.0).reshape(2, -1)}
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(Position(0, 0, 1), state)
    with pytest.raises(UserError, match="checkpoints: checkpoint cannot be written: .* free on "):
        with files_of_at_most(4096), Checkpoints(tmp_path / "checkpoints") as checkpoints:
            checkpoints.save(Position(0, 0, 2), state)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        position, _ = checkpoints.restore(lambda position: state)
    assert position == Position(0, 0, 1)
    assert capfd.readouterr().err == ""


def test_an_unfinished_checkpoint_is_removed_at_the_next_start(tmp_path):
    folder, state = tmp_path / "checkpoints", {"weights": np.arange(4.0)}
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(Position(0, 0, 1), state)
    shutil.copytree(folder / "1", folder / "2.orbax-checkpoint-tmp")
    (folder / "3.orbax-checkpoint-tmp-17").touch()
    with Checkpoints(folder) as checkpoints:
        assert [path.name for path in folder.iterdir()] == ["1"]
        position, _ = checkpoints.restore(lambda position: state)
    assert position == Position(0, 0, 1)
    assert [path.name for path in folder.iterdir()] == ["1"]


def test_checkpoints_that_cannot_be_closed(tmp_path, monkeypatch):
    def close():
        raise OSError(errno.ENOSPC, "No space left on device")

    checkpoints = Checkpoints(tmp_path / "checkpoints")
    own = checkpoints._manager.close
    monkeypatch.setattr(checkpoints._manager, "close", close)
    with pytest.raises(UserError, match="checkpoint cannot be written"), checkpoints:
        pass
    with pytest.raises(ZeroDivisionError), checkpoints:  # the first error is the one to tell
        raise ZeroDivisionError
    own()


def test_a_log_of_epochs_on_a_full_disk(tmp_path):
    log = MetricsLog(tmp_path, tensorboard=False)
    record = {"stage": "m/s", "group": 0, "epoch": 1, "seed": 0, "fold": 0,
              "train_loss": 0.5, "valid_loss": 0.5}  # fmt: skip
    with files_of_at_most(150), pytest.raises(UserError, match=r"metrics.jsonl: cannot be writ"):
        log.write([record] * 5)
    log.cut_back("m/s", 0, 1)
    assert log.read() == [record]  # the torn line is cut


def test_scalars_for_tensorboard_on_a_full_disk(tmp_path):
    pytest.importorskip("tensorboardX")
    log = MetricsLog(tmp_path)
    record = {"stage": "m/s", "group": 0, "epoch": 1, "seed": 0, "fold": 0,
              "train_loss": 0.5, "valid_loss": 0.5}  # fmt: skip
    with files_of_at_most(2000), pytest.raises(UserError, match=r"tensorboard: cannot be written"):
        for _ in range(9):  # metrics.jsonl stays short
            (tmp_path / "metrics.jsonl").unlink(missing_ok=True)
            log.write([record] * 5)
    log.close()


@pytest.fixture
def root_logger():
    """Gives the root logger its handlers back."""
    root, absl = logging.getLogger(), logging.getLogger("absl")
    before, level = list(root.handlers), absl.level
    yield root
    for handler in root.handlers:
        if handler not in before:
            handler.close()
    root.handlers[:] = before
    absl.setLevel(level)


def say(text, pathname=console.__file__, level=logging.INFO):
    logger = logging.getLogger("absl")
    logger.handle(logger.makeRecord("absl", level, pathname, 1, text, (), None))


def test_a_log_on_a_full_disk_ends_the_run_once(tmp_path, root_logger, capfd):
    console.start_log(tmp_path / "log.txt")
    say("first")
    with files_of_at_most(20):
        with pytest.raises(UserError, match=r"log.txt: cannot be written: .* free on"):
            say("second " * 9)
        say("third")  # lines about the end of the run raise nothing more
    assert (tmp_path / "log.txt").read_text().splitlines()[0].endswith(" first")
    assert "Traceback" not in capfd.readouterr().err


def test_what_libraries_log(tmp_path, root_logger, capfd):
    console.start_log(tmp_path / "log.txt")
    say("a warning", "/venv/jax/x.py", logging.WARNING)
    say("every step", "/home/moa_jax/.venv/jax/x.py", logging.INFO)
    say("raised as well", "/venv/orbax/checkpoint/x.py", logging.ERROR)
    say("an error", "/venv/jax/x.py", logging.ERROR)
    say("of\ntwo lines", "/venv/jax/x.py", logging.ERROR)
    lines = [line[9:] for line in (tmp_path / "log.txt").read_text().splitlines()]
    assert lines == ["a warning", "an error", r"of\ntwo lines"]


@pytest.fixture
def programs():
    """Leaves this process the folder and the threshold of compiled programs that it has."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: jax.config.values[name] for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_cache_of_programs_on_a_full_disk_is_told_once(programs, monkeypatch, caplog):
    shown = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *rest: shown.append(message))
    console.use_compilation_cache()
    for program in ("jit_a", "jit_b"):
        text = (
            f"Error writing persistent compilation cache entry for '{program}': OSError: "
            "[Errno 28] No space left on device"
        )
        warnings.showwarning(UserWarning(text), UserWarning, "compiler.py", 1)
    warnings.showwarning(UserWarning("another"), UserWarning, "x.py", 1)
    assert len(caplog.messages) == 1 and len(shown) == 1
    assert "compiled programs cannot be kept: [Errno 28] No space left" in caplog.messages[0]


def test_programs_that_were_used_last_are_kept(tmp_path):
    """Within a bound, in our own folder; what else lies there stays."""
    programs = {f"jit_{name}-cache": age for age, name in enumerate("dacb")}
    for name, age in programs.items():
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (1e9 - age, 1e9 - 1000))
    (tmp_path / "else").write_bytes(bytes(1000))
    console.remove_oldest(tmp_path, 400)
    assert {path.name for path in tmp_path.iterdir()} == {*programs, "else"}
    console.remove_oldest(tmp_path, 250)
    assert {path.name for path in tmp_path.iterdir()} == {"jit_d-cache", "jit_a-cache", "else"}
    console.remove_oldest(tmp_path / "none", 0)
    console.remove_oldest(tmp_path / "else", 0)


def test_only_our_own_folder_of_programs_is_bounded(programs, tmp_path, monkeypatch):
    bounded = []
    monkeypatch.setattr(console, "remove_oldest", lambda *given: bounded.append(given))
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for told, expected in ((str(tmp_path / "theirs"), []), (None, [tmp_path / "moa_jax/xla"])):
        jax.config.update("jax_compilation_cache_dir", told)
        console.use_compilation_cache()
        assert bounded == [(path, console.MOST_KEPT) for path in expected]
        assert jax.config.jax_persistent_cache_min_compile_time_secs == 0


def test_a_network_on_a_full_disk(tmp_path):
    network = weights.MemberWeights({"params": {"bias": np.zeros(9)}}, 1, 1, 0.5)
    with files_of_at_most(10), pytest.raises(UserError, match=r"weights.npz: cannot be written"):
        weights.write(tmp_path / "weights.npz", network)
    assert not list(tmp_path.iterdir())
