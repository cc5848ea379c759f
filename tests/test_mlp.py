"""The dense network against PyTorch: layers, gradients, statistics, training steps, counts."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tabnet_reference

from moa_jax.models.mlp import MLP, TwoLayerMLP
from moa_jax.pretrained import mlp_from_torch, two_layer_mlp_from_torch
from moa_jax.recipes import nn_tabnet, simple_nn
from moa_jax.training import initial, loop, losses, schedules
from moa_jax.training.members import Member
from moa_jax.training.stage import Forward
from moa_jax.training.trees import Batches, Own, Shared, Training

REFERENCE = dict(np.load(Path(__file__).parent / "reference" / "mlp.npz"))
NETWORK = MLP(hidden=16, num_outputs=7, dropout=(0.0, 0.0, 0.0))
LAYERS = [f"{kind}{layer}" for layer in (1, 2, 3) for kind in ("batch_norm", "dense")]


def part(prefix):
    """The arrays below a prefix of the reference."""
    return {k[len(prefix) + 1 :]: v for k, v in REFERENCE.items() if k.startswith(f"{prefix}/")}


def close(found, expected, tolerance=1e-9):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * 1e-2),
        found,
        expected,
    )


def layer_outputs(found):
    return {name: found["intermediates"][name]["__call__"][0] for name in LAYERS}


def padded(rows, width=32):
    """A batch of `rows` real rows behind which other rows stand as padding."""
    x = REFERENCE["x"][:width].copy()
    x[rows:] = 1e3
    return x, np.arange(width) < rows


def test_eval_mode_layer_by_layer():
    with jax.enable_x64(True):
        variables = mlp_from_torch(part("start"))
        _, found = NETWORK.apply(
            variables, REFERENCE["x"][:32], capture_intermediates=True, mutable=["intermediates"]
        )
        close(layer_outputs(found), {name: REFERENCE[f"eval/{name}"] for name in LAYERS})


@pytest.mark.parametrize("rows", [32, 29])
def test_train_mode_layer_by_layer(rows):
    with jax.enable_x64(True):
        x, mask = padded(rows)
        _, found = NETWORK.apply(
            mlp_from_torch(part("start")),
            x,
            mask=mask,
            train=True,
            capture_intermediates=True,
            mutable=["intermediates", "batch_stats"],
        )
        outputs = jax.tree.map(lambda a: a[:rows], layer_outputs(found))
        close(outputs, {name: REFERENCE[f"train{rows}/{name}"] for name in LAYERS})
        expected = part(f"train{rows}/statistics")
        for layer in (1, 2, 3):
            stats = found["batch_stats"][f"batch_norm{layer}"]
            close(stats["mean"], expected[f"batch_norm{layer}.running_mean"])
            close(stats["var"], expected[f"batch_norm{layer}.running_var"])


@pytest.mark.parametrize("rows", [32, 29])
def test_gradients_of_parameters_and_inputs(rows):
    with jax.enable_x64(True):
        x, mask = padded(rows)
        variables = mlp_from_torch(part("start"))

        def loss(params, x):
            logits, _ = NETWORK.apply(
                {**variables, "params": params}, x, mask=mask, train=True, mutable=["batch_stats"]
            )
            return losses.binary_cross_entropy(logits, REFERENCE["y"][:32], mask)

        value, (params, inputs) = jax.value_and_grad(loss, (0, 1))(variables["params"], x)
        expected = part(f"train{rows}/gradient")
        close(value, REFERENCE[f"train{rows}/loss"])
        close(inputs[:rows], expected.pop("x"))
        np.testing.assert_array_equal(inputs[rows:], 0)
        statistics = {k: v for k, v in part("start").items() if "running" in k}
        close(params, mlp_from_torch({**expected, **statistics})["params"])


def test_fifty_steps_of_the_training_program():
    """The recipes' own step: one-cycle Adam, coupled L2, smoothed loss, batches of 32, 32, 29."""
    with jax.enable_x64(True):
        total = len(REFERENCE["batches"])
        # The reference decays more than the recipe, so that it shows.
        config = simple_nn.Config(weight_decay=1e-2, epochs=1, batch_size=32)
        rows = np.arange(2)
        stage = config.stage(
            name="test/first",
            forward=Forward(NETWORK),
            members=(Member(0, 0, rows, rows, rows),),
            shared=REFERENCE["x"],
            targets=REFERENCE["y"],
        )
        shared = Shared(stage.shared, stage.targets)
        own = Own((), np.int32(total))
        state, _ = initial.initialise(stage)(jax.random.key_data(jax.random.key(0)), own, shared)
        start = mlp_from_torch(part("start"))
        state = state._replace(
            params=start["params"],
            batch_stats=start["batch_stats"],
            opt=stage.optimizer(total, 1).init(start["params"]),
        )
        train = jax.jit(loop.train(stage))
        step_losses = []
        for step in range(total):
            batches = Batches(
                REFERENCE["batches"][step : step + 1],
                np.array([29 if step % 3 == 2 else 32], np.int32),
            )
            before = state.epoch_loss
            state, _ = train(state, Training(own, batches), shared)
            step_losses.append(float(state.epoch_loss - before))
            if expected := part(f"step{step}"):
                found = {"params": state.params, "batch_stats": state.batch_stats}
                close(found, mlp_from_torch(expected))
        np.testing.assert_allclose(step_losses, REFERENCE["losses"], rtol=1e-9)


