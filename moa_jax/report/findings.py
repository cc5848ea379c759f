"""What the report shows of predictions and training: records read from the work folder's files."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from scipy import stats

from moa_jax.report import charts
from moa_jax.report.charts import Axis, Chart
from moa_jax.store import files
from moa_jax.training.progress import MetricsLog

SHOWN_TARGETS = 12

Matrix = Sequence[Sequence[float | None]]


@dataclasses.dataclass(frozen=True)
class Curve:
    """Losses of a stage's members by epoch: medians, and the range of the validation losses."""

    stage: str
    members: int
    epochs: tuple[int, ...]
    train: tuple[float, ...]
    valid: tuple[float, ...]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]

    def chart(self) -> Chart:
        """Returns both losses by epoch, the validation losses within the band of their range."""
        title = (
            f"Learning curve of {self.stage}: median validation loss {self.valid[0]:.3g} after "
            f"epoch {self.epochs[0]}, {self.valid[-1]:.3g} after epoch {self.epochs[-1]}"
        )
        lower, upper, second, line = (
            [*zip(self.epochs, losses, strict=True)]
            for losses in (self.lowest, self.highest, self.train, self.valid)
        )
        second = [point for point in second if math.isfinite(point[1])]
        marks = {"band": upper + lower[::-1], "line second": second, "line": line}
        if len(line) == 1:  # a line of one point cannot be seen
            marks["dot"] = line
        losses = [*(loss for _, loss in second), *self.lowest, *self.highest]
        least, most = min(losses), max(losses)
        x = Axis(1, max(*self.epochs, 2), label="Epoch", whole=True)
        return Chart(title, x, Axis(least, most, least > 0, "Loss"), marks)


@dataclasses.dataclass(frozen=True)
class Bin:
    """Cells predicted alike: mean prediction, share and number of positives, number of cells."""

    predicted: float
    observed: float
    cells: int
    positives: int


@dataclasses.dataclass(frozen=True)
class Correlations:
    """Correlations of models' predictions, [K][K] by method; None where there is none."""

    models: tuple[str, ...]
    rows: int
    pearson: Matrix
    spearman: Matrix

    def tables(self) -> dict[str, Matrix]:
        return {"Pearson": self.pearson, "Spearman": self.spearman}


@dataclasses.dataclass(frozen=True)
class Target:
    """A mechanism: its positive rows, the blend's loss and mean prediction, the best model.

    Where labels are unknown all are of the rows whose are `known`, as many as that says.
    """

    name: str
    positives: int
    loss: float
    mean_prediction: float
    best_model: str
    best_loss: float
    known: int | None = None

    def constant_loss(self, rows: int) -> float:
        """Returns the log loss of predicting the share of positive rows everywhere."""
        rows = rows if self.known is None else self.known
        return float(stats.entropy([self.positives, rows - self.positives]))


@dataclasses.dataclass(frozen=True)
class DrawnMap:
    """A DeepInsight map and a few profiles as its images.

    Attributes:
      name: where it lies.
      positions: [F, 2] places of the columns.
      groups: [F] `gene`, `cell` or `treatment`.
      pixels, side: [F, 2] pixels of the images drawn here, and their height and width.
      images: for each profile `sig_id`, `target` (one that it has) and `values` [F].
    """

    name: str
    positions: np.ndarray
    groups: tuple[str, ...]
    pixels: np.ndarray
    side: int
    images: tuple[Mapping[str, Any], ...]

    def chart(self) -> Markup:
        counts = {group: self.groups.count(group) for group in ("gene", "cell")}
        title = (
            f"Map {self.name}: places of {counts['gene']} genes, {counts['cell']} viability "
            "columns and the treatment"
        )
        return charts.feature_map(title, self.positions, self.groups)

    def image_charts(self) -> list[tuple[str, str, Markup]]:
        """Returns id, mechanism and drawing of each profile."""
        charted = []
        for image in self.images:
            title, values = f"Profile {image['sig_id']} as an image", np.array(image["values"])
            svg = charts.image(title, self.pixels, values, self.side)
            charted.append((image["sig_id"], image["target"], svg))
        return charted


