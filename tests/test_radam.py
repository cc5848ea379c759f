"""RAdam and the cosine that rises again, against torch-optimizer's and against the formulas."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from moa_jax.training import optimizers, rules, schedules

EPOCHS, STEPS = 23, 92
RATE = 3.52e-4


@pytest.fixture(scope="module")
def reference():
    """Runs a and b of float32: 23 epochs of 4 steps, the rate stepped once per epoch."""
    path = Path(__file__).parent / "reference/radam_cosine.npz"
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)


def gradients():
    """The gradients of the reference, by the rule that made them."""
    for step in range(STEPS):
        normal = np.random.default_rng(1000 + step).standard_normal((5, 7))
        yield np.float32(0.01 * normal)


def trajectory(optimizer, start, dtype):
    """Parameters after every step, and the state at the end."""
    update = jax.jit(optimizer.update)
    p = jnp.asarray(start, dtype)
    state, found = optimizer.init(p), []
    for gradient in gradients():
        change, state = update(jnp.asarray(gradient, dtype), state, p)
        p = optax.apply_updates(p, change)
        found.append(np.asarray(p))
    return np.stack(found), state[0]


def by_formula(start, rate, decay, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """RAdam as published with torch-optimizer, in float64."""
    p, m, v, found = np.float64(start), 0.0, 0.0, []
    longest = 2 / (1 - beta2) - 1
    for t, gradient in enumerate(map(np.float64, gradients()), start=1):
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * gradient**2
        length = longest - 2 * t * beta2**t / (1 - beta2**t)
        step = rate((t - 1) * EPOCHS // STEPS)
        p = p - step * decay * p
        if length >= 5:
            factor = (1 - beta2**t) * (length - 4) / (longest - 4) * (length - 2) / length
            factor = math.sqrt(factor * longest / (longest - 2)) / (1 - beta1**t)
            p = p - step * factor * m / (np.sqrt(v) + epsilon)
        else:
            p = p - step / (1 - beta1**t) * m
        found.append(p)
    return np.stack(found), m, v


@pytest.mark.parametrize("case", ["a", "b"])
def test_trajectory(case, reference):
    rate, decay = float(reference[f"{case}.lr"]), float(reference[f"{case}.wd"])
    start, expected = reference[f"{case}.w0"], reference[f"{case}.w_after_step"]
    formula, m, v = by_formula(
        start, lambda epoch: rate * (1 + math.cos(math.pi * epoch / 5)) / 2, decay
    )
    np.testing.assert_allclose(formula, expected, rtol=1e-6)
    with jax.enable_x64(True):
        schedule = schedules.cosine(STEPS, EPOCHS, rate).rate
        optimizer = optimizers.radam(schedule, weight_decay=decay)
        found, state = trajectory(optimizer, start, jnp.float64)
        np.testing.assert_allclose(found, formula, rtol=1e-9)
        np.testing.assert_allclose(state.mu, m, rtol=1e-9)
        np.testing.assert_allclose(state.nu, v, rtol=1e-9)
    optimizer = optimizers.radam(schedules.cosine(STEPS, EPOCHS, rate).rate, weight_decay=decay)
    found, state = trajectory(optimizer, start, jnp.float32)
    assert found.dtype == state.mu.dtype == np.float32
    # Both sides have rounded 92 times.
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(state.mu, reference[f"{case}.m"], rtol=1e-6)
    np.testing.assert_allclose(state.nu, reference[f"{case}.v"], rtol=1e-6)


@pytest.mark.parametrize(("x64", "tolerance"), [(True, 1e-9), (False, 1e-6)])
def test_average_length(x64, tolerance, reference):
    with jax.enable_x64(x64):
        steps = jnp.arange(1, 3001).astype(jnp.result_type(float))
        found = np.asarray(jax.jit(lambda t: optimizers.average_length(t, 0.999))(steps))
    np.testing.assert_allclose(found, reference["n_sma"], rtol=tolerance)
    assert 1 + (found >= 5).argmax() == reference["first_adaptive_step"] == 6


@pytest.mark.parametrize("beta2", [0.9, 0.5])
def test_other_decays(beta2):
    """A short average is adaptive soon, or never."""
    with jax.enable_x64(True):
        start = np.linspace(-1, 1, 35).reshape(5, 7)
        expected, _, _ = by_formula(start, lambda epoch: 0.01, 0.1, 0.8, beta2, 1e-3)
        optimizer = optimizers.radam(0.01, 0.8, beta2, 1e-3, 0.1)
        found, _ = trajectory(optimizer, start, jnp.float64)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_rate_zero_moves_moments_and_steps_but_no_weight():
    optimizer = optimizers.radam(0.0, weight_decay=0.1)
    p = jnp.array([1.0, -2.0])
    state = optimizer.init(p)
    change, state = optimizer.update(jnp.array([0.5, 0.25]), state, p)
    np.testing.assert_array_equal(optax.apply_updates(p, change), p)
    assert state[0].count == 1
    np.testing.assert_allclose(state[0].mu, [0.05, 0.025], rtol=1e-6)
    np.testing.assert_allclose(state[0].nu, [0.25e-3, 0.0625e-3], rtol=1e-5)


@pytest.mark.parametrize(("x64", "tolerance"), [(True, 1e-9), (False, 1e-6)])
def test_cosine(x64, tolerance, reference):
    with jax.enable_x64(x64):
        # The number of steps is traced, as in training.
        rates = jax.jit(lambda total, step: schedules.cosine(total, 60, RATE).rate(step))
        # An optimiser's counter is int32, also in float64 runs.
        found = np.asarray([rates(240, np.int32(4 * epoch)) for epoch in range(60)])
        within = np.asarray([rates(240, np.int32(4 * epoch + 3)) for epoch in range(60)])
    np.testing.assert_array_equal(within, found)
    expected = reference["lr_closed_form_60"]
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * RATE)
    np.testing.assert_array_equal(np.flatnonzero(found == 0), np.arange(5, 60, 10))
    np.testing.assert_allclose(
        found[:EPOCHS], reference["a.lr_per_epoch"], rtol=tolerance, atol=tolerance * RATE
    )


def test_half_period():
    schedule = schedules.cosine(12, 12, 2.0, half_period=3).rate
    found = [float(schedule(epoch)) for epoch in range(12)]
    np.testing.assert_allclose(found, [2, 1.5, 0.5, 0, 0.5, 1.5] * 2, rtol=1e-6)


def test_stops_after_twelve_epochs_without_a_gain_above_one_in_a_million():
    """Lightning's early stopping: better is value + 1e-6 < best, while the lowest is kept."""
    stop, select = rules.patience(12, min_delta=1e-6), rules.lowest_loss()
    stopping, selected, kept = stop.init(), select.init(), []
    losses = [0.015, 0.0149995, 0.0149985, *[0.0149980] * 12]
    for epoch, loss in enumerate(losses):
        assert not stopping.stop
        stopping = stop.update(stopping, jnp.asarray(loss))
        selected = select.update(selected, jnp.asarray(loss))
        if selected.better:
            kept.append(epoch)
    # Epoch 1 is no gain, epoch 2 is one on epoch 0, and the rest are none on epoch 2.
    assert stopping.stop and kept == [0, 1, 2, 3]
    assert stopping.loss == np.float32(0.0149985)
