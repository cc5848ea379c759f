"""What both image networks keep to: members apart, padding, spreading, precision, keys.

Small networks, in float64 where numbers are compared.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from image_networks import cast, quick, quick_infer, quick_step, training_step
from jax.sharding import AxisType, Mesh, PartitionSpec

from moa_jax.models import efficientnet
from moa_jax.models.efficientnet import EfficientNet
from moa_jax.models.hyperparameters import EFFICIENTNETS
from moa_jax.models.resnest import ResNeSt

ALL = np.ones(8, bool)
SHAPE = (15, 14, 3)
NETWORKS = {
    "efficientnet": EfficientNet("small", 5, 6, 0.0, 0.0),
    "resnest": ResNeSt((1, 2), 2, 2, 8, 4, True, 5, 6),
}


@pytest.fixture(scope="module", params=NETWORKS)
def small(request):
    """A network of few blocks, a stack of three members of it, and a batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EFFICIENTNETS, "small", (0.5, 1.0))
        patch.setattr(efficientnet, "STAGES", ((2, 3, 1, 1, 16), (1, 3, 2, 6, 24)))
        generator = np.random.default_rng(0)
        x = generator.normal(size=(8, *SHAPE))
        y = (generator.random((8, 5)) < 0.3).astype(np.float64)
        network = NETWORKS[request.param]
        one = quick(network.init)(jax.random.key(0), jnp.zeros((1, *SHAPE)))
        # Scales, shifts and statistics start alike; here they differ.
        one = jax.tree.map(
            lambda a: np.asarray(a) + 0.1 * generator.random(a.shape) * (a.ndim == 1), one
        )
        yield network, jax.tree.map(lambda a: np.stack([a, 1.1 * a, a[::-1]]), one), x, y


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
        return [quick_step(network, of_member(stack, i), x, y, ALL) for i in range(3)]


@pytest.mark.parametrize("lift", ["map", pytest.param("vmap", marks=pytest.mark.slow)])
def test_a_stack_of_members_equals_each_alone(small, alone, lift):
    network, stack, x, y = small
    with jax.enable_x64(True):

        def step(variables):
            return training_step(network, variables, x, y, ALL)

        lifted = {"vmap": jax.vmap(step), "map": functools.partial(jax.lax.map, step)}[lift]
        stacked = quick(lifted)(stack)
        for index in range(3):
            close(of_member(stacked, index), alone[index])


@pytest.mark.slow
def test_rematerialisation_changes_nothing(small, alone):
    network, stack, x, y = small
    with jax.enable_x64(True):
        loss, gradients, _, left = quick_step(
            network.clone(remat=True), of_member(stack, 0), x, y, ALL
        )
        expected = alone[0]
        close((loss, gradients), expected[:2])
        close(left["batch_stats"], expected[3]["batch_stats"])


def test_padded_rows_change_nothing(small):
    network, stack, x, y = small
    with jax.enable_x64(True):
        one, mask = of_member(stack, 0), np.arange(8) < 5
        padded = np.where(mask[:, None, None, None], x, 1e2)
        found = quick_step(network, one, padded, y, mask)
        expected = quick_step(network, one, x[:5], y[:5])
        close(found[:2], expected[:2])
        close(found[3]["batch_stats"], expected[3]["batch_stats"])
        close(found[3]["logits"][:5], expected[3]["logits"])
        np.testing.assert_array_equal(found[2][5:], 0)


def dropping_rates(network):
    rates = {"drop_rate": 0.5}
    if isinstance(network, EfficientNet):
        rates["drop_connect_rate"] = 0.8
    return rates


def test_a_batch_spread_over_devices_is_one_batch(small):
    """Statistics are those of all its rows, and every row drops what it drops on one device."""
    network, stack, x, y = small
    network = network.clone(**dropping_rates(network))
    spread = network.clone(axis_name="data")
    dropout = {"dropout": jax.random.key(1)}
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",), axis_types=(AxisType.Auto,))
    one = of_member(stack, 0)

    def step(variables, x, y):
        loss, gradients, _, left = training_step(spread, variables, x, y, dropout=dropout)
        return jax.lax.pmean((loss, gradients, left["batch_stats"]), "data")

    rows, whole = PartitionSpec("data"), PartitionSpec()
    with jax.enable_x64(True):
        lifted = quick(
            jax.shard_map(
                step, mesh=mesh, in_specs=(whole, rows, rows), out_specs=whole, check_vma=False
            )
        )
        loss, gradients, _, left = quick_step(network, one, x, y, None, dropout)
        close(lifted(one, x, y), (loss, gradients, left["batch_stats"]))


def test_gradients_reach_every_parameter(small):
    """With running statistics, since batch statistics cancel some shifts."""
    network, stack, x, _ = small
    with jax.enable_x64(True):
        one = of_member(stack, 0)

        def total(params):
            return jnp.sum(jnp.square(network.apply({**one, "params": params}, x)))

        for path, leaf in jax.tree.leaves_with_path(quick(jax.grad(total))(one["params"])):
            assert np.abs(leaf).max() > 1e-9, jax.tree_util.keystr(path)


def test_dropping_draws_from_its_key(small):
    network, stack, x, y = small
    one, x, y = cast((of_member(stack, 0), x, y), np.float32)
    dropping = dropping_rates(network)
    for name, rate in dropping.items():
        step = functools.partial(training_step, network.clone(**{name: rate}))
        with pytest.raises(Exception, match="dropout"):
            jax.eval_shape(step, one, x, y)
    network = network.clone(**dropping)
    first, again, other = (
        quick_step(network, one, x, y, ALL, {"dropout": jax.random.key(seed)})[0]
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_bfloat16_computes_low_and_keeps_the_rest_high(small):
    network, stack, x, _ = small
    one, x = cast((of_member(stack, 0), x), np.float32)
    low = network.clone(dtype=jnp.bfloat16)
    initial = jax.eval_shape(low.init, jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(initial)} == {jnp.dtype("float32")}
    logits, seen = quick_infer(low, one, x)
    assert logits.dtype == seen["pooled"][0].dtype == jnp.float32
    assert {seen[name][0].dtype for name in ("stem", "stage1")} == {jnp.dtype("bfloat16")}
    expected, _ = quick_infer(network, one, x)
    np.testing.assert_allclose(logits, expected, rtol=0.05, atol=0.05 * np.abs(expected).max())
