"""The 2-heads network against Keras: layers, gradients, statistics, counts, initial weights."""

import functools
import json
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from moa_jax.errors import UserError
from moa_jax.models.two_heads import TwoHeads, trunk
from moa_jax.pretrained import two_heads_from_keras
from moa_jax.training import losses

FOLDER = Path(__file__).parent / "reference"
COUNTS = json.loads((FOLDER / "resnet_param_counts.json").read_text())
ROWS, SMOOTHING = 16, 0.0005
KERAS = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}
BLOCKS = ("output1", "answer1", "answer2", "answer3", "answer3b", "answer4")


def draw(name, shape):
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)


def keras_name(path, head):
    """('params', 'output1', 'bn0', 'scale') -> output1.bn0.gamma."""
    block = f"head_{head}" if path[1] == "head" else path[1]
    return ".".join([block, path[2], KERAS[path[3]] if path[2][:2] == "bn" else path[3]])


@functools.cache
def keras_weights(width1, width2, outputs, head="scored"):
    """Weights by the rule of the reference, under Keras's names."""
    inputs = jnp.zeros((1, width1)), jnp.zeros((1, width2))
    shapes = jax.eval_shape(TwoHeads(outputs).init, jax.random.key(0), *inputs)
    weights = {}
    for path, leaf in traverse_util.flatten_dict(shapes).items():
        name = keras_name(path, head)
        kind, n = name.rsplit(".", 1)[1], draw(name, leaf.shape)
        if kind == "kernel":
            n = n * np.sqrt(2 / leaf.shape[0])
        elif kind == "gamma":
            n = 1 + 0.1 * n
        elif kind == "moving_variance":
            n = 1 + 0.1 * abs(n)
        else:
            n = 0.1 * n
        weights[name] = n.astype(np.float32)
    return weights


def cast(tree, dtype):
    return jax.tree.map(lambda a: np.asarray(a, dtype), tree)


@functools.partial(jax.jit, static_argnums=0)
def infer(network, variables, inputs):
    """Returns logits and the outputs of the blocks."""
    logits, captured = network.apply(
        variables, *inputs, capture_intermediates=True, mutable=["intermediates"]
    )
    return logits, {name: captured["intermediates"][name]["__call__"][0] for name in BLOCKS}


def training_loss(network, variables, inputs, targets, mask, dropout=None):
    logits, updated = network.apply(
        variables, *inputs, mask=mask, train=True, mutable=["batch_stats"], rngs=dropout
    )
    loss = losses.binary_cross_entropy(logits, losses.smoothed(targets, SMOOTHING), mask)
    return loss, (updated["batch_stats"], logits)


training_loss_only = jax.jit(training_loss, static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def training_step(network, variables, *arguments):
    """Returns the loss of a training step with its gradients, statistics and logits."""

    def objective(params):
        return training_loss(network, {**variables, "params": params}, *arguments)

    (loss, (stats, logits)), gradients = jax.value_and_grad(objective, has_aux=True)(
        variables["params"]
    )
    return loss, gradients, stats, logits


def cross_entropy(y, p):
    return -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))


