"""Rules for the kept epoch, the end of a member and its learning rate."""

import jax.numpy as jnp

from moa_jax.training import rules


def run(rule, losses):
    state, states = rule.init(), []
    for loss in losses:
        state = rule.update(state, jnp.float32(loss))
        states.append(state)
    return states


def test_lowest_loss_keeps_strictly_better_epochs():
    states = run(rules.lowest_loss(), [3.0, 3.0, 2.0, 2.5, 1.0])
    assert [bool(s.better) for s in states] == [True, False, True, False, True]
    assert float(states[3].loss) == 2.0


def test_lowest_loss_never_keeps_nan():
    states = run(rules.lowest_loss(), [float("nan"), 1.0])
    assert [bool(s.better) for s in states] == [False, True]


def test_patience_counts_epochs_without_a_better_loss():
    states = run(rules.patience(2), [3.0, 2.0, 2.0, 2.0, 1.0])
    assert [int(s.waited) for s in states] == [0, 0, 1, 2, 0]
    assert [bool(s.stop) for s in states] == [False, False, False, True, False]


def test_patience_asks_for_more_than_min_delta():
    states = run(rules.patience(1, min_delta=0.5), [3.0, 2.6])
    assert bool(states[1].stop)


def test_never_stops():
    assert not any(bool(s.stop) for s in run(rules.never(), [1.0] * 5))


def test_constant_rate():
    assert [float(s.scale) for s in run(rules.constant_rate(), [1.0, 2.0])] == [1.0, 1.0]
