"""Sizes: steps and widths of the original's systems for data of fewer rows than the original's.

One rule for all, of the number n of treated rows; the tables say which multiple a field takes.

* Batches have 2 sqrt(n) rows, as a power of two; hidden layers are eight times as wide.
* Columns that features add, such as factors and clusters, and the sides of images grow with
  sqrt(n), too: so many directions that many rows tell apart.
* Rates of networks that learn scored labels of profiles are in proportion to the batch.
* Training has so many epochs that the optimiser takes a number of steps that does not depend on n,
  and no fewer epochs than the original, whose longest trainings n or sqrt(n) bounds.

No width is more than the original's, and from `FULL_ROWS` treated rows on all are the original's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from moa_jax.recipes.recipe import Recipe
from moa_jax.schema import FROM_DATA

# Treated rows from which on sizes are the original's, which had 21,948.
FULL_ROWS = 20_000
SMALLEST_BATCH = 8


class Case(NamedTuple):
    """A field whose value is wanted.

    Attributes:
      rows: number of treated rows.
      original: the field's value in the original.
      section: the section that the field is in; fields that stand before it in the table have
        their values.
      original_section: the original's.
    """

    rows: int
    original: Any
    section: Any
    original_section: Any

    @property
    def root(self) -> float:
        return math.sqrt(self.rows)


Size = Callable[[Case], Any]


def _batch(factor: float = 1.0) -> Size:
    """Returns a multiple of the rows in a batch."""

    def size(case: Case) -> int:
        rows = max(2 ** math.floor(math.log2(2 * case.root)), SMALLEST_BATCH)
        return min(int(factor * rows), case.original)

    return size


def _fives(multiple: float, power: float = 0.5, most: int = 0) -> Size:
    """Returns a multiple of a power of n to the nearest five.

    Args:
      multiple: the factor.
      power: the exponent.
      most: of originals that have less, so much is allowed.
    """

    def size(case: Case) -> int:
        wanted = multiple * case.rows**power
        return min(max(5 * round(wanted / 5), 5), max(case.original, most))

    return size


def _epochs(steps: int, longest: Callable[[Case], float]) -> Size:
    """Returns the epochs of so many steps over all rows, or, if these are more, the original's.

    Args:
      steps: of the optimiser.
      longest: what bounds the original's.
    """

    def size(case: Case) -> int:
        held = steps * min(case.section.batch_size, case.rows) / case.rows
        return max(round(held), min(case.original, round(longest(case))), 1)

    return size


def _original(case: Case) -> Any:
    return case.original


def _rate(case: Case) -> float:
    """Returns a rate in proportion to the batch (Goyal et al., 2017), to one digit."""
    return min(float(f"{1e-4 * case.section.batch_size:.0e}"), case.original)


def _root(case: Case) -> int:
    return min(max(round(case.root), 1), case.original)


def _same_shares(case: Case) -> tuple[int, ...]:
    """Returns epochs at the same shares of all."""
    share = case.section.epochs / case.original_section.epochs
    return tuple(max(round(epoch * share), 1) for epoch in case.original)


def _side(case: Case) -> int:
    """Returns the side of an image, a multiple of 16 pixels: so many pixels as 4 n."""
    return min(max(16 * round(2 * case.root / 16), 32), case.original)


def _descent(case: Case) -> int:
    """Returns the epochs of a descent of the rate: all, where they are too few for a cycle."""
    epochs = case.section.epochs
    return epochs if epochs < 2 * case.original else case.original


def _dense(steps: int, rate: Size, width: float = 8) -> Mapping[str, Size]:
    """Returns the fields of a dense network, its width as a multiple of the rows in a batch."""
    return {
        "batch_size": _batch(),
        "hidden": _batch(width),
        "epochs": _epochs(steps, lambda case: 5 * case.root),
        "max_learning_rate": rate,
    }


_FACTORS = {"gene_factors": _fives(1.5), "cell_factors": _fives(0.75)}
_CLUSTERS = {"gene_clusters": _fives(0.75), "cell_clusters": _fives(0.25)}
_UMAP = {"gene_umap": _fives(0.5), "cell_umap": _fives(0.25)}

# Of each recipe its sections, and of these the fields in the order in which they are found.
FIELDS: Mapping[str, Mapping[str, Mapping[str, Size]]] = {
    "simple_nn": {"": {**_dense(360, _rate), **_FACTORS, **_CLUSTERS}},
    "three_stage_nn": {
        "features": {**_FACTORS, **_UMAP},
        "nonscored": _dense(240, _original),
        "scored": _dense(360, _rate),
        "stacked": _dense(720, _original, width=4),
    },
    "nn_tabnet": {
        "nonscored": {
            **_dense(240, _original),
            "gene_components": _fives(1.5),
            "cell_components": _fives(0.75),
            **_UMAP,
        },
        "scored": {
            **_FACTORS,
            **_CLUSTERS,
            "n_d": _batch(0.5),
            "n_a": _batch(0.5),
            "batch_size": _batch(4),
            "virtual_batch_size": _batch(2),
            "epochs": _epochs(300, lambda case: 5 * case.root),
            "milestones": _same_shares,
            "patience": _root,
        },
    },
    "two_heads_resnet": {
        "": {
            "batch_size": _batch(),
            "hidden": _batch(8),
            # The second original has 50 of each, the first two components of genes.
            "gene_components": _fives(1.5, most=50),
            "cell_components": _fives(0.75),
            "loop_epochs": _fives(1 / 20, power=1.0),
        }
    },
    "deepinsight_cnn": {
        "": {
            "batch_size": _batch(),
            "resolution": _side,
            "epochs": _epochs(96, lambda case: case.rows / 48),
            "half_period": _descent,
        }
    },
}


def from_data(model: Recipe) -> Any:
    """Returns a model's configuration all of whose sizes the data decide."""
    for section, field, _ in _fields(model):
        several = isinstance(getattr(_section(model, section), field), tuple)
        model = _replaced(model, section, field, (FROM_DATA,) if several else FROM_DATA)
    return model


def left_open(model: Recipe) -> dict[str, tuple[str, str]]:
    """Returns section and field of the sizes that the data decide, by dotted name."""
    return {
        f"{section}.{field}".removeprefix("."): (section, field)
        for section, field, _ in _fields(model)
        if getattr(_section(model, section), field) in (FROM_DATA, (FROM_DATA,))
    }


def of_rows(model: Recipe, rows: int, known: Mapping[str, Any]) -> Recipe:
    """Returns a model's configuration with every size.

    Args:
      model: the configuration; sizes that it has stay.
      rows: number of treated rows.
      known: sizes that are decided already, by dotted name.
    """
    places = left_open(model)
    names = {place: name for name, place in places.items()}
    original = model.original()
    for section, field, size in _fields(model):
        name = names.get((section, field))
        if name is None:
            continue
        before = _section(original, section)
        case = Case(max(rows, 1), getattr(before, field), _section(model, section), before)
        value = known.get(name)
        if value is None:
            value = case.original if rows >= FULL_ROWS else size(case)
        model = _replaced(model, section, field, value)
    return model


def _fields(model: Recipe) -> Iterator[tuple[str, str, Size]]:
    for section, sizes in FIELDS.get(model.recipe, {}).items():
        for field, size in sizes.items():
            yield section, field, size


def _section(model: Any, name: str) -> Any:
    return getattr(model, name) if name else model


def _replaced(model: Any, section: str, field: str, value: Any) -> Any:
    changed = dataclasses.replace(_section(model, section), **{field: value})
    return dataclasses.replace(model, **{section: changed}) if section else changed
