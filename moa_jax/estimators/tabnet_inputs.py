"""What the TabNet estimators are given: parameters, codes, evaluation rows and weights."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
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
# What pretraining has beside these; a share of 0 would hide nothing, and one of 1 show nothing.
PRETRAINING = {
    "pretraining_ratio": number(0.5, 1e-3, 1 - 1e-3),
    "n_shared_decoder": number(1, 0, 50),
    "n_independent_decoder": number(1, 0, 50),
}
# Codes up to this are whole numbers in float32.
_MOST_CODES = 2**24
_PAIR = "a pair (X, y) or a list of such pairs"


def check_parameters(estimator: Any) -> None:
    """Checks all parameters that do not depend on the data.

    Raises:
      ValueError: naming the parameter, what was expected and what was found.
    """
    parameters = estimator.get_params(deep=False)
    for name, field in {**TABNET, **TRAINING, **PRETRAINING}.items():
        if "low" in field.metadata and name in parameters:
            _check_number(name, parameters[name], field)
    clip = estimator.clip_value
    if clip is not None and not (is_number(clip) and 0 < clip <= LARGEST[float]):
        raise ValueError(f"clip_value: expected above 0 or None, found {shown(clip)}")
    mask_type = estimator.mask_type
    if not isinstance(mask_type, str) or mask_type not in tabnet.MASKS:
        raise ValueError(f"mask_type: expected one of {sorted(tabnet.MASKS)}, found {mask_type!r}")
    if not isinstance(estimator.warm_start, bool | np.bool_):
        raise ValueError(f"warm_start: expected True or False, found {shown(estimator.warm_start)}")
    for name, other in (
        ("n_independent", "n_shared"),
        ("n_independent_decoder", "n_shared_decoder"),
    ):
        if name in parameters and parameters[name] + parameters[other] < 1:
            raise ValueError(f"{name} and {other}: expected one of them above 0")


def embedding(
    estimator: Any, categories: Mapping[int, Sequence[Any]] = types.MappingProxyType({})
) -> dict[str, Any]:
    """Returns `cat_idxs`, `cat_dims` and `cat_emb_dim` as the network takes them.

    Args:
      estimator: its parameters.
      categories: what columns of X have of themselves, which join those that are given.

    Raises:
      ValueError: one of the first two is given without the other, their lengths differ, a column
        is named twice or below 0, a number is not a whole one, or a column has other categories.
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
    for column, size in zip(columns, sizes, strict=False):
        if column in categories and len(categories[column]) != size:
            raise ValueError(
                f"cat_dims: expected {len(categories[column])} for column {column}, as many as it "
                f"has categories, found {size}"
            )
    more = [column for column in sorted(categories) if column not in columns]
    columns = (*columns, *more)
    sizes = (*sizes, *(len(categories[column]) for column in more))
    counts = {len(columns), len(sizes), *([] if isinstance(width, int) else [len(width)])}
    if len(counts) > 1 or len(set(columns)) < len(columns):
        raise ValueError(
            "cat_idxs, cat_dims and cat_emb_dim: expected one entry per distinct column, "
            f"found {columns}, {sizes} and {width}"
        )
    if not columns and width not in (1, ()):
        raise ValueError(f"cat_emb_dim: expected 1 without cat_idxs, found {width}")
    return {"cat_idxs": columns, "cat_dims": sizes, "cat_emb_dim": width or 1}


def check_memory(network: tabnet.TabNet, batch_size: int, num_columns: int) -> None:
    """Checks that weights and a batch fit in memory, by a lower bound of what they take.

    Args:
      network: the network.
      batch_size: rows of a batch.
      num_columns: number of columns of X.

    Raises:
      ValueError: they do not.
    """
    tables = tabnet.embedding_tables(network.cat_idxs, network.cat_dims, network.cat_emb_dim)
    columns = num_columns + sum(width - 1 for _, _, width in tables)
    features, steps = network.n_d + network.n_a, network.n_steps
    own = network.n_independent * (1 + steps)
    weights = (
        2 * features * (columns + features * max(0, own + network.n_shared - 1))
        + steps * network.n_a * columns
        + network.n_d * network.output_dim
        + sum(categories * width for _, categories, width in tables)
    )
    # An embedding multiplies a row of all its categories.
    widest = max([columns, 2 * features, *(categories for _, categories, _ in tables)])
    batch = batch_size * widest
    # Weights, those of the best epoch, gradients and Adam's two moments, in float32.
    needed, there = 4 * (5 * weights + batch), memory.machine_bytes()
    if needed > there:
        raise ValueError(
            f"n_d, n_a, n_steps, cat_dims and cat_emb_dim: this network needs "
            f"{memory.size(needed)} of memory, this machine has {memory.size(there)}"
        )


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


def check_same(found: dict[str, Any], earlier: dict[str, Any], what: str) -> None:
    """Checks that weights are for the network and the data that there are.

    Raises:
      ValueError: naming what differs.
    """
    for name, value in found.items():
        if value != earlier[name]:
            raise ValueError(
                f"{what}: expected the {name} of the weights that it starts from, "
                f"{shown(earlier[name])}, found {shown(value)}"
            )


def rounded_up(count: int) -> int:
    """Returns the next of eight sizes between a power of two and the next one.

    Tables of about the same number of rows, such as those of folds, are padded to one size, for
    which programs are compiled once.

    >>> rounded_up(7), rounded_up(66), rounded_up(67), rounded_up(1000)
    (7, 72, 72, 1024)
    """
    step = 1 << max(0, count.bit_length() - 4)
    return -(-count // step) * step


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
    # Weights may be so large or small that their sum is none; by a power of 2 none is rounded.
    weights = np.ldexp(weights[kept], -np.frexp(weights.max())[1])
    return kept, None if (weights == weights[0]).all() else weights


def depth(value: Any) -> int:
    """Returns the number of axes of an array, a table, or nested lists, which may be ragged."""
    if isinstance(value, list | tuple | range):
        return 1 + (depth(value[0]) if value else 0)
    return getattr(value, "ndim", 0)


def _is_pair(value: Any) -> bool:
    """Tells a table and its targets from two such pairs, and from a table of two rows."""
    return isinstance(value, list | tuple) and len(value) == 2 and depth(value[0]) == 2


def _integers(name: str, values: Any, least: int, most: float) -> tuple[int, ...]:
    if depth(values) != 1:
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
