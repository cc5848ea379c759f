"""Weights of the image networks: strict names, files that are not executed, the command line."""

import functools
import hashlib
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from flax import traverse_util
from image_networks import cast, keys, quick, state_dict, to_torch

from moa_jax.errors import UserError
from moa_jax.models.efficientnet import EfficientNet
from moa_jax.models.hyperparameters import RESNESTS
from moa_jax.models.resnest import ResNeSt
from moa_jax.pretrained import (
    architectures,
    efficientnet_from_torch,
    hub,
    resnest_from_torch,
    weight_files,
)
from moa_jax.training.initial import initialise
from moa_jax.training.members import Member
from moa_jax.training.stage import Forward, Stage
from moa_jax.training.trees import Own, Shared

NETWORKS = {
    "effnet_b3": (
        functools.partial(efficientnet_from_torch, variant="b3"),
        EfficientNet("b3"),
        "classifier",
    ),
    "resnest50_fast_2s2x40d": (
        functools.partial(resnest_from_torch, **RESNESTS["resnest50_fast_2s2x40d"]),
        ResNeSt(**RESNESTS["resnest50_fast_2s2x40d"]),
        "fc",
    ),
}
PREFIX = "backbone."
# Small enough to convert often.
SMALL = {
    "layers": (1,),
    "radix": 2,
    "cardinality": 1,
    "bottleneck_width": 8,
    "stem_width": 4,
    "avd_first": True,
}


@pytest.fixture(scope="module", params=NETWORKS)
def case(request):
    name = request.param
    return name, *NETWORKS[name]


@functools.cache
def shapes(network):
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    return {k: v.shape for k, v in traverse_util.flatten_dict(dict(variables)).items()}


def prefixed(arrays):
    return {PREFIX + key: array for key, array in arrays.items()}


def found_shapes(variables):
    return {k: v.shape for k, v in traverse_util.flatten_dict(variables).items()}


def check_all_arrays_arrive(converted, arrays, head):
    """Every array but counters and a layer of 1000 classes, in PyTorch's layout, bit by bit."""
    expected = sorted(
        (array.shape, array.tobytes())
        for key, array in arrays.items()
        if array.dtype.kind == "f" and key not in (f"{head}.weight", f"{head}.bias")
    )
    leaves = [to_torch(leaf) for leaf in jax.tree.leaves(converted)]
    assert sorted((leaf.shape, leaf.tobytes()) for leaf in leaves) == expected


def test_the_solutions_network_gives_everything(case):
    name, convert, network, head = case
    arrays = state_dict(name, 2.0)
    converted = convert(prefixed(arrays))
    assert found_shapes(converted) == shapes(network)
    check_all_arrays_arrive(converted, arrays, head)
    total = sum(leaf.size for leaf in jax.tree.leaves(converted["params"]))
    assert total == {"effnet_b3": 11_588_854, "resnest50_fast_2s2x40d": 26_049_558}[name]


def test_a_public_checkpoint_gives_all_but_the_head(case):
    name, convert, network, head = case
    arrays = state_dict(name, 2.0, "public")
    assert arrays[f"{head}.weight"].shape[0] == 1000
    converted = convert(arrays)
    backbone = {path: shape for path, shape in shapes(network).items() if path[1] != "head"}
    assert found_shapes(converted) == backbone
    check_all_arrays_arrive(converted, arrays, head)


def test_names_and_shapes_are_strict(case):
    name, convert, _, head = case
    good = {
        key: np.broadcast_to(np.float32(0), shape)
        for key, (shape, kind) in keys(name, "public").items()
        if kind != "counter"
    }
    convert(good)
    first = next(iter(good))
    without = {k: v for k, v in good.items() if k != first}
    with pytest.raises(UserError, match=rf"missing \['{first}'\], unknown nothing$"):
        convert(without)
    unknown = ["bn1.gamma", "conv9.num_batches_tracked", f"{head}.3.weight"]
    with pytest.raises(UserError) as error:
        convert({**good, **dict.fromkeys(unknown, np.zeros(3))})
    assert str(error.value) == f"state dict: missing nothing, unknown {sorted(unknown)}"
    for key, wrong in ((first, good[first][:, :1]), ("bn1.running_var", np.float32(0))):
        with pytest.raises(UserError, match=rf"{key}: expected shape \(.*\), found \(.*\)$"):
            convert({**good, key: wrong})
    key = f"{head}.weight"
    with pytest.raises(UserError, match=rf"{key}: expected shape \(1000, .*, found \(999, "):
        convert({**good, key: good[key][:999]})


def test_a_head_must_fit_itself(case):
    name, convert, _, head = case
    good = state_dict(name, 2.0)
    with pytest.raises(UserError, match=rf"{head}.2.weight: .*\(205, 512\), found \(206, 512\)$"):
        convert({**good, f"{head}.2.bias": np.zeros(205)})
    without = {k: v for k, v in good.items() if k != f"{head}.0.bias"}
    with pytest.raises(UserError, match=rf"missing \['{head}.0.bias'\]"):
        convert(without)


