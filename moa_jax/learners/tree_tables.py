"""Boosted trees of all labels as arrays, and the compiled loop that walks them.

LightGBM predicts one label at a time, row by row, and spends more time on the columns of a row than
on its small trees. Only predictions of many rows import this file, because numba takes a second.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Self

import numba
import numpy as np

from moa_jax.store import cores

# Rows that go through a tree together: what they hold in the columns of all trees stays in a cache.
TILE = 64
# Of a node's `decision_type`: a choice among categories, and zeros that count as missing.
CATEGORIES, ZERO_IS_MISSING = 1, 4
_TREE = re.compile(r"^Tree=\d+\n(.*?)\n\n", re.MULTILINE | re.DOTALL)


class TreeTables(NamedTuple):
    """Trees of some labels, one after another.

    Attributes:
      first: [labels + 1] the first tree of each label, and the number of all trees.
      roots: [trees] root of each; like every node that is a leaf -1 less the leaf's number.
      columns, thresholds: [nodes] what a node compares; up to the threshold a row goes left.
      children: [2 * nodes] left and right child of each node.
      leaves: [leaves] what each adds to the log odds.
    """

    first: np.ndarray
    roots: np.ndarray
    columns: np.ndarray
    thresholds: np.ndarray
    children: np.ndarray
    leaves: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self | None:
        """Returns the trees of boosters in LightGBM's text; None where a kind is not known here.

        Args:
          texts: of each label, of an objective whose probabilities are 1 / (1 + exp(-sum)).
        """
        first, roots = [0], []
        nodes: dict[str, list[np.ndarray]] = {name: [] for name in ("column", "threshold", "child")}
        leaves: list[np.ndarray] = []
        num_nodes = num_leaves = 0
        for text in texts:
            if "\nobjective=binary sigmoid:1\n" not in text or "\naverage_output\n" in text:
                return None
            for (block,) in map(re.Match.groups, _TREE.finditer(text)):
                fields = dict(line.split("=", 1) for line in block.split("\n"))
                if fields["num_cat"] != "0" or fields.get("is_linear", "0") != "0":
                    return None
                leaves.append(np.array(fields["leaf_value"].split(), np.float64))
                roots.append(num_nodes if len(leaves[-1]) > 1 else -1 - num_leaves)
                if len(leaves[-1]) > 1:
                    kinds = np.array(fields["decision_type"].split(), np.int64)
                    if (kinds & (CATEGORIES | ZERO_IS_MISSING)).any():
                        return None
                    sides = [fields[name].split() for name in ("left_child", "right_child")]
                    child = np.array(sides, np.int32).T.ravel()
                    nodes["child"].append(child + np.where(child < 0, -num_leaves, num_nodes))
                    nodes["column"].append(np.array(fields["split_feature"].split(), np.int32))
                    nodes["threshold"].append(np.array(fields["threshold"].split(), np.float64))
                    num_nodes += len(kinds)
                num_leaves += len(leaves[-1])
            first.append(len(roots))
        return cls(
            np.array(first, np.int32),
            np.array(roots, np.int32),
            np.concatenate([np.zeros(0, np.int32), *nodes["column"]]),
            np.concatenate([np.zeros(0), *nodes["threshold"]]),
            np.concatenate([np.zeros(0, np.int32), *nodes["child"]]).astype(np.int32),
            np.concatenate([np.zeros(0), *leaves]),
        )

    def take(self, x: np.ndarray) -> bool:
        """Tells whether the loop is made for rows; LightGBM judges others, such as unknown values.

        Args:
          x: [N, F].
        """
        is_wide = x.shape[1] > self.columns.max(initial=-1)
        return is_wide and x.dtype == np.float64 and bool(np.isfinite(x).all())

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Returns the probabilities [N, labels] of rows [N, F] that it takes."""
        out = np.empty((len(x), len(self.first) - 1))
        workers = max(1, min(cores.available(), len(x) // TILE))
        edges = np.linspace(0, len(x), workers + 1).astype(int).tolist()
        with ThreadPoolExecutor(workers) as pool:
            parts = [slice(*pair) for pair in zip(edges[:-1], edges[1:], strict=True)]
            list(pool.map(lambda part: walk(x[part], *self, out[part]), parts))
        return out


@numba.njit(nogil=True)
def walk(x, first, roots, columns, thresholds, children, leaves, out):
    """Writes the probabilities [N, labels] of rows [N, F]; sums are in the order of the trees."""
    rows, width = x.shape
    tile = np.empty((width, TILE))
    sums = np.empty(TILE)
    for top in range(0, rows, TILE):
        height = min(TILE, rows - top)
        for i in range(height):
            for column in range(width):
                tile[column, i] = x[top + i, column]
        for label in range(len(first) - 1):
            sums[:] = 0.0
            for tree in range(first[label], first[label + 1]):
                for i in range(height):
                    node = roots[tree]
                    while node >= 0:
                        is_right = tile[columns[node], i] > thresholds[node]
                        node = children[2 * node + np.int64(is_right)]
                    sums[i] += leaves[-1 - node]
            for i in range(height):
                out[top + i, label] = 1.0 / (1.0 + math.exp(-sums[i]))
