"""Damaged work folders end in the undamaged run's bytes or in one line, in every mode."""

import dataclasses
import io
import os
import re
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trust import finished_run, grid
from trust.finished_run import MODES, FinishedRun, Snapshot
from trust.grid import ARTEFACTS, ChangedByte, Damage, Grid

from moa_jax import config as configuration
from moa_jax.command import completion
from moa_jax.config import ExplainConfig
from moa_jax.engine import loading, participation
from moa_jax.engine import run as engine_run
from moa_jax.errors import UserError
from moa_jax.recipes import system
from moa_jax.store import files
from moa_jax.store.manifest import Manifest
from moa_jax.store.workdir import Workdir
from moa_jax.training.progress import MetricsLog

# Modes that do not train where nothing was deleted.
QUICK = ("infer", "blend", "train")
ALL = [*QUICK, *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("all", "repair"))]
MEMBER = "chain/stacked/members/seed0_fold1.npz"
SEED = 0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The command on a small data set, in this process."""
    data = finished_run.write_data(tmp_path_factory.mktemp("data") / "data")
    with pytest.MonkeyPatch.context() as patch, finished_run.environment(patch):
        yield FinishedRun(data)


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    outcome = run.command(folder, "all")
    assert outcome.kind == "done", outcome.text
    return Snapshot(folder)


@pytest.fixture(scope="module")
def damaged(run, finished):
    return Grid(run, finished, finished, finished)


@pytest.fixture(scope="module")
def interrupted(run, finished, tmp_path_factory):
    """The folder of a run that was killed in the last stage of the chain."""
    folder = tmp_path_factory.mktemp("interrupted") / "run"
    finished_run.interrupt(run, folder, "chain/stacked", saves=5)
    return Grid(run, Snapshot(folder), finished, finished)


@pytest.fixture
def folder(finished):
    return finished.restore()


@pytest.fixture
def rng():
    return np.random.default_rng(SEED)


def check(trials):
    trials = list(trials)
    bad = [trial for trial in trials if not trial.is_good]
    assert trials and not bad, f"{grid.table(trials)}\n" + "\n".join(map(str, bad[:5]))
    return trials


def test_every_file_of_a_work_folder_is_an_artefact(finished, interrupted):
    names = finished.files.keys() | interrupted.snapshot.files.keys()
    assert {grid.artefact(name) for name in names} == ARTEFACTS.keys()


def test_inference_says_of_rows_what_the_blend_said(finished):
    """Of the same rows; both calibrate and call by what the blend learned."""
    (inferred,) = [
        name for name in finished.files if re.fullmatch(r"infer/.*/predictions.csv", name)
    ]
    said, again = (
        pd.read_csv(io.BytesIO(finished.files[name]), index_col=["sig_id", "mechanism"])
        for name in ("blend/predictions.csv", inferred)
    )
    pd.testing.assert_frame_equal(again.loc[said.index], said, rtol=1e-4)
    assert len(again) == len(said) and said["model_spread"].notna().any()


def test_the_log_of_losses_is_closed_where_training_ends_early(run, tmp_path, monkeypatch):
    def fit(*arguments):
        raise UserError("no further")

    closed = []
    monkeypatch.setattr(MetricsLog, "close", lambda log: closed.append(log))
    monkeypatch.setattr(system, "fit", fit)
    assert run.command(tmp_path / "run", "train").kind == "line"
    assert len(closed) == 1


def test_what_is_believed_unchecked_is_told_by_the_grid(damaged, rng, monkeypatch):
    """Without checksums numbers change, so that the grid can fail."""
    monkeypatch.setattr(Manifest, "_damage", lambda self, name: None)
    other = Damage("of another artefact", MEMBER)
    found = {damaged.trial([other], "infer", rng).result for _ in range(16)}
    assert "silent" in found


@pytest.mark.parametrize("known", [name for name in ARTEFACTS if name != "checkpoint"])
def test_a_sample_of_damages(damaged, rng, known):
    check(damaged.of_artefact(known, len(QUICK), QUICK, rng, whole=()))


def test_a_sample_of_repairs(damaged, rng):
    names = rng.choice([n for n in damaged.snapshot.files if n != "config.json"], 2, replace=False)
    check(damaged.trial([Damage("changed", str(name))], "repair", rng) for name in names)


def test_a_sample_of_damaged_checkpoints(interrupted, rng):
    check(interrupted.of_artefact("checkpoint", 2, ("train",), rng, whole=()))


CHANGES = st.lists(
    st.tuples(st.integers(0), st.integers(0), st.integers(1, 255)), min_size=1, max_size=4
)


@settings(
    max_examples=15,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(changes=CHANGES, mode=st.sampled_from(QUICK))
def test_random_bytes_of_random_artefacts(damaged, changes, mode):
    names = sorted(damaged.snapshot.files)
    damages = [ChangedByte("changed", names[n % len(names)], *where) for n, *where in changes]
    check([damaged.trial(damages, mode, np.random.default_rng(SEED))])


@pytest.mark.slow
def test_the_whole_grid(run, finished, tmp_path, rng, capsys):
    """Prints the table."""
    outcome = FinishedRun(run.data, seed=1).command(tmp_path / "other", "all")
    assert outcome.kind == "done", outcome.text
    whole = Grid(run, finished, finished, Snapshot(tmp_path / "other"))
    trials = [trial for known in ARTEFACTS for trial in whole.of_artefact(known, 200, MODES, rng)]
    trials += whole.pairs(200, MODES, rng)
    with capsys.disabled():
        print(f"\n{grid.table(trials)}")
    check(trials)


@pytest.mark.slow
def test_the_whole_grid_of_an_interrupted_run(interrupted, rng, capsys):
    trials = list(interrupted.of_artefact("checkpoint", 200, ("train", "all", "repair"), rng))
    trials += interrupted.pairs(100, ("train", "repair"), rng)
    with capsys.disabled():
        print(f"\n{grid.table(trials)}")
    check(trials)


# Folders that are deleted, and what each mode that does not train says of it; done where nothing.
DELETED = {
    "chain": {
        "infer": "chain: expected a finished model, found none; train first",
        "blend": "chain/metrics.json: expected those of a finished model, found none; train first",
    },
    "chain/scored": dict.fromkeys(
        QUICK, "not found; delete the folder {folder}/chain and train again, or run with --repair"
    ),
    "feature_maps": dict.fromkeys(
        QUICK, "not found; delete the folder {folder}/one and train again, or run with --repair"
    ),
    "blend": {"infer": "weights.json: not found; weigh the models again with --mode=blend"},
    "infer": {},
    "config.json": {
        "infer": "expected a work folder with a config.json, found none",
        "blend": "found none; train first",
    },
}


@pytest.mark.parametrize("mode", ALL)
@pytest.mark.parametrize("name", DELETED)
def test_deleted_folders_are_told_or_made_again(run, finished, folder, name, mode):
    for gone in {name, "infer"} if mode == "infer" else {name}:
        files.remove_all(folder / gone)
    outcome = command(run, folder, mode)
    message = DELETED[name].get("train" if mode == "all" else mode)
    if message and mode != "repair":
        assert outcome.kind == "line" and message.format(folder=folder) in outcome.text, outcome
    else:
        assert outcome.kind == "done", outcome
        assert not finished_run.differing(finished, folder, mode, set())


@pytest.mark.parametrize("mode", ALL)
def test_a_folder_works_elsewhere_and_at_another_time(run, finished, tmp_path, mode):
    folder = finished.restore(tmp_path / "moved" / "run")
    for path in folder.rglob("*"):
        os.utime(path, (1e9, 1e9))
    outcome = command(run, folder, mode)
    assert outcome.kind == "done", outcome
    assert not finished_run.differing(finished, folder, mode, set())


def with_line_ends(folder):
    """Does to a folder what git does to texts with core.autocrlf."""
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".csv", ".jsonl", ".txt") and "checkpoints" not in path.parts:
            path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


@pytest.mark.parametrize("mode", ALL)
def test_changed_line_ends(run, finished, folder, mode):
    with_line_ends(folder)
    outcome = command(run, folder, mode)
    if mode == "repair":
        assert outcome.kind == "done" and not finished_run.differing(finished, folder, mode, set())
    else:
        assert outcome.kind == "line" and "its lines end in CR LF, as git" in outcome.text, outcome


@pytest.mark.parametrize("mode", ALL)
def test_a_manifest_of_an_earlier_moment(run, finished, folder, mode):
    """What it does not list, all but the chain's first stage, is made again."""
    path = folder / "chain" / "manifest.json"
    stored = files.read_sealed(path, "")
    listed = {name: entry for name, entry in stored["files"].items() if "chain/scored/" in name}
    files.write_sealed(path, {**stored, "files": listed})
    files.remove_all(folder / "infer")
    outcome = command(run, folder, mode)
    if mode in ("infer", "blend"):
        assert outcome.kind == "line" and "found none; train first" in outcome.text
    else:
        assert outcome.kind == "done", outcome
        wanted = "train" if mode == "train" else "repair"
        assert not finished_run.differing(finished, folder, wanted, set())


