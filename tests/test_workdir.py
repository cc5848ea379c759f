"""The work folder: its format version, its lock, and the run that it belongs to."""

import dataclasses

import numpy as np
import pytest

from moa_jax.config import CheckpointConfig, RunConfig
from moa_jax.data import simulate
from moa_jax.errors import UserError
from moa_jax.recipes import simple_nn
from moa_jax.store import files
from moa_jax.store import workdir as store_workdir
from moa_jax.store.workdir import VERSION, Workdir


@pytest.fixture
def workdir(tmp_path):
    bound = Workdir(tmp_path / "run")
    data = simulate.make(rows=50, genes=3, cells=2, scored=2, nonscored=0, test_rows=0)
    bound.bind(RunConfig({}), data, "vmap")
    return bound


def test_version_is_written_and_read(workdir):
    assert files.read_json(workdir.path / "config.json")["version"] == VERSION == 6
    assert workdir.read()["data"]["rows"] == 50


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (None, "expected format version 6, found none: made by an older moa_jax; use another "),
        (1, "expected format version 6, found 1: made by an older moa_jax; use another --workdir"),
        (7, "expected format version 6, found 7: made by a newer moa_jax; use another --workdir"),
        ("2", "expected format version 6, found '2'"),
    ],
)
def test_another_version_is_refused(workdir, version, message):
    file = workdir.path / "config.json"
    stored = files.read_json(file)
    stored.pop("version")
    files.write_json(file, stored if version is None else stored | {"version": version})
    with pytest.raises(UserError, match=f"config.json: {message}"):
        workdir.read()


def test_what_is_not_an_object_is_refused(workdir):
    (workdir.path / "config.json").write_text("[1]\n")
    with pytest.raises(UserError, match="config.json: expected format version 6, found none"):
        workdir.read()


def test_a_folder_in_use_is_refused(workdir):
    other = Workdir(workdir.path)
    workdir.lock()
    with pytest.raises(UserError, match="run: another run is using this work folder"):
        other.lock()
    workdir._lock.close()


def test_another_run_is_refused(workdir):
    """What leaves the numbers of training alone may change."""
    data = simulate.make(rows=50, genes=3, cells=2, scored=2, nonscored=0, test_rows=0)
    saving = dataclasses.replace(RunConfig({}), checkpoint=CheckpointConfig(seconds=1.0))
    workdir.bind(saving, data, "vmap")
    with pytest.raises(UserError, match="it differs in seed: 0 there, 1 now"):
        workdir.bind(dataclasses.replace(saving, seed=1), data, "vmap")
    others = data.take(np.arange(1, 50))
    with pytest.raises(UserError, match="it differs in data: training rows"):
        workdir.bind(saving, others, "vmap")


def test_of_many_other_fields_the_first_are_named(workdir):
    data = simulate.make(rows=50, genes=3, cells=2, scored=2, nonscored=0, test_rows=0)
    workdir.bind(RunConfig({}), data, "vmap")
    model = dataclasses.replace(simple_nn.ORIGINAL["old"], seeds=tuple(range(1000)))
    with pytest.raises(UserError, match="absent there, .*; and [0-9]+ more$") as caught:
        workdir.bind(RunConfig({"x" * 100: model}), data, "vmap")
    assert str(caught.value).count("there,") == 5 and len(str(caught.value)) < 1500
    told = store_workdir._differences({"a": list(range(1000)), "b": "x" * 300}, {})
    assert told.startswith("a: [0, 1,") and "absent now; b: 'xxx" in told and len(told) < 200


def test_what_was_resolved_stays(workdir):
    assert workdir.resolved("stage: members_at_once", 4) == 4
    assert Workdir(workdir.path).resolved("stage: members_at_once", 9) == 4
