"""TabNet beside pytorch-tabnet at equal settings: losses of one fold over seeds.

    python -m benchmarks.tabnet_quality [--seeds=5]

Both are trained on one fold of the embedded data and of a small simulated set. The log loss of the
fold is that of the kept epochs, one network for each seed. How fast they are is in the table of
`python -m benchmarks`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.metadata
import io
import warnings
from pathlib import Path

import jax
import numpy as np
from scipy.special import expit

from benchmarks.tabnet import library_network, our_stage, smoothed_loss
from moa_jax.data import folds, simulate, tables
from moa_jax.recipes import nn_tabnet
from moa_jax.training import members
from moa_jax.training.layout import Settings
from moa_jax.training.loop import StageRun
from moa_jax.training.metrics import mean_log_loss
from moa_jax.training.parallel import Devices

try:
    import torch
    from pytorch_tabnet.metrics import Metric
except ImportError as error:
    raise SystemExit(
        f"{error.name}: expected for the comparison, not installed; "
        "pip install moa-jax[torch] pytorch-tabnet"
    ) from None


class SmoothedLoss(Metric):
    """The winner's loss on the validation fold; the library tells metrics by name."""

    def __init__(self):
        self._name, self._maximize = "smoothed", False

    def __call__(self, targets, logits):
        return float(smoothed_loss(torch.from_numpy(logits), torch.from_numpy(targets)))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default, meaning in (
        ("seeds", 5, "networks of each kind"),
        ("rows", 1_200, "simulated rows"),
        ("genes", 100, "their genes"),
        ("batch", 256, "rows per step"),
        ("epochs", nn_tabnet.TabNetConfig().epochs, "longest training"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{meaning} ({default})")
    version = importlib.metadata.version("pytorch-tabnet")
    print(f"jax {jax.__version__}, torch {torch.__version__}, pytorch-tabnet {version}")
    quality(parser.parse_args(arguments))


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
