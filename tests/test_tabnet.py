"""TabNet against pytorch-tabnet 2.0.0: layers, gradients, statistics, steps, padded batches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tabnet_reference import (
    CLIP,
    LAMBDA_SPARSE,
    RATE,
    RECIPES,
    SMOOTHING,
    WEIGHT_DECAY,
    WINDOWS,
    load,
    part,
    state_dict,
)

from moa_jax.models.ghost import ghost_parts
from moa_jax.models.tabnet import TabNet
from moa_jax.pretrained import tabnet_from_torch
from moa_jax.training import initial, loop, losses, optimizers
from moa_jax.training.members import Member
from moa_jax.training.stage import Forward, Stage
from moa_jax.training.trees import Batches, Own, Shared, Training

EVAL = {name: load(f"{name}_eval") for name in RECIPES}
TRAIN = {name: load(f"{name}_train") for name in RECIPES}
every_config = pytest.mark.parametrize("name", RECIPES)
# Less time for the compiler, and far less than for operations one by one.
compiled = functools.partial(
    jax.jit, static_argnames="name", compiler_options={"xla_backend_optimization_level": 0}
)


def network(name):
    config = {k: v for k, v in RECIPES[name].items() if k != "input_dim"}
    return TabNet(**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items()})


@functools.cache
def start(name):
    return tabnet_from_torch(state_dict(name), network(name))


def variables_with(name, arrays):
    """Variables whose named tensors are replaced, such as gradients or statistics."""
    arrays = {k: v for k, v in arrays.items() if not k.endswith("num_batches_tracked")}
    rest = state_dict(name)
    shared = [k for k in rest if ".shared.shared_layers." in k or ".shared.glu_layers." in k]
    for key in shared:  # the references name a shared matrix once
        if key.endswith((".fc.weight", "shared_layers.0.weight", "shared_layers.1.weight")):
            del rest[key]
    first = {k: v for k, v in state_dict(name).items() if ".initial_splitter.shared.shared_" in k}
    return tabnet_from_torch({**rest, **first, **arrays}, network(name))


def close(found, expected, tolerance=1e-9, floor=1e-2):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * floor),
        found,
        expected,
    )


def objective(name, outputs, y, mask):
    logits, mask_loss = outputs
    loss = losses.log_loss_epsilon(logits, losses.smoothed(y, SMOOTHING), mask)
    return loss - LAMBDA_SPARSE[name] * mask_loss


def gradient(name, variables, x, y, mask=None):
    """Loss, outputs and statistics, the gradient, and the intermediates in train mode."""

    def loss(params):
        outputs, updated = network(name).apply(
            {**variables, "params": params},
            x,
            mask,
            train=True,
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=True,
        )
        real = np.ones(len(x), bool) if mask is None else mask
        return objective(name, outputs, y, real), (outputs, updated)

    (value, (outputs, updated)), found = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    return (value, (outputs, updated["batch_stats"])), found, updated["intermediates"]


def infer(name, variables, x, mask=None):
    """Outputs and intermediates in eval mode."""
    outputs, updated = network(name).apply(
        variables, x, mask, capture_intermediates=True, mutable=["intermediates"]
    )
    return outputs, updated["intermediates"]


def explain(name, variables, x):
    return network(name).apply(variables, x, method=TabNet.explain)


compiled_gradient, compiled_infer, compiled_explain = map(compiled, (gradient, infer, explain))


def norm(tree):
    return np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree)))


@every_config
def test_eval_mode_layer_by_layer(name):
    with jax.enable_x64(True):
        reference = EVAL[name]
        (logits, mask_loss), seen = compiled_infer(name, start(name), reference["x"])

        def output(*path):
            node = seen
            for key in path:
                node = node[key]
            return (node["__call__"] if isinstance(node, dict) else node)[0]

        expected = {
            "logits": logits,
            "M_loss": mask_loss,
            "embedded": output("embedder"),
            "initial_bn": output("initial_norm"),
            "splitter_shared": output("splitter", "shared"),
            "splitter_out": output("splitter"),
        }
        for step in range(RECIPES[name]["n_steps"]):
            expected |= {
                f"att_fc_{step}": output(f"attention_{step}", "projection"),
                f"att_bn_{step}": output(f"attention_{step}", "norm"),
                f"mask_{step}": output(f"attention_{step}"),
                f"feat_shared_{step}": output(f"transformer_{step}", "shared"),
                f"feat_out_{step}": output(f"transformer_{step}"),
            }
        # Without shared layers the library has no module there, and the reference no array.
        expected = {k: v for k, v in expected.items() if k in reference or "shared" not in k}
        close(expected, {key: reference[key] for key in expected})
        others = {"x", "y", "M_explain", "logits_f32", "M_loss_f32"}
        assert reference.keys() == expected.keys() | others


@every_config
def test_explanation_sums_the_columns_of_an_embedding(name):
    with jax.enable_x64(True):
        reference, config = EVAL[name], RECIPES[name]
        explanation, masks = compiled_explain(name, start(name), reference["x"])
        widths = np.ones(config["input_dim"], int)
        if config["cat_idxs"]:
            widths[config["cat_idxs"]] = config["cat_emb_dim"]
        merging = np.repeat(np.eye(len(widths)), widths, axis=0)
        close(explanation, reference["M_explain"] @ merging)
        assert len(masks) == config["n_steps"]
        for step, mask in enumerate(masks):
            close(mask, reference[f"mask_{step}"] @ merging)
            close(mask.sum(-1), np.ones(len(mask)))


@every_config
def test_eval_mode_in_float32(name):
    variables = jax.tree.map(lambda leaf: leaf.astype(np.float32), start(name))
    found, _ = compiled_infer(name, variables, EVAL[name]["x"].astype(np.float32))
    assert found[0].dtype == found[1].dtype == jnp.float32
    expected = (EVAL[name]["logits_f32"], EVAL[name]["M_loss_f32"])
    close(found, expected, tolerance=1e-6, floor=1)


@every_config
def test_train_mode_outputs_gradients_and_statistics(name):
    with jax.enable_x64(True):
        reference, variables = TRAIN[name], start(name)
        x, y = reference["x"], reference["y"]
        (loss, ((logits, mask_loss), stats)), found, seen = compiled_gradient(name, variables, x, y)
        close((logits, mask_loss), (reference["logits"], reference["M_loss"]))
        assert LAMBDA_SPARSE[name] == reference["lambda_sparse"]
        close(loss, reference["loss"])
        everything = np.ones(len(x), bool)
        close(losses.binary_cross_entropy(logits, y, everything), reference["bce_with_logits"])
        smooth = losses.log_loss_epsilon(logits, losses.smoothed(y, SMOOTHING), everything)
        close(smooth, reference["smoothed_loss"])
        # Gradients are compared on the scale of the largest one.
        expected = variables_with(name, part(reference, "grad"))["params"]
        close(found, expected, floor=1e-1)
        close(norm(found), reference["grad_global_norm"])
        close(stats, variables_with(name, part(reference, "stat"))["batch_stats"])

        for step in range(RECIPES[name]["n_steps"]):
            attention = seen[f"attention_{step}"]
            close(attention["__call__"][0], reference[f"mask_{step}"])
            close(attention["norm"]["__call__"][0], reference[f"att_bn_{step}"])


@every_config
@pytest.mark.parametrize("rows", [257, 130, 100])
def test_other_batch_lengths(name, rows):
    with jax.enable_x64(True):
        reference = TRAIN[name]
        x, y = reference["x"][:rows], reference["y"][:rows]
        (_, (outputs, found)), *_ = compiled_gradient(name, start(name), x, y)
        close(outputs, (reference[f"logits_n{rows}"], reference[f"M_loss_n{rows}"]))
        expected = part(reference, f"stat_n{rows}")
        stats = {
            "tabnet.initial_bn": found["initial_norm"],
            "tabnet.att_transformers.0.bn.bn": found["attention_0"]["norm"],
        }
        for prefix, leaf in stats.items():
            close(leaf["mean"], expected.pop(f"{prefix}.running_mean"))
            close(leaf["var"], expected.pop(f"{prefix}.running_var"))
        counter = expected.pop("tabnet.att_transformers.0.bn.bn.num_batches_tracked")
        assert counter == len(ghost_parts(rows, 128).mask)
        assert not expected


@pytest.mark.parametrize(
    ("name", "rows", "width"),
    [
        ("win", 257, 384),
        ("win", 297, 384),
        ("win", 298, 1024),
        ("win", 300, 1024),
        ("hard", 257, 384),
        ("hard", 298, 1024),
        ("alt", 257, 384),
        ("alt", 298, 1024),
    ],
)
def test_padded_batch_equals_the_batch_of_its_real_rows(name, rows, width):
    """Outputs, gradients and statistics; padding of NaN shows that nothing of it is used."""
    with jax.enable_x64(True):
        x, y = (TRAIN[name][key][:rows] for key in "xy")
        padding = np.full((width - rows, x.shape[1]), np.nan)
        long_x = np.concatenate([x, padding])
        long_y = np.concatenate([y, np.zeros((width - rows, y.shape[1]))])

        mask = np.arange(width) < rows
        (loss, ((logits, mask_loss), stats)), found, _ = compiled_gradient(
            name, start(name), long_x, long_y, mask
        )
        expected_value, expected, _ = compiled_gradient(name, start(name), x, y)
        close(found, expected, tolerance=1e-12, floor=1e-1)
        found = (loss, ((logits[:rows], mask_loss), stats))
        close(found, expected_value, tolerance=1e-12, floor=1e-1)


@every_config
def test_mask_in_eval_mode_leaves_padded_rows_out_of_the_mask_loss(name):
    with jax.enable_x64(True):
        x = TRAIN[name]["x"][:60]
        long_x = np.concatenate([x, TRAIN[name]["x"][200:240]])
        mask = np.arange(100) < 60
        (logits, mask_loss), _ = compiled_infer(name, start(name), long_x, mask)
        expected, _ = compiled_infer(name, start(name), x)
        close((logits[:60], mask_loss), expected, tolerance=1e-12)


@every_config
def test_five_steps_of_the_training_program(name):
    """Clipping, coupled decay and Adam, on batches of 300, 257, 257, 130 and 300 rows."""
    with jax.enable_x64(True):
        reference = TRAIN[name]
        settings = (CLIP[name], RATE, WEIGHT_DECAY)
        assert settings == tuple(reference[k] for k in ("clip_value", "lr", "weight_decay"))
        np.testing.assert_array_equal(WINDOWS, reference["step_windows"])

        def optimizer(total_steps, scale, member_data=()):
            clip = optimizers.clip_by_global_norm(CLIP[name])
            return optax.chain(clip, optimizers.adam(RATE, weight_decay=WEIGHT_DECAY))

        rows = np.arange(2)
        stage = Stage(
            "test/second",
            Forward(network(name)),
            (Member(0, 0, rows, rows, rows),),
            reference["x"],
            reference["y"],
            lambda outputs, y, mask: objective(name, outputs, y, mask),
            optimizer,
            epochs=1,
            batch_size=300,
        )
        shared = Shared(stage.shared, stage.targets)
        own = Own((), np.int32(len(WINDOWS)))
        key = jax.random.key_data(jax.random.key(0))
        state, _ = jax.jit(initial.initialise(stage))(key, own, shared)
        variables = start(name)
        opt = jax.jit(optimizer(5, 1).init)(variables["params"])
        state = state._replace(**variables, opt=opt)
        train = jax.jit(loop.train(stage))
        step_losses, norms, parts = [], [], 0
        for step, (first, end) in enumerate(WINDOWS):
            before = {"params": state.params, "batch_stats": state.batch_stats}
            window = slice(first, end)
            (loss, _), found, _ = compiled_gradient(
                name, before, reference["x"][window], reference["y"][window]
            )
            step_losses.append(loss)
            norms.append(norm(found))
            table = np.zeros((1, 300), np.int32)
            table[0, : end - first] = np.arange(first, end)
            batches = Batches(table, np.array([end - first], np.int32))
            epoch_loss = state.epoch_loss
            state, _ = train(state, Training(own, batches), shared)
            close(state.epoch_loss - epoch_loss, loss, tolerance=1e-9)
            parts += len(ghost_parts(end - first, 128).mask)
            if step == 0:
                expected = variables_with(name, part(reference, "step1"))["params"]
                close(state.params, expected, tolerance=1e-9, floor=1)
        close(step_losses, list(reference["step_losses"]), tolerance=1e-7)
        close(norms, list(reference["step_grad_norms"]), tolerance=1e-7)
        after = {"params": state.params, "batch_stats": state.batch_stats}
        expected = part(reference, "step5")
        close(after, variables_with(name, expected), tolerance=1e-7, floor=1)
        assert expected["tabnet.initial_bn.num_batches_tracked"] == len(WINDOWS)
        assert expected["tabnet.att_transformers.0.bn.bn.num_batches_tracked"] == parts
        outputs, _ = compiled_infer(name, after, EVAL[name]["x"])
        last = (reference["step5_eval_logits"], reference["step5_eval_M_loss"])
        close(outputs, last, tolerance=1e-7, floor=1)


def test_stacked_members_equal_each_alone():
    """Three members with other weights, rows and row counts in one program."""
    with jax.enable_x64(True):
        x, y = TRAIN["alt"]["x"], TRAIN["alt"]["y"]
        counts = np.array([300, 257, 131])
        members = [
            jax.tree.map(lambda leaf, scale=scale: leaf * scale, start("alt"))
            for scale in (1.0, 1.1, 0.9)
        ]
        rows = np.stack([x, x[::-1], np.roll(x, 7, axis=0)])
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *members)

        def one(variables, x, count):
            return gradient("alt", variables, x, y, jnp.arange(300) < count)[:2]

        found = jax.jit(jax.vmap(one))(stacked, rows, counts)
        for i, member in enumerate(members):
            alone = jax.jit(one)(member, rows[i], counts[i])
            close(jax.tree.map(lambda leaf, i=i: leaf[i], found), alone, 1e-11, floor=1)


def test_first_draw_has_the_documented_deviations():
    """The winner's widths: 295113 parameters in 30 tensors."""
    model = TabNet(
        output_dim=206,
        n_d=32,
        n_a=32,
        n_steps=1,
        cat_idxs=(0, 1),
        cat_dims=(3, 2),
        mask_type="entmax",
    )
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((2, 1497)))
    params = variables["params"]
    leaves = jax.tree.leaves(params)
    assert (len(leaves), sum(leaf.size for leaf in leaves)) == (30, 295113)
    for deviation, *path in (
        (0.22736, "shared_0"),
        (0.5, "shared_1"),
        (0.5, "splitter", "independent_0"),
        (0.5, "transformer_0", "independent_1"),
        (0.42045, "attention_0", "projection"),
        (0.42045, "final"),
    ):
        node = params
        for key in path:
            node = node[key]
        kernel = np.asarray(node["kernel"])
        assert abs(kernel.std() / deviation - 1) < 0.05 and abs(kernel.mean()) < 0.05 * deviation
    for key in ("scale", "bias"):
        assert (np.asarray(params["initial_norm"][key]) == (key == "scale")).all()