class Case:
    """One version with one head: the reference, and the same arrays by our network."""

    def __init__(self, version, head):
        self.version, self.head = version, head
        self.reference = dict(np.load(FOLDER / f"resnet_{version}_{head}.npz"))
        outputs, width1 = {"scored": 206, "nonscored": 402}[head], {"v1": 976, "v2": 979}[version]
        self.network = TwoHeads(outputs, dropout=(0.0, 0.0))
        self.weights = keras_weights(width1, 447, outputs, head)
        self.variables = two_heads_from_keras(self.weights)
        self.inputs = tuple(
            draw(f"{version}.{name}", (ROWS, width)).astype(np.float32)
            for name, width in (("input1", width1), ("input2", 447))
        )
        seed = zlib.crc32(f"{version}.{head}.targets".encode())
        self.targets = (np.random.default_rng(seed).random((ROWS, outputs)) < 0.03).astype(np.uint8)

    def run(self, dtype, train):
        """Returns logits and outputs of the blocks in inference, and what `train` returns."""
        variables, inputs, targets = cast((self.variables, self.inputs, self.targets), dtype)
        results = (
            *infer(self.network, variables, inputs),
            train(self.network, variables, inputs, targets, np.ones(ROWS, bool)),
        )
        return jax.tree.map(np.asarray, results)

    @functools.cached_property
    def found(self):
        with jax.enable_x64(True):
            logits, blocks, (loss, gradients, stats, train_logits) = self.run(
                np.float64, training_step
            )
        logits32, _, (loss32, (_, train_logits32)) = self.run(np.float32, training_loss_only)
        p, train_p, p32, train_p32 = (
            1 / (1 + np.exp(-z)) for z in (logits, train_logits, logits32, train_logits32)
        )
        smoothed = losses.smoothed(self.targets, SMOOTHING)
        names = sorted(self.weights)
        found = {
            "input1": self.inputs[0],
            "input2": self.inputs[1],
            "targets": self.targets,
            "param_names": np.array(names),
            "param_sum_f64": np.array([self.weights[n].sum(dtype=np.float64) for n in names]),
            "param_first_f32": np.array([self.weights[n].flat[0] for n in names]),
            "eval_logit_f64": logits,
            "eval_prob_f64": p,
            "eval_prob_f32": p32,
            "eval_loss_f64": cross_entropy(smoothed, p),
            "eval_clipped_logloss_f64": cross_entropy(self.targets, p.clip(5e-4, 1 - 5e-4)),
            "train_logit_f64": train_logits,
            "train_prob_f64": train_p,
            "train_prob_f32": train_p32,
            "train_loss_f64": loss,
            "train_loss_f32": loss32,
            "keras_loss_object_train": cross_entropy(smoothed, train_p.clip(1e-7, 1 - 1e-7)),
            # A frozen network is one in inference mode.
            "frozen_train_minus_eval_maxabs": 0.0,
        }
        found |= {f"eval_act.{name}": value for name, value in blocks.items()}
        for path, leaf in traverse_util.flatten_dict({"batch_stats": stats}).items():
            found[f"moved.{keras_name(path, self.head)}"] = leaf
        for path, leaf in traverse_util.flatten_dict({"params": gradients}).items():
            name = keras_name(path, self.head)
            found[f"grad_l2.{name}"] = np.sqrt(np.square(leaf).sum())
            if leaf.ndim == 2:
                found[f"grad_block.{name}"] = leaf[:12, :12]
                found[f"grad_rowsum.{name}"] = leaf.sum(1)
                found[f"grad_colsum.{name}"] = leaf.sum(0)
            else:
                found[f"grad.{name}"] = leaf
        return found

    def check(self, *prefixes):
        names = [name for name in self.reference if name.startswith(prefixes)]
        assert names
        for name in names:
            expected = self.reference[name]
            tolerance = 1e-9 if expected.dtype == np.float64 else 1e-6
            if name.endswith("_f32") or name == "keras_loss_object_train":
                tolerance = 5e-6  # float32 arithmetic of another framework
            scale = np.abs(expected).max()
            np.testing.assert_allclose(
                self.found[name], expected, rtol=tolerance, atol=tolerance * scale, err_msg=name
            )


@pytest.fixture(
    scope="module",
    params=[(version, head) for version in ("v1", "v2") for head in ("scored", "nonscored")],
    ids="_".join,
)
def case(request):
    return Case(*request.param)


def test_every_array_of_the_reference_is_compared(case):
    assert case.found.keys() == case.reference.keys()
    for name in ("input1", "input2", "targets", "param_names", "param_first_f32"):
        np.testing.assert_array_equal(case.found[name], case.reference[name])
    np.testing.assert_allclose(
        case.found["param_sum_f64"], case.reference["param_sum_f64"], rtol=1e-12, atol=1e-12
    )


def test_inference_block_by_block(case):
    case.check("eval_act", "eval_logit", "eval_prob", "eval_loss", "eval_clipped", "frozen")


def test_training_mode(case):
    case.check("train_logit", "train_prob", "train_loss", "keras_loss")


def test_statistics_after_one_pass(case):
    case.check("moved")


def test_gradients(case):
    case.check("grad")


def test_parameter_counts(case):
    def count(tree):
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    params, stats = case.variables["params"], case.variables["batch_stats"]
    assert COUNTS[f"{case.version}_{case.head}"] == {
        "trainable": count(params),
        "non_trainable": count(stats),
        "total": count(params) + count(stats),
        "trainable_tensors": len(jax.tree.leaves(params)),
    }