@pytest.mark.parametrize("name", ["infer", "blend", "chain", "feature_maps"])
def test_a_file_in_place_of_a_folder_is_named(run, folder, name):
    for gone in (name, "infer"):
        files.remove_all(folder / gone)
    (folder / name).touch()
    mode = {"infer": "infer", "blend": "blend"}.get(name, "repair")
    outcome = command(run, folder, mode)
    if name == "chain":
        assert outcome.kind == "done", outcome
    else:
        assert outcome.text == f"{folder / name}: expected a folder, found a file; remove it"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to act for another user")
@pytest.mark.parametrize("mode", ALL)
def test_files_of_another_user(run, finished, mode):
    """Such a folder can be read, but not locked, nor written to."""
    with tempfile.TemporaryDirectory() as parent:
        folder = finished.restore(Path(parent, "run"))
        os.chmod(parent, 0o755)
        os.seteuid(65534)
        try:
            outcome = command(run, folder, mode)
        finally:
            os.seteuid(0)
        assert outcome.kind == "line", outcome
        assert outcome.text == f"{folder}/.lock: cannot be written: Permission denied"
        assert Snapshot(folder).files == finished.files


def command(run, folder, mode):
    return run.command(folder, "all" if mode == "repair" else mode, mode == "repair")


def refused(*_, **__):
    raise AssertionError("a complete run does nothing anew")


