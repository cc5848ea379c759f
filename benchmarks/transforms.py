"""Fitted transforms, fit and apply, beside scikit-learn and umap-learn; the Simple NN's chain."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.row import Peer, Row, Side, Work


class Sizes(NamedTuple):
    """Rows, columns, factors, clusters, and rows of UMAP."""

    rows: int = 23_814
    genes: int = 772
    cells: int = 100
    factors: int = 90
    clusters: int = 45
    embedded: int = 23_814


SIZES = {
    "tiny": Sizes(60, 12, 4, 3, 3, 40),
    "quick": Sizes(600, 150, 40, 12, 8, 400),
    "full": Sizes(),
}
SEED = 0
# From sizes to what is fitted: ours and the library's, with `fit` and `transform`.
Make = Callable[[Sizes], Any]


@functools.lru_cache(1)
def table(size: str) -> np.ndarray:
    return correlated(SIZES[size].rows, SIZES[size].genes + SIZES[size].cells)


def correlated(rows: int, columns: int) -> np.ndarray:
    """Returns columns with common factors, as expression has, [rows, columns]."""
    generator, count = np.random.default_rng(0), min(60, columns)
    common = generator.normal(size=(rows, count)) @ generator.normal(size=(count, columns))
    own = generator.normal(size=(rows, columns))
    return 0.15 * common + generator.uniform(0.5, 1.5, columns) * own


def values_of(name: str, size: str) -> np.ndarray:
    sizes, values = SIZES[size], table(size)
    if name in ("factors", "components", "clusters"):
        return np.ascontiguousarray(values[:, : sizes.genes])
    return values[: sizes.embedded] if name == "umap" else values


def fit(name: str, make: Make, size: str) -> Side:
    values = values_of(name, size)
    moved = Work(moved=values.nbytes, dtype="float64")
    return Side(lambda: make(SIZES[size]).fit(values), len(values), moved)


def apply(name: str, make: Make, size: str) -> Side:
    """Returns the side that transforms rows which are new to it."""
    values = values_of(name, size)
    fitted, new = make(SIZES[size]).fit(values), values + 1e-3
    width = fitted.transform(new[:2]).shape[1]
    moved = values.nbytes + 8 * len(values) * width
    is_product = name in ("factors", "components", "clusters")
    flops = 2.0 * values.size * width if is_product else 0.0
    return Side(lambda: fitted.transform(new), len(new), Work(flops, moved, "float64"))


def our_rank_gauss(sizes: Sizes) -> Any:
    from moa_jax.features import rank_gauss

    # As in a run, which has transformed enough for the compiled loop to be worth its compilation.
    rank_gauss.compile_now()
    return rank_gauss.holding()


def our_scale(sizes: Sizes) -> Any:
    from moa_jax.features.standard_scale import StandardScale

    return StandardScale()


def our_factors(sizes: Sizes) -> Any:
    from moa_jax.features.factors import FactorScores

    return FactorScores(sizes.factors)


def our_components(sizes: Sizes) -> Any:
    from moa_jax.features.factors import PrincipalComponents

    return PrincipalComponents(sizes.factors)


def our_clusters(sizes: Sizes) -> Any:
    from moa_jax.features.factors import ClusterOneHot

    return ClusterOneHot(sizes.clusters, SEED)


def our_umap(sizes: Sizes) -> Any:
    from moa_jax.features.umap import UmapEmbedding

    return UmapEmbedding(4)


def their_rank_gauss(sizes: Sizes) -> Any:
    from sklearn.preprocessing import QuantileTransformer

    count = min(100, sizes.rows)
    return QuantileTransformer(n_quantiles=count, output_distribution="normal", subsample=None)


def their_scale(sizes: Sizes) -> Any:
    from sklearn.preprocessing import StandardScaler

    return StandardScaler()


def their_factors(sizes: Sizes) -> Any:
    from sklearn.decomposition import FactorAnalysis

    return FactorAnalysis(sizes.factors, random_state=1903)


def their_components(sizes: Sizes) -> Any:
    from sklearn.decomposition import PCA

    return PCA(sizes.factors, svd_solver="covariance_eigh")


class _Clusters:
    """scikit-learn's k-means, and its clusters as 0 and 1."""

    def __init__(self, sizes: Sizes):
        from sklearn.cluster import KMeans

        self.model = KMeans(sizes.clusters, n_init=10, random_state=SEED)

    def fit(self, values: np.ndarray) -> _Clusters:
        self.model.fit(values)
        return self

    def transform(self, values: np.ndarray) -> np.ndarray:
        return np.eye(self.model.n_clusters)[self.model.predict(values)]


