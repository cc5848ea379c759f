"""Splitting: which rows a recipe keeps together when it cuts them into folds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from moa_jax.config import choice, number, switch
from moa_jax.data import folds
from moa_jax.data.dataset import Dataset
from moa_jax.data.folds import Split
from moa_jax.errors import UserError

ROWS, COMPOUNDS, GROUPS = "rows", "compounds", "groups"
SPLITS = ("original", "stratified", "compound", "group", "auto")


class Kept(NamedTuple):
    """What folds keep whole.

    Attributes:
      whole: in a word; models compare whose words are equal.
      groups: [N] compound or group of each row; None where rows are cut one by one.
      frequent_above: groups with more treated rows than this are parted after all; 0 for none.
    """

    whole: str
    groups: np.ndarray | None = None
    frequent_above: int = 0

    def units(self, rows: Dataset) -> np.ndarray | None:
        """Returns [N] the unit of each row, see `Split`; None where every row is its own."""
        if self.groups is None:
            return None
        return folds.units_of(self.groups, self.frequent_above, rows.is_control)


@dataclasses.dataclass(frozen=True)
class Splitting:
    """How rows are cut into folds, the same fields for every recipe.

    Attributes:
      folds: number of folds.
      split: `original`, as the recipe's original does; `stratified` by the labels, row by row;
        `compound`, the compounds of `train_drug` as a whole; `group`, the groups of the file
        `data.groups` as a whole, which are the folds themselves where there are as many; `auto`,
        what `data.predict` says: by default `compound` where there is a `train_drug`, `original`
        where there is none.
      frequent_above: compounds with more rows than this are spread over the folds row by row after
        all; 0 for none.
    """

    folds: int = number(5, 2, 1000)
    split: str = switch(choice("original", *SPLITS))
    frequent_above: int = switch(number(18, 0))

    @property
    def original_split(self) -> str:
        """The value of `split` that says what the recipe's original does, if one does."""
        return "original"

    def split_of(self, rows: Dataset) -> str:
        """Returns what `split` comes to for these rows: never `auto`."""
        if self.split == "auto":
            return self.original_split if rows.drug_id is None else "compound"
        return self.original_split if self.split == "original" else self.split

    def kept(self, rows: Dataset) -> Kept:
        """Returns what the folds of these rows keep whole.

        Raises:
          UserError: there are no compounds or groups.
        """
        kind = self.split_of(rows)
        if kind == "group":
            if rows.groups is None:
                raise UserError(
                    "split: expected groups for split=group, found none; "
                    "set config.data.groups=FILE"
                )
            return Kept(GROUPS, rows.groups)
        if kind != "compound":
            return Kept(ROWS)
        if rows.drug_id is None:
            raise UserError(
                "train_drug: expected for split=compound, found none; "
                "add the file, or set split=stratified and config.data.groups=none, or "
                "config.data.predict=wells"
            )
        _, counts = np.unique(rows.drug_id[~rows.is_control], return_counts=True)
        if not 0 < self.frequent_above < counts.max(initial=0):
            return Kept(COMPOUNDS, rows.drug_id)
        whole = f"{COMPOUNDS} of at most {self.frequent_above} rows"
        return Kept(whole, rows.drug_id, self.frequent_above)

    def check_split(self, rows: Dataset) -> None:
        """Checks that there is what the split keeps whole.

        Raises:
          UserError: there are no compounds or groups, or fewer than folds.
        """
        kept = self.kept(rows)
        if kept.groups is None:
            return
        count = len(np.unique(kept.groups[~rows.is_control]))
        if count < self.folds:
            what = GROUPS if kept.whole == GROUPS else COMPOUNDS
            raise UserError(
                f"folds: expected at most as many as there are {what}, which are kept whole, "
                f"found {self.folds} for {count}"
            )

    def cut(
        self,
        rows: Dataset,
        labels: np.ndarray,
        seeds: Mapping[int, int],
        original: Callable[[int], np.ndarray] | None = None,
    ) -> Split:
        """Returns the folds of each training seed.

        Args:
          rows: N rows; controls among them are no compound, and are spread one by one.
          labels: [N, L] labels by which folds are stratified.
          seeds: the splitter's seed for each training seed.
          original: from the splitter's seed to the fold of each row, as the original has it; None
            where there is none, as `original_split` then says.

        Raises:
          UserError: there are no compounds or groups.
        """
        kind, kept = self.split_of(rows), self.kept(rows)
        units = kept.units(rows)
        given = _given_folds(rows, self.folds) if kind == "group" else None
        if given is not None:  # whole folds would be too much for a hold-out
            units = (
                None if rows.drug_id is None else folds.units_of(rows.drug_id, 0, rows.is_control)
            )

        def fold_of_row(seed: int) -> np.ndarray:
            if kept.groups is None:
                if kind == "original":
                    assert original is not None
                    return original(seed)
                return folds.multilabel_stratified(labels, self.folds, seed, shuffle=True)
            if given is not None:
                return given
            return folds.drug_aware(
                labels, kept.groups, self.folds, seed, kept.frequent_above, rows.is_control
            )

        made = {seed: fold_of_row(seed) for seed in dict.fromkeys(seeds.values())}
        return Split({name: made[seed] for name, seed in seeds.items()}, units)


def _given_folds(rows: Dataset, num_folds: int) -> np.ndarray | None:
    """Returns the groups as folds where there are as many: they are a split made elsewhere.

    Folds are numbered in the order of the groups, as numbers where all are. Controls of none of
    these groups are dealt out.
    """
    assert rows.groups is not None
    values = sorted(set(rows.groups[~rows.is_control]), key=_by_number)
    if len(values) != num_folds:
        return None
    number_of = {value: number for number, value in enumerate(values)}
    dealt = np.cumsum(rows.is_control) % num_folds
    return np.array([number_of.get(g, d) for g, d in zip(rows.groups, dealt, strict=True)])


def _by_number(text: str) -> tuple[int, str]:
    return (int(text) if text.isdecimal() else -1, text)
