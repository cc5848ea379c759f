"""Targets of TabNetClassifier: classes and labels as numbers, and the factors of their losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets

from moa_jax.estimators import checks
from moa_jax.estimators.checks import is_number
from moa_jax.schema import shown

BALANCED = "balanced"


def column(y: Any) -> Any:
    """Returns the column of a data frame that has one, and anything else as it is."""
    return y.iloc[:, 0] if hasattr(y, "iloc") and np.ndim(y) == 2 and y.shape[1] == 1 else y


def classes(y: np.ndarray) -> np.ndarray:
    """Returns the classes of y [N], ascending, or the numbers of the labels of y [N, L].

    Raises:
      ValueError: y holds no classes, or such as have no order.
    """
    if y.ndim != 2:
        return checks.classes("y", y)
    check_classification_targets(y)
    return np.arange(y.shape[1])


def encoded(y: np.ndarray, classes: np.ndarray, multi_label: bool) -> np.ndarray:
    """Returns y as targets [N, K] of 0 and 1, float32.

    Args:
      y: [N] or [N, 1] classes, or [N, K] labels.
      classes: [K] what was fitted.
      multi_label: whether these are labels.

    Raises:
      ValueError: y has another shape, or values that were not fitted.
    """
    if not multi_label:
        if y.ndim > 2 or y.ndim == 2 and y.shape[1] != 1:
            raise ValueError(f"y: expected one class per row, found shape {y.shape}")
        y = y.reshape(-1)
        unknown = np.setdiff1d(y, classes)
        if unknown.size:
            raise ValueError(f"y: expected classes {classes}, found {unknown}")
        return (y[:, None] == classes).astype(np.float32)
    if y.ndim != 2 or y.shape[1] != len(classes):
        raise ValueError(f"y: expected {len(classes)} labels, found shape {y.shape}")
    if not (is_label := np.isin(y, (0, 1))).all():
        raise ValueError(f"y: expected labels of 0 and 1, found {shown(y[~is_label].tolist()[0])}")
    return y.astype(np.float32)


def loss_weights(
    class_weight: Any,
    rows: np.ndarray | None,
    targets: np.ndarray,
    classes: np.ndarray,
    multi_label: bool,
) -> np.ndarray | None:
    """Returns the factors of the losses, [N, 1] of classes or [N, L] of labels; None for all 1.

    Args:
      class_weight: None; a factor for each class by name, 1 where none is given; or `balanced`, by
        which all classes weigh alike: total / (K * what its rows weigh). For labels the classes
        are 0 and 1 of every label, in one mapping or in a list of one for each label.
      rows: [N] weights of the rows, or None.
      targets: [N, K] as `encoded` returns them.
      classes: [K].
      multi_label: whether these are labels.

    Raises:
      ValueError: `class_weight` is something else, or names a class that is not there.
    """
    of_row = np.ones(len(targets)) if rows is None else rows
    if class_weight is None:
        return None if rows is None else of_row[:, None]
    if isinstance(class_weight, str):
        if class_weight != BALANCED:
            raise _wrong_class_weight(class_weight)
    if not multi_label:
        factors = _factors(class_weight, of_row, targets, classes)
        return of_row[:, None] * (targets @ factors)[:, None]
    mappings = class_weight
    if isinstance(class_weight, str | Mapping):
        mappings = [class_weight] * len(classes)
    elif not isinstance(class_weight, list | tuple) or len(class_weight) != len(classes):
        raise _wrong_class_weight(class_weight, f", or a list of {len(classes)} mappings")
    found = np.empty(targets.shape)
    for label, mapping in enumerate(mappings):
        two = np.stack([1 - targets[:, label], targets[:, label]], axis=1)
        found[:, label] = of_row * (two @ _factors(mapping, of_row, two, np.arange(2)))
    return found


def _factors(
    class_weight: Any, of_row: np.ndarray, targets: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """The factor of each class, [K]."""
    if isinstance(class_weight, str):
        weighs = of_row @ targets
        there = weighs > 0
        return np.where(there, of_row.sum() / (there.sum() * np.where(there, weighs, 1)), 1.0)
    if not isinstance(class_weight, Mapping):
        raise _wrong_class_weight(class_weight)
    for name, factor in class_weight.items():
        if name not in classes.tolist():
            raise ValueError(f"class_weight: expected classes {classes}, found {name!r}")
        if not is_number(factor) or not 0 <= float(factor) < np.inf:
            raise ValueError(f"class_weight: {name!r}: expected at least 0, found {factor!r}")
    return np.array([float(class_weight.get(name, 1.0)) for name in classes.tolist()])


def _wrong_class_weight(found: Any, more: str = "") -> ValueError:
    return ValueError(
        f"class_weight: expected None, {BALANCED!r}, or factors by class{more}, found {found!r}"
    )
