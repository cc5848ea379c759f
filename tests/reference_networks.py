"""Forward passes of the dense networks, TabNet and the 2-heads network, apart from the product.

Each is `network(params, stats, x, uniforms, train) -> (outputs, stats)`: weights and statistics by
the paths of their modules, joined by `/`, and for each dropout uniform numbers that decide what is
kept. Only real rows are passed; gradients are JAX's.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np


class Pass:
    """What a pass has read and what it leaves behind."""

    def __init__(self, params, stats, uniforms, train, momentum, epsilon, unbiased):
        self.params, self.stats, self.after = params, stats, dict(stats)
        self.uniforms, self.train = iter(uniforms), train
        self.momentum, self.epsilon, self.unbiased = momentum, epsilon, unbiased

    def batch_norm(self, name, x, momentum=None):
        momentum = momentum or self.momentum
        if self.train:
            n = len(x)
            mean = jnp.mean(x, axis=0)
            var = jnp.mean((x - mean) ** 2, axis=0)
            kept = var * n / (n - 1) if self.unbiased else var
            for kind, value in (("mean", mean), ("var", kept)):
                key = f"{name}/{kind}"
                self.after[key] = (1 - momentum) * self.after[key] + momentum * value
        else:
            mean, var = self.stats[f"{name}/mean"], self.stats[f"{name}/var"]
        scale, bias = self.params[f"{name}/scale"], self.params[f"{name}/bias"]
        return (x - mean) / jnp.sqrt(var + self.epsilon) * scale + bias

    def dropout(self, x, rate):
        if not self.train or not rate:
            return x
        kept = next(self.uniforms)[: len(x)] < 1 - rate
        return x * kept / (1 - rate)

    def dense(self, name, x):
        """A linear layer, weight-normed where it has a direction and a length."""
        p, start = self.params, f"{name}/"
        if f"{start}kernel" in p:
            return x @ p[f"{start}kernel"] + p[f"{start}bias"]
        v = p[f"{start}v"]
        return x @ (p[f"{start}g"] * v / jnp.sqrt(jnp.sum(v**2, axis=0))) + p[f"{start}bias"]


def dense_network(params, stats, x, uniforms, train, *, dropout, layers, activation):
    """Batch norm, dropout, dense; the activation stands between, as PyTorch has it."""
    at = Pass(params, stats, uniforms, train, 0.1, 1e-5, True)
    for number, (layer, rate) in enumerate(zip(layers, dropout, strict=True)):
        x = activation(x) if number else x
        x = at.dropout(at.batch_norm(f"batch_norm{layer}", x), rate)
        x = at.dense(f"dense{layer}", x)
    return x, at.after


@functools.cache
def three_layers(dropout):
    def leaky(x):
        return jnp.where(x > 0, x, 0.01 * x)

    return functools.partial(dense_network, dropout=dropout, layers=(1, 2, 3), activation=leaky)


@functools.cache
def two_layers(dropout):
    def relu(x):
        return jnp.where(x > 0, x, 0)

    return functools.partial(dense_network, dropout=dropout, layers=(1, 3), activation=relu)


def elu(x):
    return jnp.where(x > 0, x, jnp.expm1(jnp.minimum(x, 0)))


def relu(x):
    return jnp.where(x > 0, x, 0)


def selu(x):
    negative = 1.6732632423543772 * jnp.expm1(jnp.minimum(x, 0))
    return 1.0507009873554805 * jnp.where(x > 0, x, negative)


def two_heads(params, stats, inputs, uniforms, train):
    """The 2-heads network by Keras's rules: every join is a concatenation."""
    at = Pass(params, stats, uniforms, train, 0.01, 1e-3, False)

    def block(name, parts, activations, dropout=0.0):
        x = jnp.concatenate(parts, axis=1)
        for index, activation in enumerate(activations):
            x = at.batch_norm(f"{name}/bn{index}", x)
            x = at.dropout(x, dropout) if index == 0 else x
            x = activation(at.dense(f"{name}/dense{index}", x))
        return x

    first, second = inputs
    output1 = block("output1", [first], [elu, elu], 0.2)
    answer1 = block("answer1", [output1, second], [relu], 0.3)
    answer2 = block("answer2", [output1, second, answer1], [elu, relu])
    answer3 = block("answer3", [answer1, answer2], [elu])
    answer3b = block("answer3b", [answer1, answer2, answer3], [relu])
    answer4 = block("answer4", [output1, answer2, answer3, answer3b], [selu, selu])
    return block("head", [answer4], [lambda logits: logits]), at.after


