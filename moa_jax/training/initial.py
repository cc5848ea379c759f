"""The first state of a member: new weights, or given ones in their place."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import traverse_util

from moa_jax.training.stage import MemberState, Selected, Stage
from moa_jax.training.trees import MemberFunction, Own, Shared, Variables


def initialise(stage: Stage) -> MemberFunction:
    """Returns the program that makes a member's first state.

    `program(key data [2], own: Own, shared: Shared) -> (state, ())`.
    """

    def program(key_data: jax.Array, own: Own, shared: Shared) -> tuple[MemberState, tuple]:
        key = jax.random.wrap_key_data(key_data)
        init_key, input_key = jax.random.split(key)
        rows = jnp.zeros(2, jnp.int32)
        inputs = jax.eval_shape(
            lambda: stage.forward.inputs(shared.inputs, own.data, rows, input_key, False)
        )
        # Shapes suffice: what the network computes would be compiled and thrown away.
        initial = stage.forward.network.lazy_init(init_key, *inputs)
        variables = _replaced(initial, own.start)
        params, batch_stats = variables["params"], variables.get("batch_stats", {})
        rate = stage.rate.init()
        zero = jnp.zeros((), jnp.int32)
        state = MemberState(
            params=params,
            batch_stats=batch_stats,
            opt=stage.optimizer(own.total_steps, rate.scale, own.data).init(params),
            key=key_data,
            step=zero,
            epoch=zero - int(stage.validates_start),
            epoch_loss=jnp.zeros((), jnp.result_type(float)),
            selected=Selected(params, batch_stats, zero),
            select=stage.select.init(),
            stop=stage.stop.init(),
            rate=rate,
            active=jnp.ones((), bool),
        )
        return state, ()

    return program


def _replaced(variables: Variables, start: Variables) -> Variables:
    """Returns the variables with those of `start` in their place."""
    replaced = traverse_util.flatten_dict(variables, keep_empty_nodes=True)
    for path, array in traverse_util.flatten_dict(start).items():
        initial = replaced.get(path)
        if initial is None or initial.shape != array.shape:
            expected = "none" if initial is None else f"shape {initial.shape}"
            raise ValueError(f"start: {'/'.join(path)}: expected {expected}, found {array.shape}")
        replaced[path] = array.astype(initial.dtype)
    return traverse_util.unflatten_dict(replaced)
