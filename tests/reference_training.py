"""Losses, optimisers, schedules and rules of the originals in plain numpy, for trajectories.

Nothing of the package is used: every number is written here as the originals have it.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np


def cosine_between(start, end, share):
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def one_cycle(step, total, pct_start, rate=1e-2):
    """Learning rate and beta 1 of PyTorch's OneCycleLR with div_factor 1e3."""
    up = pct_start * total - 1
    down = total - 1 - up
    if step <= up:
        return cosine_between(rate / 1e3, rate, step / up), cosine_between(0.95, 0.85, step / up)
    share = (step - up) / down
    return cosine_between(rate, rate / 1e7, share), cosine_between(0.85, 0.95, share)


def clipped(gradients, largest, epsilon):
    """All gradients times min(1, largest / (norm + epsilon)), and their norm."""
    norm = math.sqrt(sum(float(np.sum(np.square(g))) for g in gradients.values()))
    factor = min(1.0, largest / (norm + epsilon))
    return {name: factor * g for name, g in gradients.items()}, norm


class Optimizer:
    """Weights and two moments, by name; `steps` counts what was taken before."""

    def __init__(self, params, steps=0):
        self.params = {name: np.array(value) for name, value in params.items()}
        self.first = {name: np.zeros_like(value) for name, value in self.params.items()}
        self.second = {name: np.zeros_like(value) for name, value in self.params.items()}
        self.steps = steps

    def moments(self, name, gradient, beta1, beta2=0.999):
        self.first[name] = beta1 * self.first[name] + (1 - beta1) * gradient
        self.second[name] = beta2 * self.second[name] + (1 - beta2) * gradient**2
        return self.first[name], self.second[name]


class TorchAdam(Optimizer):
    """`torch.optim.Adam`: L2 in the gradient, the current beta 1 in the correction."""

    def step(self, gradients, rate, beta1=0.9, decay=1e-5, beta2=0.999, epsilon=1e-8):
        self.steps += 1
        for name, value in self.params.items():
            m, v = self.moments(name, gradients[name] + decay * value, beta1, beta2)
            root = np.sqrt(v) / math.sqrt(1 - beta2**self.steps) + epsilon
            self.params[name] = value - rate / (1 - beta1**self.steps) * m / root


class KerasAdam(Optimizer):
    """TensorFlow's Adam: epsilon beside the uncorrected root, no decay."""

    def step(self, gradients, rate, beta1=0.9, beta2=0.999, epsilon=1e-7):
        self.steps += 1
        rate *= math.sqrt(1 - beta2**self.steps) / (1 - beta1**self.steps)
        for name, value in self.params.items():
            m, v = self.moments(name, gradients[name], beta1, beta2)
            self.params[name] = value - rate * m / (np.sqrt(v) + epsilon)


class Adadelta(Optimizer):
    """Keras's Adadelta; the moments are those of the gradients and of the steps."""

    def step(self, gradients, rate, rho=0.95, epsilon=1e-7):
        for name, value in self.params.items():
            g = gradients[name]
            self.first[name] = rho * self.first[name] + (1 - rho) * g**2
            move = np.sqrt(self.second[name] + epsilon) / np.sqrt(self.first[name] + epsilon) * g
            self.second[name] = rho * self.second[name] + (1 - rho) * move**2
            self.params[name] = value - rate * move


class RAdam(Optimizer):
    """RAdam of torch-optimizer 0.0.1a17: decay first and apart, epsilon beside the raw root."""

    def step(self, gradients, rate, decay=1e-6, beta1=0.9, beta2=0.999, epsilon=1e-8):
        self.steps += 1
        t, longest = self.steps, 2 / (1 - beta2) - 1
        length = longest - 2 * t * beta2**t / (1 - beta2**t)
        for name, value in self.params.items():
            m, v = self.moments(name, gradients[name], beta1, beta2)
            value = value - rate * decay * value
            if length >= 5:
                rectified = (length - 4) / (longest - 4) * (length - 2) / length
                rectified *= longest / (longest - 2)
                size = rate * math.sqrt((1 - beta2**t) * rectified) / (1 - beta1**t)
                self.params[name] = value - size * m / (np.sqrt(v) + epsilon)
            else:
                self.params[name] = value - rate / (1 - beta1**t) * m


def cross_entropy(logits, targets):
    """Mean binary cross-entropy of logits."""
    return -jnp.mean(
        targets * jax.nn.log_sigmoid(logits) + (1 - targets) * jax.nn.log_sigmoid(-logits)
    )


def cross_entropy_epsilon(logits, targets):
    """The same by way of probabilities, with 1e-15 inside the logarithms."""
    p = 1 / (1 + jnp.exp(-logits))
    return -jnp.mean(targets * jnp.log(p + 1e-15) + (1 - targets) * jnp.log(1 - p + 1e-15))


def smoothed(targets, smoothing):
    return np.where(targets > 0.5, 1 - smoothing / 2, smoothing / 2)


class Plateau:
    """Keras's ReduceLROnPlateau(factor=0.5, patience=4), min_delta 1e-4."""

    def __init__(self):
        self.scale, self.best, self.waited = 1.0, math.inf, 0

    def update(self, loss):
        if loss < self.best - 1e-4:
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited >= 4:
            self.scale, self.waited = self.scale / 2, 0


class EarlyStopping:
    """Ends after `patience` epochs in a row without a loss lower by more than `min_delta`."""

    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.waited = math.inf, 0

    def update(self, loss):
        """Returns whether the epoch is the best so far, and whether training ends."""
        better = loss + self.min_delta < self.best
        self.best, self.waited = (loss, 0) if better else (self.best, self.waited + 1)
        return better, bool(self.patience) and self.waited >= self.patience


class FreezeLoop:
    """The last stage of the 2-heads network, whose frozen phases change nothing.

    Attributes:
      kept: weights and statistics of the lowest loss so far.
      ended: whether the loop is over.
      restarts: phases that ended with a gain.
    """

    def __init__(self, reference, loss):
        self.reference, self.best, self.ended, self.restarts = reference, loss, False, 0
        self.kept = dict(reference.params), dict(reference.stats)
        self.repeated = self.improved = 0

    def close(self, loss_of_rows):
        """Closes an epoch and returns its loss."""
        loss = loss_of_rows()
        if self.best - loss >= 1e-6:
            self.repeated, self.improved, self.best = self.repeated + 1, self.improved + 1, loss
            self.kept = dict(self.reference.params), dict(self.reference.stats)
        elif self.repeated < 3:
            self.repeated += 1
        elif not self.improved:
            self.ended = True
        else:
            params, stats = self.kept
            self.reference.optimizer = type(self.reference.optimizer)(params)
            self.reference.stats = dict(stats)
            self.repeated = self.improved = 0
            self.restarts += 1
        return loss
