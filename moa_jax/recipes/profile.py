"""Inputs of the Simple NNs: rank-gauss, factors, clusters and statistics of a profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from absl import logging

from moa_jax.data.tables import Dataset, Levels
from moa_jax.features.factors import ClusterOneHot, FactorScores
from moa_jax.features.one_hot import one_hot
from moa_jax.features.rank_gauss import RankGauss
from moa_jax.features.row_statistics import row_statistics


class ProfileFeatures:
    """Transforms of profiles into network inputs, fitted once and applied to any rows.

    Columns, in order: genes and cells (rank-gauss twice), their factor scores (rank-gauss once),
    one-hot clusters of the gene block and of the cell block, five statistics per row of the gene
    block, the cell block and both, one-hot time and dose.

    The blocks are cut by position: with `drop_first_column` every block begins one column late,
    so that the gene block ends with the first cell column and the cell block with the first gene
    factor, as in the original with old CV.
    """

    def __init__(
        self,
        num_genes: int,
        num_cells: int,
        levels: Levels,
        transforms: Mapping[str, Any],
        drop_first_column: bool,
    ):
        self.num_genes, self.num_cells, self.levels = num_genes, num_cells, levels
        self.transforms, self.drop_first_column = transforms, drop_first_column

    @classmethod
    def fit(
        cls,
        train: Dataset,
        test: Dataset | None,
        levels: Levels,
        *,
        factors: tuple[int, int],
        clusters: tuple[int, int],
        drop_first_column: bool,
    ) -> ProfileFeatures:
        """Fits the transforms.

        Args:
          train: rows that the first rank-gauss is fitted on.
          test: further rows that all later transforms are fitted on too, or None.
          levels: levels of time and dose.
          factors: number of gene and of cell factors.
          clusters: number of gene and of cell clusters, 0 for none.
          drop_first_column: see the class.
        """
        new = {
            "gene_factors": lambda: FactorScores(factors[0]),
            "cell_factors": lambda: FactorScores(factors[1]),
            "second_rank_gauss": RankGauss,
            "gene_clusters": lambda: ClusterOneHot(clusters[0]),
            "cell_clusters": lambda: ClusterOneHot(clusters[1]),
        }
        skipped = {
            name
            for name, size in (("gene_clusters", clusters[0]), ("cell_clusters", clusters[1]))
            if not size
        }
        fitted = {"first_rank_gauss": RankGauss().fit(train.features)}

        def fit_and_apply(name: str, values: np.ndarray) -> np.ndarray:
            if name in skipped:
                return values[:, :0]
            if name not in fitted:
                fitted[name] = new[name]().fit(values)
            return fitted[name].transform(values)

        features = cls(len(train.genes), len(train.cells), levels, fitted, drop_first_column)
        parts = [train.features] if test is None else [train.features, test.features]
        features._profile(np.concatenate(parts), fit_and_apply)
        for group, size in (("gene", features.num_genes), ("cell", features.num_cells)):
            if not size:
                logging.info(
                    "no %s columns: their factors, clusters and statistics left out", group
                )
        return features

    def transform(self, rows: Dataset) -> np.ndarray:
        """Returns the inputs of the rows, [N, F] float64."""

        def apply(name: str, values: np.ndarray) -> np.ndarray:
            transform = self.transforms.get(name)
            return values[:, :0] if transform is None else transform.transform(values)

        return np.concatenate(
            [
                self._profile(rows.features, apply),
                one_hot(rows.cp_time, self.levels.cp_time),
                one_hot(rows.cp_dose, self.levels.cp_dose),
            ],
            axis=1,
        )

    def _profile(
        self, values: np.ndarray, apply: Callable[[str, np.ndarray], np.ndarray]
    ) -> np.ndarray:
        genes = slice(0, self.num_genes)
        cells = slice(self.num_genes, self.num_genes + self.num_cells)
        both = slice(0, self.num_genes + self.num_cells)
        present = [
            (name, block)
            for name, block in (("gene", genes), ("cell", cells))
            if block.stop > block.start
        ]
        values = apply("first_rank_gauss", values)
        scores = [apply(f"{name}_factors", values[:, block]) for name, block in present]
        table = np.concatenate([values, *scores], axis=1)
        if self.drop_first_column:
            table = table[:, 1:]
        table = apply("second_rank_gauss", table)
        clusters = [apply(f"{name}_clusters", table[:, block]) for name, block in present]
        # With one group alone, both together would repeat that group's statistics.
        blocks = [block for _, block in present] + ([both] if len(present) == 2 else [])
        statistics = [row_statistics(table[:, block]) for block in blocks]
        return np.concatenate([table, *clusters, *statistics], axis=1)
