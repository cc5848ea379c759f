"""Record: `columns.json`, which tells what the columns of a prepared folder are and come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from moa_jax.data.names import ORIGINAL_PREFIXES, Prefixes, level_key, ordered_levels
from moa_jax.data.prepared import VERSION
from moa_jax.prepare.labels import Labels
from moa_jax.prepare.options import Options
from moa_jax.prepare.roles import Roles
from moa_jax.prepare.sources import Screen
from moa_jax.prepare.survey import Survey
from moa_jax.prepare.units import HOUR
from moa_jax.prepare.wells import Wells

# A feature that more training rows than this share lack is left out.
MOST_MISSING = 0.1
# The group of the column of cell counts, which stands for viability.
CELL_COUNT = "cell count"
# The role of each column of the treatment that has levels.
ROLE_OF = {"cp_dose": "dose", "cp_time": "time"}


def describe(
    source: Screen,
    options: Options,
    roles: Roles,
    groups: Mapping[str, Sequence[str]],
    labels: Labels,
    compounds: Sequence[int],
    found: Wells,
    used: Survey,
    ids: Mapping[str, str],
) -> dict[str, Any]:
    """Returns what `columns.json` holds.

    Args:
      source: the table.
      options: the flags.
      roles: its columns.
      groups: names of features in the layout, by group; in all of them F.
      labels: all labels.
      compounds: number of compounds with each of them.
      found: the rows.
      used: statistics of the F features.
      ids: the table's own name of each feature, by the layout's.
    """
    names = [name for members in groups.values() for name in members]
    lacking = used.missing > MOST_MISSING
    kept = {
        n for n, few, one in zip(names, lacking, used.constant, strict=True) if not (few or one)
    }
    kept_groups = {g: [n for n in members if n in kept] for g, members in groups.items()}
    kept_groups = {group: members for group, members in kept_groups.items() if members}
    levels = {
        name: ordered_levels(cells[~found.left_out])
        for name in ROLE_OF
        if (cells := getattr(found, name)) is not None
    }
    return {
        "version": VERSION,
        "table": source.path.name,
        "preset": options.preset,
        "metadata": list(options.metadata),
        "roles": dataclasses.asdict(roles),
        "label_separator": options.label_separator,
        **({"layer": options.layer} if options.layer else {}),
        "features": kept_groups,
        "ids": {name: own for name, own in ids.items() if own != name},
        "missing": {
            "rule": "A number that is missing is the median of the column over "
            f"{used.sampled} training rows. A column that more than {MOST_MISSING * 100:g} % of "
            "the training rows lack is left out, as is one of a single value. Missing are empty "
            "cells, words such as NA, infinite numbers and -666.",
            "values": {n: m for n, m in zip(names, used.median.tolist(), strict=True) if n in kept},
        },
        "left_out": {
            "missing": {
                n: round(share, 4)
                for n, share, few in zip(names, used.missing.tolist(), lacking, strict=True)
                if few
            },
            "constant": [
                n for n, one, few in zip(names, used.constant, lacking, strict=True)
                if one and not few
            ],
            "rows": found.reasons,
        },
        "labels": _labels(labels.names, compounds, options, roles.compound),
        "treatment": {
            name: {
                "column": getattr(roles, ROLE_OF[name]),
                "levels": found_levels,
                "unit": found.unit if name == "cp_dose" else HOUR,
                "controls": "the first level, where a control has none of the treated rows' levels",
            }
            for name, found_levels in levels.items()
        },
        "config": {"data": _fields(kept_groups, roles, levels)},
    }  # fmt: skip


def _labels(
    names: Sequence[str], compounds: Sequence[int], options: Options, role: str | None
) -> dict[str, Any]:
    unit = "compounds" if role else "rows"
    counted = dict(zip(names, compounds, strict=True))
    least = options.min_compounds
    return {
        "counted": unit,
        "min_compounds": least,
        "kept": {name: count for name, count in counted.items() if count >= least},
        "dropped": {
            name: {unit: count, "why": f"fewer than {least} {unit}"}
            for name, count in counted.items()
            if count < least
        },
    }


def _fields(
    groups: Mapping[str, Sequence[str]], roles: Roles, levels: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Returns the fields of `config.data` with which a run reads the folder."""
    fields: dict[str, Any] = {}
    if levels.get("cp_time"):
        times = [float(level_key(level)) for level in levels["cp_time"]]
        fields["cp_times"] = [int(time) if time == int(time) else time for time in times]
    if levels.get("cp_dose"):
        fields["cp_doses"] = list(levels["cp_dose"])
    genes: list[str] = []
    cells: list[str] = []
    for group, names in groups.items():
        begin = names[0][: len(group) + 1]
        common = begin[:-1] == group and all(name.startswith(begin) for name in names)
        prefixes = [begin] if common else ["*"]
        if group == CELL_COUNT:
            cells += names
        elif prefixes[0] in ORIGINAL_PREFIXES.cells:
            cells += prefixes
        else:
            genes += prefixes
    genes = list(dict.fromkeys(genes)) or list(ORIGINAL_PREFIXES.genes)
    # Of prefixes that fit a name the longest decides: a gene c-Fos would be a cell line.
    expected = {n: "cells" if g == CELL_COUNT or f"{g}-" in ORIGINAL_PREFIXES.cells else "genes"
                for g, members in groups.items() for n in members}  # fmt: skip
    told = Prefixes(tuple(genes), tuple(cells) or ORIGINAL_PREFIXES.cells, ())
    genes += [n for n, kind in expected.items() if kind == "genes" and told.group(n) != kind]
    cells += [n for n, kind in expected.items() if kind == "cells" and told.group(n) != kind]
    fields["gene_prefixes"] = genes
    if cells:
        fields["cell_prefixes"] = cells
    return fields


def medians(described: Mapping[str, Any]) -> dict[str, float]:
    """Returns what stands for a missing number, by feature in the layout's order."""
    values = described["missing"]["values"]
    return {name: values[name] for names in described["features"].values() for name in names}


def kept_columns(labels: Labels, described: Mapping[str, Any]) -> np.ndarray:
    """Returns the places of the labels that are kept."""
    return np.array(
        [i for i, n in enumerate(labels.names) if n in described["labels"]["kept"]], int
    )
