"""Factors, principal components and clusters of a block of columns."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging

from moa_jax.features import factor_gram, kmeans
from moa_jax.features.constant import is_constant

# From so many rows on factors come from the products of columns, and clusters from distances in
# single precision where it can tell, equal to scikit-learn's but for rounding errors; below they
# are scikit-learn's to the last bit.
MANY_ROWS = 2000
# Numbers in all centers from which on that is worth it.
MANY_CENTERS = 10_000
# Starts of k-means.
STARTS = 10

# Ways to find principal components.
BY_COVARIANCE, BY_SHAPE = "covariance_eigh", "by_shape"
# With fewer products than this one thread is done before others have come, whose waiting costs
# several times the work.
FEW_PRODUCTS = 1e10


def bounded(wanted: int, shape: tuple[int, int], most: int | None = None) -> int:
    """Returns how many components so many rows and columns allow: `most`, or one fewer than
    rows and than columns; at least 1."""
    return min(wanted, max(1, min(shape) - 1 if most is None else most))


def tell_fewer(count: int, wanted: int, shape: tuple[int, int], what: str) -> None:
    """Logs that a fit has fewer components than wanted, if it does."""
    if count < wanted:
        logging.info("%s: %d instead of %d for %d rows and %d columns", what, count, wanted, *shape)


@contextlib.contextmanager
def warnings_logged(what: str, categories: tuple[type[Warning], ...] = ()) -> Iterator[None]:
    """Logs what a fit to little data or to equal rows warns of; its result will do.

    Args:
      what: what is fitted.
      categories: what is logged; by default RuntimeWarning and scikit-learn's ConvergenceWarning.
    """
    from sklearn.exceptions import ConvergenceWarning

    categories = categories or (ConvergenceWarning, RuntimeWarning)
    with warnings.catch_warnings(record=True) as caught:
        for category in categories:
            warnings.simplefilter("always", category)
        yield
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        logging.info("%s: %s", what, message)


class FactorScores:
    """Scores of a factor analysis, [N, components].

    A column that is constant where it is fitted, up to rounding, takes no part: its loadings are 0,
    as no variance of its own is left to weigh it by.

    Attributes:
      components_: [components, columns] loadings.
      mean_: [columns].
      noise_variance_: [columns].
    """

    def __init__(self, num_components: int, seed: int = 1903):
        self.num_components, self.seed = num_components, seed

    def fit(self, values: np.ndarray) -> FactorScores:
        """Learns the factors of [N, columns]; at most min(N, columns) - 1 of them, at least 1."""
        count, varies = self.width(values.shape), ~is_constant(values)
        tell_fewer(count, self.num_components, values.shape, "factors")
        if varies.all():
            self.components_, self.mean_, self.noise_variance_ = self._fitted(values, count)
            return self
        logging.info("factors: %d of %d columns are constant", (~varies).sum(), len(varies))
        self.components_ = np.zeros((count, len(varies)))
        self.mean_, self.noise_variance_ = values.mean(0), np.ones(len(varies))
        if count := min(count, int(varies.sum())):
            loadings, mean, noise = self._fitted(np.ascontiguousarray(values[:, varies]), count)
            self.components_[:count, varies] = loadings
            self.mean_[varies], self.noise_variance_[varies] = mean, noise
        return self

    def _fitted(self, values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if len(values) >= max(MANY_ROWS, 2 * values.shape[1]):
            found = factor_gram.fit(values, count, self.seed)
            if found is not None:
                return found
        from sklearn.decomposition import FactorAnalysis

        with warnings_logged("factors"):
            fitted = FactorAnalysis(count, random_state=self.seed).fit(values)
        return fitted.components_, fitted.mean_, fitted.noise_variance_

    def width(self, shape: tuple[int, int]) -> int:
        """Returns the number of columns after a fit to [N, columns] of this shape."""
        return bounded(self.num_components, shape)

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Returns the posterior means of the factors, [N, components]."""
        from sklearn.decomposition import FactorAnalysis

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

    @classmethod
    def restore(cls, parameters: dict[str, int], state: dict[str, np.ndarray]) -> FactorScores:
        restored = cls(**parameters)
        restored.components_, restored.mean_ = state["components"], state["mean"]
        restored.noise_variance_ = state["noise_variance"]
        return restored


