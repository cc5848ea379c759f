"""What TabNetClassifier is given: parameters, codes, targets, evaluation rows and weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight

from moa_jax.config import WIDEST, number
from moa_jax.estimators.checks import is_integer, is_number
from moa_jax.models import tabnet
from moa_jax.models.hyperparameters import TABNET
from moa_jax.schema import LARGEST, limits, shown
from moa_jax.store import memory
from moa_jax.training.members import SMALLEST_BATCH

# What training has beside the hyperparameters of `TabNet`, as its fields have them.
TRAINING = {
    "batch_size": number(1024, 2, 2**20),
    "max_epochs": number(100, 1),
    "patience": number(10, 0),
    "lambda_sparse": number(1e-3, 0.0),
    "learning_rate": number(2e-2, 1e-12, 1e3),
    "weight_decay": number(0.0, 0.0, 1e3),
    "validation_fraction": number(0.1, 0.0, 0.9),
}
BALANCED = "balanced"
# Multiples of the precision by which equal numbers differ after a conversion.
ROUNDING = 4
# The largest seed of numpy's generators.
_MOST_SEED = 2**32 - 1
# Codes up to this are whole numbers in float32.
_MOST_CODES = 2**24
_PAIR = "a pair (X, y) or a list of such pairs"


def check_parameters(estimator: Any) -> None:
    """Checks all parameters that do not depend on the data.

    Raises:
      ValueError: naming the parameter, what was expected and what was found.
    """
    for name, field in {**TABNET, **TRAINING}.items():
        if "low" in field.metadata:
            _check_number(name, getattr(estimator, name), field)
    clip = estimator.clip_value
    if clip is not None and not (is_number(clip) and 0 < clip <= LARGEST[float]):
        raise ValueError(f"clip_value: expected above 0 or None, found {shown(clip)}")
    if estimator.mask_type not in tabnet.MASKS:
        raise ValueError(
            f"mask_type: expected one of {sorted(tabnet.MASKS)}, found {estimator.mask_type!r}"
        )
    if estimator.n_independent + estimator.n_shared < 1:
        raise ValueError("n_independent and n_shared: expected one of them above 0")
    embedding(estimator)


def network(estimator: Any) -> tabnet.TabNet:
    """Returns the network of an estimator that has its parameters and `classes_`."""
    return tabnet.from_attributes(estimator, len(estimator.classes_), **embedding(estimator))


def classes(y: np.ndarray) -> np.ndarray:
    """Returns the classes of y [N], ascending, or the numbers of the labels of y [N, L].

    Raises:
      ValueError: y holds no classes, or such as have no order.
    """
    try:
        check_classification_targets(y)
        return np.arange(y.shape[1]) if y.ndim == 2 else np.unique(y)
    except TypeError:
        kinds = sorted({type(value).__name__ for value in y.flat})
        raise ValueError(f"y: expected classes of one type, found {', '.join(kinds)}") from None


def embedding(estimator: Any) -> dict[str, Any]:
    """Returns `cat_idxs`, `cat_dims` and `cat_emb_dim` as the network takes them.

    Raises:
      ValueError: one of the first two is given without the other, their lengths differ, a column
        is named twice or below 0, or a number is not a whole one.
    """
    columns, sizes = (
        () if values is None else _integers(name, values, least, most)
        for name, values, least, most in (
            ("cat_idxs", estimator.cat_idxs, 0, LARGEST[int]),
            ("cat_dims", estimator.cat_dims, 1, _MOST_CODES),
        )
    )
    width: Any = estimator.cat_emb_dim
    if is_integer(width) and width >= 1:
        (width,) = _integers("cat_emb_dim", [width], 1, WIDEST)
    else:
        width = _integers("cat_emb_dim", width, 1, WIDEST)
    for name, other, given, missing in (
        ("cat_dims", "cat_idxs", columns, sizes),
        ("cat_idxs", "cat_dims", sizes, columns),
    ):
        if given and not missing:
            raise ValueError(
                f"{name}: expected one entry for each of {other} {list(given)}, found none; "
                "either both are given or neither"
            )
    counts = {len(columns), len(sizes), *([] if isinstance(width, int) else [len(width)])}
    if len(counts) > 1 or len(set(columns)) < len(columns):
        raise ValueError(
            "cat_idxs, cat_dims and cat_emb_dim: expected one entry per distinct column, "
            f"found {columns}, {sizes} and {width}"
        )
    if not columns and width not in (1, ()):
        raise ValueError(f"cat_emb_dim: expected 1 without cat_idxs, found {width}")
    return {"cat_idxs": columns, "cat_dims": sizes, "cat_emb_dim": width or 1}


def check_memory(estimator: Any, X: np.ndarray, num_outputs: int) -> None:
    """Checks that weights and a batch fit in memory, by a lower bound of what they take.

    Args:
      estimator: its parameters.
      X: [N, columns].
      num_outputs: number of classes or labels.

    Raises:
      ValueError: they do not.
    """
    of = embedding(estimator)
    tables = tabnet.embedding_tables(of["cat_idxs"], of["cat_dims"], of["cat_emb_dim"])
    columns = X.shape[1] + sum(width - 1 for _, _, width in tables)
    features, steps = estimator.n_d + estimator.n_a, estimator.n_steps
    own = estimator.n_independent * (1 + steps)
    weights = (
        2 * features * (columns + features * max(0, own + estimator.n_shared - 1))
        + steps * estimator.n_a * columns
        + estimator.n_d * num_outputs
        + sum(categories * width for _, categories, width in tables)
    )
    batch = min(estimator.batch_size, len(X)) * max(columns, 2 * features)
    # Weights, those of the best epoch, gradients and Adam's two moments, in float32.
    needed, there = 4 * (5 * weights + batch), memory.machine_bytes()
    if needed > there:
        raise ValueError(
            f"n_d, n_a, n_steps, cat_dims and cat_emb_dim: this network needs "
            f"{memory.size(needed)} of memory, this machine has {memory.size(there)}"
        )


def constant_columns(X: np.ndarray) -> dict[int, float]:
    """Returns the values of the columns of X [N, columns] that are constant, by their numbers.

    Codes are columns too: what an embedding gives for them is normalised by its spread.
    """
    constant = np.ptp(X, axis=0) <= ROUNDING * np.finfo(X.dtype).eps * np.abs(X).max(axis=0)
    return {int(column): float(X[0, column]) for column in np.flatnonzero(constant)}


def held(X: np.ndarray, constant: Mapping[int, float]) -> np.ndarray:
    """Returns X with its columns at the values that they had where they were constant."""
    if constant:
        X = X.copy()
        X[:, list(constant)] = list(constant.values())
    return X


def check_codes(X: np.ndarray, tables: Sequence[tabnet.Table]) -> None:
    """Checks that the categorical columns of X [N, columns] are there and hold codes.

    Raises:
      ValueError: naming the column.
    """
    for column, categories, _ in tables:
        if column >= X.shape[1]:
            raise ValueError(
                f"cat_idxs: expected columns from 0 to {X.shape[1] - 1}, found {column}"
            )
        codes = X[:, column]
        wrong = (codes != np.floor(codes)) | (codes < 0) | (codes >= categories)
        if wrong.any():
            raise ValueError(
                f"column {column}: expected codes 0 to {categories - 1}, found {codes[wrong][0]:g}"
            )


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
    if not np.isin(y, (0, 1)).all():
        raise ValueError(f"y: expected labels of 0 and 1, found {type_of_target(y)} values")
    return y.astype(np.float32)


def evaluation_pairs(eval_set: Any) -> list[tuple[Any, Any]]:
    """Returns the pairs (X, y) of an `eval_set`, which is a pair or a list of pairs.

    >>> pair = (np.zeros((2, 3)), [0, 1])
    >>> len(evaluation_pairs(pair)), len(evaluation_pairs([pair, pair]))
    (1, 2)

    Raises:
      ValueError: it is neither.
    """
    if not isinstance(eval_set, list | tuple):
        raise ValueError(f"eval_set: expected {_PAIR}, found {type(eval_set).__name__}")
    if _is_pair(eval_set):
        return [(eval_set[0], eval_set[1])]
    if not eval_set or not all(map(_is_pair, eval_set)):
        kinds = ", ".join(type(entry).__name__ for entry in eval_set)
        raise ValueError(
            f"eval_set: expected {_PAIR}, found a {type(eval_set).__name__} of {len(eval_set)}"
            + (f": {kinds}" if kinds else "")
        )
    return [(pair[0], pair[1]) for pair in eval_set]


def row_weights(sample_weight: Any, X: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the rows of a weight above 0, ascending, and their weights; None for equal ones.

    Raises:
      ValueError: weights are of another length, below 0, not finite, or fewer than two above 0.
    """
    try:
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    except (TypeError, ValueError) as error:
        raise ValueError(f"sample_weight: expected a number per row: {error}") from None
    kept = np.flatnonzero(weights)
    if len(kept) < SMALLEST_BATCH:
        raise ValueError(f"sample_weight: expected {SMALLEST_BATCH} above 0, found {len(kept)}")
    weights = weights[kept]
    return kept, None if (weights == weights[0]).all() else weights


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