@pytest.fixture(scope="module")
def small():
    """A stack of three members with few columns, in float64."""
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(12, 9)), generator.normal(size=(12, 4))
    targets = (generator.random((12, 5)) < 0.3).astype(np.float64)
    one = cast(two_heads_from_keras(keras_weights(9, 4, 5)), np.float64)
    stack = jax.tree.map(lambda a: np.stack([a, 1.1 * a, a[::-1]]), one)
    return TwoHeads(5, dropout=(0.0, 0.0)), stack, inputs, targets


def of_member(tree, index):
    return jax.tree.map(lambda a: a[index], tree)


def close(found, expected, tolerance=1e-10):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * 1e-3),
        found,
        expected,
    )


def test_a_stack_of_members_equals_each_alone(small):
    network, variables, inputs, targets = small
    with jax.enable_x64(True):
        own = jax.tree.map(lambda a: np.stack([a, 2 * a, a[::-1]]), inputs)
        mask = np.ones(12, bool)
        step = functools.partial(training_step, network)
        stacked = jax.vmap(step, (0, 0, None, None))(variables, own, targets, mask)
        logits, _ = jax.vmap(functools.partial(infer, network))(variables, own)
        for index in range(3):
            member, member_inputs = of_member(variables, index), of_member(own, index)
            close(of_member(stacked, index), step(member, member_inputs, targets, mask))
            close(logits[index], infer(network, member, member_inputs)[0])


def test_padded_rows_change_nothing(small):
    network, variables, inputs, targets = small
    with jax.enable_x64(True):
        one = of_member(variables, 0)
        padded = jax.tree.map(lambda a: np.concatenate([a[:7], np.full_like(a[7:], 1e3)]), inputs)
        *found, logits = training_step(network, one, padded, targets, np.arange(12) < 7)
        real = jax.tree.map(lambda a: a[:7], inputs)
        *expected, real_logits = training_step(network, one, real, targets[:7], np.ones(7, bool))
        close(found, expected)
        close(logits[:7], real_logits)


def test_the_second_input_may_be_empty(small):
    _, _, inputs, _ = small
    inputs = inputs[0].astype(np.float32), np.zeros((12, 0), np.float32)
    variables = two_heads_from_keras(keras_weights(9, 0, 5))
    assert variables["params"]["answer1"]["dense0"]["kernel"].shape == (256, 512)
    assert np.isfinite(infer(TwoHeads(5), variables, inputs)[0]).all()


def test_the_head_is_apart_from_the_trunk(small):
    """A new head on a trained trunk predicts other targets; the trunk's outputs stay the same."""
    network, variables, inputs, _ = small
    with jax.enable_x64(True):
        old, other = of_member(variables, 0), TwoHeads(7)
        new = two_heads_from_keras(keras_weights(9, 4, 7))
        assert sorted(trunk(old)["params"]) == sorted(trunk(old)["batch_stats"]) == sorted(BLOCKS)
        joined = {name: {**new[name], **trunk(old)[name]} for name in new}
        _, expected = infer(network, old, inputs)
        logits, found = infer(other, joined, inputs)
        assert logits.shape == (12, 7)
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_initial_weights():
    inputs = jnp.zeros((2, 976)), jnp.zeros((2, 447))
    variables = jax.jit(TwoHeads(206).init)(jax.random.key(0), *inputs)
    kinds = {name: 0 for name in ("glorot", "lecun", "zero", "one")}
    for path, leaf in traverse_util.flatten_dict(variables).items():
        leaf = np.asarray(leaf)
        if path[-1] in ("bias", "mean", "scale", "var"):
            constant = "one" if path[-1] in ("scale", "var") else "zero"
            assert (leaf == {"one": 1, "zero": 0}[constant]).all()
        elif path[1] == "answer4":
            constant = "lecun"
            deviation = leaf.shape[0] ** -0.5
            assert abs(leaf.std() - deviation) < 0.02 * deviation
            # The normal distribution is cut off at two deviations before it is widened.
            bound = 2 * deviation / 0.87962566103423978
            assert 0.98 * bound < np.abs(leaf).max() <= bound
        else:
            constant = "glorot"
            bound = (6 / sum(leaf.shape)) ** 0.5
            assert 0.99 * bound < np.abs(leaf).max() <= bound
            assert abs(leaf.std() - bound / 3**0.5) < 0.02 * bound
        kinds[constant] += 1
    assert kinds == {"glorot": 8, "lecun": 2, "zero": 30, "one": 20}


