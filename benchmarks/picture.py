"""The picture of how cost grows: a chart for every axis and measure, side by side, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from moa_jax.report.charts import HEIGHT, WIDTH, Axis, Chart

TITLE_HEIGHT = 22
# The charts' classes are coloured here, where there is no page.
STYLE = Markup(
    "<style>text{font:11px sans-serif;fill:#333}.title{font-weight:bold}"
    ".grid{stroke:#ddd}.line{fill:none;stroke:#0969da;stroke-width:1.5}"
    ".guide{fill:none;stroke:#999;stroke-dasharray:4 3}.dot{fill:#0969da}</style>"
)
# Sizes and costs, by measure.
Measures = Mapping[str, Sequence[tuple[float, float]]]


def svg(axes: Mapping[str, Measures]) -> str:
    """Returns the picture; dashed lines are what linear growth from the first point would be.

    Args:
      axes: what was measured, by axis.
    """
    columns = max(map(len, axes.values()), default=1)
    parts = [STYLE, Markup('<rect width="100%" height="100%" fill="white"/>')]
    for line, (axis, by_measure) in enumerate(axes.items()):
        for column, (name, costs) in enumerate(by_measure.items()):
            x, y = column * WIDTH, line * (HEIGHT + TITLE_HEIGHT)
            title = f"{name} over {axis}"
            parts.append(
                Markup('<text class="title" x="{}" y="{}">{}</text>').format(x + 60, y + 16, title)
            )
            unit = "GB" if name == "memory" else "seconds"
            drawn = chart(title, axis, unit, costs).svg()
            place = f'<svg x="{x}" y="{y + TITLE_HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
            parts.append(Markup(str(drawn).replace("<svg ", place, 1)))
    width, height = columns * WIDTH, len(axes) * (HEIGHT + TITLE_HEIGHT)
    head = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}">'
    )
    return str(head.format(width, height) + Markup("").join(parts) + Markup("</svg>\n"))


def chart(title: str, axis: str, unit: str, costs: Sequence[tuple[float, float]]) -> Chart:
    """Returns the chart of one measure, both axes logarithmic."""
    scale = 1e9 if unit == "GB" else 1.0
    points = [(value, cost / scale) for value, cost in costs]
    values, heights = zip(*points, strict=True)
    first, last = points[0], points[-1]
    linear = [first, (last[0], first[1] * last[0] / first[0])]
    return Chart(
        title,
        Axis(min(values), max(values), True, axis),
        Axis(min(heights) / 1.3, max(heights) * 1.3, True, unit),
        {"guide": linear, "line": points, "dot": points},
    )
