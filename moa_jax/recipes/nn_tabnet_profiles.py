"""Profiles of the two stages of NN + TabNet."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np

from moa_jax.features.factors import ClusterOneHot, FactorScores, PrincipalComponents
from moa_jax.features.rank_gauss import holding
from moa_jax.features.selection import VarianceSelection
from moa_jax.features.umap_joint import EMBEDDINGS
from moa_jax.recipes import profile
from moa_jax.recipes.profile import ColumnTransform, Steps

UMAP_SEED, FACTOR_SEED = 512, 42


@dataclasses.dataclass(frozen=True)
class DenseProfile:
    """Genes and cells (rank-gauss), then principal components and embedding of either.

    Columns of little variance are left out. Components, embedding and the choice of columns are
    fitted on training rows alone, and training rows are embedded like new ones.

    Attributes:
      components: number of principal components by group, `gene` and `cell`.
      umap: dimensions of the embedding by group; empty for none.
      variance_threshold: columns whose variance is not above it are left out.
      umap_new_rows: `row_by_row` or `joint`, see `JointUmapEmbedding`.
    """

    components: Mapping[str, int]
    umap: Mapping[str, int]
    variance_threshold: float
    umap_new_rows: str

    selects: ClassVar[bool] = True

    def columns(self, values: np.ndarray, num_genes: int, steps: Steps) -> np.ndarray:
        table = steps("rank_gauss", holding, values)
        made = []
        for group, block in profile.groups(num_genes, values.shape[1]):
            new: dict[str, Callable[[], ColumnTransform]] = {
                "components": functools.partial(PrincipalComponents, self.components[group])
            }
            if self.umap:
                embedding = EMBEDDINGS[self.umap_new_rows]
                new["umap"] = functools.partial(
                    embedding, self.umap[group], UMAP_SEED, keep_fitted=False
                )
            made += [
                steps(f"{group}_{name}", make, table[:, block], on_train_alone=True)
                for name, make in new.items()
            ]
        table = np.concatenate([table, *made], axis=1)
        select = functools.partial(VarianceSelection, self.variance_threshold)
        return steps("selection", select, table, on_train_alone=True)


@dataclasses.dataclass(frozen=True)
class TabNetProfile:
    """Genes and cells (rank-gauss), factors, one-hot clusters, four statistics per row.

    The rank-gauss is fitted on training rows alone, factors and clusters on test rows too.

    Attributes:
      factors: number of factors by group, `gene` and `cell`.
      clusters: number of clusters by group, 0 for none.
      duplicate_factor_columns: repeat the factors of both groups, see `selected_by_name`.
    """

    factors: Mapping[str, int]
    clusters: Mapping[str, int]
    duplicate_factor_columns: bool

    def columns(self, values: np.ndarray, num_genes: int, steps: Steps) -> np.ndarray:
        table = steps("rank_gauss", holding, values, on_train_alone=True)
        present = profile.groups(num_genes, values.shape[1])
        factors, clusters = [], []
        for group, block in present:
            make = functools.partial(FactorScores, self.factors[group], FACTOR_SEED)
            factors.append(steps(f"{group}_factors", make, table[:, block]))
            if count := self.clusters[group]:
                cluster = functools.partial(ClusterOneHot, count, algorithm="elkan")
                clusters.append(steps(f"{group}_clusters", cluster, table[:, block]))
        # Unlike in the Simple NN there is no sum.
        statistics = profile.statistics(steps, table, present, slice(1, None))
        if self.duplicate_factor_columns and len(factors) == 2:
            order = selected_by_name(*(both.shape[1] for both in factors))
            factors = [np.concatenate(factors, axis=1)[:, order]]
        return np.concatenate([table, *factors, *clusters, *statistics], axis=1)


def selected_by_name(first: int, second: int) -> np.ndarray:
    """Returns positions in a table that joins two, whose columns are called 0, 1, ... in both.

    For every name, those of the first table and then those of the second, every column of that
    name is taken: names that both have come twice, and with both columns each time.

    >>> selected_by_name(3, 2).tolist()
    [0, 3, 1, 4, 2, 0, 3, 1, 4]

    Args:
      first, second: number of columns of each.
    """
    both, place = min(first, second), np.arange(first + second)
    pairs = np.stack([place[:both], place[first : first + both]], axis=1).ravel()
    return np.concatenate([pairs, place[both:first], pairs, place[first + both :]])
