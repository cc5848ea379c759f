"""What the report shows of the predictions: calibration, targets, diversity."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moa_jax.answers import mechanism_scores
from moa_jax.blend import diversity, weighing
from moa_jax.config import BlendConfig
from moa_jax.data.dataset import Dataset
from moa_jax.deepinsight import inputs
from moa_jax.store.predictions import Predictions
from moa_jax.training import metrics

METHODS = ("pearson", "spearman")
# Profiles that are drawn as images, and the height and width of these in pixels.
EXAMPLES, IMAGE_SIDE = 3, 40


def targets_table(
    labels: np.ndarray,
    blended: Predictions,
    oof: Mapping[str, Predictions],
    known: np.ndarray | None = None,
) -> pd.DataFrame:
    """Returns a row per target, the one with the highest loss of the blend first.

    Columns: `target`; `positives`, rows that have it; `mean_prediction` and `loss` of the blend;
    `loss of <model>` for each model. Where labels are unknown `known` counts the rows whose are
    not, which the others are of.

    Args:
      labels: [N, L] labels, 0 or 1.
      blended: out-of-fold predictions [N, L] of the blend.
      oof: those of each model.
      known: [N, L] bool, the labels that are known; None where all are.
    """
    losses = {
        f"loss of {name}": metrics.target_log_losses(labels, p.values, known)
        for name, p in oof.items()
    }
    counted = {} if known is None else {"known": known.sum(0)}
    where = True if known is None else known
    table = pd.DataFrame(
        {
            "target": blended.targets,
            "positives": labels.sum(0, where=where).astype(np.int64),
            **counted,
            "mean_prediction": blended.values.mean(0, where=where),
            "loss": metrics.target_log_losses(labels, blended.values, known),
            **losses,
        }
    )
    return table.sort_values("loss", ascending=False, kind="stable", ignore_index=True)


def correlations(models: Mapping[str, Predictions], ids: np.ndarray) -> dict[str, Any]:
    """Returns the correlation of every two models over the rows `ids`.

    Returns:
      `models`, the K names; `rows`, their number; `pearson` and `spearman`, [K][K] as lists, None
      where two models have no correlation.
    """
    stacked = np.stack([p.aligned(ids, name).values for name, p in models.items()])
    found: dict[str, Any] = {"models": list(models), "rows": len(ids)}
    for method in METHODS:
        matrix = diversity.correlations(stacked, method)
        found[method] = [[None if np.isnan(v) else float(v) for v in row] for row in matrix]
    return found


def example_rows(dataset: Dataset) -> list[tuple[int, str]]:
    """Returns the first row of each of the most frequent targets, and that target.

    A row that has several of them stands for the first.
    """
    examples: dict[int, str] = {}
    targets = dataset.targets
    frequent = np.argsort(-targets.values.sum(0, dtype=np.int64), kind="stable")
    for target in frequent.tolist():
        having = np.flatnonzero(targets.values[:, target] & ~dataset.is_control)
        if len(having) and len(examples) < EXAMPLES:
            examples.setdefault(int(having[0]), targets.names[target])
    return list(examples.items())


def feature_map(folder: Path, table: np.ndarray, dataset: Dataset) -> dict[str, Any]:
    """Returns a stored DeepInsight map and a few profiles placed by it.

    Args:
      folder: where its `scale` and `map` lie.
      table: [N, F] columns of the profiles before scaling: three of the treatment, then genes and
        cells.
      dataset: the rows of the table.

    Raises:
      UserError: the folder's files are damaged, or hold other transforms.
    """
    transforms = inputs.load_fold(folder)
    found = transforms[inputs.MAP]
    examples = example_rows(dataset)
    scaled = transforms[inputs.SCALE].transform(table[[row for row, _ in examples]])
    treatment = table.shape[1] - len(dataset.genes) - len(dataset.cells)
    groups = ["treatment"] * treatment + ["gene"] * len(dataset.genes)
    return {
        "name": f"{folder.parent.name}/{folder.name}",
        "positions": found.positions_.tolist(),
        "groups": groups + ["cell"] * len(dataset.cells),
        "pixels": found.pixels(IMAGE_SIDE).tolist(),
        "side": IMAGE_SIDE,
        "images": [
            {"sig_id": str(dataset.ids[row]), "target": target, "values": values.tolist()}
            for (row, target), values in zip(examples, scaled, strict=True)
        ],
    }


def known_compounds(dataset: Dataset) -> int | None:
    """Returns how many compounds to predict have training wells; None where either is not known."""
    test = dataset.test
    if test is None or test.drug_id is None or dataset.drug_id is None:
        return None
    trained = set(dataset.drug_id[~dataset.is_control])
    return len(trained & set(test.drug_id[~test.is_control]))


def analyse(
    config: BlendConfig,
    dataset: Dataset,
    oof: Mapping[str, Predictions],
    tests: Mapping[str, Predictions],
    blended: Predictions | None,
    controls: Mapping[str, Predictions] | None = None,
) -> dict[str, Any]:
    """Returns what `blend/analysis.json` holds; what the models at hand do not allow is left out.

    Args:
      config: the method of the blend, by which the others are weighed without each model.
      dataset: the training rows, and the test rows within.
      oof: out-of-fold predictions of the models that have them, rows as the treated of `dataset`.
      tests: test predictions of all models, or of none.
      blended: out-of-fold predictions of the blend, or None.
      controls: those of the control rows, of the models that predict them; None for none.
    """
    treated = ~dataset.is_control
    targets, num_controls = dataset.targets.take(treated), int(dataset.is_control.sum())
    labels, known = targets.values, targets.known
    found: dict[str, Any] = {"scores": {}}
    if (count := known_compounds(dataset)) is not None:
        found["known_compounds"] = count
    for name, p in oof.items():
        of_controls = controls[name].values if controls and name in controls else None
        found["scores"][name] = metrics.conventions(
            labels, p.values, num_controls, of_controls, known
        )
    if blended is not None:
        found["calibration"] = mechanism_scores.reliability(labels, blended.values, known)
    if len(oof) > 1:
        found["oof"] = correlations(oof, dataset.ids[treated])
        if blended is not None:
            found["without"] = weighing.losses_without(config, oof, labels, known)
    if len(tests) > 1:
        ids = next(iter(tests.values())).ids
        if dataset.test is not None:
            ids = dataset.test.ids[~dataset.test.is_control]
        if len(ids) > 1:  # all may be controls, and one row does not vary
            found["test"] = correlations(tests, ids)
    return found
