"""Pretrained weights as trainers leave them: what stands beside them, and what are none."""

import argparse
import collections
import datetime
import gzip
import pathlib

import jax
import numpy as np
import pytest
from tabnet_reference import state_dict
from test_pretrained_cnn import convert_small, small
from test_tabnet import network
from test_two_heads import keras_weights

from moa_jax.errors import UserError
from moa_jax.pretrained import (
    claims,
    contents,
    mlp_from_torch,
    tabnet_from_torch,
    tensors,
    two_heads_from_keras,
    weight_files,
    wrappers,
)

__all__ = ["small"]
PATH = pathlib.Path("a.pth")
WEIGHTS = {"a.weight": np.ones((2, 2)), "a.bias": np.ones(2)}
OPTIMISER = {"state": {"a": {"weight_average": np.ones(3)}, 0: {"step": np.ones(())}}}


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def mlp_arrays():
    arrays, widths = {}, [5, 8, 8, 3]
    generator = np.random.default_rng(0)
    for layer, (before, after) in enumerate(zip(widths, widths[1:], strict=False), 1):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            arrays[f"batch_norm{layer}.{leaf}"] = generator.random(before, np.float32)
        kernel = generator.random((after, before), np.float32)
        arrays[f"dense{layer}.weight" if layer == 2 else f"dense{layer}.weight_v"] = kernel
        if layer != 2:
            arrays[f"dense{layer}.weight_g"] = generator.random((after, 1), np.float32)
        arrays[f"dense{layer}.bias"] = generator.random(after, np.float32)
    return arrays


CONVERTERS = {
    "resnest": convert_small,
    "mlp": mlp_from_torch,
    "tabnet": lambda arrays: tabnet_from_torch(arrays, network("win")),
    "two_heads": two_heads_from_keras,
}


@pytest.fixture(params=CONVERTERS)
def case(request, small):
    arrays = {
        "resnest": small[2],
        "mlp": mlp_arrays(),
        "tabnet": state_dict("win"),
        "two_heads": keras_weights(9, 4, 5),
    }[request.param]
    if request.param == "resnest":
        arrays = {name: array for name, array in arrays.items() if not name.startswith("fc.")}
    return CONVERTERS[request.param], arrays


def test_numbers_that_are_no_weights(case):
    convert, arrays = case
    name = next(name for name in arrays if name.endswith(("bias", "beta")))
    for wrong, message in (
        (np.nan, "expected finite numbers, found nan"),
        (-np.inf, "expected finite numbers, found -inf"),
    ):
        bad = arrays[name].copy()
        bad.flat[-1] = wrong
        with pytest.raises(UserError, match=f"^[a-z ]+: {name}: {message}$"):
            convert({**arrays, name: bad})
    for kind in (np.int8, np.int32, np.complex64, bool):
        with pytest.raises(UserError, match=f"{name}: expected floating numbers, found "):
            convert({**arrays, name: arrays[name].astype(kind)})


def test_tensors_with_gradients_and_of_low_precision(case):
    torch = pytest.importorskip("torch")
    convert, arrays = case
    given = {name: torch.as_tensor(np.ascontiguousarray(array)) for name, array in arrays.items()}
    learnt = {n: torch.nn.Parameter(t) if t.is_floating_point() else t for n, t in given.items()}
    same(convert(learnt), convert(arrays))
    low = {n: t.bfloat16() if t.is_floating_point() else t for n, t in given.items()}
    same(convert(low), convert({name: tensors.array(name, t) for name, t in low.items()}))


def test_a_mapping_and_a_prefix_around_any_network(case):
    convert, arrays = case
    same(convert({"epoch": 3, "state_dict": arrays, "optimizer": OPTIMISER}), convert(arrays))
    if convert is not two_heads_from_keras:
        same(convert({f"module.{name}": array for name, array in arrays.items()}), convert(arrays))


def test_weight_normalisation_of_pytorch_2_and_short_lists():
    arrays = mlp_arrays()
    names = {"weight_g": "original0", "weight_v": "original1"}
    renamed = {}
    for name, array in arrays.items():
        layer, _, leaf = name.partition(".")
        new = f"{layer}.parametrizations.weight.{names[leaf]}" if leaf in names else name
        renamed[new] = array
    assert renamed.keys() != arrays.keys()
    same(mlp_from_torch(renamed), mlp_from_torch(arrays))
    with pytest.raises(UserError, match=r"missing \[.*\] and \d+ more, unknown \['x'\]$"):
        mlp_from_torch({"x": np.ones(1)})


@pytest.mark.parametrize("head", ["fc", "_fc", "head", "last_linear", "classifier"])
@pytest.mark.parametrize("prefix", ["", "model."])
def test_heads_of_other_names_or_without_bias(small, head, prefix):
    _, variables, arrays = small
    arrays = {prefix + n: array for n, array in arrays.items() if not n.startswith("fc.")}
    expected = {**variables, "params": {k: v for k, v in variables["params"].items()}}
    del expected["params"]["head"]
    weight = {f"{prefix}{head}.weight": np.ones((2, 256))}
    same(convert_small({**arrays, **weight}), expected)
    same(convert_small({**arrays, **weight, f"{prefix}{head}.bias": np.ones(2)}), expected)


def is_array(value):
    return isinstance(value, np.ndarray)


