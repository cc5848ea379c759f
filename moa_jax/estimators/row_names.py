"""Names of rows: what those of X, labels and groups are called, and that they are in order."""

from __future__ import annotations

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

    Names stand in a column `sig_id`, or are those of the index, of AnnData's observations.

    Args:
      what: how messages call what is given.
      X: a data frame or AnnData; rows of anything else have no names.
      given: labels or groups of its rows.

    Raises:
      ValueError: the rows have another order, or some of X are not there.
    """
    import pandas as pd

    names, others = _names(X), _names(given)
    if names is None or others is None or len(names) != len(others) or names.equals(others):
        return
    # A numbering that was not asked for says nothing beside ids.
    if _has_ids(X) != _has_ids(given) and any(
        isinstance(i, pd.RangeIndex) for i in (names, others)
    ):
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


def _has_ids(table: Any) -> bool:
    return ID in [*getattr(table, "columns", ())]


def _names(table: Any) -> pd.Index | None:
    import pandas as pd

    if hasattr(table, "obs") and hasattr(table, "to_df"):
        table = table.obs
    if _has_ids(table):
        return pd.Index(table[ID])
    index = getattr(table, "index", None)
    return index if isinstance(index, pd.Index) else None
