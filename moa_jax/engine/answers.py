"""Answers of a run: what the blend teaches of wells and compounds, and what it says of new ones."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from moa_jax.answers import calibration, compounds, rule, table
from moa_jax.answers import mechanism_scores as scores
from moa_jax.answers.mechanism_scores import Resamples
from moa_jax.answers.rule import AnswerRule
from moa_jax.blend import stored_weights
from moa_jax.config import AnswersConfig
from moa_jax.data.dataset import Dataset
from moa_jax.errors import UserError
from moa_jax.store import files
from moa_jax.store.predictions import Predictions

FILE = Path("blend") / "answers.json"
# Beside the record, and beside the predictions of new rows.
PREDICTIONS = ("predictions.csv", "predictions.parquet")
# Rows whose lines are in memory together.
PART = 1024
WELLS, COMPOUNDS = "wells", "compounds"


@dataclasses.dataclass(frozen=True)
class Learned:
    """What out-of-fold predictions teach.

    Attributes:
      rules: those of `wells` and, where compounds of training rows are known, of `compounds`.
      record: what `blend/answers.json` holds.
      mechanisms: a row per mechanism, see `mechanism_scores.table`, and from which calibrated
        probability on it is called.
      reliability: bins of each mechanism.
    """

    rules: Mapping[str, AnswerRule]
    record: Mapping[str, Any]
    mechanisms: pd.DataFrame
    reliability: pd.DataFrame

    @property
    def hash(self) -> str:
        """The hash of the record, by which weights name what was learned with them."""
        return files.content_hash(self.record)

    def write(self, workdir: Path) -> None:
        """Writes the record and both tables; raises a UserError where that cannot be."""
        folder = workdir / FILE.parent
        tables = {"mechanisms.csv": self.mechanisms, "reliability.csv": self.reliability}
        for name, found in tables.items():
            files.write_text(folder / name, found.to_csv(index=False, lineterminator="\n"))
        files.write_sealed(workdir / FILE, self.record)


def remove(workdir: Path) -> None:
    """Removes what an earlier blend said, where this one has nothing to say."""
    folder = workdir / FILE.parent
    names = (FILE.name, "mechanisms.csv", "reliability.csv", *PREDICTIONS)
    files.remove(*(folder / name for name in names))


def read(
    workdir: Path, expected: str, num_mechanisms: int
) -> tuple[dict[str, AnswerRule], int, dict[str, Any]]:
    """Returns the rules that a blend learned, how many lines it lists, and the whole record.

    Args:
      workdir: the work folder.
      expected: the hash that the weights name.
      num_mechanisms: how many mechanisms there are.

    Raises:
      UserError: the record is missing, damaged, or not the one that the weights name.
    """
    path, remedy = workdir / FILE, stored_weights.REMEDY
    record = files.read_sealed(path, remedy)
    if files.content_hash(record) != expected:
        raise UserError(
            f"{path}: expected what was learned with the weights, found other; {remedy}"
        )
    with files.parsing(path):
        rules = {name: AnswerRule.restore(found) for name, found in record["rules"].items()}
        if any(found.thresholds.shape != (num_mechanisms,) for found in rules.values()):
            raise ValueError(f"expected thresholds of {num_mechanisms} mechanisms")
        return rules, int(record["listed"]), record


def learn(
    config: AnswersConfig,
    dataset: Dataset,
    oof: Mapping[str, Predictions],
    blended: Predictions,
    splits: Mapping[str, Sequence[str]],
    baselines: Collection[str],
    seed: int,
    known: np.ndarray | None = None,
) -> Learned:
    """Returns what the out-of-fold predictions of a blend teach.

    Args:
      config: how answers are given.
      dataset: the training rows.
      oof: predictions of each model, rows as the treated of `dataset`.
      blended: those of the blend.
      splits: models by what their folds keep whole.
      baselines: the models that are baselines.
      seed: of resamples and of the parts of the cross-fit.
      known: [N, L] bool, which labels of the treated rows are known; None for all.
    """
    rows = dataset.take(np.flatnonzero(~dataset.is_control))
    labels, values = rows.targets.values, blended.values
    if known is not None:
        labels = np.where(known, labels, 0)
    units = np.arange(len(rows))
    if rows.drug_id is not None:
        units, _ = compounds.numbered(rows.drug_id)
    methods = calibration.METHODS if config.calibration == "auto" else (config.calibration,)
    options = (config.false_discovery_rate, methods, seed)
    rules = {}
    rules[WELLS], crossed = rule.learn(values, labels, units, *options, known)
    main = values, labels, units, known
    if rows.drug_id is not None:
        found = compounds.combined(values, rows.drug_id)
        having = np.zeros(found.probabilities.shape, labels.dtype)
        np.maximum.at(having, units, labels)
        any_known = None
        if known is not None:  # of a compound, whatever is of one of its wells
            any_known = np.zeros(having.shape, bool)
            np.logical_or.at(any_known, units, known)
        main = found.probabilities, having, np.arange(len(found.names)), any_known
        rules[COMPOUNDS], _ = rule.learn(*main[:3], *options, any_known)
    resamples = Resamples.draw(units, seed=seed)
    mechanisms = scores.table(blended.targets, labels, values, resamples, rows.drug_id, known)
    calls = _calls(rules.get(COMPOUNDS, rules[WELLS]), *main)
    record = {
        "false_discovery_rate": config.false_discovery_rate,
        "listed": config.listed,
        "rules": {name: found.record() for name, found in rules.items()},
        "compounds": int(units.max(initial=-1)) + 1 if rows.drug_id is not None else None,
        "scores": _scores(labels, oof, blended, splits, baselines, resamples, known),
        "reliability": {
            "before": scores.reliability(labels, values, known),
            "after": scores.reliability(labels, crossed, known),
        },
    }
    reliability = scores.reliability_table(blended.targets, labels, values, known)
    return Learned(rules, record, mechanisms.assign(**calls), reliability)


def _calls(
    main: AnswerRule,
    values: np.ndarray,
    labels: np.ndarray,
    units: np.ndarray,
    known: np.ndarray | None,
) -> dict[str, np.ndarray]:
    """Returns from which calibrated probability on mechanisms are called, and calls out of fold."""
    finite = np.isfinite(main.thresholds)
    at = main.calibrated(np.where(finite, main.thresholds, 0.5))
    weights = 1 / np.bincount(units)[units]
    called = main.confident(values) * weights[:, None]
    if known is not None:
        called = called * known
    return {
        "confident_from": np.where(finite, at, np.nan),
        "calls": called.sum(0),
        "false_calls": (called * (labels == 0)).sum(0),
    }


def _scores(
    labels: np.ndarray,
    oof: Mapping[str, Predictions],
    blended: Predictions,
    splits: Mapping[str, Sequence[str]],
    baselines: Collection[str],
    resamples: Resamples,
    known: np.ndarray | None,
) -> list[dict[str, Any]]:
    """Returns the score of the blend, of each model, and of what knows no profile."""
    whole_of = {name: whole for whole, names in splits.items() for name in names}
    total = len(labels) if known is None else np.maximum(known.sum(0), 1)
    constant = np.broadcast_to(labels.sum(0) / total, labels.shape)
    entries = [("blend", "blend", _only(splits), blended.values)]
    for name, found in oof.items():
        kind = "baseline" if name in baselines else "model"
        entries.append((name, kind, whole_of.get(name), found.values))
    entries.append(("", "constant", None, constant))
    reference, found_all = np.zeros(0), []
    for name, kind, whole, values in entries:
        losses = scores.overall(labels, values, resamples, known)
        reference = losses if kind == "blend" else reference
        loss, low, high = scores.interval(losses)
        above, above_low, above_high = scores.interval(losses - reference)
        entry = {
            "name": name, "kind": kind, "whole": whole, "log_loss": loss, "low": low, "high": high,
            "above": above, "above_low": above_low, "above_high": above_high,
        }  # fmt: skip
        if kind != "constant":
            auc, precision = scores.ranking(labels, values, resamples.once(), known)
            entry |= {"roc_auc": _mean(auc), "average_precision": _mean(precision)}
        found_all.append({key: _plain(value) for key, value in entry.items()})
    return found_all


def _only(splits: Mapping[str, Sequence[str]]) -> str | None:
    return next(iter(splits)) if len(splits) == 1 else None


def _mean(values: np.ndarray) -> float | None:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None


def _plain(value: Any) -> Any:
    """Returns a value as JSON has it, None for what is no number."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


