"""Names of rows: what those of X, labels and groups are called, and that they are in one order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from moa_jax.data.names import id_of

if TYPE_CHECKING:
    import pandas as pd

ID = "sig_id"


def as_pandas(table: Any) -> Any:
    """Returns a table of polars, Arrow and others as a data frame of pandas, others as they are."""
    is_other = not hasattr(table, "iloc") and hasattr(table, "to_pandas")
    return table.to_pandas() if is_other else table


def check_order(what: str, X: Any, given: Any) -> None:
    """Checks that rows which have names are in the order of those of X.

    Names stand in a column `sig_id`, or are those of the index, of AnnData's observations; where
    either are alike in both, the order is.

    Args:
      what: how messages call what is given.
      X: a data frame or AnnData; rows of anything else have no names.
      given: labels or groups of its rows.

    Raises:
      ValueError: the rows have another order, or some of X are not there.
    """
    pairs = [*_pairs(X, given)]
    if not any(names.equals(others) for names, others in pairs):
        for names, others in pairs:
            _check(what, names, others)


def _pairs(X: Any, given: Any) -> Iterator[tuple[pd.Index, pd.Index]]:
    """Yields names of the rows of both, which may be the same: ids alone where both have them."""
    import pandas as pd

    found = []
    for table in (X, given):
        if hasattr(table, "obs") and hasattr(table, "to_df"):
            table = table.obs
        ids = pd.Index(table[ID]) if ID in [*getattr(table, "columns", ())] else None
        index = getattr(table, "index", None)
        found.append((ids, index if isinstance(index, pd.Index) else None))
    (ids, _), (other_ids, _) = found
    if ids is not None and other_ids is not None:
        yield ids, other_ids
        return
    for (place, one), (other_place, other) in itertools.product(*map(enumerate, found)):
        # A numbering that was not asked for says nothing beside ids.
        is_numbering = isinstance(one, pd.RangeIndex) or isinstance(other, pd.RangeIndex)
        if one is not None and other is not None and not (is_numbering and place != other_place):
            yield one, other


def _check(what: str, names: pd.Index, others: pd.Index) -> None:
    import pandas as pd

    if len(names) != len(others):
        return
    shown = names.tolist()
    names, others = (pd.Index([id_of(str(name)) for name in one]) for one in (names, others))
    if names.equals(others) or not names.is_unique:
        return
    if not others.is_unique or not (is_there := names.isin(others)).any():
        return
    if is_there.all():
        raise ValueError(f"{what}: rows are those of X in another order; give {what}.loc[X.index]")
    numbering = [str(number) for number in range(len(names))]  # of rows without other names
    if [*names] != numbering and [*others] != numbering:
        raise ValueError(
            f"{what}: expected the rows of X, found none of {shown[is_there.argmin()]!r}"
        )
