"""A run killed at random moments and started again ends with the bytes of an untouched run."""

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
    for line in process.stderr:
        lines += 1
        if BLENDED in line:
            blended = time.monotonic()
    assert process.wait() == 0
    return lines, time.monotonic() - blended


def kill_somewhere(process, most_lines, late_seconds):
    """Kills the process a moment after one of its next log lines, unless it ends before.

    Half of the kills come after the blend's weights are found.
    """
    if random.random() < 0.5:
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
        pytest.param("simple_nn_old,nn_tabnet", 6, marks=pytest.mark.slow),
        pytest.param(ALL, 16, marks=pytest.mark.slow),
    ],
)
def test_killed_runs_end_with_the_same_bytes(launch, data, tmp_path, request, models, least):
    least = request.config.getoption("--kills") or least
    config = f"tests/e2e/tiny.py:{models}"
    often = (*OFTEN, f"--config.data.test_features={data / 'test_features.csv'}")
    lines, late_seconds = last(launch(tmp_path / "whole", *often, config=config, background=True))
    expected = contents(tmp_path / "whole")
    assert any("infer" in name for name in expected)
    # So that the kills are spread over the whole run, a first start's and a resumed one's.
    most_lines = 3 * lines // least
    kills, finished, folder = 0, 0, tmp_path / "killed0"
    while kills < least or not finished:
        process = launch(folder, *often, config=config, background=True)
        if kills < least:
            killed, errors = kill_somewhere(process, max(most_lines, 3), late_seconds)
        else:
            killed, (_, errors) = False, process.communicate()
        if killed:
            assert process.returncode == -9, errors
            kills += 1
        else:
            assert process.returncode == 0, errors
            assert contents(folder) == expected
            assert leftovers(folder) == []
            finished += 1
            folder = tmp_path / f"killed{finished}"
