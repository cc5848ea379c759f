"""New rows: a raw table, described by `columns.json`, as a features file of the layout."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from absl import logging

from moa_jax.data import compound_names, formats
from moa_jax.data.dataset import TREATMENT
from moa_jax.errors import UserError
from moa_jax.prepare import layout, record, row_names, side_tables, sources, wells
from moa_jax.prepare.roles import Roles
from moa_jax.prepare.sources import MATRICES, Screen
from moa_jax.prepare.wells import Wells
from moa_jax.schema import suggestion
from moa_jax.store import files

# A gene of any species, with the version of its model or without.
_ENSEMBL = re.compile(r"ENS[A-Z]{0,4}G\d{11}(\.\d+)?")


@contextlib.contextmanager
def in_layout(file: Path, described: Mapping[str, Any] | None) -> Iterator[Path]:
    """Gives a file of new rows in the layout: the given one, or one that is gone afterwards.

    Args:
      file: new rows, in the layout or as the raw table that training rows came from.
      described: what `columns.json` of the training rows' folder holds; None where they were not
        prepared, and the file is what it is.

    Raises:
      UserError: see `apply`.
    """
    if described is None or is_layout(file, described):
        yield file
        return
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "new_rows.parquet"
        _opened(file, described).write(made)
        try:
            yield made
        except UserError as error:  # what is wrong with a row is told of the table
            raise UserError(str(error).replace(str(made), str(file))) from None


def is_layout(file: Path, described: Mapping[str, Any]) -> bool:
    """Tells whether a file has the layout's columns of treatment and features already.

    Raises:
      UserError: it cannot be read.
    """
    if any(file.name.lower().endswith(suffix) for suffix in MATRICES):
        return False
    first = next(formats.tables(file, key=""), None)
    names = set() if first is None else set(first.column_names)
    treatment = {name for name in TREATMENT if name in described["treatment"]}
    if described["roles"]["control_column"]:
        treatment.add(TREATMENT[0])
    return {"sig_id", *treatment, *record.medians(described)} <= names


def apply(table: Path, described: Mapping[str, Any], out: Path) -> None:
    """Writes the features file of a raw table's rows, every one of them, and their compounds.

    Args:
      table: in any of the formats, with at least the columns that `described` names for ids,
        doses, times and features; without that of controls all rows are treated. A column of
        compounds is one of the file's, too.
      described: what `columns.json` of the training rows' folder holds.
      out: a .csv or .parquet file.

    Raises:
      UserError: a column is missing, or a cell is not what is expected.
    """
    if out.suffix not in (".csv", ".parquet"):
        raise UserError(f"--out: {out}: expected a name that ends in .csv or .parquet")
    if out.resolve() == table.resolve():
        raise UserError(f"--out: {out}: expected another file than the table, which would be lost")
    found = _opened(table, described)
    with files.replacing(out) as temporary:
        found.write(temporary)
    logging.info("%s: %d rows written", out, len(found.rows))


@dataclasses.dataclass(frozen=True)
class _NewRows:
    """A table whose columns are those that are wanted."""

    source: Screen
    rows: Wells
    columns: Mapping[str, str]
    described: Mapping[str, Any]

    def write(self, out: Path) -> None:
        everything = [~self.rows.left_out]
        with layout.writing([out]) as append:
            for parts in layout.profiles(
                self.source, self.rows, self.columns, self.described, everything, self._compound
            ):
                append(parts)

    @property
    def _compound(self) -> str | None:
        """What the column of compounds is called where it is read, no feature being called so."""
        free = (name for name in compound_names.COLUMNS if name not in self.columns)
        return next(free, None)


def _opened(table: Path, described: Mapping[str, Any]) -> _NewRows:
    # Only there are several tables in one; a table of another kind has the values themselves.
    is_layered = table.name.lower().endswith(sources.ANNDATA)
    source = sources.read(table, described.get("layer", "") if is_layered else "")
    trained = Roles.restored(described["roles"])
    trained = dataclasses.replace(trained, id=tuple(_id(name, source) for name in trained.id))
    needed = [*trained.id, *filter(None, (trained.cell_count, trained.dose, trained.time))]
    wished = [*needed, *filter(None, (trained.control_column, trained.compound))]
    if described["metadata"] and not {*wished} <= {*source.columns}:
        try:
            files = described["metadata"]
            source = side_tables.joined(source, files, described["label_separator"])
        except UserError as error:
            if not {*needed} <= {*source.columns}:
                raise
            logging.warning("%s", error)
    for name in needed:
        if name not in source.columns:
            raise _missing(table, name, {*source.columns} - {*needed})
    known = {*(source.columns if source.features is None else source.features)}
    if trained.cell_count:
        source = sources.with_column(source, trained.cell_count)
        known.add(trained.cell_count)
    columns = _columns(table, described, known)
    has_type = trained.control_column in source.columns
    if trained.control_column and not has_type:
        logging.warning("%s: no column %s: all rows are treated", table, trained.control_column)
    if trained.time_unit and trained.time_unit not in source.columns:
        logging.warning("%s: no column %s: times without a unit are hours", table,
                        trained.time_unit)  # fmt: skip
    compound = trained.compound if trained.compound in source.columns else None
    present = dataclasses.replace(
        trained, compound=compound, untreated_values=(), plate=None, cell_line=None, groups=None,
        labels=(), split_column=None, treated_values=(),
        control_column=trained.control_column if has_type else None,
        dose_unit=trained.dose_unit if trained.dose_unit in source.columns else None,
        time_unit=trained.time_unit if trained.time_unit in source.columns else None,
    )  # fmt: skip
    return _NewRows(source, wells.read(source, present, described["treatment"]), columns, described)


def _id(name: str, source: Screen) -> str:
    """Returns a column of ids as a source calls it: names of rows are one in all formats."""
    if name in source.columns or name not in row_names.COLUMNS:
        return name
    return next((other for other in row_names.COLUMNS if other in source.columns), name)


def _columns(
    table: Path, described: Mapping[str, Any], known: Collection[str]
) -> Mapping[str, str]:
    """Returns the table's own name of each feature, by the layout's.

    Raises:
      UserError: it has none.
    """
    ids, names = described["ids"], record.medians(described)
    columns = {name: name if name in known else ids.get(name, name) for name in names}
    absent = [name for name, own in columns.items() if own not in known]
    if absent:
        versions = collections.Counter(map(_gene, known))
        gene_of = {gene: own for own in known if versions[gene := _gene(own)] == 1}
        others = {n: gene_of[g] for n in absent if (g := _gene(columns[n])) in gene_of}
        if others:
            logging.warning(
                "%s: %d genes have another version of their Ensembl id, such as %s for %s",
                table, len(others), next(iter(others.values())), columns[next(iter(others))],
            )  # fmt: skip
        columns |= others
        absent = [name for name in absent if name not in others]
    if absent:
        unused = {*known} - {*columns.values()}
        raise _missing(table, absent[0], sorted(unused), len(absent) - 1)
    return columns


def _gene(name: str) -> str:
    """Returns an Ensembl id without its version, other names as they are."""
    return name.partition(".")[0] if _ENSEMBL.fullmatch(name) else name


def _missing(table: Path, name: str, known: Iterable[str], more: int = 0) -> UserError:
    others = f" (nor {more} others)" if more else ""
    what = "names of the rows in a first column without a name" if name == row_names.COLUMN else ""
    return UserError(
        f"{table}: expected {what or f'a column {name}'}, found none{others}; the models were "
        f"trained with it{suggestion(name, known)}"
    )
