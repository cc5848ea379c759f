"""Rules for the kept epoch, the end of a member and its learning rate."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


def compiled(rule):
    """Returns the function from losses to the states after each, which is `run` in one program."""

    def update(state, loss):
        state = rule.update(state, loss)
        return state, state

    scan = jax.jit(functools.partial(jax.lax.scan, update))

    def states(losses):
        found = jax.tree.map(np.asarray, scan(rule.init(), jnp.array(losses))[1])
        return [jax.tree.map(lambda a, i=i: a[i], found) for i in range(len(losses))]

    return states


def loop_of_stages(losses, tolerance=1e-6, times=3, phases=1):
    """The small-step loop, statement by statement: epochs trained, kept epoch, restarts."""
    best, kept, restarts, epoch, phase = losses[0], 0, [], 0, 0
    while True:
        repeated = improved = 0
        while True:
            epoch += 1
            if best - losses[epoch] >= tolerance:
                repeated, improved, best, kept = repeated + 1, improved + 1, losses[epoch], epoch
            elif repeated < times:
                repeated += 1
            else:
                break
        if phase == phases - 1 and improved == 0:
            return epoch, kept, restarts
        restarts.append(epoch)
        phase = (phase + 1) % phases


@pytest.mark.parametrize("phases", [1, 2, 3])
def test_rounds_are_the_loop_of_stages(phases):
    """A round is followed by another one if its last phase gains, whatever the others do."""
    scales = (0.5, 0.25, 0.125)[:phases]
    states_of = compiled(rules.rounds(rules.repeats(3), scales))
    for seed in range(20):
        generator = np.random.default_rng(seed)
        losses = np.where(generator.random(300) < 0.3, -0.01, 0.01).cumsum() + 1
        losses[60:] = 9.0
        losses = losses.astype(np.float32).tolist()
        states = states_of(losses)
        epochs, kept, restarts = loop_of_stages(losses, phases=phases)
        stopped = [bool(s.stop) for s in states].index(True)
        states = states[: stopped + 1]
        assert stopped == epochs
        assert np.flatnonzero([bool(s.better) for s in states])[-1] == kept
        assert np.flatnonzero([bool(s.restart) for s in states]).tolist() == restarts
        assert float(states[-1].loss) == min(losses[: epochs + 1])
        for number, state in enumerate(states):
            begun = sum(r <= number for r in restarts)
            assert float(state.scale) == scales[begun % phases]