class Answering:
    """Lines of wells as they come, and of compounds when all wells were added.

    Attributes:
      rules: rules of wells and, if there is one, of compounds.
      mechanisms: names of the L mechanisms.
    """

    def __init__(self, rules: Mapping[str, AnswerRule], mechanisms: Sequence[str]):
        self.rules, self.mechanisms = rules, mechanisms
        self._numbers: dict[str, int] = {}
        self._blend = compounds.Sums(len(mechanisms))
        self._models: dict[str, compounds.Sums] = {}

    def add(
        self, drugs: np.ndarray, blended: Predictions, by_model: Mapping[str, Predictions]
    ) -> None:
        """Adds wells to their compounds.

        Args:
          drugs: [N] compounds of the wells.
          blended: the wells' predictions.
          by_model: those of each model that is part of the blend.
        """
        numbers = [self._numbers.setdefault(drug, len(self._numbers)) for drug in drugs.tolist()]
        units = np.array(numbers, np.int64)
        self._blend.add(blended.values, units, blended.spread)
        for name, found in by_model.items():
            sums = self._models.setdefault(name, compounds.Sums(len(self.mechanisms)))
            sums.add(found.values, units)

    def wells(
        self, blended: Predictions, by_model: Mapping[str, Predictions]
    ) -> Iterator[pd.DataFrame]:
        """Yields the lines of wells; arguments as of `add`."""
        for part in _parts(len(blended.ids)):
            yield table.answer(
                self.rules[WELLS], blended.ids[part], self.mechanisms, blended.values[part],
                "sig_id", by_model=[found.values[part] for found in by_model.values()],
                member_spread=None if blended.spread is None else blended.spread[part],
            )  # fmt: skip

    def compounds(self) -> Iterator[pd.DataFrame]:
        """Yields the lines of the compounds of all wells that were added."""
        names = np.array([*self._numbers], object)
        found = self._blend.combined(names)
        by_model = [sums.combined(names).probabilities for sums in self._models.values()]
        main = self.rules.get(COMPOUNDS, self.rules[WELLS])
        for part in _parts(len(names)):
            yield table.answer(
                main, names[part], self.mechanisms, found.probabilities[part], "compound",
                found.counts[part], found.spread[part], [of_one[part] for of_one in by_model],
                found.member_spread[part],
            )  # fmt: skip


