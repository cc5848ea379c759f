"""Feature map: a place in the plane for every column, and its pixel in an image."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from absl import logging
from scipy.spatial import ConvexHull, QhullError
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import pairwise_distances

from moa_jax.features.factors import warnings_logged

# Fewer points have neither neighbours to weigh nor a hull.
MIN_FEATURES = 3
NUM_NEIGHBORS = 15
# Columns up to which `auto` places them as the original does.
MOST_EXACT = 1000
TSNES = ("legacy", "current", "barnes_hut", "auto")
# Seconds of t-SNE for a thousand columns on one core of 2024, and the power of their number by
# which they grow: measured at 1,000 to 5,000 columns.
_SECONDS = {"exact": (21.5, 2.0), "barnes_hut": (3.1, 1.31)}
# Seconds that are worth a warning, as a table of so many columns looks like one that hangs.
_LONG = 30.0


class FeatureMap:
    """Positions of features in the plane (DeepInsight, Sharma et al., 2019): alike are near.

    Features are the columns of a table. They are embedded in the plane by the cosine distance of
    their columns, and turned so that the smallest rectangle around them stands upright.

    Attributes:
      positions_: [F, 2] float32, the turned coordinates; the first axis runs along the rows of an
        image, the second along its columns.

    References:
      Sharma et al. (2019), DeepInsight: A methodology to transform a non-image data to an image
      for convolution neural network architecture, https://doi.org/10.1038/s41598-019-47765-6.
    """

    def __init__(
        self,
        embedding: str = "tsne",
        tsne: str = "legacy",
        closing_edge: bool = False,
        perplexity: float = 5.0,
        random_state: int = 1120,
    ):
        """Describes a map.

        Args:
          embedding: "tsne", "umap" (cosine distance, umap-learn's defaults) or "pca".
          tsne: what t-SNE with the cosine distance means. "legacy" is scikit-learn of 2020, with
            which the original was made: affinities of the distances as they are, learning rate
            200, random start. "current" is scikit-learn's own of today: affinities of squared
            distances, learning rate by size, start at the principal components. Both take time
            with the square of the number of columns; "barnes_hut" is "current" with the forces
            between distant groups of columns approximated, nearly linear. "auto" is "legacy" up
            to 1,000 columns and "barnes_hut" above.
          closing_edge: let the edge between the last and the first corner of the hull take part
            in the search for the smallest rectangle. The original leaves it out, and may miss
            the smallest one.
          perplexity: of t-SNE; of fewer than 3 perplexity + 1 features a third of the others.
          random_state: seed of the embedding.

        Raises:
          ValueError: an unknown embedding or kind of t-SNE.
        """
        if embedding not in ("tsne", "umap", "pca"):
            raise ValueError(f"embedding: expected tsne, umap or pca, found {embedding!r}")
        if tsne not in TSNES:
            known = ", ".join(TSNES[:-1])
            raise ValueError(f"tsne: expected {known} or {TSNES[-1]}, found {tsne!r}")
        self.embedding, self.tsne, self.closing_edge = embedding, tsne, closing_edge
        self.perplexity, self.random_state = perplexity, random_state

    def fit(self, scaled: np.ndarray) -> FeatureMap:
        """Learns the positions of the columns of [N, F], usually scaled by `LogScale`.

        A column of zeros has distance 1 to every other one. Fewer than three features, and
        features on one line, are not turned.
        """
        columns = np.asarray(scaled, np.float64).T
        if len(columns) < MIN_FEATURES:
            logging.info("feature map: %d features are too few to embed", len(columns))
            self.positions_ = np.repeat(np.arange(len(columns), dtype=np.float32)[:, None], 2, 1)
            return self
        with warnings_logged("feature map", (Warning,)):
            embed = {"tsne": self._tsne, "umap": self._umap, "pca": self._pca}[self.embedding]
            points = embed(columns).astype(np.float32)
        if not np.isfinite(points).all():
            logging.info("feature map: features without neighbours are put at the origin")
            points = np.nan_to_num(points, nan=0.0, posinf=0.0, neginf=0.0)
        self.positions_ = turn(points, self.closing_edge)
        return self

    def pixels(self, resolution: int) -> np.ndarray:
        """Returns row and column of every feature in a square image, [F, 2] int32.

        Each axis is stretched to the whole image; features may share a pixel.

        Args:
          resolution: side of the image in pixels.
        """
        return np.stack([digitize(axis, resolution) for axis in self.positions_.T], axis=1)

    def parameters(self) -> dict[str, Any]:
        return {
            "embedding": self.embedding,
            "tsne": self.tsne,
            "closing_edge": self.closing_edge,
            "perplexity": self.perplexity,
            "random_state": self.random_state,
        }

    def state(self) -> dict[str, np.ndarray]:
        return {"positions": self.positions_}

    @classmethod
    def restore(cls, parameters: dict[str, Any], state: dict[str, np.ndarray]) -> FeatureMap:
        restored = cls(**parameters)
        restored.positions_ = state["positions"]
        return restored

    def _tsne(self, columns: np.ndarray) -> np.ndarray:
        # More would find no more neighbours to weigh than there are.
        perplexity = min(self.perplexity, max(1.0, (len(columns) - 1) / 3))
        if perplexity < self.perplexity:
            logging.info(
                "feature map: perplexity %g instead of %g for %d features",
                perplexity, self.perplexity, len(columns),
            )  # fmt: skip
        kind = self.tsne
        if kind == "auto":
            kind = "legacy" if len(columns) <= MOST_EXACT else "barnes_hut"
        method = "barnes_hut" if kind == "barnes_hut" else "exact"
        _tell_time(method, len(columns))
        model = {"perplexity": perplexity, "method": method, "random_state": self.random_state}
        if kind == "legacy":
            # Today's scikit-learn squares what it is given, and 2020's did not.
            roots = np.sqrt(pairwise_distances(columns, metric="cosine"))
            return TSNE(
                metric="precomputed", init="random", learning_rate=200.0, **model
            ).fit_transform(roots)
        # One row has no two principal components to start at, and equal columns no spread.
        flat = columns.shape[1] < 2 or np.ptp(columns, axis=0).max() == 0
        start = "random" if flat else "pca"
        return TSNE(metric="cosine", init=start, **model).fit_transform(columns)

    def _umap(self, columns: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            # It tells of its optional parts that are not installed.
            warnings.simplefilter("ignore", ImportWarning)
            # Takes seconds, so that whoever needs no UMAP does not pay for it.
            import umap
        return umap.UMAP(
            n_neighbors=min(NUM_NEIGHBORS, len(columns) - 1),
            metric="cosine",
            # The spectral start takes one eigenvector more than there are coordinates.
            init="spectral" if len(columns) > MIN_FEATURES else "random",
            random_state=self.random_state,
            n_jobs=1,
        ).fit_transform(columns)

    def _pca(self, columns: np.ndarray) -> np.ndarray:
        scores = PCA(min(2, columns.shape[1]), random_state=self.random_state).fit_transform(
            columns
        )
        return np.pad(scores, ((0, 0), (0, 2 - scores.shape[1])))


def expected_seconds(method: str, num_columns: int) -> float:
    """Returns about how long t-SNE takes on one core.

    >>> round(expected_seconds("exact", 5000)), round(expected_seconds("barnes_hut", 5000))
    (538, 26)

    Args:
      method: "exact" or "barnes_hut".
      num_columns: number of columns that are placed.
    """
    seconds, power = _SECONDS[method]
    return seconds * (num_columns / 1000) ** power


def _tell_time(method: str, num_columns: int) -> None:
    seconds = expected_seconds(method, num_columns)
    if num_columns <= MOST_EXACT and seconds < _LONG:
        return
    other = expected_seconds("barnes_hut", num_columns)
    advice = f"; tsne='barnes_hut' takes about {other:.0f} s" if method == "exact" else ""
    tell = logging.warning if seconds >= _LONG else logging.info
    tell(
        "feature map: t-SNE of %d columns takes about %.0f s on one core%s",
        num_columns, seconds, advice,
    )  # fmt: skip


def turn(points: np.ndarray, closing_edge: bool = False) -> np.ndarray:
    """Returns points [F, 2] turned so that the smallest rectangle around them stands upright.

    One side of it lies along an edge of the convex hull. Of rectangles of equal area that of the
    smallest angle is taken. Points on one line are returned as they are.

    Args:
      points: of any float dtype, which is kept.
      closing_edge: consider the edge between the last and the first corner of the hull too.

    >>> diamond = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0]])
    >>> np.ptp(turn(diamond), axis=0).round(4).tolist()
    [1.4142, 1.4142]
    """
    try:
        corners = points[ConvexHull(points).vertices]
    except QhullError:
        logging.info("feature map: %d features on one line are not turned", len(points))
        return points
    edges = np.diff(corners, axis=0, append=corners[:1])
    if not closing_edge:
        edges = edges[:-1]
    quarter = np.pi / 2
    angles = np.unique(np.arctan2(edges[:, 1], edges[:, 0]) % quarter)
    # Sines by cosines: where areas tie, rounding decides, and shall do so as in the original.
    turns = np.stack(
        [np.cos(angles), np.cos(angles - quarter), np.cos(angles + quarter), np.cos(angles)], axis=1
    ).reshape(-1, 2, 2)
    areas = np.ptp(turns @ corners.T, axis=2).prod(axis=1)
    return (turns[areas.argmin()] @ points.T).T


def digitize(values: np.ndarray, count: int) -> np.ndarray:
    """Returns which of `count` pixels each value falls in, int32, from the smallest value's 0.

    Pixels are the intervals between `count` equidistant edges and include their left one, so that
    the last pixel has the largest value alone. Equal values are all in the last one.

    >>> digitize(np.array([0.0, 0.4, 0.6, 1.0]), 3)
    array([0, 0, 1, 2], dtype=int32)
    """
    # Edges in float64, as numpy made them in 2020 also of float32 values.
    edges = np.linspace(float(values.min()), float(values.max()), count)
    return (np.digitize(values, edges) - 1).astype(np.int32)
