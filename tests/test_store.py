"""The store of fitted transforms: same bits in a new process, and what it refuses."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from moa_jax.deepinsight.feature_map import FeatureMap
from moa_jax.deepinsight.log_scale import LogScale
from moa_jax.errors import UserError
from moa_jax.features.factors import ClusterOneHot, FactorScores, PrincipalComponents
from moa_jax.features.rank_gauss import RankGauss
from moa_jax.features.selection import ChosenColumns, VarianceSelection
from moa_jax.features.standard_scale import StandardScale
from moa_jax.features.transforms import TRANSFORMS
from moa_jax.store import arrays, files, transform_files

CLASSES = (*TRANSFORMS, FeatureMap, LogScale)
VALUES = np.random.default_rng(0).gamma(0.5, size=(80, 6))


@pytest.fixture(scope="module")
def transforms():
    return {
        "rank_gauss": RankGauss(20).fit(VALUES),
        "factors": FactorScores(3).fit(VALUES),
        "clusters": ClusterOneHot(4, seed=5).fit(VALUES),
        "components": PrincipalComponents(3).fit(VALUES),
        "scale": StandardScale().fit(VALUES),
        "log_scale": LogScale().fit(VALUES),
        "selection": VarianceSelection(0.4).fit(VALUES),
        "chosen": ChosenColumns([2, 0]),
    }


@pytest.fixture
def folder(transforms, tmp_path):
    transform_files.save(tmp_path, transforms)
    return tmp_path


def test_loaded_transforms_are_the_saved(transforms, folder):
    loaded = transform_files.load(folder, CLASSES)
    assert list(loaded) == list(transforms)
    for name, transform in transforms.items():
        assert type(loaded[name]) is type(transform)
        assert loaded[name].parameters() == transform.parameters()
        np.testing.assert_array_equal(loaded[name].transform(VALUES), transform.transform(VALUES))


def test_another_process_gives_the_same_bits(transforms, folder):
    np.save(folder / "values.npy", VALUES)
    program = """
