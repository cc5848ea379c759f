"""The manifest of a model: what it lists, and what it does not believe."""

import json

import numpy as np
import pytest
from trust.damages import KINDS, damage

from moa_jax.config import RunConfig
from moa_jax.data import simulate
from moa_jax.errors import UserError
from moa_jax.store import files
from moa_jax.store.manifest import Manifest
from moa_jax.store.workdir import Workdir


@pytest.fixture
def folder(tmp_path):
    """A model of two files, one of them in a folder that models share."""
    for name in ("net/scored/members/seed0_fold0.npz", "feature_maps/tsne/fold0/transforms.npz"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(np.random.default_rng(0).bytes(300))
    return tmp_path


def written(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def listed(folder):
    Manifest(folder, "net", "run").add(written(folder))
    return written(folder)


def again(folder, model="net", run="run"):
    """The manifest as another process reads it."""
    return Manifest(folder, model, run)


def line_of(call):
    with pytest.raises(UserError) as raised:
        call()
    line = str(raised.value)
    assert "\n" not in line
    return line


def test_what_is_listed_is_verified(folder, listed):
    members, sets = "net/scored/members/seed0_fold0.npz", "feature_maps/tsne/fold0/transforms.npz"
    stored = files.read_sealed(folder / "net" / "manifest.json", "")
    assert (stored["version"], stored["run"], stored["model"]) == (1, "run", "net")
    assert stored["files"].keys() == {members, sets}
    expected = {"bytes": 300, "sha256": files.sha256(folder / members)}
    assert stored["files"][members] == expected
    manifest = again(folder)
    manifest.verify(folder / members, folder / sets)
    assert dict(manifest.damages()) == {}
    assert manifest.paths == [folder / sets, folder / members]


@pytest.mark.parametrize("kind", KINDS)
def test_every_damage_is_one_line(folder, listed, kind):
    path = folder / "net/scored/members/seed0_fold0.npz"
    damage(kind, path, np.random.default_rng(1))
    assert not again(folder).is_whole(path)
    line = line_of(lambda: again(folder).verify(path))
    assert line.startswith(f"{path}: ")
    assert line.endswith(
        f"; delete the folder {folder / 'net'} and train again, or run with --repair, which makes "
        "again what it must"
    )
    ((damaged, told),) = again(folder).damages()
    assert damaged == path and line.startswith(f"{told}; ")


@pytest.mark.parametrize("place", range(0, 300, 17))
def test_every_flipped_bit_is_told(folder, listed, place):
    path = folder / "feature_maps/tsne/fold0/transforms.npz"
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << place % 8
    path.write_bytes(content)
    assert "its content is not what was written" in line_of(lambda: again(folder).verify(path))


def test_a_link_to_the_same_content_is_followed(folder, listed):
    path = folder / "net/scored/members/seed0_fold0.npz"
    path.rename(folder / "elsewhere.npz")
    path.symlink_to(folder / "elsewhere.npz")
    again(folder).verify(path)


def test_a_file_that_is_not_listed_is_told(folder, listed):
    planted = folder / "net/scored/nested.npz"
    planted.write_bytes(b"new")
    assert not again(folder).lists(planted) and not again(folder).is_whole(planted)
    assert "no such entry" in line_of(lambda: again(folder).verify(planted))


def test_what_is_not_there_is_not_finished(folder, listed):
    path = folder / "net/scored/members/seed0_fold0.npz"
    assert again(folder).has(path)
    path.unlink()
    assert again(folder).lists(path) and not again(folder).has(path)


def test_what_was_struck_off_is_not_listed(folder, listed):
    path = folder / "net/scored/members/seed0_fold0.npz"
    manifest = again(folder)
    manifest.verify(path)
    manifest.discard(lambda other: other == path)
    for found in (manifest, again(folder)):
        assert not found.lists(path) and not found.is_whole(path)
        assert len(found.paths) == 1


@pytest.mark.parametrize(
    ("model", "run", "message"),
    [
        ("net", "other", "expected the run 'other' of this work folder, found 'run'"),
        ("net2", "run", "expected the model 'net2' of this work folder, found 'net'"),
    ],
)
def test_a_model_of_another_run_or_name_is_refused(folder, listed, model, run, message):
    (folder / "net").rename(folder / model)
    assert message in line_of(lambda: again(folder, model, run).paths)


def test_before_the_folder_is_bound_nothing_is_finished(folder, listed):
    assert again(folder, run="").paths == []


@pytest.mark.parametrize("name", ["/etc/passwd", "../other", "net/../../other"])
def test_names_outside_the_work_folder_are_refused(folder, listed, name):
    path = folder / "net" / "manifest.json"
    stored = files.read_sealed(path, "")
    files.write_sealed(path, stored | {"files": {name: {"bytes": 1, "sha256": ""}}})
    assert "damaged" in line_of(lambda: again(folder).paths)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_a_damaged_manifest_is_one_line(folder, listed, content):
    path = folder / "net" / "manifest.json"
    path.write_bytes(content)
    assert line_of(lambda: again(folder).paths).startswith(f"{path}: damaged")


def test_an_entry_that_was_changed_is_told(folder, listed):
    path = folder / "net" / "manifest.json"
    stored = json.loads(path.read_text())
    stored["files"].popitem()
    path.write_text(json.dumps(stored))
    assert "its content is not what was written" in line_of(lambda: again(folder).paths)


def test_a_configuration_that_was_changed_is_told(tmp_path):
    workdir = Workdir(tmp_path / "run")
    data = simulate.make(rows=50, genes=3, cells=2, scored=2, nonscored=0, test_rows=0)
    assert workdir.run == ""
    workdir.bind(RunConfig({}), data, "vmap")
    assert workdir.run == workdir.read()["hash"] and workdir.manifest("net").paths == []
    path = workdir.path / "config.json"
    stored = json.loads(path.read_text())
    stored["config"]["seed"] = 5
    path.write_text(json.dumps(stored))
    line = line_of(workdir.read)
    assert line.startswith(f"{path}: damaged, its content is not what was written; it cannot be ")
    path.write_text("{")
    assert "expected JSON" in line_of(workdir.read) and "cannot be repaired" in line_of(
        workdir.read
    )
