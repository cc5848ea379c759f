"""Options: what the command line says of a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from moa_jax.errors import UserError
from moa_jax.prepare.presets import PRESETS
from moa_jax.schema import suggestion

# Flags that name a column, or several, and what the column has.
ROLES: Mapping[str, str] = {
    "id": "ids of the wells; several columns, with commas between them, are joined",
    "compound": "compounds",
    "labels": "labels: texts of several labels, classes, or 0/1 columns (a list with commas, or a "
    "regular expression)",
    "control_column": "values that tell controls",
    "dose": "doses",
    "time": "times in hours",
    "dose_unit": "units of doses that are written without",
    "time_unit": "units of times that are written without",
    "plate": "plates",
    "cell_line": "cell lines",
    "groups": "groups that folds may keep whole, such as batches, donors or scaffolds",
    "cell_count": "numbers of cells",
    "split_column": "values that tell rows to predict",
}

# Values of `config.data.predict` that a folder may say.
COMPOUNDS, WELLS = PREDICTED = ("compounds", "wells")


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags of `prepare`, see its help.

    Attributes:
      columns: column by role; empty for a role that no column is to have.
      preset: name of the preset that gives the other roles, or empty.
      features: regular expression for the columns of features, or empty.
      label_separator: what stands between the labels of a text.
      control_value: value of the control's column that tells controls, or empty.
      split_test: value of the split's column that tells rows to predict.
      min_compounds: a label of fewer compounds is left out.
      metadata: files of more columns, about wells, plates or compounds.
      genes: file of more columns about the features, or empty.
      predict: what is to be predicted, `compounds` or `wells`; empty where the rows tell.
      layer: what of an AnnData file holds the features in the place of `X`, or empty.
    """

    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    preset: str = ""
    features: str = ""
    label_separator: str = "|"
    control_value: str = ""
    split_test: str = "test"
    min_compounds: int = 2
    metadata: tuple[str, ...] = ()
    genes: str = ""
    predict: str = ""
    layer: str = ""

    def __post_init__(self) -> None:
        if self.preset and self.preset not in PRESETS:
            raise UserError(
                f"--preset: expected one of {', '.join(PRESETS)}, found {self.preset!r}"
                + suggestion(self.preset, PRESETS)
            )
        if self.predict not in ("", *PREDICTED):
            raise UserError(
                f"--predict: expected one of {', '.join(PREDICTED)}, found {self.predict!r}"
                + suggestion(self.predict, PREDICTED)
            )
        if self.min_compounds < 1:
            raise UserError(f"--min_compounds: expected at least 1, found {self.min_compounds}")
