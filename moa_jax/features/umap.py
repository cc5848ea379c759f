"""UMAP coordinates of a block of columns."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np
from absl import logging

from moa_jax.features.factors import bounded, tell_fewer, warnings_logged

NUM_NEIGHBORS = 15
SPREAD, MIN_DISTANCE = 1.0, 0.1
REPULSION = 1.0
# Fewer rows have no neighbours to weigh against each other.
MIN_ROWS = 3
# Distances held at a time, 64 MiB of them.
MAX_DISTANCES = 2**23


class UmapEmbedding:
    """Coordinates in a UMAP embedding, [N, components] float32.

    A row's coordinates depend on that row alone. A row that was fitted has its coordinates of the
    fit; equal fitted rows have those of the first. A new row starts at the mean of its nearest
    fitted rows, weighted by membership strength, and takes 30 epochs of UMAP's gradient descent
    among the fitted rows, which stay in place; its negative samples come from a random stream of
    its own.

    umap-learn, and so the original, transforms a batch jointly, as `JointUmapEmbedding` does. What
    is left out here: neighbours by approximate search, 100 epochs in place of 30 for at most 10,000
    rows, edges dropped and sampled relative to the strongest of the batch (here relative to 1,
    which the strongest is whenever a fitted row is in the batch), kernel widths bounded by the mean
    distance of the batch (here of the row), and random streams of one batch-wide seed and the
    starting point.

    Attributes:
      table_: [M, columns] float32 fitted rows.
      embedding_: [M, components] float32, their coordinates.
      curve_: [2] float64, a and b of the low-dimensional membership 1 / (1 + a d^2b).

    References:
      L. McInnes, J. Healy and J. Melville (2018), UMAP: uniform manifold approximation and
      projection for dimension reduction, https://arxiv.org/abs/1802.03426
    """

    def __init__(self, num_components: int, seed: int = 1903, keep_fitted: bool = True):
        """Describes an embedding.

        Args:
          num_components: as many as the data allow, see `fit`.
          seed: seed of the fit and of the random streams of new rows.
          keep_fitted: fitted rows keep their coordinates of the fit. Without it they are placed
            like new ones, as in the original where the rows to transform are not exactly those
            of the fit.
        """
        self.num_components, self.seed, self.keep_fitted = num_components, seed, keep_fitted

    def fit(self, values: np.ndarray) -> Self:
        """Embeds [N, columns] in at most min(N, columns) - 1 components, at least 1.

        All is umap-learn's default: 15 neighbours, or N - 1 of fewer rows, minimal distance 0.1,
        Euclidean, spectral start, 500 epochs up to 10,000 rows and 200 above. One or two rows are
        all at 0.
        """
        table = float32(values)
        count = self.width(table.shape)
        tell_fewer(count, self.num_components, table.shape, "umap")
        with warnings.catch_warnings():
            # It tells of its optional parts that are not installed.
            warnings.simplefilter("ignore", ImportWarning)
            # Takes seconds, so that whoever needs no UMAP does not pay for it.
            import umap
        curve = umap.umap_.find_ab_params(SPREAD, MIN_DISTANCE)
        if len(table) < MIN_ROWS:
            logging.info("umap: %d rows are too few, their coordinates are 0", len(table))
            embedding = np.zeros((len(table), count), np.float32)
        else:
            model = umap.UMAP(
                n_neighbors=num_neighbors(table),
                n_components=count,
                a=curve[0],
                b=curve[1],
                # The spectral start takes one eigenvector more than there are components.
                init="spectral" if count + 1 < len(table) else "random",
                random_state=self.seed,
                n_jobs=1,
            )
            with warnings_logged("umap", (Warning,)):
                embedding = model.fit(table).embedding_
        self._learn(table, embedding, np.array(curve))
        return self

    def width(self, shape: tuple[int, int]) -> int:
        """Returns the number of columns after a fit to [N, columns] of this shape."""
        return bounded(self.num_components, shape)

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Returns the coordinates of [N, columns], [N, components] float32."""
        rows = float32(values)
        digests = self._digests(rows)
        known = np.array([self._first.get(digest, -1) for digest in digests], np.int64)
        # Without fitted rows to keep, _first is empty and no row is known.
        coordinates = self.embedding_[known]
        new = np.flatnonzero(known < 0)
        if len(self.table_) < MIN_ROWS:
            coordinates[new] = 0
        elif len(new):
            keys = np.array([int.from_bytes(digests[i][:8], "little") for i in new], np.uint64)
            coordinates[new] = self._place(rows[new], keys)
        return coordinates

    def parameters(self) -> dict[str, Any]:
        return {
            "num_components": self.num_components,
            "seed": self.seed,
            "keep_fitted": self.keep_fitted,
        }

    def state(self) -> dict[str, np.ndarray]:
        return {"table": self.table_, "embedding": self.embedding_, "curve": self.curve_}

    @classmethod
    def restore(cls, parameters: dict[str, Any], state: dict[str, np.ndarray]) -> Self:
        restored = cls(**parameters)
        restored._learn(state["table"], state["embedding"], state["curve"])
        return restored

    def _learn(self, table: np.ndarray, embedding: np.ndarray, curve: np.ndarray) -> None:
        self.table_, self.embedding_, self.curve_ = table, embedding, curve
        self._first: dict[bytes, int] = {}
        if self.keep_fitted:
            for i, digest in enumerate(self._digests(table)):
                self._first.setdefault(digest, i)

    def _digests(self, rows: np.ndarray) -> list[bytes]:
        """Returns what tells rows apart and starts their random streams."""
        key = str(self.seed).encode()
        return [hashlib.blake2b(row, digest_size=16, key=key).digest() for row in rows]

    def neighbors(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the nearest fitted rows of [N, columns] float32, nearest first, and how far.

        Both are [N, neighbours], int64 and float64.
        """
        from moa_jax.features import umap_layout

        find: Callable[..., tuple] = umap_layout.neighbors  # numba's types have no arguments
        count = num_neighbors(self.table_)
        found = [
            find(rows[part], *squares, self.table_, count) for part, *squares in self._squares(rows)
        ]
        if not found:
            return np.zeros((0, count), np.int64), np.zeros((0, count))
        indices, distances = zip(*found, strict=True)
        return np.concatenate(indices), np.concatenate(distances)

    def _place(self, rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
        from moa_jax.features import umap_layout

        place: Callable[..., np.ndarray] = umap_layout.place
        count, (a, b) = num_neighbors(self.table_), self.curve_
        return np.concatenate(
            [
                place(
                    rows[part], keys[part], *squares, self.table_, self.embedding_, count, a, b,
                    REPULSION,
                )
                for part, *squares in self._squares(rows)
            ]
        )  # fmt: skip

    def _squares(self, rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Yields parts of the rows, their squared distances to the fitted rows, and margins [n].

        The exact ones are within the margins.
        """
        table = self.table_.astype(np.float64)
        norms = np.einsum("ij,ij->i", table, table)
        # Bounds the rounding errors of the squared distances below and of their exact sums.
        relative = 2 * (table.shape[1] + 4) * np.finfo(np.float64).eps
        step = max(1, MAX_DISTANCES // len(table))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            chunk = rows[part].astype(np.float64)
            norm = np.einsum("ij,ij->i", chunk, chunk)
            squared = norm[:, None] + norms - 2 * (chunk @ table.T)
            yield part, squared, relative * (norm + norms.max())


def num_neighbors(table: np.ndarray) -> int:
    """Returns how many neighbours among the fitted rows [M, columns] a row has."""
    return min(NUM_NEIGHBORS, len(table) - 1)


def float32(values: np.ndarray) -> np.ndarray:
    """Returns finite values in umap-learn's precision; -0 becomes 0, its equal."""
    from sklearn.utils import check_array

    return check_array(values, dtype=np.float32, order="C", ensure_min_samples=0) + np.float32(0)
