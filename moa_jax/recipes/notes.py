"""Notes: what the log and the report say about a fit beside its figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from moa_jax.data import folds
from moa_jax.data.dataset import Dataset, Levels
from moa_jax.data.folds import Split
from moa_jax.recipes.design import StageDesign
from moa_jax.recipes.recipe import Recipe
from moa_jax.recipes.splitting import ROWS
from moa_jax.training.members import Member


def of_data(
    recipe: Recipe, dataset: Dataset, levels: Levels, designs: Sequence[StageDesign]
) -> tuple[str, ...]:
    """Returns sentences about parts that the data lack, and about what stages know of a row."""
    said = {
        "No gene columns: their blocks are left out.": not dataset.genes,
        "No cell columns: their blocks are left out.": not dataset.cells,
        "No non-scored targets: the stage that learns them is left out.": len(designs)
        < len(recipe.stages(levels, True)),
        "No test rows while fitting: transforms know the training rows only.": not dataset.test
        and any(design.features.reads_test for design in designs),
        "Stacked: own labels reach a row through other rows' features (nested_blocks=0).": any(
            design.features.predictions_of and design.nesting is None for design in designs
        ),
    }
    return tuple(note for note, holds in said.items() if holds)


def of_nesting(stages: Iterable[tuple[Sequence[Member], Split]]) -> tuple[str, ...]:
    """Returns what a nested chain costs: its stages' networks beside those of a plain one."""
    every = [
        (len(members), split, any(len(m.blocks) > 1 for m in members)) for members, split in stages
    ]
    if not any(nested for _, _, nested in every):
        return ()
    plain = sum(len(np.unique(found)) for _, split, _ in every for found in split.folds.values())
    return (
        f"Nested: {sum(count for count, _, _ in every)} networks in {len(every)} stages instead of "
        f"{plain}, so that no network that a fold's predictions rest on has seen the fold.",
    )


def split_record(recipe: Recipe, rows: Dataset, split: Split) -> dict[str, Any]:
    """Returns what folds keep whole, and how many compounds they part all the same.

    Args:
      recipe: the system.
      rows: its rows; controls among them are not counted.
      split: the folds of these rows.

    Returns:
      `kept_whole`, see `Splitting`; `compounds`, their number, or None where they are unknown;
      `parted`, those with rows in several folds, and `shared_rows`, their rows: of the seed for
      which they are most.
    """
    record: dict[str, Any] = {"kept_whole": recipe.kept(rows).whole, "compounds": None}
    if rows.drug_id is None:
        return record
    treated = ~rows.is_control
    drugs = rows.drug_id[treated]
    parted = [folds.parted_groups(drugs, found[treated]) for found in split.folds.values()]
    most, shared_rows = max(parted)
    return record | {"compounds": len(set(drugs)), "parted": most, "shared_rows": shared_rows}


def of_split(record: Mapping[str, Any]) -> str:
    """Returns a `split_record` as a sentence."""
    whole = record["kept_whole"]
    kept = "Folds are made row by row" if whole == ROWS else f"Folds keep {whole} whole"
    if record["compounds"] is None:
        return f"{kept}; without train_drug, replicates of a compound may be in several folds."
    return (
        f"{kept}: {record['parted']} of {record['compounds']} compounds are in several folds, "
        f"with {record['shared_rows']} rows."
    )
