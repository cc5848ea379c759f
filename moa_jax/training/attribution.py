"""Integrated gradients: how much each column that a network reads moves what it predicts of a row.

The output that is looked at is a target's logit. Along the straight line from a baseline to the row
the gradient is averaged; times the row's difference from the baseline it is the column's
attribution, and the attributions of all columns sum to the difference of the outputs at both ends
(M. Sundararajan, A. Taly and Q. Yan, Axiomatic Attribution for Deep Networks, ICML 2017).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from moa_jax.training.trees import (
    Array,
    MemberArrays,
    MemberFunction,
    Outputs,
    Prediction,
    PredictionShared,
)


class Lines(NamedTuple):
    """Where the lines begin and end: what `PredictionShared.inputs` is here.

    Attributes:
      table: [N, ...] what all members read, by row, where lines end.
      baseline: [...] the same of the baseline, where all begin.
      weights: [W, targets] what is explained: sums of the outputs with a row's weights.
    """

    table: Array
    baseline: Array
    weights: Array


class Found(NamedTuple):
    """What one member tells of pairs of a row and a sum of outputs.

    Attributes:
      gradients: [..., F] mean gradient of the sum by the columns that the member reads.
      change: [...] the sum at the row less that at the baseline.
    """

    gradients: Array
    change: Array


class Reading(NamedTuple):
    """How a member reads a table, in two steps.

    Attributes:
      columns: `columns(table [N, ...], member_data)` -> [N, F], what the member reads of each row.
      inputs: `inputs(columns [batch, F], member_data)` -> the network's positional inputs.
      held: positions of columns that no line leads through, such as codes of categories: they are
        the row's own all along, and have no attribution.
    """

    columns: Callable[[Array, MemberArrays], Array]
    inputs: Callable[[Array, MemberArrays], tuple]
    held: tuple[int, ...] = ()


def logits_of(outputs: Outputs) -> jax.Array:
    """Returns the logits [rows, targets] among what a network returns."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def quadrature(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns nodes within (0, 1) and weights of the Gauss-Legendre rule, [steps] each.

    It is exact for polynomials of degree 2 steps - 1: a smooth network needs few nodes.

    >>> nodes, weights = quadrature(2)
    >>> float((weights * nodes**3).sum().round(12))
    0.25
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return (nodes + 1) / 2, weights / 2


def mean_gradients(
    network: nn.Module,
    reading: Reading,
    steps: int,
    outputs_of: Callable[[Outputs], jax.Array] = logits_of,
) -> MemberFunction:
    """Returns the program that attributes with one member.

    `program((), own: Prediction, shared: PredictionShared) -> ((), Found)`. The rows of `own` are
    pairs [steps, batch, 2] of a row of the table and one of the weights, the shared inputs `Lines`.
    A pair costs as many gradients as the rule has nodes, whatever the number of targets.

    Args:
      network: the network.
      reading: how a row becomes its inputs.
      steps: nodes of the quadrature.
      outputs_of: from what the network returns to what is explained, [rows, targets].
    """
    rule = quadrature(steps)

    def program(state: tuple, own: Prediction, shared: PredictionShared) -> tuple[tuple, Found]:
        (variables, data), pairs = own
        lines: Any = shared.inputs
        ends = reading.columns(lines.table, data)
        start = reading.columns(lines.baseline[None], data)
        nodes, shares = (jnp.asarray(values, ends.dtype) for values in rule)
        is_held = np.isin(np.arange(ends.shape[1]), reading.held)

        def sums(columns: jax.Array, weights: jax.Array) -> jax.Array:
            outputs = network.apply(variables, *reading.inputs(columns, data), train=False)
            return (outputs_of(outputs) * weights).sum(axis=1)

        def total(columns: jax.Array, weights: jax.Array) -> jax.Array:
            return sums(columns, weights).sum()

        def batch(chosen: jax.Array) -> Found:
            end, weights = ends[chosen[:, 0]], lines.weights[chosen[:, 1]]
            begin = jnp.where(is_held, end, start)

            def add(index, gradients):
                columns = begin + nodes[index] * (end - begin)
                return gradients + shares[index] * jax.grad(total)(columns, weights)

            gradients = jax.lax.fori_loop(0, steps, add, jnp.zeros_like(end))
            return Found(gradients, sums(end, weights) - sums(begin, weights))

        def step(index, found):
            return jax.tree.map(lambda a, new: a.at[index].set(new), found, batch(pairs[index]))

        one = jax.eval_shape(batch, pairs[0])
        empty = jax.tree.map(lambda a: jnp.zeros((len(pairs), *a.shape), a.dtype), one)
        return state, jax.lax.fori_loop(0, shared.steps, step, empty)

    return program
