"""Training of the Simple NN, side by side with the same networks in PyTorch.

    python benchmarks/simple_nn.py [--steps=20] [--repetitions=3]

Three ways in PyTorch, each one network after another:

* original: a Dataset of single rows, a DataLoader with the default collation, `optim.Adam`;
* tuned: rows sliced from tensors in memory;
* fused: as tuned, with the fused Adam.

An epoch is extrapolated from `--steps` steps; an epoch of training only, no validation.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from moa_jax.recipes import simple_nn
from moa_jax.training import members
from moa_jax.training.layout import Settings
from moa_jax.training.loop import StageRun
from moa_jax.training.parallel import Devices
from moa_jax.training.stage import Forward
from moa_jax.training.trees import Batches

try:
    import torch
    from torch import nn
except ImportError:
    raise SystemExit(
        "torch: expected for the comparison, not installed; pip install moa-jax[torch]"
    ) from None

FOLDS = 5
CONFIG = simple_nn.Config()
# Adam reads parameter, gradient and two moments and writes all but the gradient.
ADAM_PASSES = 7


def main(arguments: list[str] | None = None) -> None:
    sizes = _sizes(arguments)
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    # On one core its own time is the same as the wall's, without that of other processes.
    clock = time.process_time if threads == 1 else time.perf_counter
    x, y = random_data(sizes)
    steps_per_epoch = members.num_batches(sizes.rows, sizes.batch)
    ways = {
        "moa_jax": (moa_jax_steps(x, y, sizes), FOLDS * sizes.steps),
        "original": (original_steps(x, y, sizes), sizes.steps),
        "tuned": (tuned_steps(x, y, sizes, fused=False), sizes.steps),
        "fused": (tuned_steps(x, y, sizes, fused=True), sizes.steps),
    }
    for run, _ in ways.values():
        run()
    wall = {name: [] for name in ways}
    processor = {name: [] for name in ways}
    rates: dict[str, list[float]] = {}
    for _ in range(sizes.repetitions):
        for name, (run, member_steps) in ways.items():
            start, start_processor = time.perf_counter(), time.process_time()
            run()
            wall[name].append((time.perf_counter() - start) / member_steps)
            processor[name].append((time.process_time() - start_processor) / member_steps)
        for name, rate in machine_rates(sizes, clock):
            rates.setdefault(name, []).append(rate)

    print(f"{threads} threads, jax {jax.__version__}, torch {torch.__version__}")
    print(f"median of {sizes.repetitions} x {sizes.steps} steps, per member")
    print(f"{'':10}{'ms/step':>10}{'s/epoch':>10}{'ratio':>8}{'CPU ms':>10}{'ratio':>8}")
    for name in ways:
        step, work = np.median(wall[name]), np.median(processor[name])
        ratio = np.median(np.divide(wall[name], wall["moa_jax"]))
        work_ratio = np.median(np.divide(processor[name], processor["moa_jax"]))
        print(
            f"{name:10}{step * 1e3:10.1f}{step * steps_per_epoch:10.2f}{ratio:8.2f}"
            f"{work * 1e3:10.1f}{work_ratio:8.2f}"
        )
    steps = processor["moa_jax"] if threads == 1 else wall["moa_jax"]
    _print_bounds(sizes, min(steps), rates)


def _sizes(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default, meaning in (
        ("rows", 17_558, "training rows of a member"),
        ("features", 1_091, "inputs"),
        ("hidden", CONFIG.hidden, "width of both hidden layers"),
        ("outputs", 206, "targets"),
        ("batch", CONFIG.batch_size, "rows per step"),
        ("steps", 20, "steps per repetition"),
        ("repetitions", 3, "repetitions, of which the median counts"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{meaning} ({default})")
    return parser.parse_args(arguments)


def _print_bounds(sizes: argparse.Namespace, step: float, rates: dict[str, list[float]]) -> None:
    stream = max(rates.pop("stream"))
    best = max(rates, key=lambda name: max(rates[name]))
    peak = max(rates[best])
    flops, moved = step_flops(sizes), ADAM_PASSES * 4 * num_kernel_parameters(sizes)
    matmul, adam = flops / peak, moved / stream
    print(f"matrix-product peak {peak / 1e9:.0f} GFLOP/s ({best}); stream {stream / 1e9:.0f} GB/s")
    print(
        f"a step is {flops / 1e9:.2f} GFLOP of matrix products: at the peak {matmul * 1e3:.1f} ms, "
        f"{matmul / step:.0%} of our best"
    )
    print(
        f"Adam moves {moved / 1e6:.0f} MB: at the stream {adam * 1e3:.1f} ms; "
        f"both at their peaks are {(matmul + adam) / step:.0%} of our best step"
    )


def random_data(sizes: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Returns inputs and rare 0/1 targets of so many rows that a fold leaves `rows` to train on."""
    generator = np.random.default_rng(0)
    rows = -(-sizes.rows * FOLDS // (FOLDS - 1))
    x = generator.normal(size=(rows, sizes.features)).astype(np.float32)
    y = (generator.random((rows, sizes.outputs)) < 0.004).astype(np.float32)
    return x, y


def layer_shapes(sizes: argparse.Namespace) -> list[tuple[int, int]]:
    widths = [sizes.features, sizes.hidden, sizes.hidden, sizes.outputs]
    return list(zip(widths[:-1], widths[1:], strict=True))


def num_kernel_parameters(sizes: argparse.Namespace) -> int:
    return sum(fan_in * fan_out for fan_in, fan_out in layer_shapes(sizes))


def step_flops(sizes: argparse.Namespace) -> int:
    """Returns the floating-point operations of a step's matrix products: forward, twice back."""
    return 3 * 2 * sizes.batch * num_kernel_parameters(sizes)


def machine_rates(
    sizes: argparse.Namespace, clock: Callable[[], float]
) -> Iterator[tuple[str, float]]:
    """Yields names and rates: FLOP/s of the network's matrix products, and B/s of `a + 2 b`."""

    def seconds(run: Callable[[], None], count: int = 5) -> float:
        run()
        times = []
        for _ in range(count):
            start = clock()
            run()
            times.append(clock() - start)
        return min(times)

    products = {
        "forward": lambda x, w, d: x @ w,
        "gradient of inputs": lambda x, w, d: d @ w.T,
        "gradient of kernel": lambda x, w, d: x.T @ d,
    }
    for fan_in, fan_out in layer_shapes(sizes):
        flops = 2 * sizes.batch * fan_in * fan_out
        shapes = ((sizes.batch, fan_in), (fan_in, fan_out), (sizes.batch, fan_out))
        for name, product in products.items():
            arrays = [jnp.ones(shape, jnp.float32) for shape in shapes]
            compiled = jax.jit(product)
            rate = flops / seconds(lambda f=compiled, a=arrays: f(*a).block_until_ready())
            yield f"XLA, {name}, {fan_in} x {fan_out}", rate
            tensors = [torch.ones(shape) for shape in shapes]
            rate = flops / seconds(lambda f=product, t=tensors: f(*t))
            yield f"torch, {name}, {fan_in} x {fan_out}", rate

    size = max(2**16, 4 * sizes.hidden**2)
    triad = jax.jit(lambda a, b: a + 2 * b, donate_argnums=0)
    state = [jnp.ones(size, jnp.float32)]
    other = jnp.ones(size, jnp.float32)

    def run():
        state[0] = triad(state[0], other).block_until_ready()

    yield "stream", 3 * 4 * size / seconds(run)


def moa_jax_steps(x: np.ndarray, y: np.ndarray, sizes: argparse.Namespace) -> Callable[[], None]:
    """Returns a function that runs the package's train program: `steps` of every member."""
    fold_of_row = np.arange(len(x)) % FOLDS
    config = simple_nn.Config(hidden=sizes.hidden, batch_size=sizes.batch)
    stage = config.stage(
        name="benchmark/scored",
        forward=Forward(config.network(sizes.outputs), inner="auto"),
        members=tuple(members.cross_validation({0: fold_of_row}, base_seed=0)),
        member_data=np.zeros(FOLDS, np.int32),
        shared=x,
        targets=y,
    )
    settings = Settings(Devices.available("vmap"), members_at_once=FOLDS)
    group = StageRun(stage, Path(), settings, None).group(0)
    used = sizes.steps * sizes.batch
    orders = [members.epoch_order(0, member, 0, True)[:used] for member in stage.members]
    table = members.stacked_tables(orders, sizes.batch, sizes.steps)
    state, batches = group.init(), group.put(Batches(*table))

    def run():
        nonlocal state
        state = group.take_steps(state, batches)
        jax.block_until_ready(state)

    return run


class _TorchTraining:
    """One network of the Simple NN in PyTorch, with the original's optimiser and schedule."""

    def __init__(self, sizes: argparse.Namespace, fused: bool | None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the original's weight norm
            weight_norm = nn.utils.weight_norm
            layers = []
            for index, (fan_in, fan_out) in enumerate(layer_shapes(sizes)):
                layers.append(nn.BatchNorm1d(fan_in))
                if rate := CONFIG.dropout[index]:
                    layers.append(nn.Dropout(rate))
                linear = nn.Linear(fan_in, fan_out)
                layers.append(linear if index == 1 else weight_norm(linear))
                if index < 2:
                    layers.append(nn.LeakyReLU())
        self.network = nn.Sequential(*layers)
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), weight_decay=CONFIG.weight_decay, fused=fused
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=CONFIG.max_learning_rate,
            div_factor=1e3,
            pct_start=CONFIG.pct_start,
            total_steps=10**6,
        )
        self.loss = nn.BCEWithLogitsLoss()

    def step(self, x: torch.Tensor, y: torch.Tensor) -> float:
        self.optimizer.zero_grad()
        smoothing = CONFIG.label_smoothing
        loss = self.loss(self.network(x), y * (1 - smoothing) + 0.5 * smoothing)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss.item()