@pytest.mark.parametrize(
    "beside",
    [
        {"epoch": 3, "best_acc1": np.ones(()), "optimizer": OPTIMISER, "scheduler": {"last": 3}},
        {"best": np.ones(())},
        {"scaler": {"scale": np.ones(())}},
        {"callbacks": {"ModelCheckpoint": {"best_model_score": np.ones(())}}},
        {"optimizer_states": [OPTIMISER], "loops": {"fit": {"state_dict": {}}}},
        {"optimizer_d": OPTIMISER["state"], "confusion": np.ones((2, 2))},
    ],
    ids=lambda beside: ",".join(beside),
)
def test_tensors_beside_a_state_dict(beside):
    for loaded in ({"model": WEIGHTS, **beside}, {**beside, "model": WEIGHTS}):
        assert wrappers.opened(PATH, loaded, is_array, None) is WEIGHTS


def test_a_checkpoint_without_a_state_dict_names_what_it_has():
    for loaded, held in (
        ({"epoch": 3, "optimizer": OPTIMISER}, r"epoch \(int\), optimizer \(dict\)"),
        ({"scaler": {"scale": np.ones(())}}, r"scaler \(dict\)"),
    ):
        message = (
            rf"^a.pth: expected a state dict, found none in {held}: save model.state_dict\(\)$"
        )
        with pytest.raises(UserError, match=message):
            wrappers.opened(PATH, loaded, is_array, None)


OTHER = "efficientnet_b0"


@pytest.mark.parametrize(
    "loaded",
    [
        {"name": OTHER},
        {"hyper_parameters": {"model": {"name": OTHER}}},
        {"hyper_parameters": {"backbone_name": OTHER}},
        {"hparams": {"encoder": OTHER}},
        {"args": argparse.Namespace(arch=OTHER)},
        {"config": {"model": argparse.Namespace(backbone={"type": OTHER, "name": OTHER})}},
        {"default_cfg": {"architecture": OTHER}},
        {"pretrained_cfg": {"architecture": OTHER}},
        {"architectures": ["Net", OTHER]},
    ],
    ids=str,
)
def test_entries_that_name_a_network(loaded):
    told = list(wrappers.told({**loaded, "state_dict": WEIGHTS}))
    assert claims.check(PATH, f"torch_{OTHER}", told)
    with pytest.raises(UserError, match=f"found those of torch_{OTHER}, .* its entry .* says"):
        claims.check(PATH, OTHER, told)


def test_notes_name_no_network():
    for notes in ({"notes": OTHER}, {"log": {"name": OTHER}}, {"args": {"comment": OTHER}}):
        assert list(wrappers.told(notes)) == []
    assert not claims.is_entry("description")


@pytest.mark.parametrize(
    "name",
    [
        "efficientnet-b0-355c32eb.pth",
        "adv-efficientnet-b0-b64d5a18.pth",
        "models--google--efficientnet-b0",
    ],
)
def test_weights_that_others_converted_from_tensorflow(name):
    assert claims.named(name) == "efficientnet_b0"
    assert claims.named("efficientnet_b0_rwightman-7f5810bc.pth") == "torch_efficientnet_b0"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\n<html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of git-lfs"),
        (gzip.compress(b"weights", mtime=0), "a gzip archive"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"{}", "JSON text"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_are_none_say_what_they_are(tmp_path, suffix, content, found):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    message = f"^{path}: expected weights of PyTorch or safetensors, found {found}[^\n]*$"
    with pytest.raises(UserError, match=message):
        weight_files.read_state_dict(path)


def test_archives_are_told_apart(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.ones(1))
    assert contents.of_file(tmp_path / "a.npz") == "an npz file of numpy"
    (tmp_path / "b").write_bytes(b"PK\x03\x04aaaa")
    assert contents.of_file(tmp_path / "b") == contents.PICKLED
    (tmp_path / "c").write_bytes(b"what")
    assert contents.of_file(tmp_path / "c") is None


def test_harmless_objects_beside_weights(tmp_path):
    torch = pytest.importorskip("torch")
    model = {"a.weight": torch.ones(2, 2)}
    counts = collections.defaultdict(list)
    counts["loss"] += [1.0]
    for value in (
        np.bool_(True), np.int32(2), np.float16(1), np.ones((2, 2)), pathlib.PosixPath("x"),
        datetime.datetime(2020, 1, 1), datetime.timedelta(1), counts, {1, 2}, np.array(["a"]),
    ):  # fmt: skip
        torch.save({"model": model, "beside": value}, tmp_path / "a.pth")
        found = weight_files.read_state_dict(tmp_path / "a.pth")
        assert {n: a.tolist() for n, a in found.items()} == {"a.weight": [[1, 1], [1, 1]]}
    torch.save(torch.nn.Linear(1, 1), tmp_path / "a.pth")
    message = r"as of model.state_dict\(\), found an object of torch.nn.modules.linear.Linear"
    with pytest.raises(UserError, match=message):
        weight_files.read_state_dict(tmp_path / "a.pth")


def test_tensors_without_an_array(tmp_path):
    torch = pytest.importorskip("torch")
    for tensor, message in (
        (torch.eye(2).to_sparse(), "w.weight: expected a dense tensor, found torch.sparse_coo"),
        (torch.ones(2).to("meta"), "w.weight: expected values, found a tensor of the device meta"),
    ):
        torch.save({"w.weight": tensor}, tmp_path / "a.pth")
        with pytest.raises(UserError, match=message):
            weight_files.read_state_dict(tmp_path / "a.pth")


def test_files_named_like_the_other_kind(tmp_path):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    weights = {"a.weight": torch.ones(2)}
    safetensors.save_file(weights, tmp_path / "a.pth")
    torch.save(weights, tmp_path / "b.safetensors")
    for name in ("a.pth", "b.safetensors"):
        assert weight_files.read_state_dict(tmp_path / name)["a.weight"].tolist() == [1, 1]
    safetensors.save_file({"a": torch.ones(2).to(torch.float8_e4m3fn)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="a.safetensors: expected numbers of a type that numpy has"):
        weight_files.read_state_dict(tmp_path / "a.safetensors")
