"""Rank-gauss: every column through its quantiles to a standard normal."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from moa_jax.features.constant import is_constant

if TYPE_CHECKING:
    from sklearn.preprocessing import QuantileTransformer

    from moa_jax.features.rank_gauss_search import Search

# The compiled loop takes two seconds to be there, in which scikit-learn transforms so many values.
WORTH = 4_000_000
# Bytes of columns that are fitted together where rows come in parts.
TOGETHER_BYTES = 2**30
_seen = 0


class RankGauss:
    """Quantile transform to normal, column by column, with clipped tails at about ±5.2.

    Every fitted row counts: scikit-learn's sampling of large data is off, so that the result does
    not depend on a random state. A row's values depend on that row alone.

    Attributes:
      quantiles_: [Q, columns] landmarks.
      references_: [Q] their ranks in [0, 1].
      held_: [columns] whether a column keeps its one value, see `holds_constant`.

    >>> ranks = RankGauss(num_quantiles=5).fit(np.array([[1.0], [2.0], [4.0], [8.0], [16.0]]))
    >>> ranks.transform(np.array([[0.0], [2.0], [4.0], [6.0]])).round(2).tolist()
    [[-5.2], [-0.67], [0.0], [0.32]]
    """

    def __init__(self, num_quantiles: int = 100, holds_constant: bool = False):
        """Describes a transform.

        Args:
          num_quantiles: landmarks of a column.
          holds_constant: a column that is constant in the fitted rows, up to rounding, keeps its
            one value whatever comes. Otherwise the smallest step up takes it from -5.2 to 5.2,
            though it has no scale by which a step could be told from a large one.
        """
        self.num_quantiles, self.holds_constant = num_quantiles, holds_constant
        self.held_ = np.zeros(0, bool)

    def fit(self, values: np.ndarray) -> RankGauss:
        """Learns the quantiles of [N, columns]; at most N landmarks are used."""
        return self._learned([self._fitted(values)])

    def fit_parts(self, parts: Callable[[], Iterable[np.ndarray]], rows: int) -> RankGauss:
        """Learns the quantiles of rows that are never together in memory, to the same bits.

        Of some columns at a time there are all rows.

        Args:
          parts: gives all rows whenever it is called, [n, columns] below one another.
          rows: how many they are.
        """
        count = max(1, TOGETHER_BYTES // (8 * rows))
        columns = next(iter(parts())).shape[1]
        fitted = []
        for start in range(0, columns, count):
            block = np.concatenate([part[:, start : start + count] for part in parts()])
            fitted.append(self._fitted(block))
        return self._learned(fitted)

    def _fitted(self, values: np.ndarray) -> QuantileTransformer:
        return self._transformer(min(self.num_quantiles, len(values))).fit(values)

    def _learned(self, fitted: Sequence[QuantileTransformer]) -> RankGauss:
        """Takes over what was fitted to columns beside one another."""
        first, *others = (one.quantiles_ for one in fitted)
        self.quantiles_ = np.concatenate([first, *others], axis=1) if others else first
        self.references_ = fitted[0].references_
        self.__dict__.pop("_search", None)
        self.held_ = is_constant(self.quantiles_) & self.holds_constant
        return self

    def width(self, shape: tuple[int, int]) -> int:
        """Returns the number of columns after a fit to [N, columns] of this shape."""
        return shape[1]

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Returns the transformed [N, columns].

        Many values go through a compiled loop, which gives scikit-learn's bits.
        """
        if self.held_.any():
            values = np.where(self.held_, self.quantiles_[0], values)
        search = self._search if _is_loop_worth(values, self.quantiles_) else None
        if search is not None:
            return search.normal_scores(values)
        transformer = self._transformer(len(self.references_))
        transformer.quantiles_, transformer.references_ = self.quantiles_, self.references_
        transformer.n_quantiles_ = len(self.references_)
        transformer.n_features_in_ = self.quantiles_.shape[1]
        return transformer.transform(values)

    def parameters(self) -> dict[str, Any]:
        return {"num_quantiles": self.num_quantiles}

    def state(self) -> dict[str, np.ndarray]:
        return {"quantiles": self.quantiles_, "references": self.references_, "held": self.held_}

    @classmethod
    def restore(cls, parameters: dict[str, Any], state: dict[str, np.ndarray]) -> RankGauss:
        restored = cls(**parameters)
        restored.quantiles_, restored.references_ = state["quantiles"], state["references"]
        # Earlier versions held no column.
        restored.held_ = state.get("held", restored.held_)
        return restored

    @functools.cached_property
    def _search(self) -> Search | None:
        from moa_jax.features.rank_gauss_search import Search

        return Search.of(self.quantiles_, self.references_)

    @staticmethod
    def _transformer(num_quantiles: int) -> QuantileTransformer:
        from sklearn.preprocessing import QuantileTransformer

        return QuantileTransformer(
            n_quantiles=num_quantiles, output_distribution="normal", subsample=None
        )


def _is_loop_worth(values: np.ndarray, quantiles: np.ndarray) -> bool:
    """Tells whether enough has been transformed by now, and the loop is made for these values.

    The others, among them what scikit-learn refuses, are left to it.
    """
    global _seen
    _seen += values.size
    return (
        _seen > WORTH
        and values.dtype == np.float64
        and values.shape == (len(values), quantiles.shape[1])
        and bool(np.isfinite(values).all())
    )


def compile_now() -> None:
    """Has all further values transformed by the compiled loop, from the first one."""
    global _seen
    _seen = WORTH


def holding() -> RankGauss:
    """Returns the transform of the recipes, in which a constant column cannot move a prediction."""
    return RankGauss(holds_constant=True)