@dataclasses.dataclass(frozen=True)
class Findings:
    """What is known of the predictions; empty where there is nothing to show.

    Attributes:
      scores: log loss of each model by convention, see `metrics.conventions`.
      calibration: bins of the blend's predictions.
      oof, test: correlations of out-of-fold and of test predictions, or None.
      without: the blend's loss without each model.
      targets: all targets, the one with the highest loss first.
      curves: learning curves by stage.
      maps: DeepInsight maps.
      both_scores: whether models can be scored on the folds of the other question: `possible`,
        `complete` where all that can be are, or `impossible`.
      known_compounds: compounds to predict that have training wells; None where that is not known.
    """

    scores: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    calibration: tuple[Bin, ...] = ()
    oof: Correlations | None = None
    test: Correlations | None = None
    without: Mapping[str, float] = dataclasses.field(default_factory=dict)
    targets: tuple[Target, ...] = ()
    curves: tuple[Curve, ...] = ()
    maps: tuple[DrawnMap, ...] = ()
    both_scores: str = "possible"
    known_compounds: int | None = None

    def hardest(self) -> tuple[Target, ...]:
        return self.targets[:SHOWN_TARGETS]

    def most_frequent(self) -> tuple[Target, ...]:
        """Returns the targets with most positive rows, those of equal numbers by their loss."""
        ordered = sorted(self.targets, key=lambda target: target.positives, reverse=True)
        return tuple(ordered[:SHOWN_TARGETS])

    def calibration_chart(self) -> Chart:
        """Returns the share of positive cells by predicted probability."""
        return charts.reliability(
            "Calibration of the blend: share of positive cells by predicted probability",
            "Share positive",
            [(part.predicted, part.observed) for part in self.calibration],
        )


def collect(workdir: Path) -> Findings:
    """Reads what there is to show of predictions and training.

    Raises:
      UserError: a file is damaged.
    """
    path = workdir / "blend" / "analysis.json"
    stored = files.read_json_object(path) if os.path.lexists(path) else {}
    with files.parsing(path):
        found = Findings(
            scores=stored.get("scores", {}),
            calibration=tuple(Bin(**part) for part in stored.get("calibration", [])),
            oof=_correlations(stored.get("oof")),
            test=_correlations(stored.get("test")),
            without=stored.get("without", {}),
            maps=tuple(_map(entry) for entry in stored.get("maps", [])),
            both_scores=stored.get("both_scores", Findings.both_scores),
            known_compounds=stored.get("known_compounds"),
        )
    targets = _targets(workdir / "blend" / "targets.csv")
    return dataclasses.replace(found, targets=targets, curves=_curves(workdir))


def _correlations(stored: Mapping[str, Any] | None) -> Correlations | None:
    return None if stored is None else Correlations(**stored)


def _map(stored: Mapping[str, Any]) -> DrawnMap:
    arrays = {name: np.array(stored[name]) for name in ("positions", "pixels")}
    return DrawnMap(**{**stored, **arrays, "groups": tuple(stored["groups"])})


def _targets(path: Path) -> tuple[Target, ...]:
    if not os.path.lexists(path):
        return ()
    files.check_regular(path)
    with files.parsing(path):
        table = pd.read_csv(path, dtype={"target": str}, keep_default_na=False)
        losses = table.filter(regex="^loss of ").astype(float)
        numbers = table.astype({"positives": int, "loss": float, "mean_prediction": float})
        known = table["known"].astype(int) if "known" in table else [None] * len(table)
        return tuple(
            Target(row.target, row.positives, row.loss, row.mean_prediction, best, least, of)
            for row, best, least, of in zip(
                numbers.itertuples(),
                losses.idxmin(axis=1).str.removeprefix("loss of "),
                losses.min(axis=1),
                known,
                strict=True,
            )
        )


def _curves(workdir: Path) -> tuple[Curve, ...]:
    table = pd.DataFrame(MetricsLog(workdir, tensorboard=False).read())
    if table.empty:
        return ()
    curves = []
    for stage, of_stage in table.groupby("stage", sort=False):
        by_epoch = of_stage.groupby("epoch")[["train_loss", "valid_loss"]]
        medians, lowest, highest = by_epoch.median(), by_epoch.min(), by_epoch.max()
        losses = medians["train_loss"], *(t["valid_loss"] for t in (medians, lowest, highest))
        by_field = (tuple(values.tolist()) for values in (medians.index, *losses))
        curves.append(Curve(stage, len(of_stage.groupby(["seed", "fold"])), *by_field))
    return tuple(curves)
