"""Suspicions: names of compounds and columns that may not be what a table takes them for."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from moa_jax.data.levels import looks_like_control
from moa_jax.prepare.roles import few

# Words of which the name of a well without a compound consists, one of the first at least.
_UNTREATED = frozenset("dmso vehicle negcon mock untreated solvent water h2o pbs medium".split())
_BESIDE = frozenset("control ctrl ctl neg negative well wells only treated in v w um mm".split())
# A compound, and what stands after it: salt, batch and supplier, or stereochemistry and charge.
_VARIANTS = (
    re.compile(r"(BRD-[A-Z]\d{8})-\d{3}-\d{2}-\d"),
    re.compile(r"([A-Z]{14})-[A-Z]{10}-[A-Z]"),
)
_BETWEEN = ("+", ";", "|", "&", "/", ",")
# What CellProfiler counts, and where: objects' numbers, their parents' and children's, and places.
_PLACES = re.compile(
    r"_(Location|Parent|Children|ObjectNumber|Number_Object_Number|ObjectSkeleton_Number|"
    r"AreaShape_(Center|BoundingBox\w*))(_|$)"
)


def vehicles(compounds: Iterable[str]) -> list[str]:
    """Returns the names that are those of wells without a compound.

    >>> vehicles(["DMSO 0.1%", "Vehicle (DMSO)", "dmso_2", "BRD-1", "probe in DMSO", "ctrl"])
    ['DMSO 0.1%', 'Vehicle (DMSO)', 'dmso_2', 'ctrl']
    """

    def is_one(name: str) -> bool:
        words = {*re.findall(r"[a-z]+(?:2o)?", name.casefold())}
        is_made_of_them = bool(words & _UNTREATED) and words <= _UNTREATED | _BESIDE
        return is_made_of_them or looks_like_control(name)

    return [name for name in compounds if is_one(name)]


def variants(compounds: Iterable[str]) -> list[str]:
    """Returns names that are of one compound but for its salt, batch or stereochemistry.

    >>> variants(["BRD-K00000001-001-01-9", "BRD-K00000001-003-07-2", "BRD-K00000002-001-01-9"])
    ['BRD-K00000001-001-01-9 and BRD-K00000001-003-07-2']
    """
    names_of: dict[str, list[str]] = {}
    for name in compounds:
        for pattern in _VARIANTS:
            if match := pattern.fullmatch(name):
                names_of.setdefault(match[1], []).append(name)
    return [" and ".join(names) for names in names_of.values() if len(names) > 1]


def combinations(compounds: Collection[str]) -> list[str]:
    """Returns names that are made of others, as that of a well with several compounds is.

    >>> combinations(["a", "b", "a+b", "a+c", "b / a"])
    ['a+b', 'b / a']
    """
    known = {*compounds}
    return [
        name
        for name in compounds
        if any(
            mark in name and {part.strip() for part in name.split(mark)} <= known
            for mark in _BETWEEN
        )
    ]


def places(features: Iterable[str]) -> list[str]:
    """Returns the features that tell where a cell was or its number, and not what it is like.

    >>> places(["Cells_AreaShape_Area", "Nuclei_Location_Center_X", "Cells_Parent_Nuclei"])
    ['Nuclei_Location_Center_X', 'Cells_Parent_Nuclei']
    """
    return [name for name in features if _PLACES.search(name)]


def told(
    compounds: Collection[str],
    labels: Iterable[str],
    features: Iterable[str],
    ignored: Mapping[str, int],
) -> list[str]:
    """Returns sentences about names.

    Args:
      compounds: of wells that are no controls.
      labels: those that are kept.
      features: those that are kept.
      ignored: how many controls have a label that treated wells have too, by compound.
    """
    lines = []
    if found := vehicles(compounds):
        lines.append(
            f"Compounds that may be none, whose wells count as treated ones: {few(found)}. "
            "--control_column and --control_value=VALUE,... say which are controls."
        )
    if found := vehicles(labels):
        lines.append(
            f"Labels that may be those of controls, and are learned as mechanisms: {few(found)}. "
            "--control_column and --control_value=VALUE,... say which wells are controls."
        )
    if ignored:
        lines.append(
            f"Controls that have labels of treated wells, which are ignored: "
            f"{sum(ignored.values()):,}, such as of {few([*ignored])}. Wells of a positive control "
            "are treated ones: --control_value=VALUE,... names the others."
        )
    if found := variants(compounds):
        lines.append(
            "Compounds that differ by salt, batch or stereochemistry alone, which count as "
            f"several and may stand on both sides of a fold: {len(found):,}, such as "
            f"{few(found)}. Name a column of names without these by --compound."
        )
    if found := combinations(compounds):
        lines.append(
            "Compounds that are made of others, each of which counts as one of its own and may "
            f"stand on the other side of a fold: {len(found):,}, such as {few(found)}."
        )
    if found := places(features):
        lines.append(
            "Features that tell where a cell was, or its number, and not what it is like: "
            f"{len(found):,}, such as {few(found)}. Leave them out by --features."
        )
    return lines
