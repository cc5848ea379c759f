"""TabNet beside pytorch-tabnet: steps, epochs and predictions at the winner's sizes.

pytorch-tabnet takes its own steps, one network after another: `library` with its Dataset and
DataLoader, `tuned` on rows sliced from tensors. From its version 4 on it also multiplies every mask
with a matrix of column groups, an identity here; 3.1.1 is the fairer opponent:
`pip install pytorch-tabnet==3.1.1`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.network_rows import Network
from benchmarks.row import Peer, Side
from moa_jax.recipes.nn_tabnet import TabNetConfig

if TYPE_CHECKING:
    from pytorch_tabnet.tab_model import TabNetRegressor

    from benchmarks.training import Training
    from moa_jax.models.tabnet import TabNet
    from moa_jax.training.members import Member
    from moa_jax.training.stage import Stage

CODES = {"cat_idxs": (0, 1), "cat_dims": (3, 2), "cat_emb_dim": (1, 1)}
CONFIG = TabNetConfig()


class Sizes(NamedTuple):
    """Training rows of a member, inputs, targets and rows per step."""

    rows: int = 19_753
    features: int = 1_497
    outputs: int = 206
    batch: int = CONFIG.batch_size


SIZES = {"tiny": Sizes(96, 9, 5, 32), "quick": Sizes(rows=2 * CONFIG.batch_size), "full": Sizes()}


def sizes_of(size: str, count: int) -> Sizes:
    """Returns the sizes for so many members: the steps that are timed of several are fewer."""
    sizes = SIZES[size]
    most = -(-sizes.rows // count) if size == "full" else sizes.rows
    return sizes._replace(rows=max(sizes.batch, most // sizes.batch * sizes.batch))


def network(config: TabNetConfig, outputs: int) -> TabNet:
    from moa_jax.models.tabnet import TabNet

    return TabNet(
        outputs,
        config.n_d,
        config.n_a,
        config.n_steps,
        virtual_batch_size=config.virtual_batch_size,
        mask_type=config.mask_type,
        **CODES,
    )


def our_stage(
    x: np.ndarray, y: np.ndarray, config: TabNetConfig, of: tuple[Member, ...], inner: str = "loop"
) -> Stage:
    """Returns the recipe's stage on given data, without the network before it."""
    import jax

    from moa_jax.training.stage import Forward

    forward = Forward(
        network(config, y.shape[1]), probabilities=lambda out: jax.nn.sigmoid(out[0]), inner=inner
    )
    return config.stage(name="benchmark/scored", forward=forward, members=of, shared=x, targets=y)


def data(sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    from benchmarks.training import random_data

    x, y = random_data(sizes.rows, sizes.features, sizes.outputs)
    x[:, :2] = np.random.default_rng(0).integers(0, 2, (len(x), 2))
    return x, y


@functools.lru_cache(1)
def training(inner: str, size: str, count: int) -> Training:
    from benchmarks.training import Training, folds_of

    sizes = sizes_of(size, count)
    x, y = data(sizes)
    config = dataclasses.replace(CONFIG, batch_size=sizes.batch)
    return Training(our_stage(x, y, config, folds_of(len(x), count), inner))


@functools.cache
def flops(sizes: Sizes) -> float:
    from benchmarks.training import forward_flops

    return forward_flops(network(CONFIG, sizes.outputs), [(sizes.batch, sizes.features)])


def library_network(config: TabNetConfig, outputs: int, seed: int) -> TabNetRegressor:
    """Returns the library's estimator with the same settings, not built yet."""
    from pytorch_tabnet.tab_model import TabNetRegressor

    from benchmarks.pytorch import torch

    return TabNetRegressor(
        n_d=config.n_d,
        n_a=config.n_a,
        n_steps=config.n_steps,
        mask_type=config.mask_type,
        lambda_sparse=config.lambda_sparse,
        clip_value=config.clip,
        optimizer_fn=torch.optim.Adam,
        optimizer_params={"lr": config.learning_rate, "weight_decay": config.weight_decay},
        scheduler_fn=torch.optim.lr_scheduler.MultiStepLR,
        scheduler_params={"milestones": list(config.milestones), "gamma": config.decay},
        output_dim=outputs,
        seed=seed,
        verbose=0,
        device_name="cpu",
        **{name: list(value) for name, value in CODES.items()},
    )


def built(sizes: Sizes) -> TabNetRegressor:
    """Returns the library's estimator as its `fit` has it before the first step."""
    estimator = library_network(CONFIG, sizes.outputs, seed=0)
    estimator.input_dim, estimator.virtual_batch_size = sizes.features, CONFIG.virtual_batch_size
    estimator.loss_fn, estimator.augmentations = smoothed_loss, None
    estimator._set_network()
    estimator._set_optimizer()
    estimator.network.train()
    return estimator


def smoothed_loss(logits: Any, targets: Any) -> Any:
    """The winner's loss, of tensors."""
    import torch

    p, half = torch.sigmoid(logits), CONFIG.label_smoothing / 2
    targets = targets.clip(half, 1 - half)
    return -(targets * torch.log(p + 1e-15) + (1 - targets) * torch.log(1 - p + 1e-15)).mean()


def library_batches(x: np.ndarray, y: np.ndarray, batch: int) -> Callable[[], Iterator]:
    import torch
    from pytorch_tabnet.utils import TorchDataset

    loader = torch.utils.data.DataLoader(TorchDataset(x, y), batch_size=batch, shuffle=True)
    return lambda: iter(loader)


def tuned_batches(x: np.ndarray, y: np.ndarray, batch: int) -> Callable[[], Iterator]:
    import torch

    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)

    def batches() -> Iterator:
        order = torch.randperm(len(inputs))
        for start in range(0, len(inputs), batch):
            rows = order[start : start + batch]
            yield inputs[rows], targets[rows]

    return batches


WAYS = {"pytorch-tabnet": library_batches, "pytorch-tabnet, tuned": tuned_batches}


def their_steps(way: str, count: int, validates: bool, size: str) -> Side:
    """Returns the side that takes an epoch's steps of one network, and validates it if asked."""
    sizes = sizes_of(size, count)
    (x, y), estimator = data(sizes), built(sizes)
    batches = WAYS[way](x[: sizes.rows], y[: sizes.rows], sizes.batch)

    def run() -> None:
        for rows, targets in batches():
            estimator._train_batch(rows, targets)
        if validates:
            estimator.predict(x[sizes.rows :])
            estimator.network.train()

    return Side(run, 1 if validates else -(-sizes.rows // sizes.batch))


def their_forward(size: str) -> Side:
    sizes = sizes_of(size, 1)
    (x, _), estimator = data(sizes), built(sizes)
    return Side(lambda: estimator.predict(x), len(x))


def _peer(side: Callable[[str], Side]) -> Peer:
    return Peer(side, ("torch", "pytorch_tabnet"), "moa-jax[torch] pytorch-tabnet")


def _peers(count: int, validates: bool) -> dict[str, Peer]:
    return {way: _peer(functools.partial(their_steps, way, count, validates)) for way in WAYS}


IN_TURN = Network(
    "tabnet",
    functools.partial(training, "loop"),
    lambda size: flops(SIZES[size]),
    _peers,
    {"pytorch-tabnet": _peer(their_forward)},
)
STACKED = IN_TURN._replace(training=functools.partial(training, "vmap"))
ROWS = (
    *IN_TURN.of_one(),
    *STACKED.of_several("members", "stacked", (5, 10), quick=False),
    *IN_TURN.of_several("in_turn", "in turn", (10,), quick=False),
)
