"""The programs of a stage: initialise, train, validate, predict, each written for one member.

With the name of a mapped axis, the rows of each batch are spread over its devices: inputs are made
of all rows, everyone's network sees its part, and what it puts out is gathered. So losses, rules
and states are those of the whole batch, the same on every device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from moa_jax.models import batch_axis
from moa_jax.training.stage import Forward, MemberState, Selected, Stage

Tree = Any


def _keep_if(condition: jax.Array, new: Tree, old: Tree) -> Tree:
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)


def _network(forward: Forward, axis_name: str | None) -> nn.Module:
    network = forward.network
    return network if axis_name is None else network.clone(axis_name=axis_name)


def _replaced(variables: Tree, start: Tree) -> Tree:
    """Returns the variables with those of `start` in their place."""
    replaced = traverse_util.flatten_dict(variables, keep_empty_nodes=True)
    for path, array in traverse_util.flatten_dict(start).items():
        initial = replaced.get(path)
        if initial is None or initial.shape != array.shape:
            expected = "none" if initial is None else f"shape {initial.shape}"
            raise ValueError(f"start: {'/'.join(path)}: expected {expected}, found {array.shape}")
        replaced[path] = array.astype(initial.dtype)
    return traverse_util.unflatten_dict(replaced)


def initialise(stage: Stage) -> Callable:
    """Returns the program that makes a member's first state.

    `program(key data [2], {data, total_steps, start}, {inputs, targets}) -> (state, ())`; `start`
    holds variables that are given, and may be left out.
    """

    def program(key_data, own, shared):
        key = jax.random.wrap_key_data(key_data)
        init_key, input_key = jax.random.split(key)
        rows = jnp.zeros(2, jnp.int32)
        inputs = jax.eval_shape(
            lambda: stage.forward.inputs(shared["inputs"], own["data"], rows, input_key, False)
        )
        # Shapes suffice: what the network computes would be compiled and thrown away.
        initial = stage.forward.network.lazy_init(init_key, *inputs)
        variables = _replaced(initial, own.get("start", {}))
        params, batch_stats = variables["params"], variables.get("batch_stats", {})
        rate = stage.rate.init()
        zero = jnp.zeros((), jnp.int32)
        state = MemberState(
            params=params,
            batch_stats=batch_stats,
            opt=stage.optimizer(own["total_steps"], rate.scale).init(params),
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


def train(stage: Stage, axis_name: str | None = None) -> Callable:
    """Returns the program that takes the optimiser steps of an index table.

    `program(state, {rows [steps, batch], counts [steps], data, total_steps}, {inputs, targets})`
    -> `(state, ())`. Steps without real rows, and all steps of a stopped member, leave the state
    untouched.
    """
    network = _network(stage.forward, axis_name)

    def program(state: MemberState, own, shared):
        optimizer = stage.optimizer(own["total_steps"], state.rate.scale)
        key = jax.random.wrap_key_data(state.key)
        keywords = stage.keywords(state)

        def take_step(carry, rows, count):
            params, batch_stats, opt, step_number, epoch_loss = carry
            mask = jnp.arange(stage.batch_size) < count
            input_key, dropout_key = jax.random.split(jax.random.fold_in(key, step_number))
            inputs = stage.forward.inputs(shared["inputs"], own["data"], rows, input_key, True)
            inputs, own_mask = batch_axis.part((inputs, mask), axis_name)
            targets = shared["targets"][rows]

            def loss_and_stats(params):
                outputs, updated = network.apply(
                    {"params": params, "batch_stats": batch_stats},
                    *inputs,
                    mask=own_mask,
                    train=True,
                    rngs={"dropout": dropout_key},
                    mutable=["batch_stats"],
                    **keywords,
                )
                outputs = batch_axis.whole(outputs, len(rows), axis_name)
                return stage.loss(outputs, targets, mask), updated.get("batch_stats", {})

            (loss, new_stats), gradients = jax.value_and_grad(loss_and_stats, has_aux=True)(params)
            # All devices have the same loss. Each has the gradient of their sum in its own rows.
            gradients = batch_axis.mean(gradients, axis_name)
            updates, new_opt = optimizer.update(gradients, opt, params)
            new_params = optax.apply_updates(params, updates)
            return new_params, new_stats, new_opt, step_number + 1, epoch_loss + loss

        def step(carry, batch):
            rows, count = batch
            # A branch where members train one after another; batched, it becomes a selection.
            carry = jax.lax.cond(
                state.active & (count > 0), take_step, lambda carry, *_: carry, carry, rows, count
            )
            return carry, None

        carry = (state.params, state.batch_stats, state.opt, state.step, state.epoch_loss)
        carry, _ = jax.lax.scan(step, carry, (own["rows"], own["counts"]))
        params, batch_stats, opt, step_number, epoch_loss = carry
        state = state._replace(
            params=params,
            batch_stats=batch_stats,
            opt=opt,
            step=step_number,
            epoch_loss=epoch_loss,
        )
        return state, ()

    return program


def validate(stage: Stage, axis_name: str | None = None) -> Callable:
    """Returns the program that closes an epoch: validation loss, the three rules, a restart.

    `program(state, {rows [steps, batch], counts [steps], data, epoch_steps, total_steps}, {inputs,
    targets})` -> `(state, {train_loss, valid_loss, best_loss, better, active})`; `active` tells
    whether the member trained in this epoch. The loss is the mean of batch means, weighted by
    `stage.valid_weights`.
    """
    network, loss_function = _network(stage.forward, axis_name), stage.valid_loss or stage.loss

    def restarted(state: MemberState, own) -> MemberState:
        optimizer = stage.optimizer(own["total_steps"], state.rate.scale)
        params, batch_stats = state.selected.params, state.selected.batch_stats
        return state._replace(params=params, batch_stats=batch_stats, opt=optimizer.init(params))

    def program(state: MemberState, own, shared):
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        key = jax.random.wrap_key_data(state.key)

        zero = jnp.zeros((), state.epoch_loss.dtype)
        weights = stage.valid_weights(own["counts"]).astype(zero.dtype)

        def add_batch(total, batch):
            rows, count, weight = batch
            mask = jnp.arange(rows.shape[0]) < count
            inputs = stage.forward.inputs(shared["inputs"], own["data"], rows, key, False)
            inputs, own_mask = batch_axis.part((inputs, mask), axis_name)
            outputs = network.apply(variables, *inputs, mask=own_mask, train=False)
            outputs = batch_axis.whole(outputs, len(rows), axis_name)
            loss = loss_function(outputs, shared["targets"][rows], mask)
            return total + jnp.where(count > 0, weight * loss, 0), None

        total, _ = jax.lax.scan(add_batch, zero, (own["rows"], own["counts"], weights))
        loss = total / jnp.sum(weights)

        epoch = state.epoch + 1
        select = stage.select.update(state.select, loss)
        stop = stage.stop.update(state.stop, loss)
        selected = Selected(state.params, state.batch_stats, epoch)
        closed = state._replace(
            epoch=epoch,
            epoch_loss=zero,
            selected=_keep_if(select.better, selected, state.selected),
            select=select,
            stop=stop,
            rate=stage.rate.update(state.rate, loss),
            active=~stop.stop,
        )
        if stage.restarts:
            closed = _keep_if(stage.restarts(closed), restarted(closed, own), closed)
        report = {
            "train_loss": state.epoch_loss / own["epoch_steps"],
            "valid_loss": loss,
            "best_loss": select.loss,
            "active": state.active,
        }
        return _keep_if(state.active, closed, state), report

    return program


def predict(forward: Forward, axis_name: str | None = None) -> Callable:
    """Returns `program((), {variables, data, rows [steps, batch]}, shared) -> ((), probabilities)`.

    `shared` holds `inputs`, and in `steps` how many of the steps have rows; the others cost nothing
    and answer 0. Probabilities are [steps, batch, targets]; a row's depend on that row alone.
    """
    network = _network(forward, axis_name)

    def program(state, own, shared):
        unused_key = jax.random.key(0)

        def batch(rows):
            inputs = forward.inputs(shared["inputs"], own["data"], rows, unused_key, False)
            inputs = batch_axis.part(inputs, axis_name)
            probabilities = forward.probabilities(
                network.apply(own["variables"], *inputs, train=False)
            )
            return batch_axis.whole(probabilities, len(rows), axis_name)

        def step(index, found):
            return found.at[index].set(batch(own["rows"][index]))

        one = jax.eval_shape(batch, own["rows"][0])
        empty = jnp.zeros((len(own["rows"]), *one.shape), one.dtype)
        return state, jax.lax.fori_loop(0, shared["steps"], step, empty)

    return program
