"""Charts of the report as SVG for an HTML page, whose style sheet colours them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

# Pixels. Three charts stand beside each other; on a telephone one is as wide as the page.
WIDTH, HEIGHT = 330, 215
LEFT, RIGHT, TOP, BOTTOM = 60, 12, 10, 40
SHADES = 8


@dataclasses.dataclass(frozen=True)
class Axis:
    """A linear or logarithmic scale from values to pixels.

    Attributes:
      low, high: the values at its ends, both above 0 if it is logarithmic.
      start, end: the pixels there.
      logarithmic: equal ratios rather than equal differences are equally far apart.
      label: what it measures.
      whole: it counts: ticks are whole numbers.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False
    label: str = ""
    whole: bool = False

    def at(self, value: float) -> float:
        """Returns the pixel of a value; values outside are drawn at the nearer end."""
        low, high, value = (self._scaled(v) for v in (self.low, self.high, self._inside(value)))
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Returns a handful of round values within the axis."""
        if self.logarithmic and self.high / self.low >= 8:
            exponents = range(
                math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1
            )
            steps = (1,) if len(exponents) > 3 else (1, 2, 5)
            found = [step * 10.0**exponent for exponent in exponents for step in steps]
        else:
            step = _round_step((self.high - self.low) / 4)
            step = math.ceil(step) if self.whole else step
            first = math.ceil(self.low / step - 1e-9)
            found = [step * (first + index) for index in range(9)]
        margin = 1e-9 * abs(self.high)
        return [tick for tick in found if self.low - margin <= tick <= self.high + margin]

    def _inside(self, value: float) -> float:
        return min(max(value, self.low), self.high)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.logarithmic else value


def learning_curve(
    title: str,
    epochs: Sequence[int],
    train: Sequence[float],
    valid: Sequence[float],
    lowest: Sequence[float],
    highest: Sequence[float],
) -> Markup:
    """Draws training and validation loss by epoch.

    Args:
      title: what a screen reader says of the chart.
      epochs: [E] from 1.
      train, valid: [E] median loss of the members, above 0.
      lowest, highest: [E] range of the members' validation losses, shown as a band.
    """
    losses = [*train, *lowest, *highest]
    x = Axis(1, max(max(epochs), 2), LEFT, WIDTH - RIGHT, label="Epoch", whole=True)
    y = Axis(min(losses), max(losses), HEIGHT - BOTTOM, TOP, logarithmic=True, label="Loss")
    band = [*zip(epochs, highest, strict=True), *reversed([*zip(epochs, lowest, strict=True)])]
    shapes = [
        Markup('<polygon class="band" points="{}"/>').format(_points(x, y, band)),
        Markup('<polyline class="line second" points="{}"/>').format(
            _points(x, y, zip(epochs, train, strict=True))
        ),
        Markup('<polyline class="line" points="{}"/>').format(
            _points(x, y, zip(epochs, valid, strict=True))
        ),
    ]
    if len(epochs) == 1:  # a line of one point cannot be seen
        shapes.append(_dot(x.at(epochs[0]), y.at(valid[0]), 3))
    return _chart(title, x, y, shapes)


def calibration(title: str, predicted: Sequence[float], observed: Sequence[float]) -> Markup:
    """Draws observed frequency by predicted probability on logarithmic axes.

    Shares of 0 are drawn hollow at the lower end, which stands for everything below it.

    Args:
      title: what a screen reader says of the chart.
      predicted, observed: [B] mean prediction and share of positive cells of each bin.
    """
    known = [value for value in (*predicted, *observed) if value > 0]
    low = 10.0 ** math.floor(math.log10(min(known, default=0.1)))
    x = Axis(low, 1, LEFT, WIDTH - RIGHT, logarithmic=True, label="Predicted probability")
    y = Axis(low, 1, HEIGHT - BOTTOM, TOP, logarithmic=True, label="Share positive")
    points = [*zip(predicted, observed, strict=True)]
    shapes = [
        Markup('<polyline class="guide" points="{}"/>').format(_points(x, y, [(low, low), (1, 1)])),
        Markup('<polyline class="line" points="{}"/>').format(
            _points(x, y, [point for point in points if point[1] > 0])
        ),
        *(_dot(x.at(p), y.at(o), 3.5, hollow=o == 0) for p, o in points),
    ]
    return _chart(title, x, y, shapes)


def feature_map(title: str, positions: np.ndarray, groups: Sequence[str]) -> Markup:
    """Draws where a DeepInsight map places the columns.

    Args:
      title: what a screen reader says of the chart.
      positions: [F, 2], the first axis downwards as in the image.
      groups: [F] `gene`, `cell` or `treatment`, the class of each dot; treatment is drawn last.
    """
    places = _square(positions, WIDTH - 20) + 10
    order = sorted(range(len(groups)), key=lambda i: ("gene", "cell", "treatment").index(groups[i]))
    dots = [
        Markup('<circle class="{}" cx="{}" cy="{}" r="{}"/>').format(
            groups[i], places[i, 1], places[i, 0], 5 if groups[i] == "treatment" else 2
        )
        for i in order
    ]
    return _svg(title, WIDTH, WIDTH, dots)


def image(title: str, pixels: np.ndarray, values: np.ndarray, side: int) -> Markup:
    """Draws a profile as its image: in each pixel the mean of the columns that share it.

    Args:
      title: what a screen reader says of the image.
      pixels: [F, 2] row and column of each column of the profile, below `side`.
      values: [F] scaled values in [0, 1].
      side: height and width in pixels.
    """
    places = pixels[:, 0] * side + pixels[:, 1]
    occupied, inverse = np.unique(places, return_inverse=True)
    means = np.bincount(inverse, values) / np.bincount(inverse)
    # The values of one profile lie close together: the shades are of their range, not of [0, 1].
    spread = means.max() - means.min()
    shades = np.minimum(SHADES * (means - means.min()) / (spread or 1), SHADES - 1).astype(int)
    paths = []
    for shade in range(SHADES):
        squares = "".join(f"M{p % side} {p // side}h1v1h-1z" for p in occupied[shades == shade])
        opacity = round((shade + 1) / SHADES, 3)
        paths.append(Markup('<path fill-opacity="{}" d="{}"/>').format(opacity, squares))
    return _svg(title, side, side, paths, "image")


def _chart(title: str, x: Axis, y: Axis, shapes: Sequence[Markup]) -> Markup:
    parts = []
    for tick in y.ticks():
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                x.start, x.end, y.at(tick), y.at(tick)
            )
        )
        parts.append(_text(x.start - 6, y.at(tick) + 4, f"{tick:.4g}", "end"))
    for tick in x.ticks():
        parts.append(_text(x.at(tick), y.start + 18, f"{tick:.4g}", "middle"))
    parts.append(_text((x.start + x.end) / 2, HEIGHT - 6, x.label, "middle"))
    middle = (y.start + y.end) / 2
    parts.append(
        Markup('<g transform="rotate(-90 11 {})">{}</g>').format(
            middle, _text(11, middle, y.label, "middle")
        )
    )
    return _svg(title, WIDTH, HEIGHT, [*parts, *shapes])


def _svg(
    title: str, width: int, height: int, parts: Sequence[Markup], shape: str = "chart"
) -> Markup:
    return Markup(
        '<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>{}</svg>'
    ).format(shape, width, height, title, title, Markup("").join(parts))


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def _dot(x: float, y: float, radius: float, hollow: bool = False) -> Markup:
    return Markup('<circle class="{}" cx="{}" cy="{}" r="{}"/>').format(
        "dot hollow" if hollow else "dot", x, y, radius
    )


def _points(x: Axis, y: Axis, points) -> str:
    return " ".join(f"{x.at(a)},{y.at(b)}" for a, b in points)


def _square(positions: np.ndarray, side: float) -> np.ndarray:
    """Returns the positions with each axis stretched to [0, side], as an image does it."""
    low, spread = positions.min(0), np.ptp(positions, axis=0)
    return np.round(side * (positions - low) / np.where(spread > 0, spread, 1), 1)


def _round_step(step: float) -> float:
    """Returns the smallest of 1, 2, 2.5, 5 times a power of ten that is at least `step`."""
    if step <= 0:
        return 1.0
    magnitude = 10.0 ** math.floor(math.log10(step))
    return magnitude * next(f for f in (1, 2, 2.5, 5, 10) if f * magnitude >= step * (1 - 1e-9))