def _parts(count: int) -> Iterable[slice]:
    return (slice(start, start + PART) for start in range(0, count, PART))


@contextlib.contextmanager
def writing(
    folder: Path, listed: int, with_compounds: Callable[[], bool]
) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yields a function that appends lines to `predictions.csv` and `predictions.parquet`.

    Both appear when the block succeeds. The CSV has the highest `listed` ranks and the confident
    lines, six digits of each number, the parquet file has all.

    Args:
      folder: where they are written.
      listed: ranks that the CSV lists.
      with_compounds: tells, at the first lines, whether there is a column of compounds beside that
        of wells; one of the two is empty in every line.
    """
    csv_path, parquet_path = (folder / name for name in PREDICTIONS)
    with (
        files.replacing(parquet_path) as whole,
        files.replacing(csv_path) as short,
        open(short, "w", encoding="utf-8", newline="") as opened,
        contextlib.ExitStack() as stack,
    ):
        started: list[pa.parquet.ParquetWriter] = []

        def start() -> pa.parquet.ParquetWriter:
            if not started:
                schema = _schema(with_compounds())
                opened.write(",".join(schema.names) + "\n")
                writer = pa.parquet.ParquetWriter(whole, schema, write_page_checksum=True)
                started.append(stack.enter_context(writer))
            return started[0]

        def append(lines: pd.DataFrame) -> None:
            writer = start()
            lines = lines.reindex(columns=writer.schema.names)
            writer.write_table(pa.Table.from_pandas(lines, writer.schema, preserve_index=False))
            table.write_csv(table.shortened(lines, listed), opened)

        yield append
        start()


def _schema(with_compounds: bool) -> pa.Schema:
    return pa.schema(
        [
            *([("compound", pa.string())] if with_compounds else []),
            ("sig_id", pa.string()),
            ("mechanism", pa.string()),
            ("probability", pa.float64()),
            ("rank", pa.int32()),
            ("confident", pa.bool_()),
            ("replicates", pa.int32()),
            ("spread", pa.float64()),
            ("model_spread", pa.float64()),
            ("member_spread", pa.float64()),
        ]
    )


def write_test(
    folder: Path,
    learned: Learned | None,
    config: AnswersConfig,
    rows: Dataset | None,
    blended: Predictions,
    by_model: Mapping[str, Predictions],
) -> None:
    """Writes what is said of the rows to predict, controls left out.

    Args:
      folder: where `predictions.csv` and `predictions.parquet` are written.
      learned: what out-of-fold predictions taught; None where there are none: then probabilities
        are as they were blended and nothing is called.
      config: how answers are given.
      rows: the rows; None where only their predictions are known.
      blended: the blend's predictions.
      by_model: those of each model that is part of the blend.
    """
    rules = {WELLS: AnswerRule.none(len(blended.targets))} if learned is None else learned.rules
    answering = Answering(rules, blended.targets)
    drugs = None
    if rows is not None:
        treated = ~rows.is_control
        blended = blended.aligned(rows.ids[treated])
        by_model = {name: found.aligned(blended.ids) for name, found in by_model.items()}
        drugs = None if rows.drug_id is None else rows.drug_id[treated]
    with writing(folder, config.listed, lambda: drugs is not None) as append:
        if drugs is not None:
            answering.add(drugs, blended, by_model)
            for lines in answering.compounds():
                append(lines)
        for lines in answering.wells(blended, by_model):
            append(lines)


def weighed(
    models: Mapping[str, Predictions], weights: Mapping[str, Any]
) -> dict[str, Predictions]:
    """Returns the models that are part of a blend: those whose weight is not 0 throughout."""

    def counts(weight: Any) -> bool:
        return any(weight.values()) if isinstance(weight, Mapping) else bool(weight)

    return {name: found for name, found in models.items() if counts(weights[name])}