import pathlib, sys
import numpy as np
from moa_jax.deepinsight.log_scale import LogScale
from moa_jax.features.transforms import TRANSFORMS
from moa_jax.store import transform_files
folder = pathlib.Path(sys.argv[1])
values = np.load(folder / "values.npy")
loaded = transform_files.load(folder, [*TRANSFORMS, LogScale])
np.savez(folder / "found.npz", **{k: t.transform(values) for k, t in loaded.items()})
assert "jax" not in sys.modules
"""
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True, cwd=root)
    with np.load(folder / "found.npz") as found:
        assert set(found.files) == set(transforms)
        for name, transform in transforms.items():
            np.testing.assert_array_equal(found[name], transform.transform(VALUES))


def test_a_feature_map_is_kept(tmp_path):
    parameters = {"embedding": "pca", "closing_edge": True, "random_state": 3}
    fitted = FeatureMap(**parameters).fit(VALUES)
    transform_files.save(tmp_path, {"map": fitted})
    loaded = transform_files.load(tmp_path, CLASSES)["map"]
    assert loaded.parameters() == {**parameters, "tsne": "legacy", "perplexity": 5.0}
    np.testing.assert_array_equal(loaded.positions_, fitted.positions_)
    np.testing.assert_array_equal(loaded.pixels(224), fitted.pixels(224))


def test_description(folder):
    described = json.loads((folder / "transforms.json").read_text())
    assert described["version"] == 2
    assert described["arrays"] == files.sha256(folder / "transforms.npz")
    assert described["transforms"]["clusters"] == {
        "class": "ClusterOneHot",
        "parameters": {"num_clusters": 4, "seed": 5, "algorithm": "lloyd"},
    }


def test_equal_transforms_give_equal_bytes(transforms, folder, tmp_path_factory):
    again = tmp_path_factory.mktemp("again")
    transform_files.save(again, transforms)
    for name in ("transforms.npz", "transforms.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    # Two saves within a clock tick would agree in any case.
    with zipfile.ZipFile(folder / "transforms.npz") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_description_is_renamed_last(transforms, tmp_path, monkeypatch):
    order = []
    rename = os.replace

    def recorded(source, target):
        order.append(Path(target).name)
        rename(source, target)

    monkeypatch.setattr(os, "replace", recorded)
    assert not transform_files.exists(tmp_path)
    transform_files.save(tmp_path, transforms)
    assert order == ["transforms.npz", "transforms.json"]
    assert transform_files.exists(tmp_path)


def test_a_full_disk_leaves_the_earlier_files_whole(transforms, folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(path, *content):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(arrays, "pack", full)
    with pytest.raises(UserError, match="transforms.npz: cannot be written: No space left"):
        transform_files.save(folder, {"other": transforms["factors"]})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_arrays_of_objects_are_not_saved(tmp_path):
    levels = RankGauss()
    levels.quantiles_, levels.references_ = np.array(["a"], object), np.zeros(1)
    with pytest.raises(TypeError, match="levels/quantiles: an array of objects"):
        transform_files.save(tmp_path, {"levels": levels})
    assert not list(tmp_path.iterdir())


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_loading_executes_nothing(folder):
    name = "factors/components"
    described = {"kind": "transforms", "version": arrays.VERSION, "arrays": [name], "record": {}}
    trap = np.array([Trap(folder / "sprung")], object)
    np.savez(folder / "transforms.npz", description=json.dumps(described), **{name: trap})
    edit(folder, lambda described: described.update(arrays=files.sha256(folder / "transforms.npz")))
    with pytest.raises(
        UserError, match="transforms.npz: damaged, .*: Object arrays cannot be load"
    ):
        transform_files.load(folder, CLASSES)
    assert not (folder / "sprung").exists()


def edit(folder, change):
    """Changes the description as if it had been written so."""
    described = files.read_sealed(folder / "transforms.json", "")
    change(described)
    files.write_sealed(folder / "transforms.json", described)


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def factors(change):
    return lambda folder: edit(folder, lambda described: change(described["transforms"]["factors"]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: cut(f / "transforms.npz"), "transforms.npz: damaged"),
        (lambda f: flip(f / "transforms.npz"), "transforms.npz: damaged"),
        (lambda f: (f / "transforms.npz").unlink(), "transforms.npz: not found"),
        (lambda f: (f / "transforms.json").unlink(), "transforms.json: not found"),
        (lambda f: cut(f / "transforms.json"), "transforms.json: damaged"),
        (lambda f: (f / "transforms.json").write_text("[]"), "version 2, found None"),
        (lambda f: edit(f, lambda d: d.update(version=99)), "version 2, found 99"),
        (lambda f: edit(f, lambda d: d.pop("arrays")), "transforms.npz: damaged"),
        (lambda f: edit(f, lambda d: d.pop("transforms")), "transforms.json: damaged"),
        (lambda f: edit(f, lambda d: d.update(transforms=[1])), "transforms.json: damaged"),
        (
            lambda f: edit(f, lambda d: d.update(transforms=list(d["transforms"]))),
            "transforms.json: damaged",
        ),
        (lambda f: edit(f, lambda d: d["transforms"].pop("factors")), "transforms.json: damaged"),
        (
            factors(lambda entry: entry.update({"class": "os"})),
            "factors is of class 'os', expected ChosenColumns or ClusterOneHot or Facto",
        ),
        (factors(lambda entry: entry.update({"class": "RankGauss"})), "transforms.json: damaged"),
        (factors(lambda entry: entry["parameters"].update(x=1)), "transforms.json: damaged"),
        (factors(lambda entry: entry.pop("parameters")), "transforms.json: damaged"),
    ],
)
def test_damage_is_named(folder, damage, message):
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        transform_files.load(folder, CLASSES)
    assert str(caught.value).startswith(f"{folder}{os.sep}transforms.")
    assert "\n" not in str(caught.value)


def test_arrays_of_another_description_are_refused(folder, tmp_path):
    """They are whole, and of the same names and shapes."""
    described = transform_files.load(folder, CLASSES)
    described["factors"].mean_ = described["factors"].mean_ + 1
    transform_files.save(tmp_path / "other", described)
    shutil.copy(tmp_path / "other" / "transforms.npz", folder / "transforms.npz")
    with pytest.raises(UserError, match="its checksum is not the one in transforms.json"):
        transform_files.load(folder, CLASSES)
