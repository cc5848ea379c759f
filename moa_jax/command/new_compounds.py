"""Compounds of new rows: as their table names them, or a file `test_drug` beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from absl import logging

from moa_jax.command.inference_record import InputFile
from moa_jax.data import columns, compound_names, folder, formats
from moa_jax.data.dataset import Dataset
from moa_jax.errors import UserError


def beside(features: Path) -> InputFile | None:
    """Returns the file `test_drug` in the folder of a features file; None where there is none.

    Raises:
      UserError: there are several, or it cannot be read.
    """
    found = [features.with_name(f"{folder.TEST_DRUG}{suffix}") for suffix in formats.SUFFIXES]
    found = [path for path in found if path.exists()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise UserError(f"{features.parent}: expected one file {folder.TEST_DRUG}, found {names}")
    return InputFile.of(found[0]) if found else None


class NewCompounds:
    """Which compound each new row has, asked for part by part.

    Attributes:
      are_known: whether rows have compounds, None before the first part.
    """

    def __init__(self, file: InputFile | None):
        """`file` is `test_drug` beside the rows, which counts where nothing else names them."""
        self._by_id: dict[str, str] = {}
        self.are_known: bool | None = None
        self._file, self._alone = file, 0

    def of(self, rows: Dataset) -> np.ndarray | None:
        """Returns the compound of each treated row, one of its own where it has no name.

        Returns [T] str in the order of the rows; None where compounds are not known.

        Raises:
          UserError: `test_drug` is not what is expected.
        """
        ids = rows.ids[~rows.is_control]
        if self.are_known is None and len(ids):  # a part of controls alone tells nothing
            self.are_known = self._find(rows, ids)
        if not self.are_known:
            return None
        own = [compound_names.own(sig_id) for sig_id in ids]
        if rows.drug_id is not None:
            names = rows.drug_id[~rows.is_control].tolist()
        else:
            names = [self._by_id.get(i, other) for i, other in zip(ids, own, strict=True)]
        self._alone += sum(name == other for name, other in zip(names, own, strict=True))
        return np.array(names, object)

    def tell(self) -> None:
        """Logs how many rows had no name of a compound."""
        if self._alone:
            logging.warning(
                "inference: no compound is named for %d rows: each counts as its own", self._alone
            )

    def _find(self, rows: Dataset, ids: np.ndarray) -> bool:
        if rows.drug_id is not None:
            return True
        if self._file is not None:
            table = columns.read(self._file.path)
            table.expect(["drug_id"])
            known = dict(zip(table.ids, table.texts("drug_id"), strict=True))
            if any(sig_id in known for sig_id in ids):
                self._by_id = known
                return True
            logging.warning("%s: not read, it names none of the new rows", self._file.path)
        logging.info(
            "inference: compounds of the new rows are not known, answers are about wells; a column "
            "%s, or a file %s beside them, would name them",
            " or ".join(compound_names.COLUMNS), folder.TEST_DRUG,
        )  # fmt: skip
        return False