def seed(random_state: Any) -> int:
    """Returns the seed that an integer, a generator or None stands for.

    Raises:
      ValueError: an integer that is no seed, or something else.
    """
    if isinstance(random_state, Integral):
        if isinstance(random_state, bool) or not 0 <= int(random_state) <= _MOST_SEED:
            raise ValueError(f"random_state: expected 0 to {_MOST_SEED}, found {random_state!r}")
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


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


def _is_pair(value: Any) -> bool:
    """Tells a table and its targets from two such pairs, and from a table of two rows."""
    return isinstance(value, list | tuple) and len(value) == 2 and _depth(value[0]) == 2


def _depth(value: Any) -> int:
    """Number of axes of an array, a table, or nested lists, which may be ragged."""
    if isinstance(value, list | tuple):
        return 1 + (_depth(value[0]) if value else 0)
    return getattr(value, "ndim", 0)


def _integers(name: str, values: Any, least: int, most: float) -> tuple[int, ...]:
    if isinstance(values, str | bytes | Mapping) or np.ndim(values) != 1:
        raise ValueError(f"{name}: expected a list of integers, found {shown(values)}")
    for value in values:
        if not is_integer(value) or value < least:
            raise ValueError(f"{name}: expected integers of at least {least}, found {shown(value)}")
        if value > most:
            raise ValueError(f"{name}: expected integers of at most {most}, found {shown(value)}")
    return tuple(map(int, values))


def _check_number(name: str, value: Any, field: dataclasses.Field) -> None:
    kind = type(field.default)
    least, most = limits(kind, field.metadata)
    is_kind = (is_integer if kind is int else is_number)(value) and value >= least
    if is_kind and value <= most:
        return
    if kind is int:
        end = f"of at most {most}" if is_kind else f"of at least {least}"
        raise ValueError(f"{name}: expected an integer {end}, found {shown(value)}")
    if not is_kind and field.metadata["high"] is None:
        most = np.inf
    raise ValueError(f"{name}: expected {least} to {most}, found {shown(value)}")
