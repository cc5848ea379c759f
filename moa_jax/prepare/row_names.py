"""Row names: the first column, without a name, in which pandas and R write those of the rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from moa_jax.data import cells
from moa_jax.data.columns import UNNAMED
from moa_jax.data.headers import INDEX

# The name under which such a column may be given a role.
COLUMN = "index"
# And, before it, that of AnnData's observations: names of rows in any format.
COLUMNS = ("obs_names", COLUMN)


def named(table: pa.Table) -> dict[str, str]:
    """Returns what the columns of a table are called here, by its own names of them.

    Those without a name are left out, and the first of them too where it numbers the rows.

    >>> named(pa.table({INDEX: ["w1", "w2"], "a": [1, 2]}))
    {'Unnamed: 0': 'index', 'a': 'a'}
    >>> named(pa.table({INDEX: ["0", "1"], "a": [1, 2]}))
    {'a': 'a'}
    """
    found = {name: name for name in table.column_names if not UNNAMED.fullmatch(name)}
    if INDEX in table.column_names and COLUMN not in found and is_text(table.column(INDEX)):
        return {INDEX: COLUMN, **found}
    return found


def is_text(column: pa.ChunkedArray) -> bool:
    """Tells whether one of some cells is neither a number nor missing."""
    unread = np.isnan(cells.numbers(column))
    return any(not cells.is_missing(text) for text in cells.texts(column)[unread])
