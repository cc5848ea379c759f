"""Full disks and signals: one line, a status, and a restart that ends with the same bytes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from e2e import test_processes
from e2e.test_kill import contents, leftovers
from e2e.test_processes import DOUBLE, start_two

CONFIG = "tests/e2e/tiny.py:simple_nn_old"
GROUPS = ("--config.parallel.steps_per_call=2", "--config.parallel.members_at_once=3")
OFTEN = "--config.checkpoint.seconds=0"
LONGEST_LINE = 400


@pytest.fixture(scope="module")
def start(launch, data):
    """Starts a run of one model with inference; the rest is `launch`'s."""

    def start(workdir, *arguments, **options):
        features = f"--config.data.test_features={data / 'test_features.csv'}"
        return launch(workdir, *GROUPS, features, *arguments, config=CONFIG, **options)

    return start


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """The work folder of a run that nothing befell."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    result = start(workdir)
    assert result.returncode == 0, result.stderr
    return workdir


def ends_in_one_line(status, errors, expected, message):
    """Checks that what follows the log is the one line of the command's end."""
    assert status == expected, errors
    lines = [line for line in errors.splitlines() if line[2:3] != ":" or line[5:6] != ":"]
    assert len(lines) == 1 and lines[0].startswith("moa-jax: "), errors
    assert message in lines[0] and len(lines[0]) < LONGEST_LINE, errors


def goes_on(start, workdir, whole):
    result = start(workdir)
    assert result.returncode == 0, result.stderr
    assert contents(workdir) == contents(whole)
    assert leftovers(workdir) == []


def read_until(process, text):
    read = []
    for line in process.stderr:
        read.append(line)
        if text in line:
            break
    return "".join(read)


def not_blended(whole, workdir):
    shutil.copytree(whole, workdir)
    for name in ("blend", "infer"):
        shutil.rmtree(workdir / name)
    (workdir / "submission.csv").unlink()


def test_interrupted_training_goes_on_and_a_second_run_is_told_who_trains(start, whole, tmp_path):
    process = start(tmp_path / "run", background=True)
    errors = read_until(process, "epoch 1/3")
    second = start(tmp_path / "run")
    holder = f"another run is using this work folder: process {process.pid} on "
    ends_in_one_line(second.returncode, second.stderr, 1, holder)
    process.send_signal(signal.SIGTERM)
    errors += process.communicate(timeout=60)[1]
    message = "interrupted by SIGTERM; the same command goes on from "
    ends_in_one_line(process.returncode, errors, 143, message)
    goes_on(start, tmp_path / "run", whole)