def test_bfloat16_computes_low_and_keeps_masks_high():
    model = network("win").clone(dtype=jnp.bfloat16)
    variables = jax.tree.map(lambda leaf: leaf.astype(np.float32), start("win"))
    x = EVAL["win"]["x"].astype(np.float32)
    logits, mask_loss = jax.jit(model.apply)(variables, x)
    assert (logits.dtype, mask_loss.dtype) == (jnp.bfloat16, jnp.float32)
    explain = functools.partial(model.apply, method=TabNet.explain)
    _, masks = jax.jit(explain)(variables, x)
    np.testing.assert_allclose(masks[0].sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(logits.astype(np.float32), EVAL["win"]["logits"], atol=0.1)
    train = functools.partial(model.apply, train=True, mutable=["batch_stats"])
    (logits, _), updated = jax.jit(train)(variables, x)
    assert logits.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(updated)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_steps", 0),
        ("mask_type", "softmax"),
        ("cat_idxs", (0, 0)),
        ("cat_dims", (3,)),
        ("cat_dims", ()),
        ("cat_idxs", ()),
        ("cat_emb_dim", (1, 2, 3)),
    ],
)
def test_impossible_settings_are_refused_by_name(field, value):
    model = network("win").clone(**{field: value})
    with pytest.raises(ValueError, match=field):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 64)))
    with pytest.raises(ValueError, match="n_independent and n_shared"):
        bare = network("win").clone(n_independent=0, n_shared=0)
        jax.eval_shape(bare.init, jax.random.key(0), jnp.zeros((2, 64)))
