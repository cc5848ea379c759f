"""The report of a run: one HTML file that needs nothing else, from its records."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from moa_jax.report import ranking
from moa_jax.report.answers_record import Score
from moa_jax.report.original import BLEND_SCORE
from moa_jax.report.records import Report
from moa_jax.store import files

ABSENT = "–"


def write(path: str | Path, report: Report) -> None:
    """Writes the page: HTML with its style inside, nothing from the network.

    Where there are hits a script sorts and filters their table, which is whole without it.
    """
    page = (
        environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            config=json.dumps(report.config, indent=2, ensure_ascii=False),
            original_blend=BLEND_SCORE,
            leads=report.blend is not None
            and ranking.leads(report.models, report.blend.best_model),
        )
    )
    files.write_text(path, page)


def environment(*packages: str) -> jinja2.Environment:
    """Returns the environment of templates in the report's style, those of packages before its."""
    loaders = [jinja2.PackageLoader(package, ".") for package in (*packages, "moa_jax.report")]
    found = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(
        loss=_loss,
        spread=ranking.spread,
        weight=_weight,
        share=_share,
        chance=_chance,
        between=_between,
        against=_against,
        counted=_counted,
        decimals=_decimals,
        correlation=_correlation,
        number=_number,
        duration=_duration,
        memory=_memory,
        plain=_plain,
        breakable=_breakable,
    )
    return found


def _loss(value: float | None) -> str:
    # Adding 0 turns the -0 that a tiny negative difference rounds to into 0.
    return ABSENT if value is None else f"{round(value, 5) + 0:.5f}"


def _weight(value: float) -> str:
    return f"{value:.4f}"


def _share(value: float) -> str:
    """Returns a share of 1 in per cent; only what is 1 is 100 %, and what is 0 is 0 %."""
    text = f"{100 * value:.3g}"
    if text == "100" and value < 1:
        text = "> 99.9"
    elif 0 < value < 1e-5:
        text = "< 0.001"
    return f"{text} %".replace(" ", "\N{NO-BREAK SPACE}")


def _chance(probability: float) -> str:
    """Returns a probability of what is not known yet in per cent: it is never 0 or 100 %."""
    return _share(min(max(probability, 1e-9), 1 - 1e-9))


def _between(low: float | None, high: float | None, digits: int | None = None) -> str:
    """Returns an interval in brackets, nothing where it is not known.

    Unless `digits` are given there are three to five, so that two are of the interval's width.
    """
    if low is None or high is None:
        return ""
    if digits is None:
        width = high - low
        digits = min(max(1 - math.floor(math.log10(width)), 3), 5) if width > 0 else 5
    return f"({_decimals(low, digits)} to {_decimals(high, digits)})"


def _against(score: Score) -> str:
    """Returns by how much more or less a score is than the blend's, and the interval of that."""
    above, low, high = score.above or 0, score.above_low, score.above_high
    if above >= 0:
        return f"{_loss(above)} {_between(low, high)} more"
    low, high = (None if end is None else -end for end in (high, low))
    return f"{_loss(-above)} {_between(low, high)} less"


def _counted(number: int | None, noun: str) -> str:
    return f"{_number(number)} {noun}{'' if number == 1 else 's'}"


def _decimals(value: float | None, digits: int = 3) -> str:
    return ABSENT if value is None else f"{round(value, digits) + 0:.{digits}f}"


def _correlation(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.2f}"


def _number(value: int | None) -> str:
    return ABSENT if value is None else f"{value:,}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ABSENT
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _memory(value: int | None) -> str:
    if value is None:
        return ABSENT
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"


def _plain(value: Any) -> str:
    if value is None:
        return ABSENT
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _breakable(name: str) -> Markup:
    """Lets a name of words that underscores join break after any of them."""
    return Markup("_<wbr>").join(name.split("_"))
