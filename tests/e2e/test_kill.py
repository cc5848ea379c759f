"""A run killed at random moments and started again ends with the bytes of an untouched run."""

import random
import time

CONFIG = "tests/e2e/tiny.py:simple_nn_old,three_stage_nn,nn_tabnet"
RESULTS = ("submission.csv", "blend/oof.parquet", "simple_nn_old/oof.parquet",
           "three_stage_nn/oof.parquet", "three_stage_nn/nonscored/oof.parquet",
           "three_stage_nn/scored/test.parquet", "nn_tabnet/nonscored/oof.parquet",
           "nn_tabnet/oof.parquet", "nn_tabnet/test.parquet", "metrics.jsonl")  # fmt: skip
KILLS = 12
# A checkpoint after every call of two steps, and members in three groups.
OFTEN = (
    "--config.checkpoint.seconds=0",
    "--config.parallel.steps_per_call=2",
    "--config.parallel.members_at_once=2",
)


def contents(workdir):
    return {name: (workdir / name).read_bytes() for name in RESULTS}


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


def test_killed_runs_end_with_the_same_bytes(launch, tmp_path):
    whole = launch(tmp_path / "whole", *OFTEN, config=CONFIG)
    assert whole.returncode == 0, whole.stderr
    expected = contents(tmp_path / "whole")
    # So that the kills are spread over the whole run, a first start's and a resumed one's.
    most_lines = 3 * len(whole.stderr.splitlines()) // KILLS
    kills, finished, folder = 0, 0, tmp_path / "killed0"
    while kills < KILLS or not finished:
        process = launch(folder, *OFTEN, config=CONFIG, background=True)
        if kills < KILLS:
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
