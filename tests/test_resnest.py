"""ResNeSt against PyTorch's: stages, gradients, statistics; pools, attention, counts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from image_networks import (
    FOLDER,
    Reference,
    cast,
    compiled_infer,
    compiled_step,
    count,
    draw,
    quick_infer,
    quick_step,
    to_nhwc,
    to_torch,
)

from moa_jax.models import resnest
from moa_jax.models.hyperparameters import RESNESTS
from moa_jax.models.resnest import ResNeSt
from moa_jax.pretrained import resnest_from_torch

STAGES = ["stem", "maxpool", *(f"stage{i}" for i in range(1, 5))]
NAME = "resnest50_fast_2s2x40d"
NETWORK = ResNeSt(**RESNESTS[NAME])


def add_fine_probes(case, seen):
    """What the reference has of the first blocks of two stages."""

    def output(*path):
        return functools.reduce(lambda tree, name: tree[name], path, seen)["__call__"][0]

    for stage in (1, 2):
        block, name = f"stage{stage}_block0", f"x.l{stage}.0"
        case.add_probe(name, output(block))
        case.add_probe(f"{name}.conv2", output(block, "conv2"))
    case.add_probe("x.l1.0.downsample", output("stage1_block0", "downsample_bn"))
    # Of the second stage the reference has the shortcut behind its pool.
    pooled = resnest.shortcut_pool(seen["stage1"][0], 2)
    case.add_probe("x.l2.0.downsample", np.asarray(pooled))
    case.add_probe("x.l1.0.conv2.conv", output("stage1_block0", "conv2", "conv"))
    gate = output("stage1_block0", "conv2", "fc2")
    case.add_probe("x.l1.0.conv2.fc2", gate)
    weights = np.asarray(resnest.radix_softmax(gate[:, 0, 0], 2, 2))
    case.add_probe("x.l1.0.conv2.rsoftmax", weights.reshape(len(gate), -1))
    inside = np.maximum(output("stage2_block0", "bn1"), 0)
    case.add_probe("x.l2.0.avd", np.asarray(resnest.smoothing_pool(inside, 2)))


def reference(mode, height, width):
    convert = functools.partial(resnest_from_torch, **RESNESTS[NAME])
    case = Reference(NAME, mode, height, width, convert)

    def add_stages(intermediates):
        for name in STAGES:
            case.add_probe(name, intermediates[name][0])
        case.found["pooled"] = intermediates["pooled"][0]

    with jax.enable_x64(True):
        if mode == "eval":
            logits, seen = case.infer(NETWORK, np.float64, compiled_infer)
            add_stages(seen)
            case.found |= {"logits": logits, "fc0": seen["head"]["dense1"]["__call__"][0]}
            add_fine_probes(case, seen)
        else:
            step = case.train(NETWORK, compiled_step)
            add_stages(step[-1]["intermediates"])
            case.found["logits"] = step[-1]["logits"]
            case.add_step(*step)
    return case


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((64, 64), marks=pytest.mark.slow),
        (61, 47),
        pytest.param((224, 224), marks=pytest.mark.slow),
    ],
    ids=str,
)
def inference(request):
    return reference("eval", *request.param)


@pytest.fixture(scope="module", params=[64, pytest.param(224, marks=pytest.mark.slow)], ids=str)
def training(request):
    return reference("train", request.param, request.param)


def test_inference_stage_by_stage(inference):
    inference.check("stem", "maxpool", "stage", "pooled", "fc0", "logits")
    if "x.l1.0.mean" in inference.stored:
        inference.check("x.")
    inference.check_all_compared()


def test_training_stage_by_stage(training):
    training.check("stem", "maxpool", "stage", "pooled", "logits", "loss")


def test_gradients(training):
    training.check("grad.", "grad8x8.", "grad_norm.")
    # Equal values abound in mostly empty images, and the maximum may take any of them.
    training.check("grad_input", tolerance=0.05)


def test_statistics_after_one_step(training):
    training.check("stat")


@pytest.mark.slow
def test_float32_is_as_near_as_in_pytorch():
    case = reference("eval", 64, 64)
    logits, _ = case.infer(NETWORK, np.float32, compiled_infer)
    deviation = np.abs(logits - case.stored["logits"]).max()
    assert deviation < 5 * case.stored["fp32_maxabs_dev.logits"]


class OtherShape:
    """A shallow network of another shape by its authors, with its average behind the attention."""

    def __init__(self, name, radix, width):
        self.stored = {
            key.removeprefix(f"{name}/"): array
            for key, array in np.load(FOLDER / "cnn_resnest_small.npz").items()
            if key.startswith(f"{name}/")
        }
        shapes = [tuple(map(int, shape.split(","))) for shape in self.stored["shapes"].tolist()]
        self.shapes = dict(zip(self.stored["names"].tolist(), shapes, strict=True))
        self.options = {
            "layers": (1, 1, 1, 1),
            "radix": radix,
            "cardinality": 2,
            "bottleneck_width": width,
            "stem_width": 6,
            "avd_first": False,
        }
        self.network = ResNeSt(**self.options, num_outputs=5, head_width=8)
        arrays = {key: draw(key, shape, 1.6) for key, shape in self.shapes.items()}
        self.variables = cast(resnest_from_torch(arrays, **self.options), np.float64)
        images = np.random.default_rng(1).random((4, 3, 45, 38))
        assert images.sum() == pytest.approx(float(self.stored["images.sum"]), rel=1e-12)
        self.images = to_nhwc(images)

    def by_torch_name(self, gradients):
        numbers = {
            key: np.full(shape, float(i)) for i, (key, shape) in enumerate(self.shapes.items())
        }
        numbers = jax.tree.leaves(resnest_from_torch(numbers, **self.options)["params"])
        names = list(self.shapes)
        return {
            names[int(number.flat[0])]: to_torch(gradient)
            for number, gradient in zip(numbers, jax.tree.leaves(gradients), strict=True)
        }


@pytest.fixture(scope="module", params=[("1s2x16d", 1, 16), ("4s2x8d", 4, 8)], ids=lambda p: p[0])
def other_shape(request):
    """One split, and four."""
    with jax.enable_x64(True):
        return OtherShape(*request.param)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


def test_other_shapes_in_inference(other_shape):
    with jax.enable_x64(True):
        logits, _ = quick_infer(other_shape.network, other_shape.variables, other_shape.images)
        close(logits, other_shape.stored["eval.logits"])


@pytest.mark.slow
def test_other_shapes_in_training(other_shape):
    stored = other_shape.stored
    with jax.enable_x64(True):
        loss, gradients, _, left = quick_step(
            other_shape.network, other_shape.variables, other_shape.images, stored["labels"]
        )
        close(left["logits"], stored["train.logits"])
        close(loss, stored["train.loss"])
        found = other_shape.by_torch_name(gradients)
        norms = [np.linalg.norm(found[key].ravel()) for key in stored["parameters"].tolist()]
        close(norms, stored["gradient.norms"])
        for key in ("layer2.0.conv2.conv.weight", "layer2.0.conv2.fc2.weight"):
            expected = stored[f"gradient.{key}"]
            close(found[key][: len(expected)], expected)


PUBLISHED_COUNTS = {
    "resnest50": 27_483_240,
    "resnest101": 48_275_016,
    "resnest200": 70_201_544,
    "resnest269": 110_929_480,
    "resnest50_fast_1s1x64d": 26_217_896,
    "resnest50_fast_2s1x64d": 27_483_240,
    "resnest50_fast_4s1x64d": 31_912_712,
    "resnest50_fast_1s2x40d": 25_946_680,
    "resnest50_fast_2s2x40d": 26_943_792,
    "resnest50_fast_4s2x40d": 30_417_592,
    "resnest50_fast_1s4x24d": 25_677_000,
}


@pytest.mark.parametrize("name", RESNESTS)
def test_parameter_counts(name):
    """Counts of the authors' package are those with one layer of 1000 classes."""
    network = ResNeSt(**RESNESTS[name])
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 33, 31, 3)))
    head = shapes["params"]["head"]
    backbone = count(shapes["params"]) - count(head)
    assert backbone + 1000 * (2048 + 1) == PUBLISHED_COUNTS[name]
    if name == NAME:
        assert count(shapes["params"]) == 26_049_558
        assert count(shapes["batch_stats"]) == 71_184


