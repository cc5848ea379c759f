"""Column sums: of a table that comes part by part, to the bits of a sum over all of it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class ColumnSums:
    """The sums of the columns of parts that lie below one another.

    numpy adds row to row, so that a sum goes on where another ended; but it adds the numbers of a
    single column in pairs, and that one is put together.

    >>> sums = ColumnSums()
    >>> sums.add(np.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> sums.add(np.array([[5.0, 6.0]]))
    >>> sums.totals.tolist()
    [9.0, 12.0]
    """

    def __init__(self) -> None:
        # A row of sums; of a single column, all its numbers.
        self._rows: np.ndarray | None = None

    def add(self, part: np.ndarray) -> None:
        """Adds the next rows, [n, columns]."""
        rows = part if self._rows is None else np.concatenate([self._rows, part])
        if part.shape[1] > 1:
            self._rows = rows.sum(0, dtype=np.float64, keepdims=True)
        else:  # the caller may use the memory again
            self._rows = rows.copy()

    @property
    def totals(self) -> np.ndarray:
        """The sums so far, [columns] float64.

        Raises:
          ValueError: nothing was added.
        """
        if self._rows is None:
            raise ValueError("expected rows, found none")
        return self._rows.sum(0, dtype=np.float64)


def column_means(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Returns the means of the columns of parts [n, columns] together, [columns] float64."""
    sums, count = ColumnSums(), 0
    for part in parts:
        sums.add(part)
        count += len(part)
    return sums.totals / count
