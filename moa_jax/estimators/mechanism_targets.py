"""Targets of MechanismClassifier: what it is given as Y, classes or labels."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from sklearn.utils import check_array, column_or_1d

from moa_jax.data.dataset import Targets
from moa_jax.estimators import checks, row_names
from moa_jax.estimators.row_names import ID
from moa_jax.schema import shown, suggestion


@dataclasses.dataclass(frozen=True)
class GivenLabels:
    """Y as the targets of rows.

    Attributes:
      targets: L labels or classes.
      classes: [L] the classes in ascending order; None for labels.
    """

    targets: Targets
    classes: np.ndarray | None


def labels(Y: Any, X: Any, missing: str = "error") -> GivenLabels:
    """Returns the targets of rows.

    Args:
      Y: [N] classes; [N, L] labels of 0 and 1, whose names a data frame has; or, of an AnnData, the
        name of a column of `obs` that holds classes, or names of columns of labels.
      X: what Y is of.
      missing: what a label that is NaN is: an `error`, or, with `mask`, one that is not known.

    Raises:
      ValueError: Y holds neither, or has other rows or another order than X.
    """
    if hasattr(X, "obs") and (isinstance(Y, str) or _are_texts(Y) and len(Y) != len(X.obs)):
        wanted = [Y] if isinstance(Y, str) else [*Y]
        if absent := [name for name in wanted if name not in X.obs.columns]:
            near = suggestion(absent[0], X.obs.columns)
            raise ValueError(f"Y: expected columns of obs, found no {absent[0]!r}{near}")
        Y = X.obs[Y if isinstance(Y, str) else wanted]
    Y = checks.plain(Y)
    checks.check_there("Y", Y)
    _check_lists(Y)
    Y = row_names.as_pandas(Y)
    row_names.check_order("Y", row_names.as_pandas(X), Y)
    names = None
    if hasattr(Y, "columns"):
        Y = Y.drop(columns=ID) if ID in Y.columns else Y
        names = [str(name) for name in Y.columns]
        checks.check_names("Y", "labels", names)
    values = check_array(
        Y,
        ensure_2d=False,
        dtype=None,
        input_name="Y",
        ensure_min_features=0,
        ensure_all_finite="allow-nan",
    )
    _check_known(values, missing == "mask" and values.ndim == 2)
    if values.ndim == 2 and values.shape[1] == 0:
        raise ValueError("Y: expected labels, found no column")
    if values.ndim == 2 and (values.shape[1] > 1 or _are_labels(values)):
        return GivenLabels(_of_labels(values, names), None)
    values = column_or_1d(values, warn=names is None)
    classes = checks.classes("Y", values)
    if ID in classes.tolist():
        raise ValueError(f"Y: expected classes of other names than {ID!r}, which is that of ids")
    of_class = (values[:, None] == classes).astype(np.uint8)
    return GivenLabels(Targets(tuple(str(name) for name in classes.tolist()), of_class), classes)


def check_measured(targets: Targets, is_control: np.ndarray) -> None:
    """Checks that each of the labels of N rows is known of one that is no control [N].

    Raises:
      ValueError: naming one that is not.
    """
    measured = np.True_ if targets.known is None else targets.known[~is_control].any(0)
    if not measured.all():
        empty = targets.names[int(np.argmin(measured))]
        raise ValueError(
            f"Y: {empty}: expected labels of treated rows, found none but NaN; leave it out"
        )


def _check_known(values: np.ndarray, is_masked: bool) -> None:
    """Checks that every row has its class or labels, which may be NaN where they are masked."""
    import pandas as pd

    if is_masked or not (empty := pd.isna(values)).any():
        return
    row, kind, remedy = int(np.argwhere(empty)[0][0]), "class", "leave out rows without one"
    if values.ndim == 2:
        kind = "label in every column"
        remedy = "overrides={'data.missing_targets': 'mask'} leaves out labels that are not known"
    raise ValueError(f"Y: row {row}: expected a {kind}, found NaN; {remedy}")


def _check_lists(Y: Any) -> None:
    """Checks that rows are not sets or lists of the names of their labels, of any length."""
    rows = Y if isinstance(Y, list | tuple) else [*Y] if np.ndim(Y) == 1 else ()
    lists = [row for row in rows if isinstance(row, list | tuple | set | frozenset)]
    if any(isinstance(row, set | frozenset) for row in lists) or len({*map(len, lists)}) > 1:
        raise ValueError(
            f"Y: expected a class, or 0 or 1 for each label, of each row, found {shown(lists[0])}; "
            "sklearn.preprocessing.MultiLabelBinarizer makes labels of lists"
        )


def label_classes(num_labels: int) -> np.ndarray:
    """Returns `classes_` of labels, [L, 2]: scikit-learn looks for the classes of each label."""
    return np.tile([0, 1], (num_labels, 1))


def _of_labels(values: np.ndarray, names: list[str] | None) -> Targets:
    if not _are_labels(values):
        cells = values.ravel().tolist()
        wrong = next(cell for cell in cells if not _are_labels(np.array([cell])))
        raise ValueError(f"Y: expected labels of 0 and 1, found {shown(wrong)}")
    if names is None:
        names = [f"label_{number}" for number in range(values.shape[1])]
    found = values.astype(np.float64)
    known = ~np.isnan(found)
    return Targets(tuple(names), np.where(known, found, 0).astype(np.uint8), known)


def _are_labels(values: np.ndarray) -> bool:
    """Tells whether all are 0 or 1, false or true, or not known."""
    if values.dtype.kind not in "biufO":
        return False
    kinds = (bool, int, float, np.bool_, np.integer, np.floating)
    if values.dtype.kind == "O" and not all(isinstance(value, kinds) for value in values.flat):
        return False
    numbers = values.astype(np.float64)
    return bool((np.isnan(numbers) | np.isin(numbers, (0, 1))).all())


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
