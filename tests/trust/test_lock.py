"""The lock of a work folder: who holds it, and what it guards from links and leftovers."""

import errno
import fcntl
import os

import pytest

from moa_jax.errors import UserError
from moa_jax.store import files, leftovers, lock
from moa_jax.store.workdir import Workdir
from moa_jax.training.progress import MetricsLog


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

    def remaining():
        leftovers.clean(tmp_path)
        return {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}

    # Folders of what is no work folder yet are somebody else's.
    assert remaining() == {*kept, "model/scored/.seed0_fold1.tmp-3.npz"}
    (tmp_path / "config.json").touch()
    assert remaining() == {*kept, "config.json"}


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
