"""Steps of a recipe's stage with given dropout masks, and the same steps by plain numpy."""

import dataclasses
import functools

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from moa_jax.training.layout import Settings
from moa_jax.training.loop import StageRun, stage_programs
from moa_jax.training.members import Member
from moa_jax.training.parallel import Devices


def flat(tree):
    """Arrays by the path of their modules, joined by `/`."""
    return {k: np.asarray(v) for k, v in traverse_util.flatten_dict(tree, sep="/").items()}


def member_rows(total, valid):
    """Two members of one seed, who train on all rows but their own `valid` ones."""
    blocks = [np.arange(total)[:valid], np.arange(total)[-valid:]]
    return [
        Member(11, fold, np.setdiff1d(np.arange(total), rows), rows, rows)
        for fold, rows in enumerate(blocks)
    ]


class Masks:
    """Uniform numbers in place of those that dropout draws, by the order of its layers.

    Attributes:
      rates: rate of each draw, in the order of the network's layers.
    """

    def __init__(self, monkeypatch, draws):
        self.draws, self.rates, self._count = draws, [], 0
        monkeypatch.setattr(jax.random, "bernoulli", self._bernoulli)

    @staticmethod
    def uniforms(draw, shape):
        return np.random.default_rng([draw, *shape]).random(shape)

    def _bernoulli(self, key, p, shape):
        draw = self._count % self.draws
        self._count += 1
        self.rates = [*self.rates[: draw or 0], round(1 - float(p), 12)]
        return self.uniforms(draw, shape) < p


@dataclasses.dataclass
class Epoch:
    """What an epoch of all members left: losses of its steps, and state and report at its end."""

    step_losses: np.ndarray
    batches: list
    state: object
    report: object


class Trajectory:
    """The first epochs of a stage, step by step, as a run takes them.

    Attributes:
      start: the state before the first step, [members, ...].
      epochs: an `Epoch` each.
    """

    def __init__(self, stage, folder, epochs, steps_before=0):
        settings = Settings(Devices.available("vmap"), 0, len(stage.members), steps_per_call=1)
        run = StageRun(stage, folder, settings, None)
        # Steps are few: what compiling costs counts, not what running does.
        inner = settings.devices.inner(stage.forward.inner)
        run.programs = stage_programs(stage, settings.devices, inner, runs_once=True)
        group = run.group(0)
        state = group.init()
        if steps_before:
            # As if so many steps had been taken that left weights and moments alone.
            state = state._replace(opt=jax.tree.map(_counting_from(steps_before), state.opt))

        def seen(tree):
            return jax.tree.map(np.array, group.slots.unpad(tree))

        self.stage, self.epochs, self.start = stage, [], seen(state)
        for epoch in range(epochs):
            losses, batches, before = [], [], 0.0
            for call in range(group.layout.calls_per_epoch):
                batches.append(group.batches(epoch, call))
                state = group.train_steps(state, epoch, call)
                total = np.array(group.slots.unpad(state.epoch_loss))
                losses.append(total - before)
                before = total
            state, report = group.validate(state)
            self.epochs.append(Epoch(np.array(losses), batches, seen(state), report))

    @staticmethod
    def member(tree, index):
        """What one member has of a tree of all."""
        return jax.tree.map(lambda a: a[index], tree)

    def batch_rows(self, epoch, member):
        """The real rows of each step of an epoch."""
        tables = self.epochs[epoch].batches
        pairs = [(t.rows[member, 0], t.counts[member, 0]) for t in tables]
        return [rows[:count] for rows, count in pairs if count]


def _counting_from(steps):
    return lambda leaf: leaf + steps if np.issubdtype(leaf.dtype, np.integer) else leaf


quickly_compiled = functools.partial(
    jax.jit, static_argnums=(0, 1), compiler_options={"xla_backend_optimization_level": 0}
)


@quickly_compiled
def _gradient(network, loss, params, stats, x, targets, uniforms):
    def objective(params):
        outputs, after = network(params, stats, x, uniforms, True)
        return loss(outputs, targets), after

    return jax.value_and_grad(objective, has_aux=True)(params)


@quickly_compiled
def _evaluated(network, loss, params, stats, x, targets):
    return loss(network(params, stats, x, (), False)[0], targets)