def test_a_file_of_another_network_is_told_in_one_line(case):
    name, convert, _, _ = case
    other = next(other for other in NETWORKS if other != name)
    with pytest.raises(UserError, match=r"and \d+ more, unknown \[.*\] and \d+ more$") as error:
        convert(state_dict(other, 2.0))
    assert len(str(error.value)) < 400
    with pytest.raises(UserError, match="missing"):
        convert({})


SMALL_NAMES = {
    "stem_conv1": "conv1.0",
    "stem_bn1": "conv1.1",
    "stem_conv2": "conv1.3",
    "stem_bn2": "conv1.4",
    "stem_conv3": "conv1.6",
    "stem_bn3": "bn1",
    "stage1_block0": "layer1.0",
    "downsample_conv": "downsample.1",
    "downsample_bn": "downsample.2",
    "head": "fc",
    "dense1": "0",
    "dense2": "2",
    "kernel": "weight",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}


@pytest.fixture(scope="module")
def small():
    """A small network, its variables in float64 and the same as a state dict."""
    network = ResNeSt(**SMALL, num_outputs=3, head_width=4)
    generator = np.random.default_rng(0)
    flat = {path: generator.normal(size=shape) for path, shape in shapes(network).items()}
    arrays = {
        ".".join(SMALL_NAMES.get(name, name) for name in path[1:]): np.ascontiguousarray(
            to_torch(array)
        )
        for path, array in flat.items()
    }
    return network, traverse_util.unflatten_dict(flat), arrays


def convert_small(arrays):
    return resnest_from_torch(arrays, **SMALL)


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {
        leaf.dtype for leaf in jax.tree.leaves(expected)
    }


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_values_and_dtype_are_kept(small, dtype):
    _, variables, arrays = small
    low, expected = cast(arrays, dtype), cast(variables, dtype)
    same(convert_small(low), expected)
    same(convert_small(prefixed(low)), expected)


def test_a_stage_joins_a_public_backbone_with_a_new_head(small):
    network, variables, arrays = small
    public = {name: array for name, array in arrays.items() if not name.startswith("fc.")}
    public |= {"fc.weight": np.zeros((1000, 256)), "fc.bias": np.zeros(1000)}
    start = convert_small(public)
    rows = np.arange(2)
    stage = Stage(
        "test/first",
        Forward(network),
        (Member(0, 0, rows, rows, rows),),
        np.zeros((2, 8, 8, 3), np.float32),
        np.zeros((2, 3), np.float32),
        lambda logits, y, mask: logits.sum(),
        lambda total_steps, scale, member_data: optax.sgd(0.1),
        epochs=1,
        batch_size=2,
    )
    own = Own((), np.int32(1), start)
    key = jax.random.key_data(jax.random.key(0))
    state, _ = quick(initialise(stage))(key, own, Shared(stage.shared, stage.targets))
    params = dict(state.params)
    head = params.pop("head")
    assert head["dense1"]["kernel"].shape == (256, 4) and np.any(head["dense1"]["kernel"])
    expected = cast(variables, np.float32)
    del expected["params"]["head"]
    same(params, expected["params"])
    same(state.batch_stats, expected["batch_stats"])


def test_converted_weights_are_stored_without_pickle(small, tmp_path):
    _, variables, _ = small
    written = weight_files.Pretrained(variables, "efficientnet_b3", "some-1234.pth", "0" * 64)
    weight_files.write(tmp_path / "weights.npz", written)
    found = weight_files.read(tmp_path / "weights.npz")
    assert found[1:] == written[1:]
    same(found.variables, variables)
    with np.load(tmp_path / "weights.npz", allow_pickle=False) as stored:
        assert json.loads(str(stored["description"]))["record"]["source_sha256"] == "0" * 64
        assert "params/stage1_block0/conv2/fc1/bias" in stored.files
    with pytest.raises(UserError, match=r"absent.npz: not found$"):
        weight_files.read(tmp_path / "absent.npz")
    (tmp_path / "weights.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"weights.npz: damaged, expected converted weights"):
        weight_files.read(tmp_path / "weights.npz")


def test_a_file_becomes_variables_and_their_origin(case, tmp_path, monkeypatch):
    """Everything between reading a checkpoint and writing the variables, without PyTorch."""
    name, convert, _, _ = case
    architecture = {"effnet_b3": "efficientnet_b3"}.get(name, name)
    path, arrays = tmp_path / "weights.pth", state_dict(name, 2.0, "public")
    path.write_bytes(b"checkpoint")
    monkeypatch.setattr(architectures, "read_state_dict", lambda path: arrays)
    found = architectures.convert(architecture, path, "weights.pth")
    assert found[1:] == (architecture, "weights.pth", hashlib.sha256(b"checkpoint").hexdigest())
    same(found.variables, convert(arrays))
    with pytest.raises(UserError, match="weights.pth: not efficientnet_b0: state dict: missing"):
        architectures.convert("efficientnet_b0", path, "weights.pth")


@pytest.mark.parametrize(
    ("name", "library", "extra"),
    [("a.pth", "torch", "torch"), ("a.safetensors", "safetensors", "safetensors")],
)
def test_a_missing_library_is_named(name, library, extra, tmp_path, monkeypatch):
    (tmp_path / name).write_bytes(b"")
    for module in [m for m in sys.modules if m.split(".")[0] == library] + [library]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"{name}: .* pip install 'moa-jax\[{extra}\]'$"):
        weight_files.read_state_dict(tmp_path / name)


