"""What a full disk, a link, a leftover and a second run are told of: one line, and nothing else."""

import contextlib
import errno
import fcntl
import logging
import os
import resource
import shutil
import warnings

import numpy as np
import pytest

from moa_jax.command import console
from moa_jax.errors import UserError
from moa_jax.estimators import saved
from moa_jax.store import disk, files, leftovers, lock
from moa_jax.store.workdir import Workdir
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
    assert disk.free(tmp_path / "a" / "b") == "3.0 MiB free on its file system"
    values[6] = values[7] = 0  # f_ffree, f_favail
    assert "and no more files free" in disk.free(tmp_path)


def test_a_checkpoint_on_a_full_disk(tmp_path, capfd):
    state = {"weights": np.arange(40_000.0).reshape(2, -1)}
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(1, Position(0, 0, 1), state)
    with pytest.raises(UserError, match="checkpoints: checkpoint cannot be written: .* free on "):
        with files_of_at_most(4096), Checkpoints(tmp_path / "checkpoints") as checkpoints:
            checkpoints.save(2, Position(0, 0, 2), state)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        position, _ = checkpoints.restore(lambda position: state)
    assert position == Position(0, 0, 1)
    assert capfd.readouterr().err == ""


def test_an_unfinished_checkpoint_is_removed_at_the_next_start(tmp_path):
    folder, state = tmp_path / "checkpoints", {"weights": np.arange(4.0)}
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, Position(0, 0, 1), state)
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
    lines = [line[9:] for line in (tmp_path / "log.txt").read_text().splitlines()]
    assert lines == ["a warning", "an error"]


def test_a_cache_of_programs_on_a_full_disk_is_told_once(monkeypatch, caplog):
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


def test_an_estimator_on_a_full_disk(tmp_path, monkeypatch):

    with files_of_at_most(10), pytest.raises(UserError, match=r"weights.npz: cannot be written"):
        from moa_jax.training import weights

        saved.weights.write(
            tmp_path / "weights.npz",
            weights.MemberWeights({"params": {"bias": np.zeros(9)}}, 1, 1, 0.5),
        )
    assert not list(tmp_path.iterdir())


# Links.


def test_nothing_is_written_through_a_link(tmp_path):
    own, outside = tmp_path / "own", tmp_path / "outside.txt"
    own.mkdir()
    outside.write_text("mine")
    for name in ("log.txt", ".lock", "metrics.jsonl", f".table.tmp-{os.getpid()}.csv"):
        (own / name).symlink_to(outside)
    with pytest.raises(UserError, match=r"log.txt: expected a file, found a link to .*outside"):
        files.append(own / "log.txt", "more")
    with pytest.raises(UserError, match=r"\.lock: expected a file, found a link to .*outside"):
        lock.hold(own)
    with pytest.raises(UserError, match=r"metrics.jsonl: expected a file, found a link"):
        MetricsLog(own, tensorboard=False).write([{}])
    files.write_text(own / "table.csv", "new")
    assert outside.read_text() == "mine" and (own / "table.csv").read_text() == "new"
    assert not (own / "table.csv").is_symlink()


def test_pipes_and_folders_are_not_appended_to(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(UserError, match="pipe: expected a file, found a folder, a pipe or a devi"):
        files.append(tmp_path / "pipe", "text")
    os.close(reader)
    for path in (tmp_path / "pipe", tmp_path):  # without a reader it would wait for one
        with pytest.raises(UserError, match="cannot be written"):
            files.append(path, "text")


def lockable(folder):
    workdir = Workdir(folder)
    try:
        workdir.lock()
    finally:
        if workdir._lock:
            workdir._lock.close()


@pytest.mark.parametrize("name", ["blend", "tensorboard", "infer/new", "model/scored/members"])
@pytest.mark.parametrize("target", ["folder", "absent", "file"])
def test_links_out_of_the_work_folder_are_refused(tmp_path, name, target):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    link = tmp_path / "run" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / target)
    with pytest.raises(UserError, match=f"{name}: expected no link that leads out of the work"):
        lockable(tmp_path / "run")


def test_links_within_and_to_the_work_folder_are_fine(tmp_path):
    (tmp_path / "real" / "a").mkdir(parents=True)
    (tmp_path / "real" / "b").symlink_to("a")
    (tmp_path / "real" / "circle").symlink_to("circle")
    (tmp_path / "run").symlink_to("real")
    lockable(tmp_path / "run")


# Leftovers.


def test_only_temporary_files_of_this_program_are_removed(tmp_path):
    removed = [".oof.tmp-12.parquet", "model/scored/.seed0_fold1.tmp-3.npz", ".a.b.tmp-7"]
    kept = [
        "oof.tmp-12.parquet", ".oof.tmp-.parquet", ".oof.tmp-x.parquet", ".oof.tmp-12.parquet.old",
        ".tmp-12.csv", "notes.txt", "another/.lock", "another/.oof.tmp-12.parquet",
        "another/model/.oof.tmp-12.parquet", ".folder.tmp-12.csv/inside",
    ]  # fmt: skip
    for name in removed + kept:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    leftovers.clean(tmp_path)
    found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert found == set(kept)


def test_leftovers_are_removed_under_the_lock_alone(tmp_path):
    left = tmp_path / ".oof.tmp-12.parquet"
    left.touch()
    held = lock.hold(tmp_path)
    with pytest.raises(UserError, match="another run is using"):
        lockable(tmp_path)
    assert left.exists()
    held.close()
    lockable(tmp_path)
    assert not left.exists()


def test_what_is_written_has_the_name_that_is_looked_for(tmp_path):
    for name in ("oof.parquet", "weights", "report.v1.html"):
        with files.replacing(tmp_path / name) as temporary:
            temporary.touch()
            assert leftovers.TEMPORARY.fullmatch(temporary.name)


# The lock.


def test_who_holds_the_lock_is_told(tmp_path):
    held = lock.hold(tmp_path)
    with pytest.raises(UserError) as raised:
        lock.hold(tmp_path)
    assert f": another run is using this work folder: process {os.getpid()} on " in str(
        raised.value
    )
    assert ", since 20" in str(raised.value)
    held.close()


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"host": 1}', "\0" * 99])
def test_a_holder_that_says_nothing_readable(tmp_path, content):
    (tmp_path / ".lock").write_text(content)
    with open(tmp_path / ".lock") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another run is using this work folder$"):
            lock.hold(tmp_path)
    held = lock.hold(tmp_path)  # it has ended, and what it said is replaced
    with pytest.raises(UserError, match=f"work folder: process {os.getpid()} on "):
        lock.hold(tmp_path)
    held.close()


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError, match=r"expected a file system with locks \(flock\), found none"):
        lock.hold(tmp_path)
