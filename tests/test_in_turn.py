"""Members of a device one after another: states updated in place, branches without copies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from moa_jax.recipes.simple_nn import Config
from moa_jax.training import in_turn, members, reuse, shapes
from moa_jax.training.loop import stage_programs
from moa_jax.training.parallel import Devices, map_members
from moa_jax.training.stage import Forward

MEMBERS, WIDTH = 3, 64


def fn(state, own, shared):
    """A step that updates `w`, hands `kept` on, and says how large `w` was."""
    product = jnp.tanh(shared @ (state["w"] * own))
    return {**state, "w": state["w"] + product.mean(0)}, {"norm": jnp.sum(product**2)}


def arguments():
    draw = np.random.default_rng(0).normal
    states = {name: draw(size=(MEMBERS, WIDTH, WIDTH)).astype(np.float32) for name in ("w", "kept")}
    states["stopped"] = np.arange(MEMBERS) == 1
    shared = draw(size=(5, WIDTH)).astype(np.float32)
    return states, np.float32([0.5, 1, 2]), shared


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("skip", [None, lambda state: state["stopped"]])
def test_updated_in_place_members_have_the_same_bits(skip):
    states, own, shared = arguments()
    found, expected = (
        jax.jit(in_turn.loop(fn, skip, in_place))
        .lower(states, own, shared)
        .compile()(states, own, shared)
        for in_place in (True, False)
    )
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    changed = [(found[0]["w"][i] != states["w"][i]).any() for i in range(MEMBERS)]
    assert changed == [True, skip is None, True]
    np.testing.assert_array_equal(found[0]["kept"], states["kept"])


def test_neither_states_nor_what_is_handed_on_are_copied_as_a_whole():
    devices = Devices.available("vmap")
    states, own, shared = arguments()
    states, own = devices.put_members(jax.tree.map(lambda a: a[None], (states, own)))
    mapped = map_members(fn, devices, inner="loop", skip=lambda state: state["stopped"])
    compiled = mapped.lower(states, own, devices.put_shared(shared)).compile()
    # Of one member the old weights and the new ones, and their product.
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * WIDTH * WIDTH * 4
    of_kept = f"f32[{WIDTH},{WIDTH}]"
    branches = [line for line in compiled.as_text().splitlines() if " conditional(" in line]
    assert [line.partition(" conditional(")[0].count(of_kept) for line in branches] == [1]


def test_a_step_has_no_copy_of_the_weights_that_it_updates():
    def steps(state, own, shared):
        def step(_, weights):
            first, last = weights
            gradients = jax.grad(lambda w: jnp.tanh(jnp.tanh(shared @ w[0]) @ w[1]).sum())(weights)
            return first - own * gradients[0], last - own * gradients[1]

        return jax.lax.fori_loop(0, 3, step, state), ()

    devices = Devices.available("vmap")
    draw = np.random.default_rng(0).normal
    state = (draw(size=(1, 1, WIDTH, WIDTH)).astype(np.float32),) * 2
    state, own = devices.put_members((state, np.ones((1, 1), np.float32)))
    shared = devices.put_shared(draw(size=(5, WIDTH)).astype(np.float32))
    lowered = map_members(steps, devices, inner="loop").lower(state, own, shared)
    told = dict(devices.updating_in_place().options)
    copies = [
        in_turn.compiled(lowered, options).as_text().count(f"f32[{WIDTH},{WIDTH}]{{1,0}} copy(")
        for options in (None, told)
    ]
    assert copies[0] > copies[1] == 0


def test_the_steps_of_wide_dense_networks_alone_are_told_to_save_copies(monkeypatch):
    asked = []
    monkeypatch.setattr(reuse, "PROGRAMS", reuse.LastUsed(1))
    monkeypatch.setattr(in_turn, "compiled", lambda lowered, options: asked.append(options))
    devices, config = Devices.available("vmap"), Config(hidden=4, batch_size=8)
    for inner in ("auto", "loop"):
        stage = config.stage(
            name="test/scored",
            forward=Forward(config.network(2), inner=inner),
            members=tuple(members.cross_validation({0: np.arange(20) % 2}, base_seed=0)),
            member_data=np.zeros(2, np.int32),
            shared=np.zeros((20, 3), np.float32),
            targets=np.zeros((20, 2), np.float32),
        )
        stage_programs(stage, devices, "loop").train.compiled(
            devices.member_shapes(shapes.state(stage), 2),
            devices.member_shapes(shapes.train(stage, 1), 2),
            devices.table_shapes(shapes.shared(stage)),
        )
    assert asked == [{in_turn.ASKS_FOR_READERS: True}, None]


def test_options_of_a_compiler_that_does_not_know_them(monkeypatch):
    monkeypatch.setattr(in_turn, "ASKS_FOR_READERS", "xla_cpu_of_another_time")
    lowered = jax.jit(lambda x: x + 1).lower(1)
    options = dict(Devices.available("vmap").updating_in_place().options)
    assert options == {"xla_cpu_of_another_time": True}
    assert in_turn.compiled(lowered, options)(1) == 2
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_cpu_of_no_time"):
        in_turn.compiled(lowered, {**options, "xla_cpu_of_no_time": True})
