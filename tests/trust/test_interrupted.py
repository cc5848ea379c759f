"""A run that goes on, or predicts new rows, believes what was listed and makes again the rest."""

import dataclasses
import shutil

import numpy as np
import pytest
import systems
import toy_system
from trust.damages import damage

from moa_jax.config import ParallelConfig, RunConfig
from moa_jax.data import simulate
from moa_jax.errors import UserError
from moa_jax.recipes import system
from moa_jax.store import files
from moa_jax.store.predictions import Predictions
from moa_jax.training import weights

RECIPE = toy_system.Config(folds=2, seeds=(0, 1), epochs=1, transforms="per_fold")
DATA = simulate.make(rows=40, genes=7, cells=3, scored=3, nonscored=2, test_rows=9, seed=1)
STAGE = "model/scored"
MEMBER = f"{STAGE}/members/seed0_fold1.npz"


def context(folder):
    """Members train in two groups, the first of which an interrupted run has finished."""
    config = RunConfig({}, parallel=ParallelConfig(members_at_once=2))
    return dataclasses.replace(systems.context(folder), config=config)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    system.fit(RECIPE, DATA, context(folder))
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def interrupt(folder):
    """Leaves what is there when a run is killed before its stage's last file."""
    for name in ("model", STAGE):
        (folder / name / "metrics.json").unlink()


def results(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.suffix in (".npz", ".parquet", ".jsonl") or path.name == "transforms.json"
    }


@pytest.mark.parametrize("kind", ["flipped", "replaced"])
def test_networks_of_earlier_groups_are_made_again(finished, folder, caplog, kind):
    other = folder / STAGE / "members" / "seed1_fold0.npz"
    interrupt(folder)
    damage(kind, folder / MEMBER, np.random.default_rng(3), other)
    system.fit(RECIPE, DATA, context(folder))
    assert "seed0_fold1.npz: missing or damaged, the stage is trained again" in caplog.text
    assert results(folder) == results(finished)


def test_damaged_transforms_are_fitted_again(finished, folder, caplog):
    interrupt(folder)
    damage("flipped", folder / STAGE / "features/fold1/transforms.npz", np.random.default_rng(0))
    system.fit(RECIPE, DATA, context(folder))
    assert results(folder) == results(finished)
    assert "trained again" not in caplog.text


def message(call):
    with pytest.raises(UserError) as raised:
        call()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_new_rows_are_predicted_by_what_was_written_alone(folder):
    shutil.copyfile(folder / STAGE / "members" / "seed1_fold0.npz", folder / MEMBER)
    line = message(lambda: system.load(RECIPE, context(folder), DATA.scored.names))
    assert line.startswith(f"{folder / MEMBER}: damaged, ")


def test_networks_of_other_shapes_are_one_line(folder):
    """Listed as if they had been written so."""
    own = context(folder)
    path = folder / MEMBER
    kept = weights.read(path)
    layer = kept.variables["params"]["Dense_0"]
    wider = {"params": {"Dense_0": {"kernel": np.ones((9, 3), np.float32), "bias": layer["bias"]}}}
    weights.write(path, kept._replace(variables=wider | {"batch_stats": {}}))
    own.manifest.add([path])
    line = message(lambda: system.load(RECIPE, own, DATA.scored.names))
    assert f"{path}: expected arrays of the shapes of seed0_fold0.npz, found others" in line
    every = sorted(path.parent.glob("*.npz"))
    for other in every:
        weights.write(other, kept._replace(variables=wider))
    own.manifest.add(every)
    predict = system.load(RECIPE, own, DATA.scored.names)
    line = message(lambda: predict(DATA.test))
    assert "seed0_fold0.npz: expected the arrays of the configuration's network: " in line


def fewer_members(folder):
    path = folder / STAGE / "metrics.json"
    stored = files.read_json(path)
    files.write_json(path, stored | {"members": stored["members"][:-1]})
    return path


def fewer_rows(folder):
    path = folder / STAGE / "oof.parquet"
    found = Predictions.read(path)
    Predictions(found.ids[1:], found.targets, found.values[1:]).write(path)
    return path


def other_targets(folder):
    path = folder / STAGE / "oof.parquet"
    found = Predictions.read(path)
    Predictions(found.ids, ("x", "y", "z"), found.values).write(path)
    return path


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (fewer_members, "4 members, found 3"),
        (fewer_rows, "rows of this run's configuration and data, found "),
        (other_targets, "expected the 3 targets of this run's configuration and data, found 3 oth"),
    ],
)
def test_a_stage_of_other_members_rows_or_targets_is_refused(folder, change, expected):
    """Listed as if it had been written so."""
    own = context(folder)
    own.manifest.add([change(folder)])
    (folder / "model" / "metrics.json").unlink()
    line = message(lambda: system.fit(RECIPE, DATA, own))
    assert expected in line and "scored/" in line
