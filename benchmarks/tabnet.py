"""TabNet beside pytorch-tabnet: time of a training step, or losses at equal settings.

    python benchmarks/tabnet.py speed [--steps=4] [--repetitions=5]
    python benchmarks/tabnet.py quality [--seeds=5]

`speed` trains one network, and ten members one after another and stacked, at the winner's sizes
on random data; an epoch is extrapolated from `--steps` steps. pytorch-tabnet takes its own steps:

* library: with its Dataset and DataLoader;
* tuned: on rows sliced from tensors.

`quality` trains both on one fold of the embedded data and of a small simulated set. The log loss
of the fold is that of the kept epochs, one network for each seed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.metadata
import io
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from scipy.special import expit

from moa_jax.data import folds, simulate, tables
from moa_jax.models.tabnet import TabNet
from moa_jax.recipes import nn_tabnet
from moa_jax.training import members
from moa_jax.training.layout import Settings
from moa_jax.training.loop import StageRun
from moa_jax.training.metrics import mean_log_loss
from moa_jax.training.parallel import Devices
from moa_jax.training.stage import Forward, Stage
from moa_jax.training.trees import Batches

try:
    import torch
    from pytorch_tabnet.metrics import Metric
    from pytorch_tabnet.tab_model import TabNetRegressor
    from pytorch_tabnet.utils import TorchDataset
except ImportError as error:
    raise SystemExit(
        f"{error.name}: expected for the comparison, not installed; "
        "pip install moa-jax[torch] pytorch-tabnet"
    ) from None

FOLDS = 10
CODES = {"cat_idxs": (0, 1), "cat_dims": (3, 2), "cat_emb_dim": (1, 1)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    modes = parser.add_subparsers(required=True)
    winner = nn_tabnet.TabNetConfig()
    for mode, run, sizes in (
        (
            "speed",
            speed,
            (
                ("rows", 19_753, "training rows of a member"),
                ("features", 1_497, "inputs"),
                ("outputs", 206, "targets"),
                ("batch", winner.batch_size, "rows per step"),
                ("steps", 4, "steps per repetition"),
                ("repetitions", 5, "repetitions, of which the median counts"),
            ),
        ),
        (
            "quality",
            quality,
            (
                ("seeds", 5, "networks of each kind"),
                ("rows", 1_200, "simulated rows"),
                ("genes", 100, "their genes"),
                ("batch", 256, "rows per step"),
                ("epochs", winner.epochs, "longest training"),
            ),
        ),
    ):
        subparser = modes.add_parser(mode)
        subparser.set_defaults(run=run)
        for name, default, meaning in sizes:
            subparser.add_argument(
                f"--{name}", type=int, default=default, help=f"{meaning} ({default})"
            )
    sizes = parser.parse_args(arguments)
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    version = importlib.metadata.version("pytorch-tabnet")
    print(
        f"{threads} threads, jax {jax.__version__}, torch {torch.__version__}, "
        f"pytorch-tabnet {version}"
    )
    sizes.run(sizes)


def speed(sizes: argparse.Namespace) -> None:
    """Prints times of a step, per member, and their ratios to one member of ours."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(-(-sizes.rows * FOLDS // (FOLDS - 1)), sizes.features))
    x[:, :2] = generator.integers(0, 2, (len(x), 2))
    x, y = x.astype(np.float32), generator.random((len(x), sizes.outputs)) < 0.004
    y = y.astype(np.float32)
    config = dataclasses.replace(nn_tabnet.TabNetConfig(), batch_size=sizes.batch)
    library = library_network(config, sizes.outputs, seed=0)
    ways = {
        "one": (our_steps(x, y, config, sizes.steps, 1, "loop"), 1),
        "ten in turn": (our_steps(x, y, config, sizes.steps, FOLDS, "loop"), FOLDS),
        "ten stacked": (our_steps(x, y, config, sizes.steps, FOLDS, "vmap"), FOLDS),
        "library": (library_steps(library, x[: sizes.rows], y[: sizes.rows], sizes), 1),
        "tuned": (tuned_steps(library, x[: sizes.rows], y[: sizes.rows], sizes), 1),
    }
    for run, _ in ways.values():
        run()
    wall = {name: [] for name in ways}
    processor = {name: [] for name in ways}
    for _ in range(sizes.repetitions):
        for name, (run, networks) in ways.items():
            start, start_processor = time.perf_counter(), time.process_time()
            run()
            steps = networks * sizes.steps
            wall[name].append((time.perf_counter() - start) / steps)
            processor[name].append((time.process_time() - start_processor) / steps)
    steps_per_epoch = members.num_batches(sizes.rows, sizes.batch)
    print(f"median of {sizes.repetitions} x {sizes.steps} steps, per member; ratios to it of both")
    print(f"{'':12}{'ms/step':>9}{'s/epoch':>9}{'library':>9}{'tuned':>9}{'CPU ms':>9}", end="")
    print(f"{'library':>9}{'tuned':>9}")
    for name in ways:
        print(f"{name:12}", end="")
        for times in (wall, processor):
            step = np.median(times[name])
            print(f"{step * 1e3:9.1f}", end="")
            if times is wall:
                print(f"{step * steps_per_epoch:9.2f}", end="")
            for other in ("library", "tuned"):
                print(f"{np.median(np.divide(times[other], times[name])):9.2f}", end="")
        print()


