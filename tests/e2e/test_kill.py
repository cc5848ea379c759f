"""A run killed at random moments and started again ends with the bytes of an untouched run."""

import random
import time

RESULTS = ("submission.csv", "blend/oof.parquet", "simple_nn_old/oof.parquet",
           "simple_nn_new/oof.parquet", "metrics.jsonl")  # fmt: skip
KILLS = 10
# A checkpoint after every call of two steps, and members in three groups.
OFTEN = (
    "--config.checkpoint.seconds=0",
    "--config.parallel.steps_per_call=2",
    "--config.parallel.members_at_once=2",
)


def contents(workdir):
    return {name: (workdir / name).read_bytes() for name in RESULTS}


def test_killed_runs_end_with_the_same_bytes(launch, tmp_path):
    began = time.monotonic()
    assert launch(tmp_path / "whole", *OFTEN).returncode == 0
    expected = contents(tmp_path / "whole")
    duration = 0.8 * (time.monotonic() - began)
    kills, finished, folder, moments = 0, 0, tmp_path / "killed0", []
    while kills < KILLS or not finished:
        process = launch(folder, *OFTEN, background=True)
        if kills < KILLS:
            process.stderr.readline()  # the first log line: the run is under way
            moment = random.uniform(0, duration)
            time.sleep(moment)
            if process.poll() is None:
                process.kill()
                kills += 1
                moments.append(round(moment, 2))
        _, errors = process.communicate()
        if process.returncode == 0:
            assert contents(folder) == expected, f"killed after {moments} seconds"
            finished += 1
            folder = tmp_path / f"killed{finished}"
        else:
            assert process.returncode == -9, errors