def test_a_cache_of_programs_that_cannot_be_used_stops_nothing(start, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "infer")
    cache = tmp_path / "cache" / "moa_jax" / "xla"
    cache.parent.mkdir(parents=True)
    cache.touch()
    result = start(
        tmp_path / "run", "--mode=infer", env={"XDG_CACHE_HOME": str(tmp_path / "cache")}
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.count(f"{cache}: compiled programs cannot be read: ") == 1
    assert "Warning" not in result.stderr
    assert contents(tmp_path / "run") == contents(whole)


def test_an_interrupted_blend_leaves_nothing_half_written(start, whole, tmp_path):
    not_blended(whole, tmp_path / "run")
    process = start(tmp_path / "run", background=True)
    errors = read_until(process, "blend: log loss")
    process.send_signal(signal.SIGINT)
    errors += process.communicate(timeout=60)[1]
    ends_in_one_line(process.returncode, errors, 130, "interrupted by SIGINT; the same command")
    assert leftovers(tmp_path / "run") == []


def test_full_disk_in_training_and_again_with_room(start, whole, tmp_path):
    """A limit on the size of files stands for the full disk: every write past it fails."""
    limited = ("bash", "-c", 'ulimit -f 8; exec "$@"', "bash")
    result = start(tmp_path / "run", under=limited)
    ends_in_one_line(result.returncode, result.stderr, 1, "cannot be written: File too large")
    assert "free on its file system" in result.stderr
    goes_on(start, tmp_path / "run", whole)


@pytest.fixture
def disk(tmp_path):
    """Mounts a small disk in memory; returns its folder and what resizes it, in KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    sudo = ["sudo", "-n"] if os.geteuid() else []
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    try:
        if subprocess.run([*sudo, *mount], capture_output=True, check=False).returncode:
            pytest.skip("this user may not mount")
    except FileNotFoundError:
        pytest.skip("no mount here")

    def resize(size):
        subprocess.run([*sudo, "mount", "-o", f"remount,size={size}k", folder], check=True)

    yield folder, resize
    subprocess.run([*sudo, "umount", folder], check=True)


def used(folder):
    return int(subprocess.check_output(["du", "-sk", folder], text=True).split()[0])


@pytest.mark.slow
@pytest.mark.parametrize("part", [i / 15 for i in range(15)])
def test_disk_that_fills_while_a_run_trains(start, whole, disk, part):
    folder, resize = disk
    resize(4 + int(part * (used(whole) - 60)))
    result = start(folder / "run", OFTEN)
    ends_in_one_line(result.returncode, result.stderr, 1, "free on its file system")
    resize(65536)
    goes_on(start, folder / "run", whole)


@pytest.mark.slow
@pytest.mark.parametrize("room", [4, 8, 16, 24, 32, 48, 64, 80])
def test_disk_that_fills_while_a_run_blends_and_predicts(start, whole, disk, room):
    folder, resize = disk
    not_blended(whole, folder / "run")
    resize(used(folder) + room)
    result = start(folder / "run")
    ends_in_one_line(result.returncode, result.stderr, 1, "free on its file system")
    resize(65536)
    goes_on(start, folder / "run", whole)


def wait_until_handled(process, number):
    """Waits until the process catches a signal: before, Python has not come to the command."""
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        if int(status.partition("SigCgt:")[2].split()[0], 16) >> (number - 1) & 1:
            return
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which signals are caught")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_interrupted_anywhere(start, whole, tmp_path, name):
    """Signals at random moments, while modules are read too."""
    number, told, workdir = getattr(signal, name), 0, tmp_path / "run0"
    for attempt in range(1, 13):
        process = start(workdir, background=True)
        wait_until_handled(process, signal.SIGUSR1)  # it comes last
        lines, read = random.choice([0, random.randint(1, 16)]), []
        for _ in range(lines):
            read.append(process.stderr.readline())
        time.sleep(random.uniform(0, 0.5 if lines else 3))
        process.send_signal(number)
        errors = "".join(read) + process.communicate(timeout=90)[1]
        # As the system ends it when the command has ended.
        if process.returncode in (0, -number):
            assert contents(workdir) == contents(whole), errors
            workdir = tmp_path / f"run{attempt}"
            continue
        ends_in_one_line(process.returncode, errors, 128 + number, f"interrupted by {name};")
        assert not workdir.exists() or leftovers(workdir) == []
        told += 1
        if told == 6:
            break
    assert told >= 3
    goes_on(start, workdir, whole)


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_ends_both(launch, tmp_path):
    two = start_two(launch, tmp_path / "run", CONFIG)
    errors = [read_until(two[0], "epoch 1/3"), ""]
    two[1].send_signal(signal.SIGTERM)
    for number, process in enumerate(two):
        errors[number] += process.communicate(timeout=90)[1]
        ends_in_one_line(
            process.returncode, errors[number], 143, "interrupted by SIGTERM; the same"
        )
    assert "simple_nn_old/scored, epoch " in errors[0]
    result = launch(tmp_path / "run", *test_processes.OFTEN, config=CONFIG, env=DOUBLE)
    assert result.returncode == 0, result.stderr
    assert "damaged" not in result.stderr
    assert "epoch 1/3" not in result.stderr