def their_umap(sizes: Sizes) -> Any:
    from umap import UMAP

    return UMAP(n_components=4, random_state=1903, n_jobs=1)


# By name: ours, the library's, and whether the quick table has it.
TRANSFORMS: dict[str, tuple[Make, Make, str, bool]] = {
    "scale": (our_scale, their_scale, "scikit-learn", True),
    "rank_gauss": (our_rank_gauss, their_rank_gauss, "scikit-learn", True),
    "components": (our_components, their_components, "scikit-learn", True),
    "factors": (our_factors, their_factors, "scikit-learn", True),
    "clusters": (our_clusters, _Clusters, "scikit-learn", True),
    "umap": (our_umap, their_umap, "umap-learn", False),
}


def our_chain(size: str) -> Side:
    """Returns the side that fits and applies all transforms of the Simple NN."""
    from moa_jax.recipes import profile
    from moa_jax.recipes.simple_nn import SimpleProfile

    sizes, values = SIZES[size], table(size)
    described = SimpleProfile(
        factors={"gene": sizes.factors, "cell": min(50, sizes.factors)},
        clusters={"gene": sizes.clusters, "cell": min(15, sizes.cells - 1)},
        drop_first_column=True,
    )
    return Side(
        lambda: described.columns(values, sizes.genes, profile.Steps(len(values))), len(values)
    )


def their_chain(size: str) -> Side:
    """Returns the side that does the same with scikit-learn, as the original does."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import FactorAnalysis

    sizes, values = SIZES[size], table(size)
    blocks = (slice(0, sizes.genes), slice(sizes.genes, None))
    factors = (sizes.factors, min(50, sizes.factors))
    clusters = (sizes.clusters, min(15, sizes.cells - 1))

    def run() -> np.ndarray:
        first = their_rank_gauss(sizes).fit_transform(values)
        scores = [
            FactorAnalysis(count, random_state=1903).fit_transform(first[:, block])
            for block, count in zip(blocks, factors, strict=True)
        ]
        joined = np.concatenate([first, *scores], axis=1)[:, 1:]
        joined = their_rank_gauss(sizes).fit_transform(joined)
        groups = [
            np.eye(count)[KMeans(count, n_init=10, random_state=123).fit_predict(joined[:, block])]
            for block, count in zip(blocks, clusters, strict=True)
        ]
        return np.concatenate([joined, *groups], axis=1)

    return Side(run, len(values))


def _rows() -> list[Row]:
    found = []
    for name, (mine, theirs, library, quick) in TRANSFORMS.items():
        for which, side, most in (("fit", fit, 3), ("apply", apply, None)):
            found.append(
                Row(
                    f"transforms.{name}_{which}", f"{name.replace('_', '-')}, {which}", "rows/s",
                    functools.partial(side, name, mine),
                    {library: Peer(functools.partial(side, name, theirs))},
                    most=most, quick=quick,
                )
            )  # fmt: skip
    return found


ROWS = (
    *_rows(),
    Row(
        "transforms.simple_nn", "all of the Simple NN, fit and apply", "rows/s", our_chain,
        {"scikit-learn": Peer(their_chain)}, most=2, warms=False,
    ),
)  # fmt: skip