def test_pools_at_odd_borders():
    x = np.arange(1.0, 16.0, dtype=np.float32).reshape(1, 3, 5, 1)
    expected = [[(1 + 2 + 6 + 7) / 4, (3 + 4 + 8 + 9) / 4, (5 + 10) / 2], [11.5, 13.5, 15]]
    np.testing.assert_allclose(resnest.shortcut_pool(x, 2)[0, :, :, 0], expected)
    np.testing.assert_array_equal(resnest.shortcut_pool(x, 1), x)
    expected = [[16, 33, 28], [36, 63, 48]]  # sums; places off the image are zeros that count
    np.testing.assert_allclose(resnest.smoothing_pool(x, 2)[0, :, :, 0] * 9, expected, rtol=1e-6)


def test_weights_of_the_splits():
    gate = np.random.default_rng(0).normal(size=(2, 3 * 4 * 5)).astype(np.float32)
    weights = np.asarray(resnest.radix_softmax(gate, 4, 3))
    assert weights.shape == (2, 4, 15)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    exponents = np.exp(gate.reshape(2, 3, 4, 5))
    expected = exponents / exponents.sum(2, keepdims=True)
    np.testing.assert_allclose(weights[:, 1, 5:10], expected[:, 1, 1], rtol=1e-5)
    sigmoid = 1 / (1 + np.exp(-gate))
    np.testing.assert_allclose(resnest.radix_softmax(gate, 1, 3)[:, 0], sigmoid, rtol=1e-6)


def test_averaging_before_or_behind_the_attention():
    """The attention sees an image of half the size, or of the whole."""
    for avd_first, side in ((True, 2), (False, 4)):
        block = resnest.Bottleneck(
            32, 2, 1, 64, avd_first, None, None, stride=2, projects=True, train=False
        )
        x = jnp.zeros((1, 4, 4, 8))
        _, found = jax.eval_shape(
            functools.partial(block.init_with_output, capture_intermediates=True),
            jax.random.key(0),
            x,
            None,
        )
        inside = found["intermediates"]["conv2"]["__call__"][0]
        assert inside.shape == (1, side, side, 32)


def test_initial_weights():
    attention = resnest.SplitAttention(2, 2, None, None, train=False)
    variables = jax.jit(attention.init)(jax.random.key(0), jnp.zeros((1, 4, 4, 256)), None)
    params = jax.tree.map(np.asarray, variables["params"])
    # The outputs of all groups count.
    for name, fan_out in (("conv", 9 * 512), ("fc1", 128), ("fc2", 512)):
        deviation = (2 / fan_out) ** 0.5
        assert abs(params[name]["kernel"].std() - deviation) < 0.03 * deviation
        assert np.abs(params[name]["kernel"]).max() > 2.5 * deviation  # not cut off
    assert params["conv"]["kernel"].shape == (3, 3, 64, 512)
    for name, fan_in in (("fc1", 128), ("fc2", 64)):
        bias, bound = params[name]["bias"], fan_in**-0.5
        assert 0.9 * bound < np.abs(bias).max() <= bound
