"""Columns of X as TabNet's networks get them: standardised, codes as they are, constants held."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from moa_jax.data.columns import LARGEST_NUMBER
from moa_jax.models.tabnet import Table
from moa_jax.training.trees import Variables

# The spread, as a share of the largest number, that conversions leave in equal numbers of float32,
# and sums in those of float64.
_ROUNDING = {np.dtype(np.float32): 2.0**-21, np.dtype(np.float64): 2.0**-46}


@dataclasses.dataclass(frozen=True)
class ColumnScale:
    """Standardises the columns of a table: what is float32 on devices keeps their differences.

    Attributes:
      mean: [columns] float64, what is taken off a column; 0 for codes.
      deviation: [columns] float64, what the rest is divided by; 1 for codes and constant columns.
      constant: value of each column that was constant, by its number. Whatever it is later, it
        counts as this value: nothing is known of what it does.
    """

    mean: np.ndarray
    deviation: np.ndarray
    constant: dict[int, float]

    @classmethod
    def learned(cls, X: np.ndarray, codes: Collection[int]) -> ColumnScale:
        """Returns the scale of the training rows.

        Args:
          X: [N, columns] finite, float32 or float64.
          codes: numbers of the columns that hold codes. Where an embedding gives them one value
            they are constant too: it is normalised by its spread.
        """
        lowest, highest = X.min(axis=0), X.max(axis=0)
        spread = highest.astype(np.float64) - lowest
        magnitude = np.maximum(np.abs(lowest), np.abs(highest))
        is_constant = spread <= _ROUNDING[X.dtype] * magnitude
        mean = np.where(is_constant, X[0], X.mean(axis=0, dtype=np.float64))
        # Of the squares of tiny numbers nothing would be left.
        away = np.subtract(X, mean, dtype=np.float64)
        away /= np.where(is_constant, 1, spread)
        deviation = spread * np.sqrt(np.square(away, out=away).mean(axis=0))
        deviation[is_constant | (deviation == 0)] = 1  # half the smallest number is 0
        mean[list(codes)], deviation[list(codes)] = 0, 1
        constant = {int(column): float(X[0, column]) for column in np.flatnonzero(is_constant)}
        return cls(mean, deviation, constant)

    def in_units_of(self, earlier: ColumnScale) -> ColumnScale:
        """Returns an earlier scale, which weights are for, that holds what is constant here."""
        return dataclasses.replace(earlier, constant=self.constant)

    @classmethod
    def none(cls, num_columns: int) -> ColumnScale:
        """Returns the scale that leaves every column as it is."""
        return cls(np.zeros(num_columns), np.ones(num_columns), {})

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Returns rows [N, columns] as the network gets them, float32."""
        scaled = np.subtract(X, self.mean, dtype=np.float64)
        with np.errstate(over="ignore"):
            scaled /= self.deviation
        held = [*self.constant]
        scaled[:, held] = (np.array([*self.constant.values()]) - self.mean[held]) / (
            self.deviation[held]
        )
        # What is further out than networks can compute with is as far as they can.
        return np.clip(scaled, -LARGEST_NUMBER, LARGEST_NUMBER, out=scaled).astype(np.float32)

    def undone(self, scaled: np.ndarray, tables: Sequence[Table]) -> np.ndarray:
        """Returns columns of a network [N, columns] in the units of X, embeddings as they are."""
        widths = np.ones(len(self.mean), int)
        for column, _, width in tables:
            widths[column] = width
        return scaled * np.repeat(self.deviation, widths) + np.repeat(self.mean, widths)

    def described(self) -> dict[str, Any]:
        """Returns what `restored` takes, as JSON has it."""
        return {
            "column_mean": self.mean.tolist(),
            "column_deviation": self.deviation.tolist(),
            "constant": {str(column): value for column, value in self.constant.items()},
        }

    @classmethod
    def restored(cls, stored: dict[str, Any]) -> ColumnScale:
        """Returns the scale that was described.

        Earlier versions had columns as they are, and the first ones held none that is constant.
        """
        constant = stored.get("constant", {})
        none = cls.none(stored["num_features"])
        return cls(
            np.array(stored.get("column_mean", none.mean), np.float64),
            np.array(stored.get("column_deviation", none.deviation), np.float64),
            {int(column): value for column, value in constant.items()},
        )


def place_absent(variables: Variables, tables: Sequence[Table], X: np.ndarray) -> None:
    """Puts the embedding of codes that no row has at the mean, which normalisation makes 0.

    Nothing was learned of them: they would stay where they were drawn.

    Args:
      variables: of the encoder, whose tables are changed.
      tables: its embeddings.
      X: [N, columns] the training rows.
    """
    for number, (column, categories, _) in enumerate(tables):
        counts = np.bincount(X[:, column].astype(np.int64), minlength=categories)
        table = variables["params"]["embedder"][f"table_{number}"]
        table[counts == 0] = counts @ table.astype(np.float64) / len(X)
