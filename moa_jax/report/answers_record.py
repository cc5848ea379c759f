"""What the report shows of answers: scores, hits, mechanisms, calibration and drivers."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from moa_jax.answers.rule import AnswerRule
from moa_jax.report import charts, drivers, hits
from moa_jax.report.charts import Chart
from moa_jax.report.drivers import Driver
from moa_jax.report.hits import Hits
from moa_jax.store import files

# Mechanisms that the page lists; the file beside it has all.
MOST_MECHANISMS = 500
# Mechanisms whose features it names.
MOST_DRIVEN = 60
# What is said where nobody knows what a score says is predicted.
UNKNOWN = "not known"


@dataclasses.dataclass(frozen=True)
class Score:
    """How well something predicts the wells out of fold.

    Attributes:
      name: the model's, empty for what is none.
      kind: `blend`, `baseline`, `model`, or `constant`, each mechanism's share of the wells.
      whole: what its folds keep whole, None where that is not known or does not matter.
      log_loss, low, high: log loss, and the ends of its interval over compounds, or wells.
      above, above_low, above_high: by how much it is above the blend's, from the same resamples.
      roc_auc, average_precision: means over mechanisms.
    """

    name: str
    kind: str
    whole: str | None
    log_loss: float
    low: float | None
    high: float | None
    above: float | None
    above_low: float | None
    above_high: float | None
    roc_auc: float | None = None
    average_precision: float | None = None


@dataclasses.dataclass(frozen=True)
class OtherScore:
    """How well the folds of the other question say that something predicts; see `Score`."""

    name: str
    log_loss: float
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True)
class Called:
    """What a rule calls out of fold: calls, false ones, the estimated share; its calibration.

    `least` is the probability from which on it calls anything: rules of older work folders may call
    what is likelier false than true.
    """

    calls: float
    false_calls: float
    share: float
    method: str
    losses: Mapping[str, float]
    least: float


@dataclasses.dataclass(frozen=True)
class Answers:
    """What is known of answers; empty where there is nothing to show.

    Attributes:
      rate: accepted share of false calls.
      listed: mechanisms of each compound or well that the CSV lists.
      compounds: number of compounds among the training wells; None where they are not known.
      scores: of the blend, of models and of what knows no profile.
      others: those on the folds of the other question, by model, the blend's by an empty text.
      rules: of `wells` and `compounds`.
      before, after: reliability of wells' probabilities as blended, and cross-calibrated.
      mechanisms: rows of `mechanisms.csv`, NaN as None.
      hits: what is to be predicted, None where nothing is.
      drivers: features by mechanism.
    """

    rate: float = math.nan
    listed: int = 0
    compounds: int | None = None
    scores: tuple[Score, ...] = ()
    others: Mapping[str, OtherScore] = dataclasses.field(default_factory=dict)
    rules: Mapping[str, Called] = dataclasses.field(default_factory=dict)
    before: Sequence[Mapping[str, float]] = ()
    after: Sequence[Mapping[str, float]] = ()
    mechanisms: tuple[Mapping[str, Any], ...] = ()
    hits: Hits | None = None
    drivers: tuple[Driver, ...] = ()

    def asked(self) -> str:
        """Returns of what mechanisms are to be predicted, in a few words."""
        if self.hits is None or not self.hits.count:
            blend = self.blend()
            predicted = UNKNOWN if blend is None else self.predicted(blend)
            return "new wells" if predicted == UNKNOWN else predicted
        wells = _counted(self.hits.wells, "well")
        if self.hits.kind != "compound":
            return wells
        return f"{_counted(self.hits.count, 'compound')} ({wells})"

    def units(self) -> str:
        """Returns what intervals are over and calibration keeps apart, in a word."""
        return "wells" if self.compounds is None else "compounds"

    def predicted(self, score: Score) -> str:
        """Returns what a score says is predicted."""
        whole = score.whole or ""
        if whole.startswith("compounds"):
            return f"new {whole.replace('rows', 'wells')}"
        wells = "new wells" if self.compounds is None else "new wells of known compounds"
        return {"rows": wells, "groups": "wells of new groups"}.get(whole, UNKNOWN)

    def of(self, kind: str) -> tuple[Score, ...]:
        return tuple(score for score in self.scores if score.kind == kind)

    def by_name(self) -> Mapping[str, Score]:
        """Returns the scores of models and baselines."""
        return {score.name: score for score in self.scores if score.kind in ("model", "baseline")}

    def blend(self) -> Score | None:
        """Returns the blend's score; None where there is none."""
        return next(iter(self.of("blend")), None)

    def best_baseline(self) -> Score | None:
        """Returns the lowest loss of what a network is held against, shares of the wells too."""
        found = self.of("baseline") + self.of("constant")
        return min(found, key=lambda score: score.log_loss, default=None)

    def no_better_than_shares(self) -> bool:
        """Tells whether the blend may be no better than each mechanism's share of the wells."""
        ends = [end for score in self.of("constant") for end in (score.above, score.above_low)]
        return any(end is not None and end <= 0 for end in ends)

    def main_rule(self) -> Called | None:
        return self.rules.get("compounds", self.rules.get("wells"))

    def by_mechanism(self) -> Mapping[str, Mapping[str, Any]]:
        """Returns the scores of each mechanism by its name, those with most wells first."""
        ordered = sorted(self.mechanisms, key=lambda row: row["wells"], reverse=True)
        return {row["mechanism"]: row for row in ordered}

    def listed_mechanisms(self) -> tuple[Mapping[str, Any], ...]:
        """Returns the scores of the mechanisms that the page lists."""
        found = self.by_mechanism()
        return tuple(found[name] for name in self._listed(found, MOST_MECHANISMS))

    def listed_drivers(self) -> tuple[Driver, ...]:
        """Returns the drivers of the mechanisms whose features the page names."""
        found = {driver.mechanism: driver for driver in self.drivers}
        ordered = [name for name in self.by_mechanism() if name in found]
        names = self._listed(dict.fromkeys((*ordered, *found)), MOST_DRIVEN)
        return tuple(found[name] for name in names)

    def _listed(self, names: Iterable[str], most: int) -> list[str]:
        """Returns the first names in their order, but before others those that hits have."""
        called = {
            name for hit in (self.hits.shown if self.hits else ()) for name, _ in hit.confident
        }
        chosen = set(sorted(names, key=lambda name: name not in called)[:most])
        return [name for name in names if name in chosen]

    def reliability_chart(self) -> Chart:
        """Returns the share of positive cells by predicted probability, before and after."""
        before, after = (
            [(part["predicted"], part["observed"]) for part in bins]
            for bins in (self.before, self.after)
        )
        return charts.reliability(
            "Reliability: share of wells that have a mechanism by its predicted probability",
            "Share of wells that have it",
            after,
            before,
        )


