"""Names of new rows' compounds: the column of a table that has them, and what stands for none."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from moa_jax.data import cells
from moa_jax.data.columns import Columns
from moa_jax.data.names import id_of, is_missing

# Columns that name compounds, the first that is there.
COLUMNS = ("drug_id", "compound")


def column(names: Sequence[str], features: Collection[str]) -> str | None:
    """Returns the column of a table that names compounds, None where there is none.

    >>> column(["g-0", "compound"], ["g-0"]), column(["compound"], ["compound"])
    ('compound', None)
    """
    found = [name for name in COLUMNS if name in names and name not in features]
    return next(iter(found), None)


def own(sig_id: str) -> str:
    """Returns what a row's compound is called that has no name: no other row shares it."""
    return f"unknown_{sig_id}"


def of(part: Columns, name: str) -> np.ndarray:
    """Returns what a column names each row's compound, [N] str, those without one their own."""
    texts = cells.texts(part.table.column(name))
    pairs = zip(part.ids, texts, strict=True)
    return np.array([own(row) if is_missing(text) else id_of(text) for row, text in pairs], object)
