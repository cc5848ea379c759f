"""pytorch-tabnet's state dicts and archives: both ways, and what is refused."""

import json
import sys
import zipfile

import jax
import numpy as np
import pytest
from tabnet_reference import RECIPES, key_table, state_dict
from test_tabnet import network

from moa_jax.errors import UserError
from moa_jax.pretrained import read_tabnet_zip, tabnet_from_torch, tabnet_to_torch

SHARED = "tabnet.initial_splitter.shared.shared_layers.0.weight"
ALIAS = "tabnet.feat_transformers.0.shared.glu_layers.0.fc.weight"


@pytest.mark.parametrize("name", RECIPES)
def test_there_and_back(name):
    model, given = network(name), state_dict(name)
    variables = tabnet_from_torch(given, model)
    found = tabnet_to_torch(variables, model)
    assert {k: v.shape for k, v in found.items()} == {
        key: shape for key, (shape, _) in key_table(name).items()
    }
    assert list(found) == list(given)
    for key, value in given.items():
        np.testing.assert_array_equal(found[key], value)
        assert found[key].dtype == value.dtype
    inputs = np.zeros((2, RECIPES[name]["input_dim"]), np.float32)
    expected = jax.eval_shape(model.init, jax.random.key(0), inputs)
    assert jax.tree.map(np.shape, variables) == jax.tree.map(lambda leaf: leaf.shape, expected)


@pytest.mark.parametrize(("shared", "independent"), [(2, 0), (1, 3)])
def test_other_numbers_of_layers(shared, independent):
    model = network("alt").clone(n_shared=shared, n_independent=independent)
    variables = model.init(jax.random.key(0), np.zeros((2, 30), np.float32))
    found = tabnet_to_torch(variables, model)
    assert any(".shared." in key for key in found) == (shared > 0)
    assert any(".specifics." in key for key in found) == (independent > 0)
    jax.tree.map(np.testing.assert_array_equal, tabnet_from_torch(found, model), variables)


def test_names_of_version_three():
    given = {
        key
        if key == "tabnet.final_mapping.weight"
        else key.replace("tabnet.", "tabnet.encoder."): v
        for key, v in state_dict("win").items()
    }
    found = tabnet_from_torch(given, network("win"))
    expected = tabnet_from_torch(state_dict("win"), network("win"))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_one_name_of_a_shared_matrix_is_enough():
    given = state_dict("hard")
    aliases = [k for k, (_, name) in key_table("hard").items() if name == SHARED]
    assert len(aliases) == 8
    for alias in aliases[1:]:
        del given[alias]
    found = tabnet_from_torch(given, network("hard"))
    given[ALIAS] = given.pop(SHARED)
    jax.tree.map(np.testing.assert_array_equal, tabnet_from_torch(given, network("hard")), found)
    del given[ALIAS]
    with pytest.raises(UserError, match=rf"missing \['{SHARED}'\], unknown nothing"):
        tabnet_from_torch(given, network("hard"))


def test_names_of_one_matrix_must_agree():
    given = state_dict("win")
    given[ALIAS] = given[ALIAS] + 1
    with pytest.raises(UserError, match=f"{ALIAS}: expected the values of {SHARED}"):
        tabnet_from_torch(given, network("win"))


def test_strictness():
    good, model = state_dict("win"), network("win")
    name = "tabnet.att_transformers.0.bn.bn.running_var"
    with pytest.raises(UserError, match=rf"missing \['{name}'\], unknown nothing"):
        tabnet_from_torch({k: v for k, v in good.items() if k != name}, model)
    with pytest.raises(UserError, match=r"missing nothing, unknown \['tabnet.bias'\]"):
        tabnet_from_torch({**good, "tabnet.bias": np.zeros(3)}, model)
    with pytest.raises(
        UserError, match=r"tabnet.final_mapping.weight: expected shape \(20, 32\), found \(32, 20\)"
    ):
        wrong = good["tabnet.final_mapping.weight"].T
        tabnet_from_torch({**good, "tabnet.final_mapping.weight": wrong}, model)
    with pytest.raises(UserError, match=r"embeddings.0.weight: expected shape \(7, 1\)"):
        tabnet_from_torch(good, model.clone(cat_dims=(7, 2)))
    with pytest.raises(UserError, match="expected at least 100 input columns, found 64"):
        tabnet_from_torch(good, model.clone(cat_idxs=(0, 99)))


def write_archive(path, name, params=None, damage=False):
    torch = pytest.importorskip("torch")
    tensors = {key: torch.as_tensor(value) for key, value in state_dict(name).items()}
    torch.save(tensors, path.with_suffix(".pt"))
    network_file = path.with_suffix(".pt").read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model_params.json", json.dumps(params or RECIPES[name]))
        archive.writestr("network.pt", network_file[:100] if damage else network_file)
    return path


def test_archive(tmp_path):
    path = write_archive(tmp_path / "model.zip", "win")
    arrays, params = read_tabnet_zip(path)
    assert params == RECIPES["win"]
    expected = state_dict("win")
    assert list(arrays) == list(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(arrays[key], value)


def test_archive_with_code_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"weight": Unwelcome()}, tmp_path / "network.pt")
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("model_params.json", "{}")
        archive.write(tmp_path / "network.pt", "network.pt")
    with pytest.raises(UserError, match=r"model.zip: expected an archive of [^\n]*$"):
        read_tabnet_zip(tmp_path / "model.zip")


class Unwelcome:
    """Fails the test if it is ever unpickled."""

    def __reduce__(self):
        return pytest.fail, ("code in the archive was run",)


def test_damaged_archives(tmp_path):
    pytest.importorskip("torch")
    with pytest.raises(UserError, match="absent.zip: no such file"):
        read_tabnet_zip(tmp_path / "absent.zip")
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(UserError, match="text.zip: expected an archive .* not a zip file"):
        read_tabnet_zip(tmp_path / "text.zip")
    with zipfile.ZipFile(tmp_path / "half.zip", "w") as archive:
        archive.writestr("model_params.json", "{}")
    with pytest.raises(UserError, match="half.zip: expected .* 'network.pt'"):
        read_tabnet_zip(tmp_path / "half.zip")
    with pytest.raises(UserError, match=r"cut.zip: expected an archive of [^\n]*$"):
        read_tabnet_zip(write_archive(tmp_path / "cut.zip", "win", damage=True))


def test_archive_without_pytorch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="model.zip: reading it needs PyTorch"):
        read_tabnet_zip(tmp_path / "model.zip")
