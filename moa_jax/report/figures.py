"""The report's charts as PNG files beside it, where matplotlib is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from absl import logging

from moa_jax.report.findings import Correlations, Findings
from moa_jax.report.records import Report
from moa_jax.store import files

# Pixels per inch, and inches of one chart.
RESOLUTION = 150
WIDTH, HEIGHT = 4.5, 3.2


def write(folder: Path, report: Report) -> None:
    """Writes `learning_curves`, `calibration`, `correlations` and `weights` as PNG.

    What there is nothing to show of is left out, and removed where an earlier blend drew it.
    Without matplotlib a log line says so.

    Raises:
      UserError: the folder cannot be written.
    """
    if importlib.util.find_spec("matplotlib") is None:
        logging.info("no PNG files beside the report: matplotlib (extra `plots`) is not installed")
        return
    found = report.findings
    drawn = {
        "learning_curves": _learning_curves(found) if found.curves else None,
        "calibration": _calibration(found) if found.calibration else None,
        "correlations": _correlations(found) if found.oof or found.test else None,
        "weights": _weights(report) if report.blend else None,
    }
    for name, figure in drawn.items():
        path = folder / f"{name}.png"
        if figure is None:
            files.remove(path)
            continue
        with files.replacing(path) as temporary:
            figure.savefig(temporary, dpi=RESOLUTION)


def _figure(columns: int, rows: int, width: float = WIDTH, height: float = HEIGHT):
    # A figure without pyplot, which would look for a screen and keep every figure alive.
    from matplotlib.figure import Figure

    figure = Figure((width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False).ravel()


def _learning_curves(found: Findings):
    columns = min(3, len(found.curves))
    figure, axes = _figure(columns, -(-len(found.curves) // columns))
    for curve, axis in zip(found.curves, axes, strict=False):
        axis.fill_between(curve.epochs, curve.lowest, curve.highest, alpha=0.2)
        axis.plot(curve.epochs, curve.valid, label="validation")
        axis.plot(curve.epochs, curve.train, label="training")
        axis.set(title=curve.stage, xlabel="epoch", ylabel="loss", yscale="log")
        axis.legend()
    for axis in axes[len(found.curves) :]:
        axis.set_axis_off()
    return figure


def _calibration(found: Findings):
    figure, (axis,) = _figure(1, 1)
    known = [part for part in found.calibration if part.observed > 0 and part.predicted > 0]
    axis.plot([part.predicted for part in known], [part.observed for part in known], marker="o")
    low = min([0.1, *(min(part.predicted, part.observed) for part in known)])
    axis.plot([low, 1], [low, 1], linestyle="--", color="gray")
    axis.set(xscale="log", yscale="log", xlabel="predicted probability", ylabel="share positive")
    return figure


def _correlations(found: Findings):
    shown = [(n, c) for n, c in (("out-of-fold", found.oof), ("test", found.test)) if c]
    side = 2.5 + 0.6 * max(len(c.models) for _, c in shown)
    figure, axes = _figure(2, len(shown), side, side)
    for index, (name, correlations) in enumerate(shown):
        for column, (method, matrix) in enumerate(correlations.tables().items()):
            axis = axes[2 * index + column]
            _heatmap(axis, correlations, matrix)
            axis.set_title(f"{name}, {method}")
    return figure


def _heatmap(axis, correlations: Correlations, matrix) -> None:
    values = np.array([[np.nan if value is None else value for value in row] for row in matrix])
    axis.imshow(values, cmap="viridis", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            color = "black" if value > 0.6 else "white"
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", color=color)
    places = range(len(correlations.models))
    axis.set_xticks(places, correlations.models, rotation=45, ha="right")
    axis.set_yticks(places, correlations.models)


def _weights(report: Report):
    weights = report.blend.weights
    figure, (axis,) = _figure(1, 1, height=1 + 0.35 * len(weights))
    bars = axis.barh(list(weights), list(weights.values()))
    axis.bar_label(bars, fmt="%.3f", padding=3)
    axis.invert_yaxis()
    axis.margins(x=0.15)
    axis.set_xlabel("weight")
    return figure