@pytest.mark.parametrize("total", [1, 5])
def test_schedules_are_finite_however_short(total):
    rate, beta1 = schedules.one_cycle(total, 1, 1e-2, pct_start=0.1)
    steps = jnp.arange(total)
    assert np.isfinite(rate(steps)).all() and np.isfinite(beta1(steps)).all()


@pytest.mark.parametrize(
    ("inputs", "hidden", "outputs", "trainable", "first", "second", "third", "affine"),
    [
        (1087, 2048, 331, 7_115_540, 2_230_272, 4_196_352, 678_550, 10_366),
        (1418, 2048, 206, 7_537_840, 2_908_160, 4_196_352, 422_300, 11_028),
        (206, 1024, 206, 1_478_456, 212_992, 1_049_600, 211_356, 4_508),
        (1091, 2048, 206, 6_867_490, 2_238_464, 4_196_352, 422_300, 10_374),
        (1032, 2048, 206, 6_746_540, 2_117_632, 4_196_352, 422_300, 10_256),
    ],
    ids=["three_stage_1", "three_stage_2", "three_stage_3", "simple_old", "simple_new"],
)
def test_parameter_counts(inputs, hidden, outputs, trainable, first, second, third, affine):
    shapes = jax.eval_shape(MLP(hidden, outputs).init, jax.random.key(0), jnp.zeros((2, inputs)))

    def count(tree):
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    params = shapes["params"]
    assert count(params) == trainable
    assert [count(params[f"dense{i}"]) for i in (1, 2, 3)] == [first, second, third]
    assert sum(count(params[f"batch_norm{i}"]) for i in (1, 2, 3)) == affine
    assert count(shapes["batch_stats"]) == affine


def test_initial_weights():
    variables = MLP(64, 5).init(jax.random.key(0), jnp.zeros((2, 400)))
    params = variables["params"]
    for name, leaf, fan_in in (("dense1", "v", 400), ("dense2", "kernel", 64), ("dense3", "v", 64)):
        weight, bound = np.asarray(params[name][leaf]), fan_in**-0.5
        assert -bound <= weight.min() < -0.95 * bound and 0.95 * bound < weight.max() <= bound
        assert abs(weight.std() - bound / 3**0.5) < 0.05 * bound
        assert np.abs(params[name]["bias"]).max() <= bound
    for name in ("dense1", "dense3"):
        norm = np.linalg.norm(params[name]["v"], axis=0)
        np.testing.assert_allclose(params[name]["g"], norm, rtol=1e-6)
        assert abs(norm.mean() - 3**-0.5) < 0.05


def test_dropout_needs_a_key_only_where_it_drops():
    network = MLP(8, 3, dropout=(0.5, 0.5, 0.5))
    x = jnp.ones((4, 6))
    variables = network.init(jax.random.key(0), x)
    with pytest.raises(Exception, match="dropout"):
        network.apply(variables, x, train=True, mutable=["batch_stats"])
    without = MLP(8, 3, dropout=(0.0, 0.0, 0.0))
    without.apply(variables, x, train=True, mutable=["batch_stats"])
    one, two = (
        network.apply(
            variables,
            jnp.eye(4, 6),
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(k)},
        )[0]
        for k in (1, 2)
    )
    assert (one != two).any()


