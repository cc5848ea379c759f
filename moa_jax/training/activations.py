"""Activations: what a member keeps of a batch until its gradients are known."""

from __future__ import annotations

import collections
import math
from typing import Any

import jax
import numpy as np

from moa_jax.training import shapes
from moa_jax.training.stage import MemberState, Stage


def num_bytes(stage: Stage) -> int:
    """Returns the memory that one batch of a member takes beside weights and tables.

    It is that of the network's inputs and of what its forward pass keeps for the gradients, as
    JAX's reverse mode defines it; a compiler may need less, which computes some of it again.

    Args:
      stage: the stage, or its outline.
    """
    state, network = shapes.state(stage), stage.forward.network
    rows = jax.ShapeDtypeStruct((stage.batch_size,), np.int32)

    def kept(state: MemberState, shared: Any, data: Any, rows: jax.Array) -> tuple:
        key = jax.random.key(0)
        inputs = stage.forward.inputs(shared, data, rows, key, True)
        keywords: dict = dict(stage.keywords(state))

        def outputs(params: Any) -> Any:
            return network.apply(
                {"params": params, "batch_stats": state.batch_stats},
                *inputs,
                mask=np.ones(stage.batch_size, bool),
                train=True,
                rngs={"dropout": key},
                mutable=["batch_stats"],
                **keywords,
            )[0]

        return inputs, jax.vjp(outputs, state.params)[1]

    found = jax.eval_shape(kept, state, shapes.of(stage.shared), shapes.own(stage).data, rows)
    # Weights are among what is kept, and are there already.
    weights = collections.Counter((a.shape, a.dtype) for a in jax.tree.leaves(state.params))
    leaves = collections.Counter((a.shape, a.dtype) for a in jax.tree.leaves(found))
    return sum(
        number * math.prod(shape) * dtype.itemsize
        for (shape, dtype), number in (leaves - weights).items()
    )
