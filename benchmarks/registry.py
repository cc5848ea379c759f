"""All rows of the table, in its order; none of their libraries is loaded by asking."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import (
    blend,
    convolutions,
    folds,
    image_networks,
    images,
    inference,
    quality,
    reading,
    simple_nn,
    start,
    tabnet,
    transforms,
    two_heads,
)
from benchmarks.row import Row
from moa_jax.errors import UserError
from moa_jax.schema import suggestion

# The quick table ends when its time is over: what takes long for one row comes late.
MODULES = (
    simple_nn, folds, blend, reading, images, transforms, two_heads, tabnet, start, inference,
    quality, image_networks, convolutions,
)  # fmt: skip


def rows() -> dict[str, Row]:
    """Returns the rows by name."""
    return {row.name: row for module in MODULES for row in module.ROWS}


def chosen(only: Sequence[str], size: str) -> list[Row]:
    """Returns the rows of some names and groups; of no names, those of a size.

    Raises:
      UserError: there is no such name.
    """
    known = rows()
    if not only:
        return [row for row in known.values() if row.quick or size != "quick"]
    groups = {row.group for row in known.values()}
    for name in only:
        if name not in known and name not in groups:
            close = suggestion(name, [*known, *groups])
            raise UserError(
                f"--only={name}: expected a row or one of {', '.join(sorted(groups))}{close}"
            )
    return [row for row in known.values() if {row.name, row.group} & set(only)]
