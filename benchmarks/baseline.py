"""Scores of a finished run beside logistic regression on the same rows and folds.

    python benchmarks/baseline.py runs/quickstart

The baseline is StandardScaler, PCA(60) and one logistic regression per target, fitted on each
fold's training rows. Its strength C is scikit-learn's default, 1, and the best of a grid, which is
chosen by the very scores that are reported: that favours the baseline.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from moa_jax import config as configuration
from moa_jax import files, run
from moa_jax.data.tables import Dataset
from moa_jax.recipes import CONFIGS
from moa_jax.training.metrics import mean_log_loss

STRENGTHS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0)
COMPONENTS = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir", type=Path)
    workdir = parser.parse_args().workdir
    config = configuration.parse(files.read_json(workdir / "config.json")["config"], CONFIGS)
    dataset = run.load_data(config)
    rows = dataset.take(np.flatnonzero(~dataset.is_control))
    print("| model | log loss | prior | logistic, C = 1 | logistic, best C | better than best by |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in config.models:
        metrics = files.read_json(workdir / name / "metrics.json")
        fold_of_row = first_folds(workdir / name / metrics["stages"][-1] / "folds.csv", rows)
        scores = {c: mean_log_loss(rows.scored.values, p) for c, p in logistic(rows, fold_of_row)}
        best = min(scores, key=scores.get)
        ours = metrics["scores"]["treated"]
        print(
            f"| `{name}` | {ours:.5f} | {scores[None]:.5f} | {scores[1.0]:.5f} "
            f"| {scores[best]:.5f} (C = {best}) | {1 - ours / scores[best]:.1%} |"
        )


def first_folds(path: Path, rows: Dataset) -> np.ndarray:
    """Returns the fold of each row for the first seed of a stage."""
    with open(path, encoding="utf-8", newline="") as opened:
        records = list(csv.DictReader(opened))
    seed = records[0]["seed"]
    fold_of = {r["sig_id"]: int(r["fold"]) for r in records if r["seed"] == seed}
    return np.array([fold_of[sig_id] for sig_id in rows.ids])


def logistic(rows: Dataset, fold_of_row: np.ndarray):
    """Yields out-of-fold predictions [N, L] by strength; by None those of the training means."""
    targets = rows.scored.values
    found = {strength: np.empty(targets.shape) for strength in (None, *STRENGTHS)}
    for fold in np.unique(fold_of_row):
        valid = fold_of_row == fold
        reduce = make_pipeline(
            StandardScaler(), PCA(min(COMPONENTS, (~valid).sum()), random_state=0)
        )
        train = reduce.fit_transform(rows.features[~valid])
        for target, labels in enumerate(targets[~valid].T):
            # Half a row of either kind more, so that no rare target is certain to be absent.
            found[None][valid, target] = (labels.sum() + 0.5) / (len(labels) + 1)
            for strength in STRENGTHS:
                predicted = found[None][valid, target]
                if labels.any():
                    model = LogisticRegression(C=strength, max_iter=1000).fit(train, labels)
                    predicted = model.predict_proba(reduce.transform(rows.features[valid]))[:, 1]
                found[strength][valid, target] = predicted
    yield from found.items()


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main()
