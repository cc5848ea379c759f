"""Configuration of the data: which rows, columns and levels there are, and how models read them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from moa_jax.schema import choice, number

# Fields of `data` with which levels of the treatment are those that the files have.
LEVELS_OF_FILES: Mapping[str, Any] = {
    "cp_times": (),
    "cp_doses": (),
    "treated_type": "",
    "control_type": "",
}


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where the data come from.

    Attributes:
      source: `folder` reads files of the competition's layout, `simulated` makes data.
      folder: the folder; empty for the embedded sample. The `columns.json` of one that was prepared
        from a table sets prefixes, levels, `missing_targets` and `predict`, unless they are set.
      missing_targets: what an empty cell of the targets is: an `error`, or, with `mask`, a label
        that was not measured, which losses, scores and weights leave out.
      groups: what the folds of all models keep whole: `compound`, the compounds of `train_drug`;
        a file with the columns `sig_id` and `group`, its groups; `none`, what each model's `split`
        says; `auto`, the same, and in an honest run compounds where they are known.
      predict: what is to be predicted, by which models with `split=auto` cut their folds: new
        `compounds`, which folds keep whole; new `wells` of known ones, which they part; `auto`,
        compounds where they are known. A prepared folder says which.
      test_features: file of new rows for inference, in the layout or, where the folder was prepared
        from a table, as such a table.
      gene_prefixes, cell_prefixes: beginnings of the names of expression's and of viability's
        columns; `*` stands for any text, and of several that fit the longest decides.
      ignore: beginnings of the names of columns that are left out.
      cp_times, cp_doses: values that the columns `cp_time` (hours) and `cp_dose` may take; a
        column that is left out counts as the first of them. Where there are none, as in `profiles`,
        they are those of the files, which the work folder keeps.
      treated_type, control_type: values of the column `cp_type` that tell both kinds apart; empty
        ones are told by the files.
      other_types: values of `cp_type` that are treated rows', too.
      rows: training rows of simulated data, controls included.
      seed: seed of simulated data.
      genes, cells: feature columns of simulated data; one of the two may be 0.
      scored, nonscored: targets of simulated data.
    """

    source: str = choice("folder", "folder", "simulated")
    folder: str = ""
    missing_targets: str = choice("error", "error", "mask")
    groups: str = "auto"
    predict: str = choice("auto", "auto", "compounds", "wells")
    test_features: str = ""
    gene_prefixes: tuple[str, ...] = ("g-",)
    cell_prefixes: tuple[str, ...] = ("c-",)
    ignore: tuple[str, ...] = dataclasses.field(default=(), metadata={"empty": True})
    cp_times: tuple[float, ...] = number((24, 48, 72), empty=True)
    cp_doses: tuple[str, ...] = dataclasses.field(
        default=("D1", "D2"), metadata={"numbers": True, "empty": True}
    )
    treated_type: str = "trt_cp"
    control_type: str = "ctl_vehicle"
    other_types: tuple[str, ...] = dataclasses.field(default=(), metadata={"empty": True})
    rows: int = number(24_000, 50)
    seed: int = number(0, 0, 2**31 - 1)
    genes: int = number(772, 0)
    cells: int = number(100, 0)
    scored: int = number(206, 1)
    nonscored: int = number(402, 0)

    def __post_init__(self) -> None:
        # 24 and 24.0 are one level, and one configuration.
        times = tuple(int(time) if time == int(time) else time for time in self.cp_times)
        object.__setattr__(self, "cp_times", times)


@dataclasses.dataclass(frozen=True)
class TreatmentConfig:
    """How networks read time and dose.

    Attributes:
      encoding: `one_hot`, a column for each level; `log10`, for numbers, one standardised column of
        log10 for each of the two, so that new rows may have other times and doses (where a level is
        0, half of the smallest above it is added); `none` leaves both out. Recipes whose original
        fixes their inputs take `one_hot` only.
    """

    encoding: str = choice("one_hot", "one_hot", "log10", "none")
