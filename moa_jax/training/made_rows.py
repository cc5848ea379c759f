"""Made rows: a table whose rows are computed where they are asked for, in the place of an array."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from moa_jax.training.trees import Tree


@dataclasses.dataclass(frozen=True)
class MadeRows:
    """A table [N, ...] that is in memory nowhere but where somebody has asked for it.

    To shapes and devices it is an array of the host. What needs it whole takes `np.asarray`.

    Attributes:
      shape, dtype: of the table.
      write: `write(start, out)` writes the rows from `start` on into `out`, [n, ...] zeros.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    write: Callable[[int, np.ndarray], None]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Returns rows that follow one another."""
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise IndexError(f"expected rows that follow one another, found {rows}")
        out = np.zeros((max(stop - start, 0), *self.shape[1:]), self.dtype)
        if len(out):
            self.write(start, out)
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)


def held(tree: Tree) -> Tree:
    """Returns a tree with arrays in the place of rows that are not made yet."""

    def array(leaf: Any) -> Any:
        return np.asarray(leaf) if isinstance(leaf, MadeRows) else leaf

    return jax.tree.map(array, tree)
