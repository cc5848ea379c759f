"""Tests of the report's charts: scales, ticks, and what is drawn where."""

import dataclasses
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from moa_jax.report import charts
from moa_jax.report.charts import Axis, Chart
from moa_jax.report.findings import Bin, Curve, Findings


def parse(drawn):
    return ElementTree.fromstring(str(drawn.svg() if isinstance(drawn, Chart) else drawn))


def of_class(svg, name):
    return [e for e in parse(svg).iter() if name in e.get("class", "").split()]


def points(element):
    return [tuple(map(float, pair.split(","))) for pair in element.get("points").split()]


def calibration(predicted, observed):
    bins = (Bin(p, o, 1, 0) for p, o in zip(predicted, observed, strict=True))
    return Findings(calibration=tuple(bins)).calibration_chart()


def test_linear_axis():
    axis = Axis(10, 30)
    assert [axis.at(v, 100, 200) for v in (10, 15, 30)] == [100, 125, 200]
    assert [axis.at(v, 100, 200) for v in (-5, 99)] == [100, 200]
    assert list(axis.ticks()) == [10, 15, 20, 25, 30]


def test_logarithmic_axis_runs_upwards():
    axis = Axis(0.001, 1, logarithmic=True)
    assert [axis.at(v, 200, 50) for v in (0.001, 0.01, 0.1, 1)] == [200, 150, 100, 50]
    np.testing.assert_allclose(list(axis.ticks()), [0.001, 0.01, 0.1, 1], rtol=1e-12)


@pytest.mark.parametrize(
    ("low", "high", "logarithmic", "expected"),
    [
        (0.015, 0.021, True, [0.016, 0.018, 0.02]),
        (0.03, 0.7, True, [0.05, 0.1, 0.2, 0.5]),
        (1, 2, False, [1, 1.25, 1.5, 1.75, 2]),
        (1, 25, False, [10, 20]),
        (0.5, 0.5, True, []),
    ],
)
def test_ticks_are_round_and_within(low, high, logarithmic, expected):
    ticks = list(Axis(low, high, logarithmic).ticks())
    np.testing.assert_allclose(ticks, expected, rtol=1e-9)


def test_ticks_of_what_is_counted_are_whole():
    assert list(Axis(1, 2, whole=True).ticks()) == [1, 2]
    assert list(Axis(1, 8, whole=True).ticks()) == [2, 4, 6, 8]


def test_axis_of_a_single_value():
    assert Axis(0.5, 0.5, logarithmic=True).at(0.5, 0, 100) == 50


def test_learning_curve():
    curve = Curve("stage", 5, (1, 2, 3), (4, 2, 1), (8, 4, 2), (7, 3, 1), (9, 5, 3))
    svg = dataclasses.replace(curve.chart(), title="a < b")
    assert parse(svg).get("aria-label") == "a < b"
    valid, train = points(of_class(svg, "line")[1]), points(of_class(svg, "line")[0])
    assert [x for x, _ in valid] == [60, 189, 318]
    assert valid[0][1] < valid[1][1] < valid[2][1]  # losses fall, downwards on the page
    # Where validation and training have the same loss they are as high.
    assert valid[1][1] == train[0][1]
    assert len(points(of_class(svg, "band")[0])) == 6
    assert not of_class(svg, "dot")


def test_learning_curve_of_one_epoch_is_a_dot():
    svg = Curve("one", 1, (1,), (0.3,), (0.2,), (0.2,), (0.2,)).chart()
    assert len(of_class(svg, "dot")) == 1


def test_calibration_on_the_diagonal():
    svg = calibration([0.001, 0.1], [0.001, 0.1])
    (guide,), (line,) = of_class(svg, "guide"), of_class(svg, "line")
    (x0, y0), (x1, y1) = points(guide)
    for x, y in points(line):
        assert (x - x0) / (x1 - x0) == pytest.approx((y - y0) / (y1 - y0), abs=1e-3)


def test_calibration_without_positives_is_hollow_at_the_lower_end():
    svg = calibration([0.0001, 0.1], [0.0, 0.2])
    (hollow,) = of_class(svg, "hollow")
    assert float(hollow.get("cy")) == charts.BOTTOM
    assert len(points(of_class(svg, "line")[0])) == 1
    assert of_class(calibration([0.0], [0.0]), "hollow")


def test_feature_map_is_stretched_like_the_image():
    positions = np.array([[0.0, 5.0], [1.0, 5.5], [4.0, 7.0]])
    svg = charts.feature_map("m", positions, ["gene", "treatment", "cell"])
    places = [(e.get("class"), float(e.get("cx")), float(e.get("cy"))) for e in parse(svg)[1:]]
    # The first axis runs down; the treatment is drawn last, on top.
    assert places == [("gene", 10, 10), ("cell", 320, 320), ("treatment", 87.5, 87.5)]


def test_image_has_the_mean_of_shared_pixels_in_its_shade():
    pixels = np.array([[0, 0], [0, 0], [1, 2], [2, 1]])
    svg = charts.image("i", pixels, np.array([0.2, 0.6, 0.0, 0.8]), side=3)
    shades = {
        square: float(path.get("fill-opacity"))
        for path in parse(svg)[1:]
        for square in re.findall(r"M(\d \d)h", path.get("d"))
    }
    assert shades == {"0 0": 0.625, "2 1": 0.125, "1 2": 1.0}
    assert parse(svg).get("viewBox") == "0 0 3 3"
