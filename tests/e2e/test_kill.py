"""A run killed at random moments and started again ends with the bytes of an untouched run."""

import collections
import random
import time

import pytest

from moa_jax.store.leftovers import TEMPORARY

ALL = "simple_nn_old,three_stage_nn,nn_tabnet,two_heads_resnet,efficientnet"
# A checkpoint after every call of two steps, and members in three groups.
OFTEN = (
    "--config.checkpoint.seconds=0",
    "--config.parallel.steps_per_call=2",
    "--config.parallel.members_at_once=2",
)
# What is logged when weights are found; figures, report and inference follow.
BLENDED = "blend: log loss"


def contents(workdir):
    """Returns every table of predictions, the submissions and the log of epochs, as bytes."""
    names = [workdir / "submission.csv", workdir / "metrics.jsonl", *workdir.rglob("*.parquet")]
    names += (workdir / "infer").rglob("submission.csv")
    return {str(path.relative_to(workdir)): path.read_bytes() for path in names}


def leftovers(workdir):
    """Returns what a killed run leaves and the next one must remove."""
    return [
        str(path.relative_to(workdir))
        for path in workdir.rglob("*")
        if TEMPORARY.fullmatch(path.name) or ".orbax-checkpoint-tmp" in path.name
    ]


def last(process):
    """Returns the number of lines of a run, and the seconds from the blend's weights to its end."""
    lines, blended = 0, time.monotonic()
    with process:
        for line in process.stderr:
            lines += 1
            if BLENDED in line:
                blended = time.monotonic()
    assert process.returncode == 0
    return lines, time.monotonic() - blended


def under_way(workdir, since):
    """Returns what a run that began at a time, in seconds, was about when it was killed."""
    for what, name in (
        ("inference", "blend/report.html"),
        ("report", "blend/weights.json"),
        ("blend", "blend/oof.parquet"),
    ):
        if (workdir / name).exists() and (workdir / name).stat().st_mtime >= since:
            return what
    return "training"


def kill_somewhere(process, late, most_lines, late_seconds):
    """Kills the process a moment after one of its next log lines, unless it ends before.

    A late kill comes after the blend's weights are found.
    """
    if late:
        for line in process.stderr:
            if BLENDED in line:
                break
        time.sleep(random.uniform(0, late_seconds))
    else:
        for _ in range(random.randint(1, most_lines)):
            if not process.stderr.readline():
                break
        time.sleep(random.uniform(0, 0.3))
    killed = process.poll() is None
    process.kill()
    _, errors = process.communicate()
    return killed, errors


@pytest.mark.parametrize(
    ("models", "least"),
    [
        pytest.param("simple_nn_old", 6, marks=pytest.mark.slow),
        pytest.param(ALL, 16, marks=pytest.mark.slow),
    ],
)
def test_killed_runs_end_with_the_same_bytes(launch, data, tmp_path, request, models, least):
    least = request.config.getoption("--kills") or least
    config = f"tests/e2e/tiny.py:{models}"
    often = (*OFTEN, f"--config.data.test_features={data / 'test_features.csv'}")
    whole = launch(tmp_path / "whole", *often, config=config, background=True)
    lines, _ = last(whole)
    expected = contents(tmp_path / "whole")
    assert any("infer" in name for name in expected)
    # Its programs are compiled now, as for all that follow.
    _, late_seconds = last(launch(tmp_path / "again", *often, config=config, background=True))
    assert contents(tmp_path / "again") == expected
    # So that the kills are spread over the whole run, a first start's and a resumed one's.
    most_lines = 3 * lines // least
    kills, finished, folder = collections.Counter(), 0, tmp_path / "killed0"
    while kills.total() < least or not finished:
        began = time.time()
        process = launch(folder, *often, config=config, background=True)
        if kills.total() < least:
            late = kills["training"] >= kills.total() - kills["training"]
            killed, errors = kill_somewhere(process, late, max(most_lines, 3), late_seconds)
        else:
            killed, (_, errors) = False, process.communicate()
        if killed:
            assert process.returncode == -9, errors
            kills[under_way(folder, began)] += 1
        else:
            assert process.returncode == 0, errors
            assert contents(folder) == expected
            assert leftovers(folder) == []
            finished += 1
            folder = tmp_path / f"killed{finished}"
    print(dict(kills), "finished:", finished)  # with -s or -rP