class _Rows(torch.utils.data.Dataset):
    """Single rows as the original hands them to its loader."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return {
            "x": torch.tensor(self.x[index, :], dtype=torch.float),
            "y": torch.tensor(self.y[index, :], dtype=torch.float),
        }


def original_steps(x: np.ndarray, y: np.ndarray, sizes: argparse.Namespace) -> Callable[[], None]:
    """Returns a function that runs `steps` of one network as the original does."""
    training = _TorchTraining(sizes, fused=None)
    used = sizes.steps * sizes.batch
    rows = _Rows(x[: sizes.rows], y[: sizes.rows])
    sampler = torch.utils.data.RandomSampler(rows, num_samples=used)
    loader = torch.utils.data.DataLoader(rows, batch_size=sizes.batch, sampler=sampler)

    def run():
        for batch in loader:
            training.step(batch["x"], batch["y"])

    return run


def tuned_steps(
    x: np.ndarray, y: np.ndarray, sizes: argparse.Namespace, fused: bool
) -> Callable[[], None]:
    """Returns a function that runs `steps` of one network on rows sliced from tensors."""
    training = _TorchTraining(sizes, fused)
    inputs, targets = torch.tensor(x[: sizes.rows]), torch.tensor(y[: sizes.rows])

    def run():
        order = torch.randperm(sizes.rows)
        for start in range(0, sizes.steps * sizes.batch, sizes.batch):
            rows = order[start : start + sizes.batch]
            training.step(inputs[rows], targets[rows])

    return run


if __name__ == "__main__":
    main()