def test_dropout_draws_from_its_key(small):
    _, variables, inputs, targets = small
    arguments = cast((of_member(variables, 0), inputs, targets), np.float32)
    loss = functools.partial(training_loss_only, TwoHeads(5), *arguments, np.ones(12, bool))
    with pytest.raises(Exception, match="dropout"):
        loss()
    one, other = (loss({"dropout": jax.random.key(seed)})[0] for seed in (1, 2))
    assert one != other


def test_bfloat16_computes_low_and_keeps_parameters_high(small):
    _, variables, inputs, _ = small
    one, inputs = cast((of_member(variables, 0), inputs), np.float32)
    network = TwoHeads(5, jnp.bfloat16)
    initial = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves(initial)} == {jnp.dtype("float32")}
    logits, _ = infer(network, one, inputs)
    assert logits.dtype == jnp.bfloat16
    expected, _ = infer(TwoHeads(5), one, inputs)
    np.testing.assert_allclose(logits.astype(jnp.float32), expected, rtol=0.05, atol=0.1)


def test_keras_weights_are_read_strictly():
    good = keras_weights(976, 447, 402, "nonscored")
    without = {name: array for name, array in good.items() if name != "answer3.dense0.bias"}
    with pytest.raises(UserError, match=r"missing \['answer3.dense0.bias'\], unknown nothing"):
        two_heads_from_keras(without)
    for name in ("answer6.dense0.bias", "head_scored.bn0.beta"):
        with pytest.raises(UserError, match=rf"missing nothing, unknown \['{name}'\]$"):
            two_heads_from_keras({**good, name: np.ones(206)})
    for name, wrong, shapes in (
        ("answer4.dense1.kernel", good["answer4.dense1.kernel"].T, r"\(256, 206\).*\(206, 256\)"),
        ("answer2.bn0.gamma", np.ones(1214), r"\(1215,\).*\(1214,\)"),
        ("output1.bn0.gamma", np.ones((976, 1)), r"\(976,\).*\(976, 1\)"),
        ("answer1.bn0.moving_mean", np.ones(12), r"\(703,\).*\(12,\)"),
        ("output1.dense1.bias", np.ones(()), r"\(256,\).*\(\)"),
    ):
        with pytest.raises(UserError, match=f"{name}: expected shape {shapes}$"):
            two_heads_from_keras({**good, name: wrong})


def test_dtype_of_keras_weights_is_kept():
    weights = {k: v.astype(np.float16) for k, v in keras_weights(9, 4, 5).items()}
    variables = two_heads_from_keras(weights)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float16")}


def test_a_frozen_trunk_learns_and_records_nothing(small):
    """From the last dense layer but one on it learns; what comes before is as in inference."""
    network, variables, inputs, targets = small
    with jax.enable_x64(True):
        one, mask = of_member(variables, 0), np.ones(12, bool)

        def step(frozen):
            def objective(params):
                logits, updated = network.apply(
                    {**one, "params": params}, *inputs,
                    mask=mask, train=True, frozen=frozen, mutable=["batch_stats"],
                )  # fmt: skip
                loss = losses.binary_cross_entropy(logits, targets, mask)
                return loss, updated["batch_stats"]

            (_, stats), gradients = jax.value_and_grad(objective, has_aux=True)(one["params"])
            return traverse_util.flatten_dict(gradients), traverse_util.flatten_dict(stats)

        learns = {("answer4", "dense0"), ("answer4", "bn1"), ("answer4", "dense1")}
        before = traverse_util.flatten_dict(one["batch_stats"])
        for frozen in (True, False):
            gradients, stats = jax.jit(step)(frozen)
            for path, gradient in gradients.items():
                free = not frozen or path[0] == "head" or path[:2] in learns
                assert bool(np.asarray(gradient).any()) == free, path
            for path, statistic in stats.items():
                free = not frozen or path[0] == "head" or path[:2] in learns
                assert (np.asarray(statistic) != before[path]).any() == free, path
        close(jax.jit(step)(False), jax.jit(lambda: step(None))())
