"""Keras's callbacks as rules, and its optimisers, against recorded traces and runs."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from moa_jax.training import optimizers, rules

FOLDER = Path(__file__).parent / "reference"
TRACES = json.loads((FOLDER / "resnet_callbacks.json").read_text())
OPTIMIZERS = dict(np.load(FOLDER / "resnet_optimizers.npz"))
EPOCHS = 50
STOP = rules.patience(10, min_delta=1e-5)
OPTIMIZER_OF = {
    "adam_1e-3": lambda scale: optimizers.keras_adam(scale * 1e-3),
    "adadelta_1e-3_over_3": lambda scale: optimizers.keras_adadelta(scale * 1e-3 / 3),
    "adadelta_1e-3_over_5": lambda scale: optimizers.keras_adadelta(scale * 1e-3 / 5),
}


def scanned(losses, dtype, **chosen):
    """States of several rules after each epoch of several members, [epochs, members]."""

    def epoch(states, loss):
        states = {name: jax.vmap(rule.update)(states[name], loss) for name, rule in chosen.items()}
        return states, states

    losses = jnp.asarray(losses, dtype)
    start = jax.vmap(lambda _: {name: rule.init() for name, rule in chosen.items()})(losses[0])
    return jax.tree.map(np.asarray, jax.jit(lambda: jax.lax.scan(epoch, start, losses)[1])())


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_callbacks_of_a_training_phase(dtype):
    """Five members at once: epochs, rates, kept epochs."""
    expected = list(TRACES["phase"].values())
    with jax.enable_x64(dtype == np.float64):
        found = scanned(
            np.stack([trace["val_loss"] for trace in expected], axis=1),
            dtype,
            checkpoint=rules.lowest_loss(),
            stop=STOP,
            restored=rules.restored_if_stopped(STOP, EPOCHS),
            rate=rules.plateau(0.5, patience=4),
        )

    def last(chosen):
        return int(np.flatnonzero(chosen)[-1]) + 1

    for index, trace in enumerate(expected):
        stops = np.flatnonzero(found["stop"].stop[:, index]) + 1
        epochs = int(stops[0]) if len(stops) else EPOCHS
        run = jax.tree.map(lambda a, part=(slice(epochs), index): a[part], found)
        rates = 1e-3 * np.concatenate([[1], run["rate"].scale[:-1]])
        np.testing.assert_allclose(rates, trace["lr_used_per_epoch"], rtol=1e-6)
        kept = last(run["restored"].better)
        assert {
            "epochs_run": epochs,
            "checkpoint_best_epoch": last(run["checkpoint"].better),
            "early_stopping_best_epoch": last(run["stop"].waited == 0),
            "stopped_at_epoch": epochs if len(stops) else None,
            "weights_in_memory_after_fit_from_epoch": kept,
        } == {k: v for k, v in trace.items() if k not in ("val_loss", "lr_used_per_epoch")}
        losses = np.asarray(trace["val_loss"][:epochs], dtype)
        assert run["restored"].loss[-1] == losses[kept - 1]
        assert run["checkpoint"].loss[-1] == losses.min()


def test_a_stop_in_the_last_epoch_restores_the_best():
    stop = rules.patience(2)
    for epochs, kept in ((3, 1), (4, 1), (2, 2)):
        losses = np.array([[1.0], [2.0], [3.0], [4.0]])[:epochs]
        found = scanned(losses, np.float32, rule=rules.restored_if_stopped(stop, epochs))["rule"]
        ends = np.flatnonzero(found.stop.stop[:, 0])
        run = found.better[: ends[0] + 1 if len(ends) else epochs, 0]
        assert np.flatnonzero(run)[-1] + 1 == kept


@pytest.mark.parametrize("name", TRACES["loop"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_loop_of_single_epochs(name, dtype):
    trace = TRACES["loop"][name]
    losses = np.array([trace["start"], *trace["metrics"]])[:, None]
    with jax.enable_x64(dtype == np.float64):
        found = scanned(losses, dtype, rule=rules.repeats(3, trace["tol"]))["rule"]
    found = jax.tree.map(lambda a: a[:, 0], found)
    assert np.flatnonzero(found.stop).tolist() == [trace["fits"]]
    assert int(found.repeated[-1]) == trace["reps_printed"]
    assert int(found.improved[-1]) == trace["improved"]
    assert found.loss[-1] == dtype(trace["best"])
    assert found.better[0]
    kept = np.flatnonzero(found.better)[-1]
    assert losses[kept, 0] == trace["best"]


def keras_plateau(losses, factor, patience, min_delta, cooldown, min_rate):
    """ReduceLROnPlateau of TensorFlow 2.3, statement by statement."""
    best, wait, cooling, rate, rates = np.inf, 0, 0, 1.0, []
    for loss in losses:
        if cooling > 0:
            cooling -= 1
            wait = 0
        if loss < best - min_delta:
            best, wait = loss, 0
        elif not cooling > 0:
            wait += 1
            if wait >= patience and rate > min_rate:
                rate, cooling, wait = max(rate * factor, min_rate), cooldown, 0
        rates.append(rate)
    return rates


@pytest.mark.parametrize(("cooldown", "min_scale"), [(0, 0.0), (1, 0.0), (3, 0.2), (2, 0.03)])
def test_plateau_with_cooldown_and_lower_bound(cooldown, min_scale):
    losses = np.random.default_rng(0).normal(size=(60, 20)) + np.linspace(1, 0, 60)[:, None]
    with jax.enable_x64(True):
        rule = rules.plateau(0.5, 2, 0.1, cooldown, min_scale)
        found = scanned(losses, np.float64, rule=rule)["rule"].scale
    for index in range(20):
        expected = keras_plateau(losses[:, index], 0.5, 2, 0.1, cooldown, min_scale)
        assert found[:, index].tolist() == expected
    assert (found[-1] < 1).all()


def optimizer_run(name, dtype):
    def run(scale, start, gradients):
        optimizer = OPTIMIZER_OF[name](scale)

        def step(carry, gradient):
            parameters, state = carry
            updates, state = optimizer.update(gradient, state, parameters)
            parameters = optax.apply_updates(parameters, updates)
            return (parameters, state), parameters

        return jax.lax.scan(step, (start, optimizer.init(start)), gradients)[1]

    # The factor is traced, as in training.
    return jax.jit(run)(
        dtype(1), OPTIMIZERS["start"].astype(dtype), OPTIMIZERS["grads"].astype(dtype)
    )


@pytest.mark.parametrize("name", OPTIMIZER_OF)
def test_optimiser_run_in_float64(name):
    with jax.enable_x64(True):
        found = optimizer_run(name, np.float64)
    np.testing.assert_allclose(found, OPTIMIZERS[name], rtol=1e-12, atol=1e-15)
    # Keras holds Adam's constants in float32.
    np.testing.assert_allclose(found, OPTIMIZERS[f"{name}_keras"], rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", OPTIMIZER_OF)
def test_optimiser_run_in_float32(name):
    found = optimizer_run(name, np.float32)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, OPTIMIZERS[name], rtol=0, atol=3e-7)


def test_every_array_of_the_optimisers_is_compared():
    names = {name for name in OPTIMIZERS if name not in ("start", "grads")}
    assert names == {f"{name}{kind}" for name in OPTIMIZER_OF for kind in ("", "_keras")}


def test_optax_adam_is_another_rule():
    with jax.enable_x64(True):
        start, gradients = OPTIMIZERS["start"], OPTIMIZERS["grads"]
        optimizer = optax.adam(1e-3, eps=1e-7)
        update, _ = optimizer.update(gradients[0], optimizer.init(start))
        assert np.abs(start + update - OPTIMIZERS["adam_1e-3"][0]).max() > 1e-4


def test_keras_adam_follows_a_schedule():
    with jax.enable_x64(True):
        start, gradients = OPTIMIZERS["start"], OPTIMIZERS["grads"]
        optimizer = optimizers.keras_adam(lambda step: 1e-3 * (step < 1))
        state = optimizer.init(start)
        update, state = optimizer.update(gradients[0], state)
        np.testing.assert_allclose(start + update, OPTIMIZERS["adam_1e-3"][0], rtol=1e-12)
        update, _ = optimizer.update(gradients[1], state)
        np.testing.assert_array_equal(update, 0)
