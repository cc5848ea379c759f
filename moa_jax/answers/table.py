"""The long table of an answer: a line per compound or well and mechanism, the likeliest first."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

import numpy as np

from moa_jax.answers.rule import AnswerRule
from moa_jax.training.log_odds import log_odds

if TYPE_CHECKING:
    import pandas as pd

# How many mechanisms of each compound or well a short table lists, beside all confident ones.
LISTED = 10
KINDS = ("sig_id", "compound")


def long_table(
    names: np.ndarray,
    mechanisms: Sequence[str],
    probabilities: np.ndarray,
    confident: np.ndarray,
    kind: str,
    scores: np.ndarray | None = None,
    replicates: np.ndarray | None = None,
    spread: np.ndarray | None = None,
    model_spread: np.ndarray | None = None,
    member_spread: np.ndarray | None = None,
) -> pd.DataFrame:
    """Returns a line per name and mechanism, names in their order, mechanisms by rank.

    Columns: `sig_id` or `compound`, as `kind` says; `mechanism`; `probability`; `rank`, 1 for the
    likeliest mechanism of the name, equal ones in the order of `mechanisms`; `confident`;
    `replicates`; and standard deviations of log odds, NaN where there is one only: `spread` of
    replicates, `model_spread` of the blended models, `member_spread` of the members of a model.

    Args:
      names: [M] ids of wells, or compounds.
      mechanisms: L names.
      probabilities: [M, L] probabilities.
      confident: [M, L] bool, what is called.
      kind: `sig_id` or `compound`.
      scores: [M, L] what mechanisms are ranked by; None for the probabilities.
      replicates: [M] number of wells; None for 1.
      spread, model_spread, member_spread: [M, L] standard deviations; None for unknown.
    """
    import pandas as pd

    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {KINDS}, found {kind!r}")
    shape = probabilities.shape
    order = np.argsort(-(probabilities if scores is None else scores), axis=1, kind="stable")

    def lined(values: np.ndarray | None) -> np.ndarray:
        if values is None:
            return np.full(shape[0] * shape[1], np.nan)
        return np.take_along_axis(values, order, axis=1).ravel()

    counts = np.ones(shape[0], np.int64) if replicates is None else replicates
    return pd.DataFrame(
        {
            kind: np.repeat(np.asarray(names, object), shape[1]),
            "mechanism": np.asarray(mechanisms, object)[order.ravel()],
            "probability": lined(probabilities),
            "rank": np.tile(np.arange(1, shape[1] + 1), shape[0]),
            "confident": lined(confident).astype(bool),
            "replicates": np.repeat(counts, shape[1]),
            "spread": lined(spread),
            "model_spread": lined(model_spread),
            "member_spread": lined(member_spread),
        }
    )


def answer(
    rule: AnswerRule,
    names: np.ndarray,
    mechanisms: Sequence[str],
    scores: np.ndarray,
    kind: str,
    replicates: np.ndarray | None = None,
    spread: np.ndarray | None = None,
    by_model: Sequence[np.ndarray] = (),
    member_spread: np.ndarray | None = None,
) -> pd.DataFrame:
    """Returns the long table of what a rule says of scores.

    Mechanisms are ranked by score, whose order calibration keeps but for ties.

    Args:
      rule: the rule, of wells or of compounds.
      names, mechanisms, kind, replicates, spread, member_spread: see `long_table`.
      scores: [M, L] blended probabilities.
      by_model: [M, L] probabilities of each blended model, for `model_spread`.
    """
    between = None
    if len(by_model) > 1:
        between = np.std([log_odds(values) for values in by_model], axis=0, ddof=1)
    return long_table(
        names, mechanisms, rule.calibrated(scores), rule.confident(scores), kind, scores,
        replicates, spread, between, member_spread,
    )  # fmt: skip


def write_csv(lines: pd.DataFrame, opened: TextIO) -> None:
    """Appends lines to a file, six digits of a number and nothing for NaN.

    It writes what pandas' `to_csv` does with `float_format="%.6g"`, in a fraction of the time.
    """

    def cells(column: pd.Series) -> list:
        if column.dtype == np.float64:
            return ["" if value != value else f"{value:.6g}" for value in column.tolist()]
        return column.tolist()

    columns = [cells(lines[name]) for name in lines.columns]
    csv.writer(opened, lineterminator="\n").writerows(zip(*columns, strict=True))


def shortened(table: pd.DataFrame, listed: int = LISTED) -> pd.DataFrame:
    """Returns the lines of the `listed` highest ranks, and all confident ones."""
    return table[(table["rank"] <= listed) | table["confident"]]