class PrincipalComponents:
    """Scores on the principal components, [N, components], not whitened.

    The decomposition is exact, and a component's sign is such that its largest loading is
    positive: there is no random state.

    Attributes:
      components_: [components, columns] loadings, largest variance first.
      mean_: [columns].
    """

    def __init__(self, num_components: int, solver: str = BY_COVARIANCE):
        """Describes components.

        Args:
          num_components: as many as the data allow, see `fit`.
          solver: `covariance_eigh`, by the columns' covariance, whose cost grows with the third
            power of their number; or `by_shape`, so unless there are more columns than rows, and
            by the singular values of the table there, a small table by one thread. They differ by
            rounding errors.
        """
        self.num_components, self.solver = num_components, solver

    def fit(self, values: np.ndarray) -> PrincipalComponents:
        """Learns the components of two or more rows [N, columns]; at most min(N - 1, columns)."""
        from sklearn.decomposition import PCA
        from threadpoolctl import threadpool_limits

        count = self.width(values.shape)
        tell_fewer(count, self.num_components, values.shape, "components")
        is_wide = self.solver == BY_SHAPE and values.shape[1] > len(values)
        is_small = self.solver == BY_SHAPE and values.size * min(values.shape) < FEW_PRODUCTS
        # Many rows of few columns: the covariance is several times faster.
        with (
            warnings_logged("components"),
            threadpool_limits(1 if is_small else None, "blas"),
        ):
            fitted = PCA(count, svd_solver="full" if is_wide else BY_COVARIANCE).fit(values)
        self.components_, self.mean_ = fitted.components_, fitted.mean_
        return self

    def width(self, shape: tuple[int, int]) -> int:
        """Returns the number of columns after a fit to [N, columns] of this shape."""
        rows, columns = shape
        return bounded(self.num_components, shape, min(rows - 1, columns))

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Returns the scores, [N, components]."""
        return (values - self.mean_) @ self.components_.T

    def parameters(self) -> dict[str, Any]:
        solver = {} if self.solver == BY_COVARIANCE else {"solver": self.solver}
        return {"num_components": self.num_components, **solver}

    def state(self) -> dict[str, np.ndarray]:
        return {"components": self.components_, "mean": self.mean_}

    @classmethod
    def restore(
        cls, parameters: dict[str, Any], state: dict[str, np.ndarray]
    ) -> PrincipalComponents:
        restored = cls(**parameters)
        restored.components_, restored.mean_ = state["components"], state["mean"]
        return restored


class ClusterOneHot:
    """One-hot membership in k-means clusters, [N, clusters].

    Attributes:
      centers_: [clusters, columns].
    """

    def __init__(self, num_clusters: int, seed: int = 123, algorithm: str = "lloyd"):
        """Describes clusters.

        Args:
          num_clusters: as many as the data allow, see `fit`.
          seed: seed of the starts.
          algorithm: scikit-learn's "lloyd" or "elkan"; they differ by rounding errors. The
            original's version took the latter.
        """
        self.num_clusters, self.seed, self.algorithm = num_clusters, seed, algorithm

    def fit(self, values: np.ndarray) -> ClusterOneHot:
        """Learns the clusters of [N, columns]; at most min(N, columns) - 1 of them, at least 1.

        The best of ten k-means++ starts is kept, as scikit-learn's default was in 2020. Fewer
        distinct rows than clusters leave some clusters empty.
        """
        count = self.width(values.shape)
        tell_fewer(count, self.num_clusters, values.shape, "clusters")
        is_many = len(values) >= MANY_ROWS and values.shape[1] * count >= MANY_CENTERS
        if is_many and self.algorithm == "lloyd" and values.dtype == np.float64:
            found = kmeans.fit(values, count, STARTS, self.seed)
            if found is not None:
                self.centers_ = found
                return self
        from sklearn.cluster import KMeans

        with warnings_logged("clusters"):
            fitted = KMeans(
                count, n_init=STARTS, random_state=self.seed, algorithm=self.algorithm
            ).fit(values)
        self.centers_ = fitted.cluster_centers_
        return self

    def width(self, shape: tuple[int, int]) -> int:
        """Returns the number of columns after a fit to [N, columns] of this shape."""
        return bounded(self.num_clusters, shape)

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Returns 1 for the nearest center of each row and 0 for the others."""
        # Squared distances less the row's own square, which is the same for all centers.
        away = values @ (-2.0 * self.centers_.T)
        away += np.einsum("ij,ij->i", self.centers_, self.centers_)
        return np.eye(len(self.centers_))[away.argmin(1)]

    def parameters(self) -> dict[str, Any]:
        return {
            "num_clusters": self.num_clusters,
            "seed": self.seed,
            "algorithm": self.algorithm,
        }

    def state(self) -> dict[str, np.ndarray]:
        return {"centers": self.centers_}

    @classmethod
    def restore(cls, parameters: dict[str, Any], state: dict[str, np.ndarray]) -> ClusterOneHot:
        restored = cls(**parameters)
        restored.centers_ = state["centers"]
        return restored
