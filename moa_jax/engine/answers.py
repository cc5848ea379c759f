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

    def write(self, workdir: Path, run: str, weights: Mapping[str, Any]) -> None:
        """Writes the record and both tables; raises a UserError where that cannot be."""
        folder = workdir / FILE.parent
        tables = {"mechanisms.csv": self.mechanisms, "reliability.csv": self.reliability}
        for name, found in tables.items():
            files.write_text(folder / name, found.to_csv(index=False, lineterminator="\n"))
        origin = {"run": run, "weights": files.content_hash(weights)}
        files.write_sealed(workdir / FILE, {**self.record, **origin})


def remove(workdir: Path) -> None:
    """Removes what an earlier blend said, where this one has nothing to say."""
    folder = workdir / FILE.parent
    names = (FILE.name, "mechanisms.csv", "reliability.csv", *PREDICTIONS)
    files.remove(*(folder / name for name in names))


def read(
    workdir: Path, run: str, weights: Mapping[str, Any], num_mechanisms: int
) -> tuple[dict[str, AnswerRule], int, dict[str, Any]]:
    """Returns the rules that a blend learned, how many lines it lists, and the whole record.

    Raises:
      UserError: the record is missing, damaged, or of another run or other weights.
    """
    path, remedy = workdir / FILE, stored_weights.REMEDY
    record = files.read_sealed(path, remedy)
    origin = {"run": run, "weights": files.content_hash(weights)}
    if {name: record.get(name) for name in origin} != origin:
        raise UserError(f"{path}: expected those of this run's weights, found others; {remedy}")
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
    """
    rows = dataset.take(np.flatnonzero(~dataset.is_control))
    labels, values = rows.targets.values, blended.values
    units = np.arange(len(rows))
    if rows.drug_id is not None:
        units, _ = compounds.numbered(rows.drug_id)
    methods = calibration.METHODS if config.calibration == "auto" else (config.calibration,)
    options = (config.false_discovery_rate, methods, seed)
    rules, crossed = {}, {}
    rules[WELLS], crossed[WELLS] = rule.learn(values, labels, units, *options)
    by_compound = values, labels, units
    if rows.drug_id is not None:
        found = compounds.combined(values, rows.drug_id)
        having = np.zeros(found.probabilities.shape, labels.dtype)
        np.maximum.at(having, units, labels)
        by_compound = found.probabilities, having, np.arange(len(found.names))
        rules[COMPOUNDS], crossed[COMPOUNDS] = rule.learn(*by_compound, *options)
    resamples = Resamples.draw(units, seed=seed)
    mechanisms = scores.table(blended.targets, labels, values, resamples, rows.drug_id)
    main = rules.get(COMPOUNDS, rules[WELLS])
    calls = _calls(main, *by_compound)
    record = {
        "false_discovery_rate": config.false_discovery_rate,
        "listed": config.listed,
        "rules": {name: found.record() for name, found in rules.items()},
        "compounds": int(units.max(initial=-1)) + 1 if rows.drug_id is not None else None,
        "scores": _scores(labels, oof, blended, splits, baselines, resamples),
        "reliability": {
            "before": scores.reliability(labels, values),
            "after": scores.reliability(labels, crossed[WELLS]),
        },
    }
    reliability = scores.reliability_table(blended.targets, labels, values)
    return Learned(rules, record, mechanisms.assign(**calls), reliability)


def _calls(
    main: AnswerRule, values: np.ndarray, labels: np.ndarray, units: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns from which calibrated probability on mechanisms are called, and calls out of fold."""
    finite = np.isfinite(main.thresholds)
    at = main.calibrated(np.where(finite, main.thresholds, 0.5))
    weights = 1 / np.bincount(units)[units]
    called = main.confident(values) * weights[:, None]
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
) -> list[dict[str, Any]]:
    """Returns the score of the blend, of each model, and of what knows no profile."""
    whole_of = {name: whole for whole, names in splits.items() for name in names}
    constant = np.broadcast_to(labels.mean(0), labels.shape)
    entries = [("blend", "blend", _only(splits), blended.values)]
    for name, found in oof.items():
        kind = "baseline" if name in baselines else "model"
        entries.append((name, kind, whole_of.get(name), found.values))
    entries.append(("", "constant", None, constant))
    reference, found_all = np.zeros(0), []
    for name, kind, whole, values in entries:
        losses = scores.overall(labels, values, resamples)
        reference = losses if kind == "blend" else reference
        loss, low, high = scores.interval(losses)
        above, above_low, above_high = scores.interval(losses - reference)
        entry = {
            "name": name, "kind": kind, "whole": whole, "log_loss": loss, "low": low, "high": high,
            "above": above, "above_low": above_low, "above_high": above_high,
        }  # fmt: skip
        if kind != "constant":
            auc, precision = scores.ranking(labels, values, resamples.once())
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


