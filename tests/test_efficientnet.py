"""EfficientNet against PyTorch's: stages, gradients, statistics; padding, dropping, counts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from image_networks import Reference, cast, infer, training_step
from jax.sharding import AxisType, Mesh, PartitionSpec

from moa_jax.models import efficientnet
from moa_jax.models.convolution import convolve
from moa_jax.models.efficientnet import EfficientNet
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
            logits, seen = case.infer(NETWORK, np.float64)
            add_stages(seen)
            case.found |= {"logits": logits, "fc0": seen["head"]["dense1"]["__call__"][0]}
            for stage, index in ((0, 0), (1, 0), (2, 0)):
                block = seen[f"stage{stage}_block{index}"]
                case.add_probe(f"x.b{stage}.{index}", block["__call__"][0])
                case.add_probe(f"x.b{stage}.{index}.se", block["se"]["__call__"][0])
                case.add_probe(f"x.b{stage}.{index}.bn2", block["bn2"]["__call__"][0])
        else:
            step = case.train(NETWORK)
            add_stages(step[-1]["intermediates"])
            case.found["logits"] = step[-1]["logits"]
            case.add_step(*step)
    return case


@pytest.fixture(
    scope="module",
    params=[(64, 64), (61, 47), pytest.param((300, 300), marks=pytest.mark.slow)],
    ids=str,
)
def inference(request):
    return reference("eval", *request.param)


@pytest.fixture(scope="module", params=[64, pytest.param(300, marks=pytest.mark.slow)], ids=str)
def training(request):
    return reference("train", request.param, request.param)


def test_inference_stage_by_stage(inference):
    inference.check("stem", "stage", "head", "x.", "pooled", "fc0", "logits")
    assert all(name.startswith(("input", "gain", "fp32")) for name in inference.unmatched), (
        inference.unmatched
    )


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


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


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
    assert [row[0] for row in table] == list(efficientnet.VARIANTS)


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(8, 8), (9, 6), (1, 2)])
def test_convolution_per_channel_equals_the_grouped_one(size, stride, shape):
    """The sum over the kernel's places against XLA's grouped convolution, with gradients."""
    with jax.enable_x64(True):
        generator = np.random.default_rng(0)
        x = generator.normal(size=(2, *shape, 4))
        kernel = generator.normal(size=(size, size, 1, 4))

        def plain(x, kernel):
            return jax.lax.conv_general_dilated(
                x,
                kernel,
                (stride, stride),
                "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=4,
            )

        def ours(x, kernel):
            return convolve(x, kernel, stride, "SAME", 4)

        (expected, pull), (found, our_pull) = (jax.vjp(f, x, kernel) for f in (plain, ours))
        cotangent = generator.normal(size=expected.shape)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12),
            (found, our_pull(cotangent)),
            (expected, pull(cotangent)),
        )


def test_convolution_by_explicit_padding_in_groups():
    with jax.enable_x64(True):
        generator = np.random.default_rng(0)
        x = generator.normal(size=(2, 7, 6, 4))
        kernel = generator.normal(size=(3, 3, 2, 6))
        halves = [
            convolve(x[..., 2 * i : 2 * i + 2], kernel[..., 3 * i : 3 * i + 3], 2, 1)
            for i in range(2)
        ]
        assert halves[0].shape == (2, 4, 3, 3)
        expected = np.concatenate(halves, -1)
        np.testing.assert_allclose(convolve(x, kernel, 2, 1, 2), expected, rtol=1e-12)
        pointwise = kernel[:1, :1]
        expected = np.concatenate(
            [x[..., 2 * i : 2 * i + 2] @ pointwise[0, 0, :, 3 * i : 3 * i + 3] for i in range(2)],
            -1,
        )
        np.testing.assert_allclose(convolve(x, pointwise, 1, "SAME", 2), expected, rtol=1e-12)


def test_drop_connect_drops_whole_rows():
    branch = jnp.arange(1.0, 25.0).reshape(6, 2, 2, 1).repeat(500, 0)
    dropped = efficientnet.drop_connect(branch, 0.2, jax.random.key(0))
    kept = np.asarray(dropped != 0).reshape(len(branch), -1)
    assert (kept.all(1) | ~kept.any(1)).all()
    assert abs(kept.all(1).mean() - 0.8) < 0.03
    np.testing.assert_allclose(dropped[kept.all(1)], branch[kept.all(1)] / 0.8, rtol=1e-6)


@pytest.fixture(scope="module")
def small():
    """A network of five blocks, a stack of three members of it in float64, and a batch."""
    patch = pytest.MonkeyPatch()
    patch.setitem(efficientnet.VARIANTS, "small", (0.5, 1.0))
    patch.setattr(efficientnet, "STAGES", efficientnet.STAGES[:3])
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(8, 15, 14, 3)), (generator.random((8, 5)) < 0.3).astype(float)
    network = EfficientNet("small", 5, 6, 0.0, 0.0)
    one = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 15, 14, 3)))
    one = jax.tree.map(lambda a: np.asarray(a) + 0.1 * generator.random(a.shape), one)
    stack = jax.tree.map(lambda a: np.stack([a, 1.1 * a, a[::-1]]), one)
    yield network, stack, x, y
    patch.undo()


def of_member(tree, index):
    return jax.tree.map(lambda a: a[index], tree)


def close(found, expected, tolerance=1e-9):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            a, b, rtol=tolerance, atol=tolerance * max(1e-3, np.abs(b).max())
        ),
        found,
        expected,
    )


@pytest.fixture(scope="module")
def alone(small):
    """A training step of each member by itself."""
    network, stack, x, y = small
    with jax.enable_x64(True):
        return [training_step(network, of_member(stack, i), x, y) for i in range(3)]


@pytest.mark.parametrize("lift", ["map", "vmap"])
def test_a_stack_of_members_equals_each_alone(small, alone, lift):
    network, stack, x, y = small
    with jax.enable_x64(True):

        def step(variables):
            return training_step(network, variables, x, y)

        stacked = jax.vmap(step)(stack) if lift == "vmap" else jax.lax.map(step, stack)
        for index in range(3):
            close(of_member(stacked, index), alone[index])


def test_rematerialisation_changes_nothing(small, alone):
    network, stack, x, y = small
    with jax.enable_x64(True):
        loss, gradients, _, left = training_step(
            network.clone(remat=True), of_member(stack, 0), x, y
        )
        expected = alone[0]
        close((loss, gradients), expected[:2])
        close(left["batch_stats"], expected[3]["batch_stats"])


def test_padded_rows_change_nothing(small):
    network, stack, x, y = small
    with jax.enable_x64(True):
        one, mask = of_member(stack, 0), np.arange(8) < 5
        padded = np.where(mask[:, None, None, None], x, 1e2)
        found = training_step(network, one, padded, y, mask)
        expected = training_step(network, one, x[:5], y[:5], mask[:5])
        close(found[:2], expected[:2])
        close(found[3]["batch_stats"], expected[3]["batch_stats"])
        close(found[3]["logits"][:5], expected[3]["logits"])
        np.testing.assert_array_equal(found[2][5:], 0)


def test_a_batch_spread_over_devices_has_one_batch_norm(small, alone):
    network, stack, x, y = small
    spread = network.clone(axis_name="data")
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",), axis_types=(AxisType.Auto,))
    one = of_member(stack, 0)

    def step(variables, x, y):
        loss, gradients, _, left = training_step(spread, variables, x, y)
        return jax.lax.pmean((loss, gradients, left["batch_stats"]), "data")

    rows, whole = PartitionSpec("data"), PartitionSpec()
    with jax.enable_x64(True):
        lifted = jax.jit(
            jax.shard_map(
                step, mesh=mesh, in_specs=(whole, rows, rows), out_specs=whole, check_vma=False
            )
        )
        loss, gradients, stats = lifted(one, x, y)
        close((loss, gradients, stats), (*alone[0][:2], alone[0][3]["batch_stats"]))


def test_gradients_reach_every_parameter(small):
    """With running statistics, since batch statistics cancel some shifts."""
    network, stack, x, _ = small
    with jax.enable_x64(True):
        one = of_member(stack, 0)

        def total(params):
            return jnp.sum(jnp.square(network.apply({**one, "params": params}, x)))

        for path, leaf in jax.tree.leaves_with_path(jax.jit(jax.grad(total))(one["params"])):
            assert np.abs(leaf).max() > 1e-9, jax.tree_util.keystr(path)


def test_dropping_draws_from_its_key(small):
    network, stack, x, y = small
    one, x, y = cast((of_member(stack, 0), x, y), np.float32)
    with pytest.raises(Exception, match="dropout"):
        training_step(network.clone(drop_rate=0.5), one, x, y)
    network = network.clone(drop_connect_rate=0.8)
    with pytest.raises(Exception, match="dropout"):
        training_step(network, one, x, y)
    first, again, other = (
        training_step(network, one, x, y, None, {"dropout": jax.random.key(seed)})[0]
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_bfloat16_computes_low_and_keeps_the_rest_high(small):
    network, stack, x, _ = small
    one, x = cast((of_member(stack, 0), x), np.float32)
    low = network.clone(dtype=jnp.bfloat16)
    initial = jax.eval_shape(low.init, jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(initial)} == {jnp.dtype("float32")}
    logits, seen = infer(low, one, x)
    assert logits.dtype == seen["pooled"][0].dtype == jnp.float32
    assert {seen[name][0].dtype for name in STAGES if name in seen} == {jnp.dtype("bfloat16")}
    expected, _ = infer(network, one, x)
    np.testing.assert_allclose(logits, expected, rtol=0.05, atol=0.05 * np.abs(expected).max())


def test_initial_weights():
    block = efficientnet.Block(
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
