"""Factors and clusters of a block of columns."""

from __future__ import annotations

import warnings

import numpy as np
from absl import logging
from sklearn.cluster import KMeans
from sklearn.decomposition import FactorAnalysis
from sklearn.exceptions import ConvergenceWarning


def _bounded(wanted: int, values: np.ndarray, what: str) -> int:
    """Returns how many components so many rows and columns allow."""
    allowed = max(1, min(values.shape) - 1)
    if wanted > allowed:
        logging.info(
            "%s: %d instead of %d for %d rows and %d columns", what, allowed, wanted, *values.shape
        )
    return min(wanted, allowed)


class FactorScores:
    """Scores of a factor analysis, [N, components].

    Attributes:
      components_: [components, columns] loadings.
      mean_: [columns].
      noise_variance_: [columns].
    """

    def __init__(self, num_components: int, seed: int = 1903):
        self.num_components, self.seed = num_components, seed

    def fit(self, values: np.ndarray) -> FactorScores:
        """Learns the factors of [N, columns]; at most min(N, columns) - 1 of them."""
        count = _bounded(self.num_components, values, "factors")
        with warnings.catch_warnings():
            # The original's tolerance and iterations stand; little data may not converge.
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = FactorAnalysis(count, random_state=self.seed).fit(values)
        self.components_, self.mean_ = fitted.components_, fitted.mean_
        self.noise_variance_ = fitted.noise_variance_
        return self

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Returns the posterior means of the factors, [N, components]."""
        model = FactorAnalysis(len(self.components_))
        model.components_, model.mean_ = self.components_, self.mean_
        model.noise_variance_ = self.noise_variance_
        return model.transform(values)

    def parameters(self) -> dict[str, int]:
        return {"num_components": self.num_components, "seed": self.seed}

    def state(self) -> dict[str, np.ndarray]:
        return {
            "components": self.components_,
            "mean": self.mean_,
            "noise_variance": self.noise_variance_,
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.components_, self.mean_ = state["components"], state["mean"]
        self.noise_variance_ = state["noise_variance"]


class ClusterOneHot:
    """One-hot membership in k-means clusters, [N, clusters].

    Attributes:
      centers_: [clusters, columns].
    """

    def __init__(self, num_clusters: int, seed: int = 123):
        self.num_clusters, self.seed = num_clusters, seed

    def fit(self, values: np.ndarray) -> ClusterOneHot:
        """Learns the clusters of [N, columns]; at most min(N, columns) - 1 of them.

        The best of ten k-means++ starts is kept, as scikit-learn's default was in 2020.
        """
        count = _bounded(self.num_clusters, values, "clusters")
        with warnings.catch_warnings():
            # Fewer distinct rows than clusters leave clusters empty, which is harmless here.
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = KMeans(count, n_init=10, random_state=self.seed).fit(values)
        self.centers_ = fitted.cluster_centers_
        return self

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Returns 1 for the nearest center of each row and 0 for the others."""
        squared = np.square(self.centers_).sum(1) - 2 * values @ self.centers_.T
        return np.eye(len(self.centers_))[squared.argmin(1)]

    def parameters(self) -> dict[str, int]:
        return {"num_clusters": self.num_clusters, "seed": self.seed}

    def state(self) -> dict[str, np.ndarray]:
        return {"centers": self.centers_}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.centers_ = state["centers"]