@functools.cache
def image_head(drop_rate):
    """Dropout, dense, ELU, dense."""

    def network(params, stats, x, uniforms, train):
        at = Pass(params, stats, uniforms, train, 0.1, 1e-5, True)
        x = elu(at.dense("head/dense1", at.dropout(x, drop_rate)))
        return at.dense("head/dense2", x), at.after

    return network


@jax.custom_vjp
def entmax15(z):
    """Entmax 1.5 of each row, its threshold found by halving."""
    y = (z - jnp.max(z, axis=1, keepdims=True)) / 2

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        above = jnp.sum(jnp.maximum(y - middle, 0) ** 2, axis=1, keepdims=True) > 1
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    ends = jnp.full((len(z), 1), -1.0), jnp.zeros((len(z), 1))
    return jnp.maximum(y - jax.lax.fori_loop(0, 60, halve, ends)[0], 0) ** 2


def _entmax15_forward(z):
    p = entmax15(z)
    return p, jnp.sqrt(p)


def _entmax15_backward(root, g):
    share = jnp.sum(root * g, axis=1, keepdims=True) / jnp.sum(root, axis=1, keepdims=True)
    return (root * (g - share),)


entmax15.defvjp(_entmax15_forward, _entmax15_backward)


def tabnet(params, stats, x, uniforms, train, *, width=32, virtual=128):
    """One step, two shared and two own layers, entmax; codes in the first two columns."""
    at = Pass(params, stats, uniforms, train, 0.02, 1e-5, True)
    half = float(np.sqrt(np.float32(0.5)))

    def ghost_norm(name, values):
        """Equal parts of at most `virtual` rows, by whose statistics running ones move in turn."""
        if not train:
            return at.batch_norm(name, values)
        count = -(-len(values) // virtual)
        parts = values.reshape(count, len(values) // count, -1)
        mean, var = parts.mean(axis=1), parts.var(axis=1)
        size, share = parts.shape[1], 0.02 * 0.98 ** jnp.arange(count - 1, -1, -1)
        for kind, value in (("mean", mean), ("var", var * size / (size - 1))):
            key = f"{name}/{kind}"
            at.after[key] = 0.98**count * stats[key] + share @ value
        normed = (parts - mean[:, None]) / jnp.sqrt(var + 1e-5)[:, None]
        return normed.reshape(values.shape) * params[f"{name}/scale"] + params[f"{name}/bias"]

    def transformer(name, values):
        for layer in range(4):
            kind, index = ("shared", layer) if layer < 2 else ("independent", layer - 2)
            kernel = f"shared_{index}" if layer < 2 else f"{name}/independent_{index}"
            made = ghost_norm(f"{name}/{kind}_{index}_norm", values @ params[f"{kernel}/kernel"])
            gated = made[:, : 2 * width] / (1 + jnp.exp(-made[:, 2 * width :]))
            values = (values + gated) * half if layer else gated
        return values

    codes = [params[f"embedder/table_{i}"][x[:, i].astype(int)] for i in (0, 1)]
    x = at.batch_norm("initial_norm", jnp.concatenate([*codes, x[:, 2:]], axis=1), 0.01)
    attention = transformer("splitter", x)[:, width:]
    scores = attention @ params["attention_0/projection/kernel"]
    mask = entmax15(ghost_norm("attention_0/norm", scores))
    decision = relu(transformer("transformer_0", mask * x)[:, :width])
    return decision @ params["final/kernel"], at.after