def test_bfloat16_computes_low_and_keeps_parameters_high():
    network = MLP(8, 3, dtype=jnp.bfloat16)
    x = jax.random.normal(jax.random.key(1), (16, 6))
    variables = network.init(jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits = network.apply(variables, x)
    assert logits.dtype == jnp.bfloat16
    np.testing.assert_allclose(logits.astype(jnp.float32), MLP(8, 3).apply(variables, x), atol=0.05)


def test_state_dict_is_read_strictly():
    from moa_jax.errors import UserError

    good = part("start")
    with pytest.raises(UserError, match=r"missing \['dense2.bias'\], unknown nothing"):
        mlp_from_torch({k: v for k, v in good.items() if k != "dense2.bias"})
    with pytest.raises(UserError, match=r"unknown \['dense4.bias'\]"):
        mlp_from_torch({**good, "dense4.bias": good["dense2.bias"]})
    with pytest.raises(
        UserError, match=r"dense1.weight_g: expected shape \(16, 1\), found \(16,\)"
    ):
        mlp_from_torch({**good, "dense1.weight_g": good["dense1.weight_g"][:, 0]})


STAGE1 = tabnet_reference.load("stage1")
TWO_LAYERS = TwoLayerMLP(hidden=32, num_outputs=7, dropout=(0.0, 0.0))


def two_layer_state(replaced=()):
    """The state dict by the references' rule, some of its tensors replaced."""
    shapes = {k: v.shape for k, v in tabnet_reference.part(STAGE1, "step8").items()}
    return {k: tabnet_reference.stage1_value(k, v) for k, v in shapes.items()} | dict(replaced)


BEFORE_TABNET = nn_tabnet.DenseConfig().stage(
    name="", forward=None, members=(), shared=None, targets=None
)


def two_layer_gradient(variables, x, y):
    def loss(params):
        logits, updated = TWO_LAYERS.apply(
            {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
        )
        mean = BEFORE_TABNET.loss(logits, y, np.ones(len(x), bool))
        return mean, (logits, updated["batch_stats"])

    return jax.value_and_grad(loss, has_aux=True)(variables["params"])


def test_two_layers_in_both_modes_with_gradients():
    with jax.enable_x64(True):
        variables, x = two_layer_mlp_from_torch(two_layer_state()), STAGE1["x"]
        close(TWO_LAYERS.apply(variables, x), STAGE1["eval_logits"])
        (_, (logits, _)), found = two_layer_gradient(variables, x, STAGE1["y"])
        close(logits, STAGE1["train_logits"])
        gradients = tabnet_reference.part(STAGE1, "grad")
        close(found, two_layer_mlp_from_torch(two_layer_state(gradients))["params"])


def test_two_layers_after_eight_steps_of_one_cycle():
    with jax.enable_x64(True):
        variables = two_layer_mlp_from_torch(two_layer_state())
        optimizer = BEFORE_TABNET.optimizer(8, 1)
        opt, gradient = optimizer.init(variables["params"]), jax.jit(two_layer_gradient)
        step_losses = []
        for step in range(8):
            rows = slice(16 * (step % 4), 16 * (step % 4) + 16)
            (loss, (_, stats)), found = gradient(variables, STAGE1["x"][rows], STAGE1["y"][rows])
            update, opt = optimizer.update(found, opt, variables["params"])
            params = optax.apply_updates(variables["params"], update)
            variables = {"params": params, "batch_stats": stats}
            step_losses.append(float(loss))
        np.testing.assert_allclose(step_losses, STAGE1["step_losses"], rtol=1e-9)
        close(variables, two_layer_mlp_from_torch(tabnet_reference.part(STAGE1, "step8")), 1e-7)
        close(TWO_LAYERS.apply(variables, STAGE1["x"]), STAGE1["step8_eval_logits"], 1e-7)


def test_two_layers_of_the_recipe():
    """954 columns, 2048 hidden, 331 targets; ten tensors."""
    network = TwoLayerMLP()
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((2, 954)))["params"]
    assert {name: leaf["bias"].shape for name, leaf in shapes.items()} == {
        "batch_norm1": (954,),
        "dense1": (2048,),
        "batch_norm3": (2048,),
        "dense3": (331,),
    }
    assert len(jax.tree.leaves(shapes)) == 10
    assert network.dropout == (0.2, 0.25)


def test_two_layer_state_dict_is_read_strictly():
    from moa_jax.errors import UserError

    good = two_layer_state()
    with pytest.raises(UserError, match=r"missing \['dense3.weight_v'\], unknown nothing"):
        two_layer_mlp_from_torch({k: v for k, v in good.items() if k != "dense3.weight_v"})
    with pytest.raises(UserError, match=r"unknown \['dense2.bias'\]"):
        two_layer_mlp_from_torch({**good, "dense2.bias": good["dense1.bias"]})
    with pytest.raises(UserError, match=r"dense3.weight_v: expected shape \(7, 32\)"):
        two_layer_mlp_from_torch({**good, "dense3.weight_v": good["dense3.weight_v"].T})