def test_a_complete_run_does_nothing_anew(run, finished, folder, monkeypatch):
    within = folder / "second"  # a work folder within, which comes and goes by itself
    within.mkdir()
    (within / ".lock").write_text("")
    for name in ("train", "blend", "report"):
        monkeypatch.setattr(engine_run, name, refused)
    (folder / "log.txt").unlink()
    outcome = command(run, folder, "all")
    assert outcome.kind == "done", outcome
    said = [line[9:] for line in (folder / "log.txt").read_text().splitlines()]
    for name in ("chain", "one", "two"):
        assert f"{name}: finished by an earlier run" in said
    assert any(line.startswith("blend: log loss ") for line in said)
    for name, content in finished.files.items():
        assert name in ("log.txt", ".lock") or (folder / name).read_bytes() == content


@pytest.mark.parametrize(
    "changed",
    ["blend/report.html", "one/scored/metrics.json", "blend/more.csv", "environment.json",
     "config.json", "program", "explain", "rows", "bound", "installed"],
)  # fmt: skip
def test_a_run_is_complete_only_as_it_was_made(run, folder, monkeypatch, changed):
    config, workdir = loading.settled(run.config), Workdir(folder)
    dataset = loading.load_data(config)
    assert completion.is_there(config, workdir, dataset)
    if changed == "program":
        monkeypatch.setattr(completion, "_program", lambda: "another")
    elif changed == "explain":
        config = dataclasses.replace(config, explain=ExplainConfig("best", most_rows=3, steps=2))
    elif changed == "rows":
        dataset = dataset.take(np.arange(len(dataset))[::-1])
    elif changed == "bound":  # as `--mode=train` with other fields of the blend does
        path, other = folder / "config.json", dataclasses.replace(config.blend, trials=9)
        stored = files.read_sealed(path, "")
        stored["config"]["blend"] = configuration.plain(other)
        files.write_sealed(path, stored)
    elif changed == "installed":  # what a model that was left out had lacked
        found = participation.of(config, workdir, dataset)[0], {"one": participation.WITHOUT}
        monkeypatch.setattr(participation, "of", lambda *_: found)
    else:
        with open(folder / changed, "a") as opened:
            opened.write(" more")
    assert not completion.is_there(config, Workdir(folder), dataset)
