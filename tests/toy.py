"""A small stage with all that a stage can have: per-member features and an auxiliary loss."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from moa_jax.training import members, rules
from moa_jax.training.stage import Forward, Stage

ROWS, COLUMNS, TARGETS = 103, 6, 3


class Network(nn.Module):
    """Two layers with dropout and a running mean; returns logits and an auxiliary penalty."""

    @nn.compact
    def __call__(self, x, mask=None, train=False):
        weight = jnp.ones(len(x)) if mask is None else mask
        mean = self.variable("batch_stats", "mean", jnp.zeros, (x.shape[-1],), x.dtype)
        if train:
            batch_mean = jnp.sum(x * weight[:, None], 0) / jnp.sum(weight)
            mean.value = 0.9 * mean.value + 0.1 * batch_mean
            x = x - batch_mean
        else:
            x = x - mean.value
        x = nn.tanh(nn.Dense(8, param_dtype=x.dtype)(x))
        x = nn.Dropout(0.2, deterministic=not train)(x)
        return nn.Dense(TARGETS, param_dtype=x.dtype)(x), jnp.mean(jnp.square(x), axis=-1)


def inputs(shared, member_data, rows, key, train):
    """Each member scales the shared rows itself, and adds noise while it trains."""
    scaled = (shared[rows] - member_data["mean"]) / member_data["scale"]
    if train:
        scaled = scaled + 0.01 * jax.random.normal(key, scaled.shape, scaled.dtype)
    return (scaled,)


def loss(outputs, targets, mask):
    logits, penalty = outputs
    rows = optax.sigmoid_binary_cross_entropy(logits, targets).mean(-1) + 0.1 * penalty
    return jnp.sum(rows * mask) / jnp.sum(mask)


def data(seed=0):
    generator = np.random.default_rng(seed)
    dtype = np.dtype(jnp.result_type(float))
    x = generator.normal(size=(ROWS, COLUMNS)).astype(dtype)
    y = (generator.random((ROWS, TARGETS)) < 1 / (1 + np.exp(-2 * x[:, :TARGETS]))).astype(dtype)
    return x, y


def stage(
    folds=4,
    seeds=(0, 7),
    epochs=5,
    batch_size=16,
    stop=None,
    rate=None,
    inner="vmap",
    lr=0.05,
    shares_batches=False,
):
    """Folds of unequal size, so that members differ in their number of steps."""
    x, y = data()
    fold_of_row = np.minimum(np.arange(ROWS) // 22, folds - 1)
    stage_members = tuple(members.cross_validation(dict.fromkeys(seeds, fold_of_row), 0))
    return Stage(
        name="toy/first",
        forward=Forward(
            Network(),
            inputs,
            lambda outputs: jax.nn.sigmoid(outputs[0]),
            inner=inner,
            shares_batches=shares_batches,
        ),
        members=stage_members,
        shared=x,
        targets=y,
        loss=loss,
        optimizer=lambda total, scale, data=(): optax.adam(
            lambda count: scale * lr * (1.0 - count.astype(jnp.result_type(float)) / total)
        ),
        epochs=epochs,
        batch_size=batch_size,
        member_data={
            "mean": np.stack([x[m.train_rows].mean(0) for m in stage_members]),
            "scale": np.stack([x[m.train_rows].std(0) for m in stage_members]),
        },
        stop=stop or rules.never(),
        rate=rate or rules.constant_rate(),
    )