def lines(
    rules: Mapping[str, AnswerRule],
    ids: np.ndarray,
    drugs: np.ndarray | None,
    blended: Predictions,
    by_model: Mapping[str, Predictions],
) -> Iterator[pd.DataFrame]:
    """Yields the lines of compounds, where they are known, then those of wells.

    Args:
      rules: rules of wells and, if there is one, of compounds.
      ids: [N] the treated wells.
      drugs: [N] the compound of each, or None.
      blended: their predictions, and perhaps of other rows.
      by_model: those of each model that is part of the blend.
    """
    values = blended.aligned(ids).values
    models = [found.aligned(ids).values for found in by_model.values()]
    if drugs is not None and len(ids):
        found = compounds.combined(values, drugs)
        parts = [compounds.combined(of_one, drugs).probabilities for of_one in models]
        main = rules.get(COMPOUNDS, rules[WELLS])
        for part in _parts(len(found.names)):
            yield table.answer(
                main, found.names[part], blended.targets, found.probabilities[part], "compound",
                found.counts[part], found.spread[part], [of_one[part] for of_one in parts],
            )  # fmt: skip
    for part in _parts(len(ids)):
        yield table.answer(
            rules[WELLS], ids[part], blended.targets, values[part], "sig_id",
            by_model=[of_one[part] for of_one in models],
        )  # fmt: skip


def _parts(count: int) -> Iterable[slice]:
    return (slice(start, start + PART) for start in range(0, count, PART))


@contextlib.contextmanager
def writing(
    folder: Path, listed: int, with_compounds: bool
) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yields a function that appends lines to `predictions.csv` and `predictions.parquet`.

    Both appear when the block succeeds. The CSV has the highest `listed` ranks and the confident
    lines, six digits of each number, the parquet file has all.

    Args:
      folder: where they are written.
      listed: ranks that the CSV lists.
      with_compounds: whether there is a column of compounds beside that of wells; one of the two is
        empty in every line.
    """
    schema = pa.schema(
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
        ]
    )
    csv_path, parquet_path = (folder / name for name in PREDICTIONS)
    with contextlib.ExitStack() as stack:
        whole = stack.enter_context(files.replacing(parquet_path))
        short = stack.enter_context(files.replacing(csv_path))
        written = pa.parquet.ParquetWriter(whole, schema, write_page_checksum=True)
        output = stack.enter_context(written)
        opened = stack.enter_context(open(short, "w", encoding="utf-8", newline=""))
        opened.write(",".join(schema.names) + "\n")

        def append(lines: pd.DataFrame) -> None:
            lines = lines.reindex(columns=schema.names)
            output.write_table(pa.Table.from_pandas(lines, schema, preserve_index=False))
            table.shortened(lines, listed).to_csv(
                opened, index=False, header=False, lineterminator="\n", float_format="%.6g"
            )

        yield append


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
    ids, drugs = blended.ids, None
    if rows is not None:
        treated = ~rows.is_control
        ids = rows.ids[treated]
        drugs = None if rows.drug_id is None else rows.drug_id[treated]
    with writing(folder, config.listed, drugs is not None) as append:
        for part in lines(rules, ids, drugs, blended, by_model):
            append(part)


def weighed(
    models: Mapping[str, Predictions], weights: Mapping[str, Any]
) -> dict[str, Predictions]:
    """Returns the models that are part of a blend: those whose weight is not 0 throughout."""

    def counts(weight: Any) -> bool:
        return any(weight.values()) if isinstance(weight, Mapping) else bool(weight)

    return {name: found for name, found in models.items() if counts(weights[name])}
