"""The image networks' reference: its weights, images and labels, and comparison with it."""

from __future__ import annotations

import ast
import functools
import zlib
from pathlib import Path

import jax
import numpy as np
from flax import traverse_util

from moa_jax.training import losses

FOLDER = Path(__file__).parent / "reference"
OUTPUTS, SMOOTHING = 206, 0.001
# Axes of our kernels in PyTorch's order.
AXES = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}


@functools.cache
def keys(name, head="solution"):
    """Names of a state dict with shape and kind, in its order; head `public` or `solution`."""
    parts = (FOLDER / f"cnn_{name}_keys.txt").read_text().split("\n[")[1:]
    public, solution = (
        [line.split("\t") for line in part.splitlines() if line.count("\t") == 2] for part in parts
    )
    if head == "solution":
        public = public[:-2] + solution
    return {key: (ast.literal_eval(shape), kind) for key, shape, kind in public}


def draw(key, shape, gain):
    """The weight of a key by the rule of the reference."""
    n = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    last = key.rsplit(".", 1)[1]
    if last == "weight":
        n = 1 + 0.1 * n if len(shape) == 1 else n * np.sqrt(gain / np.prod(shape[1:]))
    else:
        n = 1 + 0.1 * abs(n) if last == "running_var" else 0.1 * n
    return n.astype(np.float32)


def state_dict(name, gain, head="solution"):
    return {
        key: np.zeros((), np.int64) if kind == "counter" else draw(key, shape, gain)
        for key, (shape, kind) in keys(name, head).items()
    }


def images(rows, height, width):
    rng = np.random.default_rng(100000 + 1000 * height + width)
    u = rng.random((rows, 3, height, width))
    kept = rng.random((rows, 1, height, width)) < 0.3
    return np.float32(u * kept * np.linspace(0.5, 1.0, rows)[:, None, None, None])


def labels(rows):
    return np.random.default_rng(4242).random((rows, OUTPUTS)) < 0.05


def cast(tree, dtype):
    return jax.tree.map(lambda a: np.asarray(a, dtype), tree)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def to_nhwc(array):
    return array.transpose(0, 2, 3, 1)


def to_nchw(array):
    return array.transpose(0, 3, 1, 2)


def to_torch(kernel):
    return np.transpose(kernel, AXES[np.ndim(kernel)])


def infer(network, variables, x):
    """Returns logits and all intermediates, those of modules too."""
    logits, captured = network.apply(
        variables, x, capture_intermediates=True, mutable=["intermediates"]
    )
    return logits, captured["intermediates"]


def training_step(network, variables, x, y, mask=None, dropout=None):
    """Returns the loss of a step, gradients of parameters and images, and what it leaves."""

    def objective(params, x):
        logits, updated = network.apply(
            {**variables, "params": params},
            x,
            mask=mask,
            train=True,
            mutable=["batch_stats", "intermediates"],
            rngs=dropout,
        )
        weight = np.ones(x.shape[0], bool) if mask is None else mask
        loss = losses.binary_cross_entropy(logits, losses.smoothed(y, SMOOTHING), weight)
        return loss, {"logits": logits, **updated}

    (loss, found), gradients = jax.value_and_grad(objective, (0, 1), has_aux=True)(
        variables["params"], x
    )
    return loss, *gradients, found


# Deep networks take longer to compile than to run.
compiled_infer, compiled_step = (jax.jit(f, static_argnums=0) for f in (infer, training_step))
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
quick_infer, quick_step = (quick(f, static_argnums=0) for f in (infer, training_step))


