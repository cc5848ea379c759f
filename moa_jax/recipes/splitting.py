"""Splitting: which rows a recipe keeps together when it cuts them into folds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from moa_jax.config import choice, number, switch
from moa_jax.data import folds
from moa_jax.data.dataset import Dataset
from moa_jax.data.folds import Split
from moa_jax.errors import UserError

ROWS, COMPOUNDS, GROUPS, FOLDS = "rows", "compounds", "groups", "given folds"


@dataclasses.dataclass(frozen=True)
class Splitting:
    """How rows are cut into folds, the same fields for every recipe.

    Attributes:
      folds: number of folds.
      split: `original`, as the recipe's original does; `stratified` by the labels, row by row;
        `compound`, the compounds of `train_drug` as a whole; `group`, the groups of the file
        `data.groups` as a whole, which are the folds themselves where there are as many; `auto`,
        `compound` where there is a `train_drug`, `original` where there is none.
      frequent_above: compounds or groups with more rows than this are spread over the folds row
        by row after all; 0 for none.
    """

    folds: int = number(5, 2, 1000)
    split: str = switch(choice("original", "original", "stratified", "compound", "group", "auto"))
    frequent_above: int = switch(number(18, 0))

    @property
    def original_split(self) -> str:
        """The value of `split` that says what the recipe's original does, if one does."""
        return "original"

    def kept_whole(self, rows: Dataset) -> str:
        """Returns what of these rows is not parted by folds: two models' agree or do not."""
        kind = self._split_of(rows)
        if kind not in ("compound", "group"):
            return ROWS
        if kind == "group" and _given_folds(rows, self.folds) is not None:
            return FOLDS
        what, groups = (COMPOUNDS, rows.drug_id) if kind == "compound" else (GROUPS, rows.groups)
        if groups is not None and self.frequent_above:
            _, counts = np.unique(groups[~rows.is_control], return_counts=True)
            if counts.max(initial=0) > self.frequent_above:
                return f"{what} of at most {self.frequent_above} rows"
        return what

    def check_split(self, rows: Dataset) -> None:
        """Checks that there is what the split keeps whole.

        Raises:
          UserError: there are no compounds or groups, or fewer than folds.
        """
        if self._split_of(rows) not in ("compound", "group"):
            return
        count = len(np.unique(self._groups_as_units(rows)[~rows.is_control]))
        if count < self.folds:
            raise UserError(
                f"folds: expected at most as many as the {self.kept_whole(rows)} that are kept "
                f"whole, found {self.folds} for {count}"
            )

    def units(self, rows: Dataset) -> np.ndarray | None:
        """Returns [N] the unit of each row, see `Split`; with given folds compounds, if known."""
        kind = self._split_of(rows)
        if kind not in ("compound", "group"):
            return None
        if kind == "compound" or _given_folds(rows, self.folds) is None:
            return self._groups_as_units(rows)
        return None if rows.drug_id is None else folds.units_of(rows.drug_id, 0, rows.is_control)

    def cut(
        self,
        rows: Dataset,
        labels: np.ndarray,
        seeds: Mapping[int, int],
        original: Callable[[int], np.ndarray],
    ) -> Split:
        """Returns the folds of each training seed.

        Args:
          rows: N rows; controls among them are no compound, and are spread one by one.
          labels: [N, L] labels by which folds are stratified.
          seeds: the splitter's seed for each training seed.
          original: from the splitter's seed to the fold of each row, as the original has it.

        Raises:
          UserError: as `check_split`.
        """
        kind, units = self._split_of(rows), self.units(rows)
        given = _given_folds(rows, self.folds) if kind == "group" else None

        def fold_of_row(seed: int) -> np.ndarray:
            if kind == "original":
                return original(seed)
            if kind == "stratified":
                return folds.multilabel_stratified(labels, self.folds, seed, shuffle=True)
            if given is not None:
                return given
            return folds.drug_aware(
                labels, self._groups(rows), self.folds, seed, self.frequent_above, rows.is_control
            )

        made = {seed: fold_of_row(seed) for seed in dict.fromkeys(seeds.values())}
        return Split({name: made[seed] for name, seed in seeds.items()}, units)

    def _split_of(self, rows: Dataset) -> str:
        if self.split == "auto":
            return self.original_split if rows.drug_id is None else "compound"
        return self.original_split if self.split == "original" else self.split

    def _groups(self, rows: Dataset) -> np.ndarray:
        if self._split_of(rows) == "group":
            if rows.groups is None:
                raise UserError(
                    "split: expected groups for split=group, found none; "
                    "set config.data.groups=FILE"
                )
            return rows.groups
        if rows.drug_id is None:
            raise UserError(
                "train_drug: expected for split=compound, found none; "
                "add the file or set split=stratified"
            )
        return rows.drug_id

    def _groups_as_units(self, rows: Dataset) -> np.ndarray:
        return folds.units_of(self._groups(rows), self.frequent_above, rows.is_control)


def _given_folds(rows: Dataset, num_folds: int) -> np.ndarray | None:
    """Returns the groups as folds where there are as many: they are a split made elsewhere.

    Controls of none of these groups are dealt out.
    """
    if rows.groups is None:
        return None
    values = np.unique(rows.groups[~rows.is_control])
    if len(values) != num_folds:
        return None
    dealt = np.cumsum(rows.is_control) % num_folds
    known = np.isin(rows.groups, values)
    return np.where(known, np.searchsorted(values, rows.groups), dealt)
