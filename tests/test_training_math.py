"""Losses, metrics, schedules and the optimiser against literal figures."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tabnet_reference import load

from moa_jax.errors import UserError
from moa_jax.training import losses, metrics, names, optimizers, schedules

LOGITS = np.array([[0.0, 2.0, -3.0], [-6.0, -6.5, 1.0]])
TARGETS = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def one_cycle(total, pct_start):
    return schedules.one_cycle(total, 1, 1e-2, pct_start=pct_start)


def test_binary_cross_entropy_plain_smoothed_and_clipped():
    with jax.enable_x64(True):
        mask = np.ones(2, bool)
        plain = losses.binary_cross_entropy(LOGITS, TARGETS, mask)
        assert float(plain) == pytest.approx(0.1976503710, abs=1e-10)
        for targets in (losses.smoothed(TARGETS, 1e-3), TARGETS.clip(0.0005, 0.9995)):
            value = losses.binary_cross_entropy(LOGITS, targets, mask)
            assert float(value) == pytest.approx(0.1991920377, abs=1e-10)


def test_floor_of_the_smoothed_loss():
    with jax.enable_x64(True):

        def loss(z):
            target = jnp.array([[0.9995]])
            return losses.binary_cross_entropy(z[None, None], target, jnp.ones(1))

        assert float(loss(jnp.float64(7.6004023))) == pytest.approx(0.0043003262, abs=1e-10)
        assert float(jax.grad(loss)(jnp.float64(7.6004023))) == pytest.approx(0, abs=1e-10)


def test_masked_rows_do_not_count():
    padded = np.concatenate([LOGITS, [[9.0, -9.0, 9.0]]])
    targets = np.concatenate([TARGETS, [[0.0, 1.0, 0.0]]])
    with jax.enable_x64(True):
        found = losses.binary_cross_entropy(padded, targets, np.array([True, True, False]))
        expected = losses.binary_cross_entropy(LOGITS, TARGETS, np.ones(2))
        assert float(found) == pytest.approx(float(expected), rel=1e-15)


# Steps of schedules with maximum 1e-2, 1e3 times less at the start and 1e4 times less at the end.
SCHEDULE = [
    (1035, 0.2, 0, 1.000000000e-05, 0.95),
    (1035, 0.2, 1, 1.058084785e-05, 0.949994186),
    (1035, 0.2, 100, 4.776551727e-03, 0.902286769),
    (1035, 0.2, 206, 1.000000000e-02, 0.85),
    (1035, 0.2, 207, 9.999964010e-03, 0.850000360),
    (1035, 0.2, 500, 7.198673885e-03, 0.878013264),
    (1035, 0.2, 1000, 4.154750594e-05, 0.949584535),
    (1035, 0.2, 1034, 1.0e-09, 0.95),
    (1725, 0.2, 172, 5.005000000e-03, 0.90),
    (1725, 0.2, 344, 1.0e-02, 0.85),
    (1725, 0.2, 1000, 5.386621940e-03, 0.896133785),
    (1725, 0.2, 1724, 1.0e-09, 0.95),
    (1170, 0.2, 233, 1.0e-02, 0.85),
    (1170, 0.2, 1000, 7.830436926e-04, 0.942169572),
    (1950, 0.2, 389, 1.0e-02, 0.85),
    (1950, 0.2, 1000, 6.669034629e-03, 0.883309657),
    (3450, 0.1, 137, 3.435452797e-03, 0.915711183),
    (3450, 0.1, 344, 1.0e-02, 0.85),
    (3450, 0.1, 1725, 5.863258790e-03, 0.891367416),
    (1725, 0.1, 171, 9.999790486e-03, 0.850002097),
    (1725, 0.1, 172, 9.999997441e-03, 0.850000026),
]


@pytest.mark.parametrize(("total", "pct_start", "step", "rate", "beta1"), SCHEDULE)
def test_one_cycle(total, pct_start, step, rate, beta1):
    with jax.enable_x64(True):
        # The length is traced, as in training.
        found = jax.jit(lambda total, step: [s(step) for s in one_cycle(total, pct_start)])(
            total, step
        )
        assert float(found[0]) == pytest.approx(rate, rel=1e-9)
        assert float(found[1]) == pytest.approx(beta1, abs=6e-10)


def test_one_cycle_in_float32():
    for total, pct_start, step, rate, beta1 in SCHEDULE:
        found = [s(step) for s in one_cycle(total, pct_start)]
        assert found[0].dtype == jnp.float32
        assert float(found[0]) == pytest.approx(rate, rel=1e-5, abs=2e-9)
        assert float(found[1]) == pytest.approx(beta1, rel=1e-6)


def test_adam_trace():
    """One parameter, gradient 0.5 in even and -0.25 in odd steps, ten steps of one cycle."""
    expected = [
        0.999990000000, 1.001471462355, 0.997987020136, 0.997136450870, 0.994502004822,
        0.993357642709, 0.992023146283, 0.991503303385, 0.991308639917, 0.991308639506,
    ]  # fmt: skip
    with jax.enable_x64(True):
        optimizer = optimizers.adam(*one_cycle(10, 0.2), weight_decay=1e-5)
        p = jnp.float64(1)
        state, found = optimizer.init(p), []
        for step in range(10):
            gradient = jnp.float64(-0.25 if step % 2 else 0.5)
            update, state = optimizer.update(gradient, state, p)
            p = p + update
            found.append(float(p))
        np.testing.assert_allclose(found, expected, rtol=0, atol=6e-13)


# Rows of targets and predictions with exact 0 and 1, 1e-16 and 1 - 1e-16.
Y = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 1], [0, 0, 0], [1, 1, 0], [0, 0, 1]])
P = np.array(
    [
        [0.9, 0.1, 0.0],
        [0.2, 0.5, 1e-16],
        [1.0, 0.0, 0.0],
        [0.0, 0.3, 1.0],
        [0.0, 1.0, 0.25],
        [1e-15, 0.9999999999999999, 0.75],
    ]
)


def test_log_loss_clipped():
    assert metrics.mean_log_loss(Y, P) == pytest.approx(7.78976420147418, rel=1e-14)
    np.testing.assert_allclose(
        metrics.target_log_losses(Y, P),
        [5.811213410313787, 5.9491264387495635, 11.608952755359189],
        rtol=1e-14,
    )


def test_log_loss_with_epsilon_inside():
    assert metrics.mean_log_loss_epsilon(Y, P) == pytest.approx(7.783826435944174, rel=1e-14)


@pytest.mark.parametrize(
    ("y", "p", "clipped", "inside"),
    [
        (0, 0.0, 9.992007221626415e-16, -1.110223024625156e-15),
        (0, 1.0, 34.53957599234088, 34.538776394910684),
        (1, 0.0, 34.538776394910684, 34.538776394910684),
        (1, 1.0, 9.992007221626415e-16, -1.110223024625156e-15),
        (1, 0.5, 0.6931471805599453, 0.6931471805599433),
    ],
)
def test_log_loss_at_the_extremes(y, p, clipped, inside):
    assert metrics.mean_log_loss([[y]], [[p]]) == pytest.approx(clipped, rel=1e-15)
    assert metrics.mean_log_loss_epsilon([[y]], [[p]]) == pytest.approx(inside, rel=1e-15)


def test_printed_convention_counts_controls_and_one_target_too_many():
    y, p = np.array([[1, 0], [0, 0]]), np.array([[0.6, 0.1], [0.2, 0.05]])
    assert metrics.mean_log_loss(y, p) == pytest.approx(0.22265574628139434, rel=1e-14)
    found = metrics.printed_log_loss(y, p, num_controls=1)
    assert found == pytest.approx(0.09895810945839771, rel=1e-13)


def test_every_convention_with_controls_filled_in():
    """Each is what its formula gives on rows with the controls among them, or without."""
    y = np.array([[1, 0], [0, 0], [0, 1]])
    p = np.array([[0.6, 0.1], [0.2, 0.05], [0.0, 0.3]])
    all_y, all_p = (np.concatenate([a, np.zeros((2, 2))]) for a in (y, p))
    found = metrics.conventions(y, p, num_controls=2)
    expected = {
        "treated": metrics.mean_log_loss(y, p),
        "epsilon": metrics.mean_log_loss_epsilon(y, p),
        "epsilon_all": metrics.mean_log_loss_epsilon(all_y, all_p),
        "printed": metrics.target_log_losses(all_y, all_p).sum() / 3,
        "printed_treated": metrics.target_log_losses(y, p).sum() / 3,
    }
    assert found == pytest.approx(expected, rel=1e-14)


def test_controls_count_as_they_are_predicted():
    """Two treated cells lose ln 2 and -ln 3/4, two cells of a control ln 2 and nothing."""
    y, p, control_p = np.array([[1, 0]]), np.array([[0.5, 0.25]]), np.array([[0.5, 0.0]])
    found = metrics.conventions(y, p, 1, control_p)
    assert found["epsilon_all"] == pytest.approx(0.4184941083, abs=1e-10)
    filled = metrics.conventions(y, p, 1)
    assert filled["epsilon_all"] == pytest.approx(0.2452073132, abs=1e-10)
    # The original's other scripts fill the controls with 0, or leave them out.
    others = [name for name in filled if name != "epsilon_all"]
    assert [found[name] for name in others] == [filled[name] for name in others]
    assert metrics.conventions(y, p, 0, np.zeros((0, 2))) == metrics.conventions(y, p, 0)


@pytest.mark.parametrize(
    ("convention", "printed", "treated"),
    [
        ("printed", 0.014317540, 0.015610),
        ("printed", 0.014534202, 0.015846),
        ("printed_treated", 0.016155364, 0.016234),
    ],
)
def test_recorded_scores_in_both_conventions(convention, printed, treated):
    y, p = np.zeros((21948, 206)), np.full((21948, 206), 0.5)
    found = metrics.conventions(y, p, num_controls=1866)
    assert printed * found["treated"] / found[convention] == pytest.approx(treated, abs=5e-7)


def test_printed_convention_converts_recorded_scores():
    """The published treated-row score of a printed 0.014180859 is 0.015461."""
    factor = metrics.mean_log_loss(np.eye(2), np.full((2, 2), 0.5))
    printed = metrics.printed_log_loss(
        np.zeros((21948, 206)), np.full((21948, 206), 0.5), num_controls=1866
    )
    assert factor / printed == pytest.approx(1.0902862193, rel=1e-10)
    assert 0.014180859097109953 * factor / printed == pytest.approx(0.015461195, abs=5e-10)


TABNET = load("ops")


@pytest.mark.parametrize(
    ("suffix", "compiled"), [("", lambda f: f), ("_f32", lambda f: f), ("_f32", jax.jit)]
)
def test_log_loss_epsilon_and_its_derivative(suffix, compiled):
    """Single entries at logits from -100 to 100, smoothing 0.001, in both precisions.

    Compiled too: that 1e-15 may vanish beside a 1, and take the loss to infinity.
    """
    dtype, tolerance = (np.float32, 1e-6) if suffix else (np.float64, 1e-9)
    with jax.enable_x64(not suffix):
        logits = TABNET["smooth_logit"].astype(dtype)

        def loss(logit, target):
            # Clipping gives the original's float32 targets; `smoothed` may differ in the last bit,
            # which is 1e-4 of 1 - 0.9995.
            targets = target.clip(0.0005, 0.9995)[None, None]
            return losses.log_loss_epsilon(logit[None, None], targets, jnp.ones(1, bool))

        for target in (0, 1):
            targets = np.full(len(logits), target, dtype)
            value, slope = compiled(jax.vmap(jax.value_and_grad(loss)))(logits, targets)
            assert value.dtype == slope.dtype == dtype
            for found, name in ((value, "smooth_loss"), (slope, "smooth_dlogit")):
                expected = TABNET[f"{name}{suffix}"][target]
                np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance / 10)


def test_log_loss_epsilon_leaves_masked_rows_out():
    padded = np.concatenate([LOGITS, [[9.0, -9.0, 9.0]]])
    targets = np.concatenate([TARGETS, [[0.0, 1.0, 0.0]]])
    with jax.enable_x64(True):
        found = losses.log_loss_epsilon(padded, targets, np.array([True, True, False]))
        assert float(found) == pytest.approx(0.1976503710, abs=1e-10)


def test_one_cycle_of_the_stage_before_tabnet():
    """Every one of its 1170 steps, and the eight of the small network."""
    reference = load("stage1")
    with jax.enable_x64(True):
        for total, rate_name, beta1_name in (
            (1170, "onecycle_lr", "onecycle_beta1"),
            (8, "step_lr", "step_beta1"),
        ):
            rate, beta1 = (s(jnp.arange(total)) for s in one_cycle(total, 0.2))
            np.testing.assert_allclose(rate, reference[rate_name], rtol=1e-9, atol=1e-15)
            np.testing.assert_allclose(beta1, reference[beta1_name], rtol=1e-12)


def test_clip_by_global_norm():
    """PyTorch divides by norm + 1e-6; gradients within the norm are left as they are."""
    with jax.enable_x64(True):
        gradients = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([[4.0]])}
        for largest, factor in ((1.0, 1 / 5.000001), (5.0, 5 / 5.000001), (5.1, 1.0)):
            clip = optimizers.clip_by_global_norm(largest)
            found, _ = clip.update(gradients, clip.init(gradients))
            for name, gradient in gradients.items():
                np.testing.assert_allclose(found[name], factor * gradient, rtol=1e-15)


def test_clip_with_another_epsilon():
    with jax.enable_x64(True):
        clip = optimizers.clip_by_global_norm(10.0, epsilon=1e-5)
        for norm, factor in ((20.0, 10 / 20.00001), (10.0, 10 / 10.00001), (9.9, 1.0)):
            gradient = jnp.array([0.6, 0.8]) * norm
            found, _ = clip.update(gradient, clip.init(gradient))
            np.testing.assert_allclose(found, factor * gradient, rtol=1e-14)


def test_adam_with_constants_equals_adam_with_constant_schedules():
    with jax.enable_x64(True):
        parameter, results = jnp.array([1.0, -2.0]), []
        for optimizer in (
            optimizers.adam(0.1, weight_decay=0.01),
            optimizers.adam(lambda step: 0.1, lambda step: 0.9, weight_decay=0.01),
        ):
            state, p = optimizer.init(parameter), parameter
            for _ in range(3):
                update, state = optimizer.update(2 * p, state, p)
                p = p + update
            results.append(p)
        np.testing.assert_allclose(*results, rtol=1e-14)
        np.testing.assert_allclose(results[0], [0.70, -1.70], atol=0.01)


def steps_of(optimizer, count=4):
    """The places of two parameters after each of a few steps down a slope."""
    p, found = jnp.array([1.0, -2.0]), []
    state = optimizer.init(p)
    for _ in range(count):
        updates, state = optimizer.update(jnp.array([0.3, -0.1]) * p, state, p)
        p = p + updates
        found.append(p)
    return np.array(found)


OPTIONS = {
    "constant": {},
    "one_cycle": {"pct_start": 0.5},
    "multi_step": {"milestones": (1,), "decay": 0.1},
    "cosine": {"half_period": 2},
}


@pytest.mark.parametrize("schedule", schedules.SCHEDULES)
@pytest.mark.parametrize("optimizer", optimizers.OPTIMIZERS)
def test_optimisers_and_schedules_by_name(optimizer, schedule):
    """Every pair is what its functions give, with the rate times the scale."""
    if optimizer == "adam_cycled" and schedule != "one_cycle":
        with pytest.raises(UserError, match="schedule: expected one that moves the momentum"):
            build(optimizer, schedule, 0.0)
        return
    decays = not optimizer.startswith("keras")
    if not decays:
        with pytest.raises(UserError, match=f"expected 0 for optimizer {optimizer}, .*found 0.1"):
            build(optimizer, schedule, 0.1)
    moved = schedules.SCHEDULES[schedule](4, 2, 0.2, **OPTIONS[schedule])
    rate = moved.rate
    scaled = (lambda step: 0.5 * rate(step)) if callable(rate) else 0.5 * rate
    direct = {
        "adam": lambda: optimizers.adam(scaled, weight_decay=0.1),
        "adam_cycled": lambda: optimizers.adam(scaled, moved.momentum, 0.1),
        "keras_adam": lambda: optimizers.keras_adam(scaled),
        "keras_adadelta": lambda: optimizers.keras_adadelta(scaled),
        "radam": lambda: optimizers.radam(scaled, weight_decay=0.1),
        "adamw": lambda: optax.adamw(scaled, weight_decay=0.1),
    }
    named = build(optimizer, schedule, 0.1 if decays else 0.0)
    np.testing.assert_array_equal(steps_of(named), steps_of(direct[optimizer]()))


def build(optimizer, schedule, weight_decay):
    return optimizers.build(
        4, 0.5, optimizer=optimizer, schedule=schedule, epochs=2, rate=0.2,
        weight_decay=weight_decay, **OPTIONS[schedule],
    )  # fmt: skip


def test_names_are_those_of_the_tables():
    assert sorted(losses.LOSSES) == sorted(names.LOSSES)
    assert sorted(optimizers.OPTIMIZERS) == sorted(names.OPTIMIZERS)
    assert sorted(schedules.SCHEDULES) == sorted(names.SCHEDULES)


def test_options_of_schedules():
    options = {name: schedules.schedule_options(name) for name in schedules.SCHEDULES}
    assert options == {
        "constant": {},
        "one_cycle": {
            "pct_start": True, "div_factor": False, "final_div_factor": False,
            "base_momentum": False, "max_momentum": False,
        },
        "multi_step": {"milestones": True, "decay": True},
        "cosine": {"half_period": False},
    }  # fmt: skip


@pytest.mark.parametrize("name", losses.LOSSES)
def test_losses_by_name_leave_padded_rows_out(name):
    loss = losses.LOSSES[name]
    padded = np.vstack([LOGITS, np.full((1, 3), 50.0)]).astype(np.float32)
    targets = np.vstack([TARGETS, np.zeros((1, 3))]).astype(np.float32)
    found = loss(padded, targets, np.array([True, True, False]))
    np.testing.assert_allclose(found, loss(padded[:2], targets[:2], np.ones(2)), rtol=1e-6)
