"""AnnData: wells or cells are the observations of an .h5ad file, features its variables."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from moa_jax.errors import UserError
from moa_jax.prepare import sources
from moa_jax.prepare.gctx import missing_as_nan
from moa_jax.prepare.sources import Screen

if TYPE_CHECKING:
    import pandas as pd

# The name under which the observations' own names may be given a role.
INDEX = "obs_names"


def read(path: Path, layer: str = "") -> Screen:
    """Returns the observations of an .h5ad file.

    Its matrix stays on the disk, unless it is stored by columns: then it is held in memory.

    Args:
      path: the file.
      layer: the matrix: a layer's name; `raw`, whose variables are then those; a key of `obsm`,
        whose columns are numbered from 1 where they have no names; empty for `X`.

    Raises:
      UserError: anndata is not installed, the file is damaged, or it has no such matrix.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        io = sources.extra("anndata.io", "anndata", path)
        h5py = sources.extra("h5py", "anndata", path)
        with sources.reading(path, "AnnData"):
            opened = h5py.File(path, "r")
            place = _place(path, opened, layer)
            matrix, var = opened.get(place), None
            # Before its version 0.7 anndata kept categories apart from the tables of their codes.
            is_old = bool(getattr(getattr(opened.get("obs"), "dtype", None), "names", None))
            whole = io.read_h5ad(path) if is_old else None
            obs = io.read_elem(opened["obs"]) if whole is None else whole.obs
            if whole is not None:
                matrix, var = _of_old(whole, place)
            elif place.startswith("obsm/"):
                matrix, var = _embedding(layer, matrix, io)
            else:
                var = io.read_elem(opened["raw/var" if place.startswith("raw/") else "var"])
            # Rows of a matrix that is stored by columns cannot be read alone.
            if any("csc" in str(value) for value in getattr(matrix, "attrs", {}).values()):
                matrix = io.read_elem(matrix).tocsr()
            _check(path, obs, var, matrix, place)
    names = [str(name) for name in var.index]
    sources.check_names(
        path, "variable", names, "; make them unique, as AnnData's var_names_make_unique does"
    )
    columns: dict[str, Any] = {INDEX: np.array([str(name) for name in obs.index], object)}
    columns |= {str(name): obs[name] for name in obs.columns if str(name) != INDEX}
    about = {"id": np.array(names, object)}
    about |= {str(name): var[name].astype(str).to_numpy(object) for name in var.columns}
    number_of = {name: index for index, name in enumerate(names)}

    def table(wanted: Sequence[str]) -> pa.Table:
        with sources.reading(path, "AnnData"):
            return pa.table({name: pa.Array.from_pandas(columns[name]) for name in wanted})

    def values(wanted: Sequence[str]) -> Iterator[np.ndarray]:
        index = np.array([number_of[name] for name in wanted])
        step = sources.block_rows(len(names), 8)
        for start in range(0, len(obs), step):
            with sources.reading(path, "AnnData"):
                block = _rows(matrix, start, start + step, len(names))
            yield missing_as_nan(block[:, index])

    return Screen(path, tuple(columns), tuple(names), about, table, values)


def _place(path: Path, opened: Any, layer: str) -> str:
    """Returns where in the file the matrix is."""
    if not layer:
        return "X"
    has_raw = "raw/X" in opened or "raw.X" in opened
    if layer == "raw" and has_raw:
        return "raw/X"
    layers, embeddings = (_members(opened.get(group, ())) for group in ("layers", "obsm"))
    if layer in (*layers, *embeddings):
        return f"{'layers' if layer in layers else 'obsm'}/{layer}"
    there = [*layers, *embeddings, *["raw"] * has_raw]
    raise UserError(
        f"{path}: --layer: expected {', '.join(there) if there else 'none, there is X alone'}, "
        f"found {layer!r}"
    )


def _members(group: Any) -> list[str]:
    """Returns the names in a group of matrices, which was an array of records once."""
    return [*(group.dtype.names or ())] if hasattr(group, "dtype") else [*group]


def _of_old(whole: Any, place: str) -> tuple[Any, pd.DataFrame]:
    """Returns what is at a place of an AnnData in memory, and the table of its variables."""
    if place == "raw/X":
        return whole.raw.X, whole.raw.var
    group, _, name = place.partition("/")
    if group == "obsm":
        import pandas as pd

        matrix = whole.obsm[name]
        return matrix, pd.DataFrame(index=[f"{name}_{i + 1}" for i in range(matrix.shape[1])])
    return whole.layers[name] if name else whole.X, whole.var


def _embedding(name: str, stored: Any, io: Any) -> tuple[Any, pd.DataFrame]:
    """Returns a matrix of `obsm` and a table whose index names its columns."""
    import pandas as pd

    if stored.attrs.get("encoding-type") == "dataframe":
        table = io.read_elem(stored)
        return table.to_numpy(), pd.DataFrame(index=table.columns)
    shape = stored.attrs["shape"] if hasattr(stored, "keys") else stored.shape
    return stored, pd.DataFrame(index=[f"{name}_{number + 1}" for number in range(shape[1])])


def _check(path: Path, obs: Any, var: Any, matrix: Any, place: str) -> None:
    """Checks that there are two tables and a matrix of numbers with a row and a column for each."""
    for name, table in (("obs", obs), ("var", var)):
        if not hasattr(table, "columns"):
            raise UserError(f"{path}: expected a table {name}, found {type(table).__name__}")
    if matrix is None:
        raise UserError(f"{path}: expected a matrix {place}, found none; name one by --layer")
    is_stored = hasattr(matrix, "keys")  # a sparse one, as a group of three arrays
    found = tuple(matrix.attrs["shape"] if is_stored else matrix.shape)
    if found != (len(obs), len(var)):
        raise UserError(
            f"{path}: expected a matrix {place} of {len(obs)} observations and {len(var)} "
            f"variables, found {' x '.join(map(str, found)) or 'one value'}"
        )
    dtype = (matrix["data"] if is_stored else matrix).dtype
    if dtype.kind not in "biuf":
        raise UserError(f"{path}: expected numbers in {place}, found {dtype}")
    if not len(var):
        raise UserError(f"{path}: expected variables of {place}, found none")


def _rows(matrix: Any, start: int, stop: int, width: int) -> np.ndarray:
    """Returns consecutive rows of a matrix, dense or sparse by rows, on the disk or in memory."""
    if hasattr(matrix, "toarray"):
        return matrix[start:stop].toarray()
    if not hasattr(matrix, "keys"):
        return matrix[start:stop]
    ends = matrix["indptr"][start : stop + 1]
    within = slice(ends[0], ends[-1])
    rows = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
    dense = np.zeros((len(ends) - 1, width), matrix["data"].dtype)
    columns = matrix["indices"][within]
    if len(columns) and columns.min() < 0:
        raise ValueError("a column of the matrix is below 0")
    values = matrix["data"][within]
    if values.dtype.kind == "b":
        dense[rows, columns] = values
    else:  # values of one cell are added, as by whatever else reads such a matrix
        np.add.at(dense, (rows, columns), values)
    return dense
