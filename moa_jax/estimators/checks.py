"""Checks of what users give estimators: no dates and masks, whole numbers, numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import Any

import jax
import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets

from moa_jax.data.columns import LARGEST_NUMBER
from moa_jax.schema import shown

# The largest seed of numpy's generators.
_MOST_SEED = 2**32 - 1


def check_cells(X: Any) -> None:
    """Checks that a table holds no dates or durations, which would count nanoseconds.

    Nor may cells be masked: scikit-learn would take what is behind the mask.

    Raises:
      ValueError: naming the columns of a data frame.
    """
    if isinstance(X, jax.core.Tracer):
        raise ValueError(
            "X: expected numbers, found an array that JAX traces: call estimators outside of jit, "
            "vmap and grad; within a callback of JAX's they may wait for ever"
        )
    check_there("X", X)
    kinds = getattr(X, "dtypes", None)
    if kinds is None or not hasattr(X, "columns"):
        kind = getattr(X, "dtype", None)
        if fields := getattr(kind, "names", None):
            raise ValueError(
                f"X: expected numbers, found fields {', '.join(fields[:5])}; "
                "pandas.DataFrame(X) makes a table of it"
            )
        if kind is not None and _is_date(kind):
            raise ValueError(f"X: expected numbers, found {kind}")
        return
    check_names("X", "columns", [name for name in X.columns if isinstance(name, str)])
    found = [str(name) for name, kind in zip(X.columns, kinds, strict=True) if _is_date(kind)]
    if found:
        raise ValueError(
            f"X: expected numbers, found dates or durations in {', '.join(found)}: leave them out "
            "or make them numbers, such as days since the first"
        )


def check_there(name: str, values: Any) -> None:
    """Raises a ValueError for an array some of whose cells are masked, or a list with a None."""
    if isinstance(values, np.ma.MaskedArray) and (count := np.ma.count_masked(values)):
        raise ValueError(
            f"{name}: expected a value in every cell, found {count} masked; see numpy.ma.filled"
        )
    if getattr(getattr(values, "dtype", None), "kind", "") == "O" and np.ndim(values) == 1:
        values = values.tolist()
    cells = values if isinstance(values, list) else ()
    if (row := next((row for row, cell in enumerate(cells) if cell is None), None)) is not None:
        raise ValueError(f"{name}: row {row}: expected a value, found None; leave out such rows")


def classes(name: str, values: np.ndarray) -> np.ndarray:
    """Returns the classes among values [N], ascending.

    Raises:
      ValueError: they are of several types, which have no order, or numbers that are not whole.
    """
    try:
        check_classification_targets(values)
        return np.unique(values)
    except TypeError as error:
        kinds = _kinds(values)
        if len(kinds) < 2:
            raise _no_classes(name, kinds, error) from None
        raise ValueError(
            f"{name}: expected classes of one type, found {', '.join(kinds)}"
        ) from None
    except ValueError as error:
        reason = str(error).partition(". ")[0]
        if reason == "Unknown label type: unknown":
            raise _no_classes(name, _kinds(values), error) from None
        if reason != "Unknown label type: continuous" or values.dtype.kind != "f":
            raise
        found = shown(values[values % 1 != 0][0].item())
        raise ValueError(
            f"{name}: expected classes, whole numbers or texts, found {found} ({reason}); "
            "make classes of what was measured, such as 0 and 1 by a limit"
        ) from None


def check_names(where: str, kind: str, names: Sequence[str]) -> None:
    """Raises a ValueError where columns or labels share a name."""
    if len({*names}) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{where}: expected {kind} of different names, found several of {twice!r}")


def dense(X: Any) -> Any:
    """Returns a table with plain columns in place of pandas' sparse ones."""
    kinds = X.dtypes if hasattr(X, "isetitem") else ()
    sparse = [number for number, kind in enumerate(kinds) if str(kind)[:6] == "Sparse"]
    if sparse:
        X = X.copy(deep=False)
        for number in sparse:
            X.isetitem(number, X.iloc[:, number].sparse.to_dense())
    return X


def plain(y: Any) -> Any:
    """Returns targets as arrays have them that are a sparse matrix, or of pandas' own kinds.

    Texts of any length, a kind of numpy's, are objects then. Of whole numbers and truth of pandas'
    kinds, which may be missing, scikit-learn would make floats, of numbers of many digits others.
    """
    if hasattr(y, "toarray"):
        return y.toarray()
    if getattr(getattr(y, "dtype", None), "kind", "") == "T":
        return y.astype(object)
    kind = getattr(getattr(y, "dtype", None), "numpy_dtype", None)
    if kind is None or kind.kind not in "biu" or y.isna().any():
        return y
    return y.astype(kind)


def texts(X: Any) -> Iterator[tuple[int, Any]]:
    """Yields the number of each column of a data frame that holds more than numbers, and a cell.

    It is the first that is a text, a date or another object; texts of numbers and None are none of
    them. Of what is no data frame of pandas nothing is yielded.
    """
    for number, dtype in enumerate(X.dtypes if hasattr(X, "isetitem") else ()):
        if getattr(dtype, "kind", "O") == "O":
            found = (cell for cell in X.iloc[:, number] if not _is_numeric(cell))
            yield from ((number, cell) for cell in itertools.islice(found, 1))


def check_size(X: np.ndarray, names: Sequence[str] | None = None) -> None:
    """Checks that networks, which are of float32, can compute with a table of finite numbers.

    Args:
      X: [N, columns].
      names: what columns are called; None for their numbers.

    Raises:
      ValueError: naming a row and a column whose number is too large.
    """
    if max(-X.min(), X.max()) > LARGEST_NUMBER:
        row, column = np.argwhere(np.abs(X) > LARGEST_NUMBER)[0]
        name = column if names is None else names[column]
        raise ValueError(
            f"X: column {name}, row {row}: expected a number between {-LARGEST_NUMBER:g} and "
            f"{LARGEST_NUMBER:g}, found {X[row, column]:g}"
        )


def seed(random_state: Any) -> int:
    """Returns the seed that an integer, a generator or None stands for.

    Raises:
      ValueError: an integer that is no seed, or something else.
    """
    if isinstance(random_state, Integral):
        if isinstance(random_state, bool) or not 0 <= int(random_state) <= _MOST_SEED:
            raise ValueError(f"random_state: expected 0 to {_MOST_SEED}, found {random_state!r}")
        return int(random_state)
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(np.iinfo(np.int32).max))
    try:
        return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    except ValueError as error:
        raise ValueError(f"random_state: {error}") from None


def is_integer(value: Any) -> bool:
    """Tells whether a value is an integer, numpy's too; truth is none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Tells whether a value is a real number, numpy's too; truth is none."""
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def _kinds(values: np.ndarray) -> list[str]:
    return sorted({type(value).__name__ for value in values.flat})


def _no_classes(name: str, kinds: Sequence[str], error: Exception) -> ValueError:
    reason = str(error).partition(". ")[0]
    return ValueError(
        f"{name}: expected classes, whole numbers or texts, found objects of type "
        f"{', '.join(kinds)} ({reason}); see {name}.astype(int) and {name}.astype(str)"
    )


def _is_numeric(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError, OverflowError):
        return cell is None
    return True


def _is_date(kind: Any) -> bool:
    """Of numpy, pandas and polars, whose types have no letter."""
    temporal = getattr(kind, "is_temporal", None)
    return temporal() if callable(temporal) else getattr(kind, "kind", "") in ("m", "M")