def our_steps(
    x: np.ndarray,
    y: np.ndarray,
    config: nn_tabnet.TabNetConfig,
    steps: int,
    count: int,
    inner: str,
) -> Callable[[], None]:
    """Returns a function that runs the package's train program: `steps` of every member."""
    every = members.cross_validation({0: np.arange(len(x)) % FOLDS}, base_seed=0)
    stage = our_stage(x, y, config, tuple(every[:count]), inner)
    settings = Settings(Devices.available("vmap"), members_at_once=count)
    group = StageRun(stage, Path(), settings, None).group(0)
    used = steps * config.batch_size
    orders = [members.epoch_order(0, member, 0, True)[:used] for member in stage.members]
    table = members.stacked_tables(orders, config.batch_size, steps)
    state, batches = group.init(), group.put(Batches(*table))

    def run():
        nonlocal state
        state = group.take_steps(state, batches)
        jax.block_until_ready(state)

    return run


def our_stage(
    x: np.ndarray,
    y: np.ndarray,
    config: nn_tabnet.TabNetConfig,
    of: tuple[members.Member, ...],
    inner: str = "loop",
) -> Stage:
    network = TabNet(
        y.shape[1],
        config.n_d,
        config.n_a,
        config.n_steps,
        virtual_batch_size=config.virtual_batch_size,
        mask_type=config.mask_type,
        **CODES,
    )
    forward = Forward(network, probabilities=lambda out: jax.nn.sigmoid(out[0]), inner=inner)
    return config.stage(name="benchmark/scored", forward=forward, members=of, shared=x, targets=y)


def library_network(config: nn_tabnet.TabNetConfig, outputs: int, seed: int) -> TabNetRegressor:
    """Returns the library's estimator with the same settings, not built yet."""
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


def _built(estimator: TabNetRegressor, features: int, virtual_batch_size: int) -> TabNetRegressor:
    estimator.input_dim, estimator.virtual_batch_size = features, virtual_batch_size
    estimator.loss_fn, estimator.augmentations = smoothed_loss, None
    estimator._set_network()
    estimator._set_optimizer()
    estimator.network.train()
    return estimator


def smoothed_loss(logits, targets):
    """The winner's loss."""
    p, half = torch.sigmoid(logits), nn_tabnet.TabNetConfig().label_smoothing / 2
    targets = targets.clip(half, 1 - half)
    return -(targets * torch.log(p + 1e-15) + (1 - targets) * torch.log(1 - p + 1e-15)).mean()


class SmoothedLoss(Metric):
    """The same on the validation fold; the library tells metrics by name."""

    def __init__(self):
        self._name, self._maximize = "smoothed", False

    def __call__(self, targets, logits):
        return float(smoothed_loss(torch.from_numpy(logits), torch.from_numpy(targets)))


