"""Figures by matplotlib, where it is installed: the report's charts as PNG files beside it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import logging

from moa_jax.report.charts import Chart
from moa_jax.report.findings import Correlations, Findings, Matrix
from moa_jax.report.records import Report
from moa_jax.store import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Pixels per inch, and inches of one chart.
RESOLUTION = 150
WIDTH, HEIGHT = 4.5, 3.2
# How the points of a chart are drawn.
FORMATS = {"line": "C0", "line second": "C1", "guide": "C7--", "dot": "C0o", "dot hollow": "C0o"}


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
        "weights": _weights(report.blend.weights) if report.blend else None,
    }
    for name, figure in drawn.items():
        path = folder / f"{name}.png"
        if figure is None:
            files.remove(path)
            continue
        with files.replacing(path) as temporary:
            figure.savefig(temporary, dpi=RESOLUTION)


def shared_pixels(pixels: np.ndarray, resolution: int) -> Figure:
    """Returns the occupied ones of the features' pixels [F, 2], coloured by how many share one."""
    figure, (axes,) = _figure(1, 1, 6.4, 4.8)
    places, counts = np.unique(pixels, axis=0, return_counts=True)
    points = axes.scatter(places[:, 1], places[:, 0], c=counts, s=6)
    # As in an image: row 0 is at the top, and all pixels are in view.
    axes.set(xlim=(-0.5, resolution - 0.5), ylim=(resolution - 0.5, -0.5))
    axes.set(xlabel="column", ylabel="row", aspect="equal")
    axes.set_title(f"{len(pixels)} features on {len(places)} pixels")
    figure.colorbar(points, label="features per pixel")
    return figure


def _figure(
    columns: int, rows: int, width: float = WIDTH, height: float = HEIGHT
) -> tuple[Figure, np.ndarray]:
    # A figure without pyplot, which would look for a screen and keep every figure alive.
    from matplotlib.figure import Figure

    figure = Figure((width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False).ravel()


def _learning_curves(found: Findings) -> Figure:
    columns = min(3, len(found.curves))
    figure, axes = _figure(columns, -(-len(found.curves) // columns))
    for curve, axis in zip(found.curves, axes, strict=False):
        _draw(axis, curve.chart(), {"line": "validation", "line second": "training"})
        axis.set_title(curve.stage)
        axis.legend()
    for axis in axes[len(found.curves) :]:
        axis.set_axis_off()
    return figure


def _calibration(found: Findings) -> Figure:
    figure, (axis,) = _figure(1, 1)
    _draw(axis, found.calibration_chart(), {})
    return figure


def _draw(axes: Axes, chart: Chart, labels: Mapping[str, str]) -> None:
    for kind, points in chart.marks.items():
        x, y = [chart.x.inside(a) for a, _ in points], [chart.y.inside(b) for _, b in points]
        if kind == "band":
            axes.fill(x, y, alpha=0.2)
        else:
            fill = "none" if kind == "dot hollow" else "full"
            axes.plot(x, y, FORMATS[kind], fillstyle=fill, label=labels.get(kind))
    for which, scale in (("x", chart.x), ("y", chart.y)):
        kind, ticks = "log" if scale.logarithmic else "linear", scale.ticks()
        axes.set(**{f"{which}scale": kind, f"{which}label": scale.label})
        axes.set(**{f"{which}ticks": list(ticks), f"{which}ticklabels": list(ticks.values())})
    axes.minorticks_off()


def _correlations(found: Findings) -> Figure:
    shown = [(n, c) for n, c in (("out-of-fold", found.oof), ("test", found.test)) if c]
    side = 2.5 + 0.6 * max(len(c.models) for _, c in shown)
    figure, axes = _figure(2, len(shown), side, side)
    for index, (name, correlations) in enumerate(shown):
        for column, (method, matrix) in enumerate(correlations.tables().items()):
            axis = axes[2 * index + column]
            _heatmap(axis, correlations, matrix)
            axis.set_title(f"{name}, {method}")
    return figure


def _heatmap(axis: Axes, correlations: Correlations, matrix: Matrix) -> None:
    values = np.array([[np.nan if value is None else value for value in row] for row in matrix])
    axis.imshow(values, cmap="viridis", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            color = "black" if value > 0.6 else "white"
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", color=color)
    places = range(len(correlations.models))
    axis.set_xticks(places, correlations.models, rotation=45, ha="right")
    axis.set_yticks(places, correlations.models)


def _weights(weights: Mapping[str, float]) -> Figure:
    figure, (axis,) = _figure(1, 1, height=1 + 0.35 * len(weights))
    bars = axis.barh(list(weights), list(weights.values()))
    axis.bar_label(bars, fmt="%.3f", padding=3)
    axis.invert_yaxis()
    axis.margins(x=0.15)
    axis.set_xlabel("weight")
    return figure
