"""EfficientNet against PyTorch's: stages, gradients, statistics; dropping, counts."""

import functools

import flax.linen as nn
import jax
import jax.ad_checkpoint
import jax.numpy as jnp
import numpy as np
import pytest
from image_networks import Reference, count, quick_infer, quick_step

from moa_jax.models import efficientnet
from moa_jax.models.efficientnet import EfficientNet
from moa_jax.models.hyperparameters import EFFICIENTNETS
from moa_jax.pretrained import efficientnet_from_torch

STAGES = ["stem", *(f"stage{i}" for i in range(7)), "top"]
NETWORK = EfficientNet("b3", drop_rate=0.0, drop_connect_rate=0.0)


def reference(mode, height, width):
    case = Reference(
        "effnet_b3", mode, height, width, functools.partial(efficientnet_from_torch, variant="b3")
    )

    def add_stages(intermediates):
        for name in STAGES:
            # What the reference calls the head ends where ours begins.
            case.add_probe({"top": "head"}.get(name, name), intermediates[name][0])
        case.found["pooled"] = intermediates["pooled"][0]

    with jax.enable_x64(True):
        if mode == "eval":
            logits, seen = case.infer(NETWORK, np.float64, quick_infer)
            add_stages(seen)
            case.found |= {"logits": logits, "fc0": seen["head"]["dense1"]["__call__"][0]}
            for stage, index in ((0, 0), (1, 0), (2, 0)):
                block = seen[f"stage{stage}_block{index}"]
                case.add_probe(f"x.b{stage}.{index}", block["__call__"][0])
                case.add_probe(f"x.b{stage}.{index}.se", block["se"]["__call__"][0])
                case.add_probe(f"x.b{stage}.{index}.bn2", block["bn2"]["__call__"][0])
        else:
            step = case.train(NETWORK, quick_step)
            add_stages(step[-1]["intermediates"])
            case.found["logits"] = step[-1]["logits"]
            case.add_step(*step)
    return case


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((64, 64), marks=pytest.mark.slow),
        (61, 47),
        pytest.param((300, 300), marks=pytest.mark.slow),
    ],
    ids=str,
)
def inference(request):
    return reference("eval", *request.param)


@pytest.fixture(scope="module", params=[64, pytest.param(300, marks=pytest.mark.slow)], ids=str)
def training(request):
    return reference("train", request.param, request.param)


def test_inference_stage_by_stage(inference):
    inference.check("stem", "stage", "head", "pooled", "fc0", "logits")
    if "x.b1.0.mean" in inference.stored:
        inference.check("x.")
    inference.check_all_compared()


def test_training_stage_by_stage(training):
    training.check("stem", "stage", "head", "pooled", "logits", "loss")


def test_gradients(training):
    training.check("grad")


def test_statistics_after_one_step(training):
    training.check("stat")


@pytest.mark.slow
def test_float32_is_as_near_as_in_pytorch():
    case = reference("eval", 64, 64)
    logits, _ = case.infer(NETWORK, np.float32)
    deviation = np.abs(logits - case.stored["logits"]).max()
    assert deviation < 5 * case.stored["fp32_maxabs_dev.logits"]


@pytest.mark.parametrize(
    ("variant", "published"),
    [
        ("b0", 5_288_548),
        ("b1", 7_794_184),
        ("b2", 9_109_994),
        ("b3", 12_233_232),
        ("b4", 19_341_616),
        ("b5", 30_389_784),
        ("b6", 43_040_704),
        ("b7", 66_347_960),
    ],
)
def test_parameter_counts(variant, published):
    """Published counts are those with one layer of 1000 classes."""
    image = jnp.zeros((1, 33, 31, 3))
    shapes = jax.eval_shape(EfficientNet(variant).init, jax.random.key(0), image)
    head = shapes["params"]["head"]
    width = head["dense1"]["kernel"].shape[0]
    assert count(shapes["params"]) - count(head) + 1000 * (width + 1) == published
    if variant == "b3":
        assert count(shapes["params"]) == 11_588_854
        assert count(shapes["batch_stats"]) == 87_296


def test_every_variant_has_its_count():
    table = test_parameter_counts.pytestmark[0].args[1]
    assert [row[0] for row in table] == list(EFFICIENTNETS)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_swish_keeps_its_input_alone(dtype, capsys):
    x = jnp.linspace(-20, 20, 401, dtype=dtype)
    cotangent = jnp.cos(jnp.arange(401)).astype(dtype)
    (found,), (expected,) = (
        jax.vjp(function, x)[1](cotangent) for function in (efficientnet.swish, nn.swish)
    )
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == dtype
    jax.ad_checkpoint.print_saved_residuals(lambda x: efficientnet.swish(x).sum(), x)
    kept = capsys.readouterr().out.splitlines()
    assert len(kept) == 1 and "from the argument x" in kept[0]
    # No barrier between the backward pass and what XLA may fuse it with.
    program = str(jax.make_jaxpr(jax.grad(lambda x: efficientnet.swish(x).sum()))(x))
    assert "remat" not in program and "barrier" not in program


def test_drop_connect_drops_whole_rows():
    branch = jnp.arange(1.0, 25.0).reshape(6, 2, 2, 1).repeat(500, 0)
    dropped = efficientnet.drop_connect(branch, 0.2, jax.random.key(0))
    kept = np.asarray(dropped != 0).reshape(len(branch), -1)
    assert (kept.all(1) | ~kept.any(1)).all()
    assert abs(kept.all(1).mean() - 0.8) < 0.03
    np.testing.assert_allclose(dropped[kept.all(1)], branch[kept.all(1)] / 0.8, rtol=1e-6)


def test_initial_weights():
    block = efficientnet.MBConv(
        efficientnet.BlockShape(1, 0, 5, 2, 6, 48), 0.0, None, None, train=False
    )
    variables = jax.jit(block.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 40)), None)
    params = jax.tree.map(np.asarray, variables["params"])
    for name, fan_out in (("conv_pw", 240), ("conv_dw", 25), ("conv_pwl", 48)):
        deviation = (2 / fan_out) ** 0.5
        assert abs(params[name]["kernel"].std() - deviation) < 0.04 * deviation
        assert np.abs(params[name]["kernel"]).max() > 2.5 * deviation  # not cut off
    assert params["se"]["conv_reduce"]["kernel"].shape == (1, 1, 240, 10)
    for name, fan_out in (("conv_reduce", 10), ("conv_expand", 240)):
        deviation = (2 / fan_out) ** 0.5
        assert abs(params["se"][name]["kernel"].std() - deviation) < 0.05 * deviation
        assert (params["se"][name]["bias"] == 0).all()
    head = efficientnet.ImageHead(512, 206, 0.0)
    params = head.init(jax.random.key(0), jnp.zeros((1, 64)), False)["params"]
    for name, fan_out in (("dense1", 512), ("dense2", 206)):
        kernel, bound = np.asarray(params[name]["kernel"]), fan_out**-0.5
        assert -bound <= kernel.min() < -0.98 * bound and 0.98 * bound < kernel.max() <= bound
        assert (params[name]["bias"] == 0).all()