def collect(workdir: Path) -> Answers:
    """Reads what there is to show of answers.

    Raises:
      UserError: a file is damaged.
    """
    folder = workdir / "blend"
    path = folder / "answers.json"
    stored = files.read_json_object(path) if os.path.lexists(path) else None
    found = Answers()
    if stored is not None:
        with files.parsing(path):
            found = Answers(
                rate=float(stored["false_discovery_rate"]),
                listed=int(stored["listed"]),
                compounds=stored["compounds"],
                scores=tuple(Score(**score) for score in stored["scores"]),
                others=_others(stored.get("other_folds")),
                rules={name: _called(rule) for name, rule in stored["rules"].items()},
                before=stored["reliability"]["before"],
                after=stored["reliability"]["after"],
            )
    return dataclasses.replace(
        found,
        mechanisms=_mechanisms(folder / "mechanisms.csv"),
        hits=hits.read(folder / "predictions.csv"),
        drivers=drivers.read(folder / "attributions.parquet"),
    )


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def _others(stored: Mapping[str, Any] | None) -> dict[str, OtherScore]:
    found = [OtherScore(**score) for score in stored["scores"]] if stored else []
    return {score.name: score for score in found}


def _called(rule: Mapping[str, Any]) -> Called:
    found = AnswerRule.restore(rule)
    called = found.thresholds[np.isfinite(found.thresholds)]
    least = float(found.calibrated(called).min(initial=1))
    method = found.calibration.method
    return Called(found.calls, found.false_calls, found.share, method, found.losses, least)


def _mechanisms(path: Path) -> tuple[Mapping[str, Any], ...]:
    if not os.path.lexists(path):
        return ()
    files.check_regular(path)
    with files.parsing(path):
        table = hits.read_csv(path, "mechanism")
        table = table.astype({"wells": int, "log_loss": float})
        return tuple(
            {name: None if value != value else value for name, value in row.items()}
            for row in table.to_dict("records")
        )
