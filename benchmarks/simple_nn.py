"""The Simple NN beside the same network in PyTorch: the original's way, and two faster ones.

* original: a Dataset of single rows, a DataLoader with the default collation, `optim.Adam`;
* tuned: rows sliced from tensors in memory;
* fused: as tuned, with the fused Adam.

PyTorch trains one network after another, so that its time is that of one, and an epoch is its steps
and a pass over the held-out tenth.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks.network_rows import Network
from benchmarks.row import Peer, Side
from moa_jax.recipes.simple_nn import Config

if TYPE_CHECKING:
    import torch

    from benchmarks.training import Training


class Sizes(NamedTuple):
    """Training rows of a member, width of both hidden layers, and so on."""

    rows: int = 19_753
    features: int = 1_091
    hidden: int = 2048
    outputs: int = 206
    batch: int = 128


CONFIG = Config()
SIZES = {
    "tiny": Sizes(96, 9, 16, 5, 16),
    "quick": Sizes(rows=512),
    "full": Sizes(),
}
# The steps that are timed of several members are fewer.
MOST_STEPS = {"tiny": 4, "quick": 10, "full": 10_000}


def sizes_of(size: str, count: int) -> Sizes:
    sizes = SIZES[size]
    steps = max(1, min(sizes.rows // sizes.batch, MOST_STEPS[size] // count))
    return sizes if count == 1 else sizes._replace(rows=steps * sizes.batch)


@functools.lru_cache(1)
def training(size: str, count: int) -> Training:
    sizes = sizes_of(size, count)
    x, y = _data(sizes)
    return training_on(x, y, Config(hidden=sizes.hidden, batch_size=sizes.batch), count)


def training_on(x: np.ndarray, y: np.ndarray, config: Config, count: int) -> Training:
    """Returns members of the recipe's own network and training."""
    from benchmarks.training import Training, folds_of
    from moa_jax.training.stage import Forward

    stage = config.stage(
        name="benchmark/scored",
        forward=Forward(config.network(y.shape[1]), inner="auto"),
        members=folds_of(len(x), count),
        member_data=np.zeros(count, np.int32),
        shared=x,
        targets=y,
    )
    return Training(stage)


def _data(sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    from benchmarks.training import random_data

    return random_data(sizes.rows, sizes.features, sizes.outputs)


def layer_shapes(sizes: Sizes) -> list[tuple[int, int]]:
    widths = [sizes.features, sizes.hidden, sizes.hidden, sizes.outputs]
    return list(zip(widths[:-1], widths[1:], strict=True))


def flops(sizes: Sizes) -> int:
    """Returns the floating-point operations of the matrix products of a batch, forward."""
    return 2 * sizes.batch * sum(fan_in * fan_out for fan_in, fan_out in layer_shapes(sizes))


class _TorchNetwork:
    """One network in PyTorch, with the original's optimiser and schedule, and its data."""

    def __init__(self, sizes: Sizes, fused: bool | None):
        from torch import nn

        from benchmarks.pytorch import torch

        self.sizes = sizes
        self.x, self.y = _data(sizes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the original's weight norm
            weight_norm = nn.utils.weight_norm
            layers: list[nn.Module] = []
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

    def predict(self, first: int, last: int) -> None:
        """Predicts rows of the data from `first` to before `last`."""
        import torch

        self.network.eval()
        with torch.no_grad():
            for start in range(first, last, self.sizes.batch):
                part = self.x[start : min(start + self.sizes.batch, last)]
                torch.sigmoid(self.network(torch.from_numpy(part))).numpy()
        self.network.train()


class _Rows:
    """Single rows as the original hands them to its loader."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        import torch

        return {
            "x": torch.tensor(self.x[index, :], dtype=torch.float),
            "y": torch.tensor(self.y[index, :], dtype=torch.float),
        }


def original_batches(own: _TorchNetwork) -> Callable[[], Iterator]:
    """Returns what makes an epoch's batches as the original does."""
    import torch

    sizes = own.sizes
    rows = _Rows(own.x[: sizes.rows], own.y[: sizes.rows])
    loader = torch.utils.data.DataLoader(rows, batch_size=sizes.batch, shuffle=True)
    return lambda: ((batch["x"], batch["y"]) for batch in loader)


def sliced_batches(own: _TorchNetwork) -> Callable[[], Iterator]:
    """Returns what makes an epoch's batches of rows sliced from tensors."""
    import torch

    sizes = own.sizes
    inputs, targets = torch.tensor(own.x[: sizes.rows]), torch.tensor(own.y[: sizes.rows])

    def batches() -> Iterator:
        order = torch.randperm(sizes.rows)
        for start in range(0, sizes.rows, sizes.batch):
            rows = order[start : start + sizes.batch]
            yield inputs[rows], targets[rows]

    return batches


WAYS: dict[str, tuple[Callable, bool | None]] = {
    "PyTorch, original": (original_batches, None),
    "PyTorch, tuned": (sliced_batches, False),
    "PyTorch, fused Adam": (sliced_batches, True),
}


def torch_steps(way: str, count: int, validates: bool, size: str) -> Side:
    """Returns the side that takes an epoch's steps of one network, and validates it if asked."""
    make, fused = WAYS[way]
    own = _TorchNetwork(sizes_of(size, count), fused)
    batches = make(own)

    def run() -> None:
        for x, y in batches():
            own.step(x, y)
        if validates:
            own.predict(own.sizes.rows, len(own.x))

    return Side(run, 1 if validates else -(-own.sizes.rows // own.sizes.batch))


def torch_forward(size: str) -> Side:
    own = _TorchNetwork(SIZES[size], None)
    return Side(lambda: own.predict(0, len(own.x)), len(own.x))


def _peers(count: int, validates: bool) -> dict[str, Peer]:
    return {
        way: Peer(
            functools.partial(torch_steps, way, count, validates), ("torch",), "moa-jax[torch]"
        )
        for way in WAYS
    }


NETWORK = Network(
    "simple_nn",
    training,
    lambda size: flops(SIZES[size]),
    _peers,
    {"PyTorch": Peer(torch_forward, ("torch",), "moa-jax[torch]")},
)
ROWS = (*NETWORK.of_one(), *NETWORK.of_several("members", "at once", (5, 10)))
