"""Hits: compounds or wells to predict, and the mechanisms that are said of them."""

from __future__ import annotations

import collections
import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from moa_jax.store import files

# Compounds, or wells, that the page lists; the files beside it have all.
MOST_HITS = 2000
# Mechanisms named of each beside the likeliest one.
NEXT = 2


@dataclasses.dataclass(frozen=True)
class Hit:
    """A compound, or a well, to predict.

    Attributes:
      name: its name.
      replicates: its wells.
      ranked: mechanism and probability of the likeliest, in order.
      confident: those that are called.
      spread: standard deviation of the wells' log odds of the likeliest; None for one well.
      member_spread: that of the networks whose mean was predicted; None where there are none.
    """

    name: str
    replicates: int
    ranked: tuple[tuple[str, float], ...]
    confident: tuple[tuple[str, float], ...]
    spread: float | None
    member_spread: float | None

    @property
    def likeliest(self) -> tuple[str, float]:
        return self.ranked[0]


@dataclasses.dataclass(frozen=True)
class Hits:
    """Compounds or wells to predict, those with confident mechanisms first.

    Attributes:
      kind: `compound` or `well`.
      shown: the first of them.
      count, confident: how many there are, and how many of these have a confident mechanism.
      wells: how many wells there are.
    """

    kind: str
    shown: tuple[Hit, ...]
    count: int
    confident: int
    wells: int


def read(path: Path) -> Hits | None:
    """Reads `predictions.csv`; None where it is not there.

    Raises:
      UserError: it is damaged.
    """
    if not os.path.lexists(path):
        return None
    files.check_regular(path)
    with files.parsing(path):
        table = read_csv(path, "sig_id", "compound", "mechanism")
        # Files of earlier versions do not have it.
        table = table.assign(member_spread=table.get("member_spread", math.nan))
        wells = int(table.loc[table["sig_id"] != "", "sig_id"].nunique())
        kind = "compound" if "compound" in table.columns else "sig_id"
        table = table[table[kind] != ""]
        grouped = collections.defaultdict(list)
        columns = (
            kind, "mechanism", "probability", "confident", "replicates", "spread", "member_spread",
        )  # fmt: skip
        for name, *line in table[[*columns]].itertuples(index=False, name=None):
            grouped[name].append(line)
        hits = [_hit(name, lines) for name, lines in grouped.items()]
    hits.sort(key=lambda hit: (not hit.confident, -hit.likeliest[1]))
    confident = sum(bool(hit.confident) for hit in hits)
    shown = tuple(hits[:MOST_HITS])
    return Hits("compound" if kind == "compound" else "well", shown, len(hits), confident, wells)


def _hit(name: str, lines: Sequence[Sequence[Any]]) -> Hit:
    """Returns a hit from its lines in the order of their ranks."""
    ranked = tuple((line[0], float(line[1])) for line in lines[: 1 + NEXT])
    confident = tuple((line[0], float(line[1])) for line in lines if line[2])
    spreads = (None if math.isnan(one) else float(one) for one in lines[0][4:])
    return Hit(name, int(lines[0][3]), ranked, confident, *spreads)


def read_csv(path: Path, *texts: str) -> pd.DataFrame:
    """Reads a table whose empty cells are no numbers, but in columns of texts empty ones."""
    numbers = [name for name in pd.read_csv(path, nrows=0).columns if name not in texts]
    return pd.read_csv(
        path,
        dtype=dict.fromkeys(texts, str),
        keep_default_na=False,
        na_values=dict.fromkeys(numbers, [""]),
    )
