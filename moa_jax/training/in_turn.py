"""Members of one device that run one after another within one compiled program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from moa_jax.training.trees import MemberFunction

# XLA's CPU compiler copies what an updated array is read by, unless it may ask whether all readers
# come first: a step then has no copy of the weights, and the same bits.
ASKS_FOR_READERS = "xla_cpu_copy_insertion_use_region_analysis"


def loop(
    fn: MemberFunction, skip: Callable[[Any], jax.Array] | None, in_place: bool
) -> MemberFunction:
    """Lifts a function of one member to arrays [members, ...] of several.

    Args:
      fn: `fn(state, arguments, shared) -> (state, output)` for one member.
      skip: members whose `skip(state)` holds are left as they are; their output is zero. None
        leaves none.
      in_place: write each member's new state over its old one, which must have the same shapes:
        the states are not copied as a whole, and what `fn` hands on untouched is not even read.
    """

    def one(state: Any, own: Any, shared: Any) -> tuple[Any, Any]:
        return fn(state, own, shared) if skip is None else _skipping(fn, skip, state, own, shared)

    def anew(states: Any, arguments: Any, shared: Any) -> tuple[Any, Any]:
        return jax.lax.map(lambda m: one(m[0], m[1], shared), (states, arguments))

    def updated(states: Any, arguments: Any, shared: Any) -> tuple[Any, Any]:
        def update(states, member):
            index, own = member
            old = jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, index, 0, False), states)
            new, output = one(old, own, shared)

            def put(array, before, after):
                if after is before:
                    return array
                return jax.lax.dynamic_update_index_in_dim(array, after, index, 0)

            return jax.tree.map(put, states, old, new), output

        count = len(jax.tree.leaves(states)[0])
        return jax.lax.scan(update, states, (jnp.arange(count), arguments))

    return updated if in_place else anew


def _skipping(
    fn: MemberFunction, skip: Callable[[Any], jax.Array], state: Any, own: Any, shared: Any
) -> tuple[Any, Any]:
    """Returns what `fn` does, or the same state and an output of zeros where `skip` holds.

    What `fn` hands on untouched stays out of the branch, which would copy it.
    """
    before, structure = jax.tree.flatten(state)

    def take():
        after, output = fn(state, own, shared)
        pairs = enumerate(zip(before, jax.tree.leaves(after), strict=True))
        return {place: new for place, (old, new) in pairs if new is not old}, output

    changed, output = jax.eval_shape(take)
    nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), output)
    left = {place: before[place] for place in changed}
    changed, output = jax.lax.cond(skip(state), lambda: (left, nothing), take)
    after = [changed.get(place, old) for place, old in enumerate(before)]
    return jax.tree.unflatten(structure, after), output


def compiled(lowered: jax.stages.Lowered, options: dict[str, Any] | None) -> jax.stages.Compiled:
    """Compiles with these options; without `ASKS_FOR_READERS` where this XLA has no such name."""
    try:
        return lowered.compile(options)
    except jax.errors.JaxRuntimeError as error:
        if not options or ASKS_FOR_READERS not in str(error):
            raise
    return lowered.compile({k: v for k, v in options.items() if k != ASKS_FOR_READERS} or None)
