"""Charts of the report, and their SVG for a page whose style sheet colours them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

# Pixels. Three charts stand beside each other; on a telephone one is as wide as the page.
WIDTH, HEIGHT = 330, 215
LEFT, RIGHT, TOP, BOTTOM = 60, 318, 10, 175  # between its axes
DOT_RADIUS = 3.5
SHADES = 8

Points = Sequence[tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Axis:
    """A linear or logarithmic scale.

    Attributes:
      low, high: the values at its ends, both above 0 if it is logarithmic.
      logarithmic: equal ratios rather than equal differences are equally far apart.
      label: what it measures.
      whole: it counts: ticks are whole numbers.
    """

    low: float
    high: float
    logarithmic: bool = False
    label: str = ""
    whole: bool = False

    def inside(self, value: float) -> float:
        """Returns the value, or the nearer end for one outside, which is drawn there."""
        return min(max(value, self.low), self.high)

    def at(self, value: float, start: float, end: float) -> float:
        """Returns where a value lies between the places `start` of `low` and `end` of `high`."""
        low, high, value = (self._scaled(v) for v in (self.low, self.high, self.inside(value)))
        share = (value - low) / (high - low) if high > low else 0.5
        return round(start + share * (end - start), 1)

    def ticks(self) -> dict[float, str]:
        """Returns a handful of round values within the axis, and how they are written."""
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
        low, high = self.low - margin, self.high + margin
        return {tick: f"{tick:.4g}" for tick in found if low <= tick <= high}

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.logarithmic else value


@dataclasses.dataclass(frozen=True)
class Chart:
    """Two axes and what is drawn between them.

    Attributes:
      title: what a screen reader says of the chart.
      x, y: its axes.
      marks: points by the way they are drawn, one way upon the other: `band`, the area within;
        `line`, `line second` or `guide`, joined; `dot` or `dot hollow`, each by itself.
    """

    title: str
    x: Axis
    y: Axis
    marks: Mapping[str, Points]

    def svg(self) -> Markup:
        """Draws the chart in shapes whose classes are the ways of drawing."""
        parts = []
        for tick, label in self.y.ticks().items():
            height = self.y.at(tick, BOTTOM, TOP)
            parts.append(
                Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                    LEFT, RIGHT, height, height
                )
            )
            parts.append(_text(LEFT - 6, height + 4, label, "end"))
        for tick, label in self.x.ticks().items():
            parts.append(_text(self.x.at(tick, LEFT, RIGHT), BOTTOM + 18, label, "middle"))
        parts.append(_text((LEFT + RIGHT) / 2, HEIGHT - 6, self.x.label, "middle"))
        middle = (BOTTOM + TOP) / 2
        parts.append(
            Markup('<g transform="rotate(-90 11 {})">{}</g>').format(
                middle, _text(11, middle, self.y.label, "middle")
            )
        )
        for kind, points in self.marks.items():
            places = [(self.x.at(a, LEFT, RIGHT), self.y.at(b, BOTTOM, TOP)) for a, b in points]
            if kind in ("dot", "dot hollow"):
                parts += [_circle(kind, a, b, DOT_RADIUS) for a, b in places]
                continue
            shape = "polygon" if kind == "band" else "polyline"
            joined = " ".join(f"{a},{b}" for a, b in places)
            parts.append(Markup('<{} class="{}" points="{}"/>').format(shape, kind, joined))
        return _svg(self.title, WIDTH, HEIGHT, parts)


def reliability(title: str, vertical: str, points: Points, before: Points = ()) -> Chart:
    """Returns the share of positive cells by predicted probability, both on logarithmic axes.

    Shares of 0 are hollow dots at the lower end, which stands for everything below it.

    Args:
      title, vertical: what is shown, and what the shares are of.
      points: prediction and share of each bin.
      before: those of another line behind it.
    """
    known = [value for point in (*before, *points) for value in point if value > 0]
    low = 10.0 ** math.floor(math.log10(min(known, default=0.1)))
    positive = [point for point in points if point[1] > 0]
    behind = {"line second": [point for point in before if point[1] > 0]} if before else {}
    return Chart(
        title,
        Axis(low, 1, True, "Predicted probability"),
        Axis(low, 1, True, vertical),
        {
            "guide": [(low, low), (1, 1)],
            **behind,
            "line": positive,
            "dot": positive,
            "dot hollow": [point for point in points if point[1] == 0],
        },
    )


def feature_map(title: str, positions: np.ndarray, groups: Sequence[str]) -> Markup:
    """Draws where a DeepInsight map places the columns.

    Args:
      title: what a screen reader says of the chart.
      positions: [F, 2], the first axis downwards as in the image.
      groups: [F] `gene`, `cell` or `treatment`, the class of each dot; treatment is drawn last.
    """
    places = _square(positions, WIDTH - 20) + 10
    radii = {"gene": 2, "cell": 2, "treatment": 5}
    order = sorted(range(len(groups)), key=lambda i: list(radii).index(groups[i]))
    dots = [_circle(groups[i], places[i, 1], places[i, 0], radii[groups[i]]) for i in order]
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


def _svg(
    title: str, width: int, height: int, parts: Sequence[Markup], shape: str = "chart"
) -> Markup:
    return Markup(
        '<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>{}</svg>'
    ).format(shape, width, height, title, title, Markup("").join(parts))


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def _circle(kind: str, x: float, y: float, radius: float) -> Markup:
    return Markup('<circle class="{}" cx="{}" cy="{}" r="{}"/>').format(kind, x, y, radius)


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
