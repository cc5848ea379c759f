"""A run killed at random moments and started again ends with the bytes of an untouched run."""

import random
import time

import pytest

ALL = "simple_nn_old,three_stage_nn,nn_tabnet,two_heads_resnet,efficientnet"
# A checkpoint after every call of two steps, and members in three groups.
OFTEN = (
    "--config.checkpoint.seconds=0",
    "--config.parallel.steps_per_call=2",
    "--config.parallel.members_at_once=2",
)


def contents(workdir):
    """Returns every table of predictions, the submission and the log of epochs, as bytes."""
    names = [workdir / "submission.csv", workdir / "metrics.jsonl", *workdir.rglob("*.parquet")]
    return {str(path.relative_to(workdir)): path.read_bytes() for path in names}


def kill_somewhere(process, most_lines):
    """Kills the process a moment after one of its next log lines, unless it ends before."""
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
        pytest.param("simple_nn_old,nn_tabnet", 3, marks=pytest.mark.slow),
        pytest.param(ALL, 16, marks=pytest.mark.slow),
    ],
)
def test_killed_runs_end_with_the_same_bytes(launch, tmp_path, models, least):
    config = f"tests/e2e/tiny.py:{models}"
    whole = launch(tmp_path / "whole", *OFTEN, config=config)
    assert whole.returncode == 0, whole.stderr
    expected = contents(tmp_path / "whole")
    # So that the kills are spread over the whole run, a first start's and a resumed one's.
    most_lines = 3 * len(whole.stderr.splitlines()) // least
    kills, finished, folder = 0, 0, tmp_path / "killed0"
    while kills < least or not finished:
        process = launch(folder, *OFTEN, config=config, background=True)
        if kills < least:
            killed, errors = kill_somewhere(process, most_lines)
        else:
            killed, (_, errors) = False, process.communicate()
        if killed:
            assert process.returncode == -9, errors
            kills += 1
        else:
            assert process.returncode == 0, errors
            assert contents(folder) == expected
            finished += 1
            folder = tmp_path / f"killed{finished}"