class Reference:
    """A file of the reference and the same arrays by our network, under the same names."""

    def __init__(self, name, mode, height, width, convert):
        self.name, self.mode = name, mode
        self.stored = dict(np.load(FOLDER / f"cnn_{name}_{mode}_{height}x{width}.npz"))
        self.found, self.unmatched = {}, set(self.stored)
        self.convert = convert
        rows = int(self.stored["input.shape"][0])
        self.images, self.labels = images(rows, height, width), labels(rows)
        self.variables = convert(state_dict(name, float(self.stored["gain"])))
        np.testing.assert_array_equal(self.stored["input.shape"], self.images.shape)
        np.testing.assert_allclose(
            self.images.sum(dtype=np.float64), self.stored["input.sum"], rtol=1e-12
        )
        if mode == "train":
            assert self.labels.sum() == self.stored["labels.sum"]
        else:
            np.testing.assert_array_equal(self.images[0, :, :4, :5], self.stored["input.first"])

    def infer(self, network, dtype, infer=compiled_infer):
        variables, x = cast((self.variables, to_nhwc(self.images)), dtype)
        return jax.tree.map(np.asarray, infer(network, variables, x))

    def train(self, network, training_step=compiled_step):
        variables, x = cast((self.variables, to_nhwc(self.images)), np.float64)
        step = training_step(network, variables, x, self.labels.astype(np.float64))
        return jax.tree.map(np.asarray, step)

    @functools.cached_property
    def torch_names(self):
        """PyTorch's name of every variable: numbers in place of arrays tell which went where."""
        learned = [key for key, (_, kind) in keys(self.name).items() if kind != "counter"]
        numbers = {key: np.full(keys(self.name)[key][0], float(i)) for i, key in enumerate(learned)}
        converted = traverse_util.flatten_dict(self.convert(numbers))
        return {path: learned[int(leaf.flat[0])] for path, leaf in converted.items()}

    def by_torch_name(self, collection, tree):
        flat = traverse_util.flatten_dict({collection: tree})
        return {self.torch_names[path]: to_torch(leaf) for path, leaf in flat.items()}

    def add_probe(self, name, array):
        """Adds what the reference keeps of an activation [rows, height, width, channels]."""
        found = {"shape": array.shape, "mean": array.mean(), "std": array.std()}
        if array.ndim == 4:
            array = to_nchw(array)
            found |= {
                "shape": array.shape,
                "first": array[0, :6, :4, :5],
                "last": array[-1, -6:, -4:, -5:],
                "chan_mean": array.mean((2, 3)),
            }
        else:
            found |= {"first": array[0, :24], "last": array[-1, -24:]}
        self.found |= {f"{name}.{key}": value for key, value in found.items()}

    def add_step(self, loss, gradients, image_gradients, left):
        """Adds loss, gradients and statistics of a training step."""
        logits = left["logits"]
        plain = np.maximum(logits, 0) - logits * self.labels + np.log1p(np.exp(-abs(logits)))
        self.found |= {"loss.smooth_bce": loss, "loss.plain_bce": plain.mean()}

        gradients = self.by_torch_name("params", gradients)
        norms = {name: np.linalg.norm(array.ravel()) for name, array in gradients.items()}
        names = self.stored["grad_norm.names"].tolist()
        total = np.linalg.norm(list(norms.values()))
        self.found |= {
            "grad_norm.names": np.array(names if norms.keys() == set(names) else sorted(norms)),
            "grad_norm.values": np.array([norms[name] for name in names]),
            "grad_norm.total": total,
            "grad_norm.structural_zero": np.array([norms[name] for name in names]) < 1e-13 * total,
        }
        for name, array in gradients.items():
            self.found |= (
                {f"grad.{name}": array, f"grad8x8.{name}": array[:8, :8]}
                if (array.ndim > 1)
                else {f"grad.{name}": array}
            )

        image_gradients = to_nchw(image_gradients)
        self.found |= {
            "grad_input.norm": np.linalg.norm(image_gradients.ravel()),
            "grad_input.first": image_gradients[0, :, :4, :5],
            "grad_input.last": image_gradients[-1, :, -4:, -5:],
        }

        statistics = self.by_torch_name("batch_stats", left["batch_stats"])
        self.found |= {f"stat.{name}": array for name, array in statistics.items()}
        names = self.stored["stat_all.names"].tolist()
        self.found["stat_all.names"] = np.array(names)
        for kind in ("mean", "var"):
            means = [statistics[f"{name}.running_{kind}"].mean() for name in names]
            self.found[f"stat_all.mean_of_running_{kind}"] = np.array(means)

    def check(self, *prefixes, tolerance=1e-9):
        """Compares the arrays of these names; 1e-6 for those that are stored in float32."""
        names = [name for name in self.stored if name.startswith(prefixes)]
        assert names
        self.unmatched -= set(names)
        for name in names:
            expected, found = self.stored[name], self.found[name]
            if expected.dtype.kind not in "fc":
                np.testing.assert_array_equal(found, expected, err_msg=name)
                continue
            rtol = max(tolerance, 1e-6 if expected.dtype == np.float32 else 0)
            # Gradients that cancel are rounding errors of both programs.
            floor = 1e-13 * self.stored["grad_norm.total"] if name.startswith("grad") else 0
            scale = np.abs(expected).max()
            np.testing.assert_allclose(
                found, expected, rtol=rtol, atol=max(rtol * scale, floor), err_msg=name
            )

    def check_all_compared(self):
        """Nothing of the reference was left out but its inputs and its own float32 errors."""
        assert all(name.startswith(("input", "gain", "fp32")) for name in self.unmatched)
