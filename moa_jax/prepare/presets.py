"""Presets: how the tables of a field name their columns; no library is needed to read them.

pycytominer's profiles of Cell Painting: `Metadata_` before what describes a well, the compartments
`Cells_`, `Cytoplasm_` and `Nuclei_` before what was measured. JUMP's: the same, compounds by their
`Metadata_JCP2022`. The Connectivity Map's: `pert_` before what describes a perturbation, genes told
to be landmarks by `pr_is_lm`, or by `feature_space` in its release of 2020.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

COMPARTMENTS = "^(Cells|Cytoplasm|Nuclei)_"


@dataclasses.dataclass(frozen=True)
class Preset:
    """Columns that may have each role; of several the first in which something stands is taken.

    Attributes:
      roles: names by role, see `roles.Roles`; of `id`, names of columns that are joined.
      controls: columns that may tell controls, and the values that do, in lower case.
      treated: values of the control's column that tell treated wells; empty where all others do.
      untreated: names of compounds, in a screen, that are none.
      features: expression for the columns that were measured; empty where the file tells them.
      groups: names of groups of features, by the column of the features' own table and its value.
    """

    roles: Mapping[str, Sequence[str]]
    controls: Sequence[tuple[str, tuple[str, ...]]]
    treated: tuple[str, ...] = ()
    untreated: tuple[str, ...] = ()
    features: str = ""
    groups: Sequence[tuple[str, str, str]] = ()


def _bare(names: Sequence[str]) -> tuple[str, ...]:
    """Returns names of profiles, and after them those that plate maps have for the same."""
    return (*names, *(name.removeprefix("Metadata_") for name in names))


_CELL_PAINTING = {
    "plate": ("Metadata_Plate", "Metadata_Assay_Plate_Barcode", "Image_Metadata_Plate"),
    "labels": _bare(("Metadata_moa", "Metadata_MOA", "Metadata_moa_list")),
    "dose": _bare((
        "Metadata_mmoles_per_liter", "Metadata_mg_per_ml", "Metadata_dose_recode",
        "Metadata_Concentration", "Metadata_concentration", "Metadata_dose",
    )),
    "time": _bare((
        "Metadata_timepoint", "Metadata_Time", "Metadata_time_point", "Metadata_hours",
    )),
    "cell_line": _bare(("Metadata_cell_line", "Metadata_cell_id", "Metadata_Cell_type")),
    "cell_count": (
        "Metadata_Count_Cells", "Metadata_Object_Count", "Metadata_cell_count",
        "Metadata_Cell_Count",
    ),
}  # fmt: skip
# What the Connectivity Map's files call the ids of wells.
WELL_IDS = ("sig_id", "inst_id", "distil_id", "id", "cid")
_WELL = "Metadata_Plate,Metadata_Well"
# What plate maps call columns of profiles, both in lower case and without `Metadata_`.
_OF_MAPS = {"well_position": "well", "assay_plate_barcode": "plate"}


def same(name: str) -> str:
    """Returns what names of one column have in common in profiles and in maps of their plates.

    >>> same("Metadata_Well") == same("well_position"), same("Metadata_Plate_Map_Name")
    (True, 'plate_map_name')
    """
    bare = name.removeprefix("Image_").removeprefix("Metadata_").casefold()
    return _OF_MAPS.get(bare, bare)


PRESETS: Mapping[str, Preset] = {
    "pycytominer": Preset(
        roles={
            **_CELL_PAINTING,
            "id": (_WELL, "Image_Metadata_Plate,Image_Metadata_Well"),
            "compound": _bare((
                "Metadata_broad_sample", "Metadata_pert_id", "Metadata_pert_iname",
                "Metadata_compound", "Metadata_Compound",
            )),
        },
        controls=tuple(
            (name, words)
            for column, words in (
                ("Metadata_control_type", ("negcon",)),
                ("Metadata_pert_type", ("negcon", "control", "ctl_vehicle")),
                ("Metadata_broad_sample_type", ("control",)),
                ("Metadata_broad_sample", ("dmso",)),
                ("Metadata_pert_iname", ("dmso",)),
                ("Metadata_compound", ("dmso",)),
                ("Metadata_Compound", ("dmso",)),
            )
            for name in _bare((column,))
        ),
        features=COMPARTMENTS,
    ),
    "jump": Preset(
        roles={
            **_CELL_PAINTING,
            "id": (f"Metadata_Source,{_WELL}", _WELL),
            "compound": _bare((
                "Metadata_JCP2022", "Metadata_InChIKey", "Metadata_broad_sample",
                "Metadata_pert_iname",
            )),
        },
        controls=(
            ("Metadata_control_type", ("negcon",)),
            ("Metadata_pert_type", ("negcon", "control")),
            # DMSO, as the consortium numbers its compounds.
            ("Metadata_JCP2022", ("jcp2022_033924",)),
            ("Metadata_broad_sample", ("dmso",)),
            ("Metadata_pert_iname", ("dmso",)),
        ),
        untreated=("JCP2022_999999", "JCP2022_UNKNOWN", "JCP2022_900001"),
        features=COMPARTMENTS,
    ),
    "cmap": Preset(
        roles={
            "id": WELL_IDS,
            "compound": ("pert_id", "pert_iname", "cmap_name", "pert_desc"),
            "labels": ("moa", "pert_moa"),
            # With their unit, and as few levels as were meant, before what was dispensed.
            "dose": ("pert_idose", "pert_dose"),
            "time": ("pert_itime", "pert_time"),
            "plate": ("rna_plate", "det_plate", "pert_plate"),
            "cell_line": ("cell_id", "cell_iname", "cell_mfc_name"),
            "cell_count": (),
        },
        controls=(("pert_type", ("ctl_vehicle",)),),
        treated=("trt_cp", "trt_poscon"),
        groups=(
            ("pr_is_lm", "1", "landmark genes"),
            ("feature_space", "landmark", "landmark genes"),
        ),
    ),
}  # fmt: skip
NONE = Preset(roles={}, controls=())
# Names of the features themselves, in the features' own table, before their ids.
SYMBOLS = ("pr_gene_symbol", "gene_symbol")
