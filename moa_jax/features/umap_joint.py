"""UMAP coordinates of new rows as umap-learn, and so the original, gives them: jointly."""

from __future__ import annotations

import functools

import numpy as np

from moa_jax.features.umap import MIN_ROWS, REPULSION, UmapEmbedding, float32, num_neighbors

# umap-learn's defaults: the seed of every transform, the rate of its gradient descent, negative
# samples, epochs of at most so many rows and of more.
TRANSFORM_SEED = 42
LEARNING_RATE, NEGATIVE_SAMPLES = 0.25, 5
EPOCHS, FEW_ROWS, EPOCHS_OF_FEW = 30, 10_000, 100


class JointUmapEmbedding(UmapEmbedding):
    """Coordinates in a UMAP embedding, [N, components] float32, all rows of a call together.

    The original transforms training and test rows in one call of umap-learn. So do the fitted rows
    and the new ones of a call here: together they decide how long the descent is and below which
    strength a neighbour does not count, so that a row's coordinates depend on the rows it comes
    with. Where every row of a call was fitted, and fitted rows keep their coordinates, they have
    those of the fit, as in umap-learn where the rows are exactly those of the fit.

    All is umap-learn's `transform` but for the neighbours, which are exact, and for rows so far
    away that no neighbour has a strength above 0, which start at their nearest one and not at NaN.

    Attributes:
      looks_at_all_rows: true; other transforms make the same of a row in any call.
    """

    looks_at_all_rows = True

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Returns the coordinates of [N, columns], [N, components] float32."""
        rows = float32(values)
        first = {digest: i for i, digest in reversed([*enumerate(self._digests(self.table_))])}
        known = np.array([first.get(digest, -1) for digest in self._digests(rows)], np.int64)
        new = np.flatnonzero(known < 0)
        if len(self.table_) < MIN_ROWS:
            return np.zeros((len(rows), self.embedding_.shape[1]), np.float32)
        if not len(rows) or (self.keep_fitted and not len(new)):
            return self.embedding_[known]
        together = zip(self._of_table, self.neighbors(rows[new]), strict=True)
        known[new] = len(self.table_) + np.arange(len(new))
        return self._descend(*map(np.concatenate, together))[known]

    @functools.cached_property
    def _of_table(self) -> tuple[np.ndarray, np.ndarray]:
        """The neighbours of the fitted rows, which every call has with it."""
        return self.neighbors(self.table_)

    def _learn(self, table: np.ndarray, embedding: np.ndarray, curve: np.ndarray) -> None:
        super()._learn(table, embedding, curve)
        self.__dict__.pop("_of_table", None)

    def _descend(self, neighbors: np.ndarray, distances: np.ndarray) -> np.ndarray:
        """Returns the coordinates of all rows, whose neighbours are given nearest first."""
        import scipy.sparse
        from umap import layouts, umap_

        count = num_neighbors(self.table_)
        distances = distances.astype(np.float32)
        sigmas, rhos = umap_.smooth_knn_dist(distances, float(count), local_connectivity=0.0)
        heads, tails, strengths, _ = umap_.compute_membership_strengths(
            neighbors.astype(np.int32), distances, sigmas, rhos, bipartite=True
        )
        # A row without a neighbour of any strength has its nearest.
        lost = np.flatnonzero(strengths.reshape(len(neighbors), count).max(1) == 0)
        strengths[lost * count] = 1
        graph = scipy.sparse.coo_matrix(
            (strengths, (heads, tails)), (len(neighbors), len(self.table_))
        )
        start = umap_.init_graph_transform(graph.tocsr(), self.embedding_)
        epochs = EPOCHS_OF_FEW if len(neighbors) <= FEW_ROWS else EPOCHS
        graph.data[graph.data < graph.data.max() / epochs] = 0
        graph.eliminate_zeros()
        random = np.random.RandomState(TRANSFORM_SEED)
        return layouts.optimize_layout_euclidean(
            start,
            self.embedding_.copy(),
            graph.row,
            graph.col,
            epochs,
            graph.shape[1],
            umap_.make_epochs_per_sample(graph.data, epochs),
            *self.curve_.tolist(),
            random.randint(umap_.INT32_MIN, umap_.INT32_MAX, 3).astype(np.int64),
            REPULSION,
            LEARNING_RATE,
            NEGATIVE_SAMPLES,
        )


# By the value of the switch `umap_new_rows`.
EMBEDDINGS = {"row_by_row": UmapEmbedding, "joint": JointUmapEmbedding}