class Reference:
    """One member, trained apart.

    Attributes:
      params, stats: weights and statistics by path.
      norms: gradient norm of every step, where gradients may be clipped.
    """

    def __init__(self, start, network, loss, optimizer, uniforms=(), steps_before=0):
        self.network, self.loss, self.uniforms = network, loss, uniforms
        self.optimizer = optimizer(flat(start.params), steps_before)
        self.stats = flat(start.batch_stats)

    @property
    def params(self):
        return self.optimizer.params

    def gradients(self, x, targets):
        """Returns loss and gradients, and moves the statistics."""
        (loss, stats), gradients = _gradient(
            self.network, self.loss, self.params, self.stats, x, targets, self.uniforms
        )
        self.stats = {name: np.asarray(value) for name, value in stats.items()}
        return float(loss), {name: np.asarray(g) for name, g in gradients.items()}

    def losses(self, batches):
        """Losses of pairs of inputs and targets, in inference."""
        return [
            float(_evaluated(self.network, self.loss, self.params, self.stats, x, targets))
            for x, targets in batches
        ]


def moved_alike(found, expected, start, tolerance=1e-9):
    """Asserts that weights went from `start` to the same places, relative to how far they went."""
    assert found.keys() == expected.keys() == start.keys()
    for name, value in expected.items():
        way = value - start[name]
        rounding = 4 * np.finfo(value.dtype).eps * np.abs(value).max()
        np.testing.assert_allclose(
            found[name] - start[name],
            way,
            rtol=0,
            atol=tolerance * np.abs(way).max() + rounding,
            err_msg=name,
        )


def alike(found, expected, tolerance=1e-10):
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=0)


def followed(found, index, reference, inputs, targets, take_step, valid_loss):
    """Takes a member's steps again, compares all that they leave, and yields epoch by epoch.

    Args:
      found: the `Trajectory`.
      index: which member.
      reference: the `Reference` that trains beside it.
      inputs, targets: from rows to the network's inputs, and what it is trained on.
      take_step: from gradients, epoch and step to the optimiser's step.
      valid_loss: the loss that an epoch is judged by.

    Yields:
      The loss, and the member's state after the epoch.
    """
    start = flat(found.member(found.start, index).params)
    for number, epoch in enumerate(found.epochs):
        state, report = found.member(epoch.state, index), found.member(epoch.report, index)
        for step, rows in enumerate(found.batch_rows(number, index)):
            loss, gradients = reference.gradients(inputs(rows), targets[rows])
            alike(epoch.step_losses[step, index], loss)
            take_step(gradients, number, step)
        loss = valid_loss()
        alike(report.valid_loss, loss)
        moved_alike(flat(state.params), reference.params, start)
        for key, value in flat(state.batch_stats).items():
            expected = reference.stats[key]
            np.testing.assert_allclose(
                value, expected, rtol=0, atol=1e-9 * np.abs(expected).max(), err_msg=key
            )
        yield loss, state


def check_selected(states, losses, kept, start):
    """The kept weights are those of the strictly lowest loss so far."""
    assert [s.selected.epoch for s in states] == [
        np.argmin(losses[: i + 1]) + 1 for i in range(len(losses))
    ]
    moved_alike(flat(states[-1].selected.params), kept[np.argmin(losses)], start)


def check_shared_start(found, stage):
    """All folds of a seed start alike, draw alike and see their rows in one order."""
    for tree in (found.start.params, found.start.key):
        jax.tree.map(lambda a: np.testing.assert_array_equal(a[0], a[1]), tree)
    orders = [
        np.searchsorted(member.train_rows, np.concatenate(found.batch_rows(0, index)))
        for index, member in enumerate(stage.members)
    ]
    np.testing.assert_array_equal(*orders)


class Rows:
    """Features that are the rows of a matrix."""

    predictions_of = None

    @staticmethod
    def inputs(table, member_data, rows, key, train):
        return (table[rows],)


class WithHead(nn.Module):
    """The head of an image network, straight on its inputs."""

    head: nn.Module

    @nn.compact
    def __call__(self, x, mask=None, train=False):
        return self.head(x, train)
