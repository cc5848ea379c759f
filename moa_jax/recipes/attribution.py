"""Attributions: which of the user's columns move what a model predicts, and how much.

What is explained is a mechanism's log odds by a model: the mean of its networks' logits, with the
weights that they have in its predictions. A row is compared with a baseline, the mean of the
control rows: the attributions of all features sum to the difference of the log odds.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from absl import logging

from moa_jax.data.dataset import Dataset
from moa_jax.errors import UserError
from moa_jax.recipes import attribution_baseline
from moa_jax.recipes.context import Context
from moa_jax.recipes.explained import Explained, Explainer
from moa_jax.recipes.recipe import Recipe
from moa_jax.schema import suggestion
from moa_jax.store.predictions import Predictions

# What attributions are means over: the columns of a table that say which rows they are of.
UNITS = {"mechanism": None, "compound": "compound", "row": "sig_id"}
# A mean error above this share of the mean difference is told as a warning, unless it is as small
# as rounding in float32 may be.
LARGE_ERROR, ROUNDING = 0.05, 1e-4
# Time between lines of the log.
TELL_SECONDS = 15.0


@dataclasses.dataclass
class Completeness:
    """How far the sums of attributions are from the differences of log odds that they explain.

    Attributes:
      count: number of pairs of a row and a mechanism.
      change, error: sums of absolute differences, and of absolute errors.
      largest_error: of all pairs.
    """

    count: int = 0
    change: float = 0.0
    error: float = 0.0
    largest_error: float = 0.0

    def add(self, found: Explained) -> None:
        errors = np.abs(sum(found.features.values()) - found.change)
        self.count += len(errors)
        self.change += float(np.abs(found.change).sum())
        self.error += float(errors.sum())
        self.largest_error = max(self.largest_error, float(errors.max()))

    def record(self) -> dict[str, Any]:
        """Returns the mean difference, the mean and largest error, and their relation, for JSON."""
        return {
            "mean_change": self.change / self.count,
            "mean_error": self.error / self.count,
            "largest_error": self.largest_error,
            "relative_error": self.error / self.change if self.change else 0.0,
        }


def attributions(
    recipe: Recipe,
    context: Context,
    rows: Dataset,
    targets: Sequence[str] | None = None,
    *,
    by: str = "mechanism",
    predictions: Predictions | None = None,
    most_rows: int = 100,
    steps: int = 16,
) -> pd.DataFrame:
    """Returns attributions of a finished model, by integrated gradients.

    Args:
      recipe: the model's system.
      context: where it was fitted, and how it runs.
      rows: rows to explain, training rows or new ones; controls are left out.
      targets: the mechanisms; None for all.
      by: what attributions are means over: the rows of a `mechanism`, those of each `compound`
        beside these, or a `row` alone.
      predictions: of the rows. With them a mechanism is explained by the `most_rows` rows in which
        it is most likely, without them by all rows.
      most_rows: see `predictions`.
      steps: nodes of the integral. The error that they leave stands in `attrs`.

    Returns:
      Rows with `mechanism`, `feature` and `attribution`, in log odds. By compound there is a column
      `compound` too, missing in the rows that are means over all compounds; by row `sig_id`.
      Features are columns of the data, `cp_time` and `cp_dose`; what is made of columns and cannot
      be told apart by them has a name of its own: statistics of a row, clusters, coordinates of an
      embedding, and what cannot be led back of the predictions of an earlier stage. `attrs` has,
      as JSON takes it, the `model`, the `baseline`, the numbers of `rows` and `steps`, and the
      `completeness`, see `Completeness`.

    Raises:
      UserError: an unknown mechanism; no row to explain, or no compound; a file of the model is
        missing or not as it was written.

    References:
      M. Sundararajan, A. Taly and Q. Yan, Axiomatic Attribution for Deep Networks, ICML 2017.
    """
    scored = tuple(context.workdir.read()["data"]["columns"]["scored"])
    chosen = _positions(scored, scored if targets is None else targets)
    pairs = _pairs(rows, scored, chosen, predictions, most_rows)
    means, completeness = _Means(rows, scored, pairs, by), Completeness()
    start = attribution_baseline.read(context, rows)
    explain = Explainer(recipe, context, start, steps)
    told_at = time.monotonic()
    for found in explain(rows, pairs):
        means.add(found)
        completeness.add(found)
        if time.monotonic() - told_at > TELL_SECONDS:
            told_at = time.monotonic()
            logging.info(
                "%s: explained %d of %d pairs of a row and a mechanism",
                context.model, completeness.count, len(pairs),
            )  # fmt: skip
    table, told = means.table(), completeness.record()
    table.attrs = {
        "model": context.model,
        "baseline": str(start),
        "rows": len(np.unique(pairs[:, 0])),
        "steps": steps,
        "completeness": told,
    }
    is_large = told["mean_error"] > max(LARGE_ERROR * told["mean_change"], ROUNDING)
    logging.log(
        logging.WARNING if is_large else logging.INFO,
        "%s: attributions: %d mechanisms, %d rows against the %s; with %d steps their sums miss "
        "log odds by %.2g of %.3g in the mean, at most by %.2g%s",
        context.model, len(chosen), table.attrs["rows"], start, steps, told["mean_error"],
        told["mean_change"], told["largest_error"], "; more steps miss less" * is_large,
    )  # fmt: skip
    return table


def nothing() -> pd.DataFrame:
    """Returns the attributions of no rows."""
    texts = {name: np.zeros(0, object) for name in ("mechanism", "feature")}
    return pd.DataFrame({**texts, "attribution": np.zeros(0)})


class _Means:
    """Means over pairs, of each mechanism and, where asked for, of its compounds or rows."""

    def __init__(self, rows: Dataset, scored: Sequence[str], pairs: np.ndarray, by: str):
        units: dict[str, np.ndarray | None] = {"row": rows.ids, "compound": rows.drug_id}
        self._rows, self._column = rows, UNITS[by]
        mechanisms, of_pair = np.unique(pairs[:, 1], return_inverse=True)
        keys = [np.stack([mechanisms, np.full(len(mechanisms), -1)], axis=1)]
        self._groups = [of_pair]
        named = np.full(len(rows) + 1, None, object)  # the last is all together
        if self._column is not None:
            values = units[by]
            if values is None:
                raise UserError("attributions: by compound: expected known compounds, found none")
            named[:-1] = values
            # Compounds in the order in which they come.
            _, first, number = np.unique(values.astype(str), return_index=True, return_inverse=True)
            both = np.stack([pairs[:, 1], first[number][pairs[:, 0]]], axis=1)
            own, of_pair = np.unique(both, axis=0, return_inverse=True)
            keys.append(own)
            self._groups.append(of_pair.reshape(-1) + len(mechanisms))
        if by == "row":
            keys, self._groups = keys[1:], [self._groups[1] - len(mechanisms)]
        every = np.concatenate(keys)
        self._keys = {"mechanism": np.asarray(scored, object)[every[:, 0]]}
        if self._column is not None:
            self._keys[self._column] = named[every[:, 1]]
        counts = [np.bincount(groups, minlength=len(every)) for groups in self._groups]
        self._counts = np.sum(counts, axis=0)
        self._sums: dict[str, np.ndarray] = {}

    def add(self, found: Explained) -> None:
        size = len(self._counts)
        for name, values in found.features.items():
            self._sums.setdefault(name, np.zeros(size))
            for groups in self._groups:
                self._sums[name] += np.bincount(groups[found.pairs], values, size)

    def table(self) -> pd.DataFrame:
        """Returns the means, for each mechanism or part of it features in the data's order."""
        columns = [*self._rows.genes, *self._rows.cells, "cp_time", "cp_dose"]
        known = [name for name in columns if name in self._sums]
        names = known + [name for name in self._sums if name not in set(known)]
        means = np.stack([self._sums[name] / self._counts for name in names], axis=1)
        table = {name: np.repeat(values, len(names)) for name, values in self._keys.items()}
        table["feature"] = np.tile(np.array(names, object), len(means))
        return pd.DataFrame({**table, "attribution": means.ravel()})


def _positions(scored: Sequence[str], targets: Sequence[str]) -> np.ndarray:
    """Returns the positions of mechanisms among the scored ones, ascending."""
    for name in targets:
        if name not in scored:
            raise UserError(
                f"attributions: expected a mechanism of the model, found {name!r}"
                + suggestion(name, scored)
            )
    return np.array(sorted(scored.index(name) for name in set(targets)))


def _pairs(
    rows: Dataset,
    scored: Sequence[str],
    chosen: np.ndarray,
    predictions: Predictions | None,
    most_rows: int,
) -> np.ndarray:
    """Returns the pairs [P, 2] of a row and a mechanism to explain, by mechanism."""
    treated = np.flatnonzero(~rows.is_control)
    if not len(treated):
        raise UserError("attributions: expected treated rows to explain, found none")
    found = []
    values = None if predictions is None else predictions.aligned(rows.ids[treated]).values
    for target in chosen.tolist():
        own = treated
        if predictions is not None and values is not None:
            of_target = values[:, predictions.targets.index(scored[target])]
            own = treated[np.argsort(-of_target, kind="stable")[:most_rows]]
        found.append(np.stack([own, np.full(len(own), target)], axis=1))
    return np.concatenate(found)