def library_steps(
    estimator: TabNetRegressor, x: np.ndarray, y: np.ndarray, sizes: argparse.Namespace
) -> Callable[[], None]:
    """Returns a function that takes steps of one network as the library's `fit` does."""
    _built(estimator, x.shape[1], nn_tabnet.TabNetConfig().virtual_batch_size)
    rows = TorchDataset(x, y)
    sampler = torch.utils.data.RandomSampler(rows, num_samples=sizes.steps * sizes.batch)
    loader = torch.utils.data.DataLoader(rows, batch_size=sizes.batch, sampler=sampler)

    def run():
        for batch, targets in loader:
            estimator._train_batch(batch, targets)

    return run


def tuned_steps(
    estimator: TabNetRegressor, x: np.ndarray, y: np.ndarray, sizes: argparse.Namespace
) -> Callable[[], None]:
    """Returns a function that takes the library's steps on rows sliced from tensors."""
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)

    def run():
        order = torch.randperm(len(inputs))
        for start in range(0, sizes.steps * sizes.batch, sizes.batch):
            rows = order[start : start + sizes.batch]
            estimator._train_batch(inputs[rows], targets[rows])

    return run


def quality(sizes: argparse.Namespace) -> None:
    """Prints fold losses of both, mean and standard deviation over seeds."""
    config = dataclasses.replace(
        nn_tabnet.TabNetConfig(), batch_size=sizes.batch, epochs=sizes.epochs
    )
    simulated = simulate.make(
        rows=sizes.rows, genes=sizes.genes, cells=20, scored=40, nonscored=5, test_rows=0
    )
    print("| data | prior | moa_jax | pytorch-tabnet | difference |")
    print("| --- | --- | --- | --- | --- |")
    for name, data in (
        ("embedded", tables.load(tables.sample_folder())),
        ("simulated", simulated),
    ):
        rows = data.take(np.flatnonzero(~data.is_control))
        codes = [np.searchsorted([24, 48, 72], rows.cp_time), rows.cp_dose == "D2"]
        x = np.column_stack([*codes, rows.features]).astype(np.float32)
        y = rows.scored.values.astype(np.float32)
        fold_of_row = folds.multilabel_stratified(rows.scored.values, 5, 0, shuffle=True)
        train, valid = np.flatnonzero(fold_of_row), np.flatnonzero(fold_of_row == 0)
        prior = mean_log_loss(y[valid], np.tile(y[train].mean(0), (len(valid), 1)))
        ours = our_losses(x, y, train, valid, config, sizes.seeds)
        theirs = [library_loss(x, y, train, valid, config, seed) for seed in range(sizes.seeds)]
        found = [f"{np.mean(v):.5f} ± {np.std(v, ddof=1):.5f}" for v in (ours, theirs)]
        error = np.sqrt((np.var(ours, ddof=1) + np.var(theirs, ddof=1)) / sizes.seeds)
        difference = f"{np.mean(ours) - np.mean(theirs):+.5f} ± {error:.5f}"
        print(f"| {name}, {len(x)} rows | {prior:.5f} | {' | '.join(found)} | {difference} |")


def our_losses(x, y, train, valid, config, seeds: int) -> list[float]:
    """Returns the fold's log loss for each seed."""
    every = tuple(members.Member(seed, 0, train, valid, valid) for seed in range(seeds))
    settings = Settings(Devices.available("vmap"), members_at_once=seeds)
    group = StageRun(our_stage(x, y, config, every), Path(), settings, None).group(0)
    state = group.init()
    for epoch in range(config.epochs):
        state, _ = group.validate(group.train_steps(state, epoch))
        if not state.active.any():
            break
    return [mean_log_loss(y[valid], p) for p in group.predict(state, valid)]


def library_loss(x, y, train, valid, config, seed: int) -> float:
    """Returns the fold's log loss of one of the library's networks."""
    estimator = library_network(config, y.shape[1], seed)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(
            x[train],
            y[train],
            eval_set=[(x[valid], y[valid])],
            eval_metric=[SmoothedLoss],
            loss_fn=smoothed_loss,
            max_epochs=config.epochs,
            patience=config.patience,
            batch_size=config.batch_size,
            virtual_batch_size=config.virtual_batch_size,
            drop_last=False,
        )
        return mean_log_loss(y[valid], expit(estimator.predict(x[valid]).astype(np.float64)))


if __name__ == "__main__":
    main()
