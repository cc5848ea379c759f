"""Scores of finished runs beside two baselines on the same rows and folds.

    python benchmarks/baseline.py runs/quickstart

Both baselines fit one model per target on each fold's training rows: StandardScaler, PCA(60) and
logistic regression, and gradient boosting (scikit-learn's HistGradientBoostingClassifier, 50 trees
on columns in 32 bins). The regression's strength C is scikit-learn's default, 1, and the best of a
grid, which is chosen by the very scores that are reported: that favours the baseline.
"""

from __future__ import annotations

import argparse
import csv
import functools
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from moa_jax import config as configuration
from moa_jax.data.dataset import Dataset
from moa_jax.engine import loading
from moa_jax.recipes import RECIPES
from moa_jax.store import files
from moa_jax.training.metrics import mean_log_loss

STRENGTHS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0)
COMPONENTS = 60
TREES = 50
BINS = 32
PRIOR, BOOSTED = "prior", "boosted trees"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdirs", type=Path, nargs="+", help="work folders of finished runs")
    known = {}
    for workdir in parser.parse_args().workdirs:
        print(f"\n`{workdir.name}`\n")
        print("| model | log loss | prior | logistic, C = 1 | logistic, best C | trees |")
        print("| --- | --- | --- | --- | --- | --- |")
        config = configuration.parse(files.read_json(workdir / "config.json")["config"], RECIPES)
        dataset = loading.load_data(config)
        rows = dataset.take(np.flatnonzero(~dataset.is_control))
        for name in config.models:
            metrics = files.read_json(workdir / name / "metrics.json")
            fold_of_row = first_folds(workdir / name / metrics["stages"][-1] / "folds.csv", rows)
            key = fold_of_row.tobytes()
            if key not in known:
                known[key] = baselines(rows, fold_of_row)
            print(
                f"| `{name}` | {metrics['scores']['treated']:.4f} | {columns(known[key])} |",
                flush=True,
            )
        blend = files.read_json(workdir / "blend" / "weights.json")
        print(f"| blend, {blend['method']} | {blend['loss']:.4f} | | | | |")
        if "nested" in blend:
            print(f"| blend, nested | {blend['nested']['loss']:.4f} | | | | |")


def columns(scores: dict[float | str, float]) -> str:
    best = min(STRENGTHS, key=scores.get)
    return " | ".join(
        [
            f"{scores[PRIOR]:.4f}",
            f"{scores[1.0]:.4f}",
            f"{scores[best]:.4f} (C = {best})",
            f"{scores[BOOSTED]:.4f}",
        ]
    )


def first_folds(path: Path, rows: Dataset) -> np.ndarray:
    """Returns the fold of each row for the first seed of a stage."""
    with open(path, encoding="utf-8", newline="") as opened:
        records = list(csv.DictReader(opened))
    seed = records[0]["seed"]
    fold_of = {r["sig_id"]: int(r["fold"]) for r in records if r["seed"] == seed}
    return np.array([fold_of[sig_id] for sig_id in rows.ids])


def baselines(rows: Dataset, fold_of_row: np.ndarray) -> dict[float | str, float]:
    """Returns out-of-fold log losses of the training means, the regressions and the trees."""
    fits = {c: functools.partial(LogisticRegression, C=c, max_iter=1000) for c in STRENGTHS}
    found = {name: np.empty(rows.scored.values.shape) for name in (PRIOR, BOOSTED, *fits)}
    for fold in np.unique(fold_of_row):
        valid = fold_of_row == fold
        reduce = make_pipeline(
            StandardScaler(), PCA(min(COMPONENTS, (~valid).sum()), random_state=0)
        )
        train, new = reduce.fit_transform(rows.features[~valid]), rows.features[valid]
        for target, labels in enumerate(rows.scored.values[~valid].T):
            # Half a row of either kind more, so that no rare target is certain to be absent.
            prior = (labels.sum() + 0.5) / (len(labels) + 1)
            for values in found.values():
                values[valid, target] = prior
            if not labels.any():
                continue
            for strength, make in fits.items():
                found[strength][valid, target] = positive(
                    make, train, labels, reduce.transform(new)
                )
            trees = functools.partial(
                HistGradientBoostingClassifier,
                max_iter=TREES,
                max_bins=BINS,
                early_stopping=False,
                random_state=0,
            )
            found[BOOSTED][valid, target] = positive(trees, rows.features[~valid], labels, new)
    return {name: mean_log_loss(rows.scored.values, values) for name, values in found.items()}


def positive(make: Callable, x: np.ndarray, labels: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Returns the probability of a target for new rows, by a model fitted on others."""
    return make().fit(x, labels).predict_proba(new)[:, 1]


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main()