def test_files_of_another_kind_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"a.txt: expected one of .*, found '.txt'$"):
        weight_files.read_state_dict(tmp_path / "a.txt")
    with pytest.raises(UserError, match=r"a.pth: not found$"):
        weight_files.read_state_dict(tmp_path / "a.pth")


def test_a_safetensors_file(small, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    _, variables, arrays = small
    path = tmp_path / "a.safetensors"
    safetensors.save_file(arrays, path)
    same(convert_small(weight_files.read_state_dict(path)), variables)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="a.safetensors: damaged, expected tensors: "):
        weight_files.read_state_dict(path)


class _Executed:
    def __reduce__(self):
        return open, ("executed", "w")


def test_pytorchs_files(small, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    _, variables, arrays = small
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    for name, content in (
        ("flat.pth", tensors),
        ("lightning.ckpt", {"epoch": 3, "state_dict": prefixed(tensors)}),
    ):
        torch.save(content, name)
        same(convert_small(weight_files.read_state_dict(name)), variables)
    torch.save(tensors, "old.pth", _use_new_zipfile_serialization=False)
    same(convert_small(weight_files.read_state_dict("old.pth")), variables)
    for content, message in (
        ({**tensors, "a": 3}, "a: expected a tensor, found int"),
        ([tensors["bn1.bias"]], "expected a state dict, found list"),
        (
            {"a": 4, "b": {"c": 5}},
            r"expected a state dict, found none in a \(int\), b \(dict\): save model.state_.*",
        ),
        (
            {**tensors, "a": _Executed()},
            "expected a state dict .* an object of .*open, which is not read",
        ),
    ):
        torch.save(content, "bad.pth")
        with pytest.raises(UserError, match=rf"^bad.pth: {message}$"):
            weight_files.read_state_dict("bad.pth")
    Path("bad.pth").write_bytes(b"nothing")
    with pytest.raises(UserError, match="^bad.pth: "):
        weight_files.read_state_dict("bad.pth")
    Path("bad.pth").write_bytes(Path("flat.pth").read_bytes()[:2000])
    with pytest.raises(UserError, match="^bad.pth: damaged"):
        weight_files.read_state_dict("bad.pth")
    assert not Path("executed").exists()


def test_the_hub_is_told_in_one_line_where_it_fails(monkeypatch):
    for module in ("huggingface_hub", "huggingface_hub.utils"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"hub: me/mine: needs .* pip install 'moa-jax\[hub\]'$"):
        hub.download("me/mine", "model.safetensors")

    def fail(repository, name):
        raise ConnectionError("no network\nand a second line")

    library = types.ModuleType("huggingface_hub")
    library.utils = types.ModuleType("huggingface_hub.utils")
    library.utils.logging = types.SimpleNamespace(set_verbosity_error=lambda: None)
    library.hf_hub_download = fail
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    monkeypatch.setitem(sys.modules, "huggingface_hub.utils", library.utils)
    line = "^hub: me/mine: model.safetensors: cannot be downloaded: no network$"
    with pytest.raises(UserError, match=line):
        hub.download("me/mine", "model.safetensors")
    library.hf_hub_download = lambda repository, name: f"/cache/{repository}/{name}"
    assert hub.download("me/mine", "a.pth") == Path("/cache/me/mine/a.pth")


def run(*flags):
    command = [sys.executable, "-m", "moa_jax.pretrained", *flags]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--arch=efficientnet_b9"], "flags: flag --arch=efficientnet_b9: value should be one of"),
        (
            ["--arch=efficientnet_b3", "--input=absent.pth", "--output=a.npz"],
            "absent.pth: not found",
        ),
    ],
)
def test_the_command_line_tells_mistakes_in_one_line(flags, message):
    done = run(*flags)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(f"moa-jax: {message}") and done.stderr.count("\n") == 1


def test_the_command_line_converts(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    source, output = tmp_path / "a.safetensors", tmp_path / "a.npz"
    safetensors.save_file(state_dict("effnet_b3", 2.0, "public"), source)
    done = run("--arch=efficientnet_b3", f"--input={source}", f"--output={output}")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert (done.returncode, done.stderr) == (0, "")
    assert "10,696,232 parameters of a.safetensors" in done.stdout and digest in done.stdout
    assert weight_files.read(output)[1:] == ("efficientnet_b3", "a.safetensors", digest)
