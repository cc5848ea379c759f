"""What a member keeps of a batch, and how many members fit beside the tables that all read."""

import dataclasses
import functools

import flax.linen as nn
import jax
import optax
import toy

from moa_jax.training import activations, layout, loop, shapes
from moa_jax.training.stage import Forward


class Plain(nn.Module):
    """Two layers: the gradients need their inputs, and on which side of the kink these lie."""

    @nn.compact
    def __call__(self, x, mask=None, train=False):
        x = nn.relu(nn.Dense(32, use_bias=False)(x))
        return nn.Dense(toy.TARGETS, use_bias=False)(x)


def stage(network, **changes):
    def loss(outputs, targets, mask):
        return optax.sigmoid_binary_cross_entropy(outputs, targets).mean()

    return dataclasses.replace(
        toy.stage(), forward=Forward(network), loss=loss, member_data=(), **changes
    )


def test_activations_are_what_the_gradients_need():
    batch = toy.stage().batch_size
    inputs, hidden = batch * toy.COLUMNS * 4, batch * 32 * 4
    found = activations.num_bytes(stage(Plain()))
    # JAX may name one of them twice.
    assert inputs + hidden + batch * 32 <= found <= 2 * (inputs + hidden) + batch * 32
    assert activations.num_bytes(stage(Plain(), batch_size=4 * batch)) == 4 * found


def test_activations_are_no_more_than_compiled_steps_take():
    """XLA keeps the same order of memory for a step of a wide batch."""
    wide = stage(Plain(), batch_size=4096)
    state, shared = shapes.state(wide), shapes.shared(wide)
    program = jax.jit(loop.train(wide)).lower(state, shapes.train(wide, 1), shared).compile()
    found, taken = activations.num_bytes(wide), program.memory_analysis().temp_size_in_bytes
    assert 0.3 * taken < found < 1.5 * taken


def test_members_that_fit_leave_room_for_tables_and_activations():
    made = toy.stage()
    state, kept = shapes.state(made), activations.num_bytes(made)
    each = 2 * shapes.num_bytes(state) + shapes.num_bytes(state.params)
    each += kept + shapes.num_bytes(shapes.own(made))
    tables = shapes.num_bytes(shapes.shared(made))
    assert min(kept, tables) > 0.1 * each, "neither would be missed"
    for shards in (1, 2):
        enough = (4 * each + shards * tables) / layout.MEMORY_SHARE
        fit = functools.partial(layout.members_that_fit, made, shards)
        assert (fit(int(enough) + 9), fit(int(enough) - 9)) == (4, 3)
