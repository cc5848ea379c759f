"""GCTX: the Connectivity Map's HDF5 format; wells are the rows of the stored matrix.

`/0/DATA/0/matrix` is [wells, genes], `/0/META/COL` and `/0/META/ROW` hold a vector for each column
about the wells and the genes, `id` among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from moa_jax.data.cells import MISSING_MARK
from moa_jax.errors import UserError
from moa_jax.prepare import sources
from moa_jax.prepare.sources import Screen

MATRIX, WELLS, GENES = "0/DATA/0/matrix", "0/META/COL", "0/META/ROW"
# A chunk of the file above this many bytes is read in parts, and unpacked for each of them.
CHUNK_LIMIT = 1 << 28


def read(path: Path) -> Screen:
    """Returns the wells of a .gctx file.

    Raises:
      UserError: h5py is not installed, or the file is damaged or of another layout.
    """
    h5py = sources.extra("h5py", "hdf5", path)
    with sources.reading(path, "GCTX"):
        opened = h5py.File(path, "r")
        matrix, wells, genes = opened[MATRIX], opened[WELLS], opened[GENES]
        shape, chunks = matrix.shape, matrix.chunks
        # What others keep in groups of their own is no column.
        columns, of_genes = (
            [name for name in group if isinstance(group[name], h5py.Dataset)]
            for group in (wells, genes)
        )
        for group, names in ((wells, columns), (genes, of_genes)):
            if "id" not in names or group["id"].ndim != 1:
                raise UserError(
                    f"{path}: cannot be read as GCTX: expected ids in {group.name}/id, found none"
                )
            for name in names:
                if (found := group[name].shape) != (count := group["id"].size,):
                    raise UserError(
                        f"{path}: {group.name}/{name}: expected {count} values, found {found}"
                    )
        about = {name: texts(genes[name][()]) for name in of_genes}
        ids = texts(wells["id"][()])
    if shape != (len(ids), len(about["id"])):
        hint = "; its axes are exchanged" if shape == (len(about["id"]), len(ids)) else ""
        raise UserError(
            f"{path}: {MATRIX}: expected {len(ids)} wells x {len(about['id'])} genes, found "
            + " x ".join(map(str, shape)) + hint
        )  # fmt: skip
    if matrix.dtype.kind not in "iuf":
        raise UserError(f"{path}: {MATRIX}: expected numbers, found {matrix.dtype}")
    sources.check_names(path, "column", ids.tolist())
    sources.check_names(path, "row", about["id"].tolist())
    place = {name: index for index, name in enumerate(about["id"])}

    def table(names: Sequence[str]) -> pa.Table:
        with sources.reading(path, "GCTX"):
            return pa.table({name: column(wells[name][()]) for name in names})

    def values(names: Sequence[str]) -> Iterator[np.ndarray]:
        wanted = np.array([place[name] for name in names])
        first, last = int(wanted.min()), int(wanted.max()) + 1
        step = sources.block_rows(last - first, matrix.dtype.itemsize)
        if chunks and chunks[0] * (last - first) * matrix.dtype.itemsize <= CHUNK_LIMIT:
            step = max(1, step // chunks[0]) * chunks[0]
        for start in range(0, shape[0], step):
            with sources.reading(path, "GCTX"):
                block = matrix[start : start + step, first:last]
            yield missing_as_nan(block[:, wanted - first])

    return Screen(path, tuple(columns), tuple(about["id"]), about, table, values)


def column(found: np.ndarray) -> pa.Array:
    """Returns a stored vector, numbers as numbers and bytes as texts."""
    return pa.array(found if found.dtype.kind in "iufb" else texts(found))


def texts(found: np.ndarray) -> np.ndarray:
    """Returns a stored vector as texts, [N] str in an object array."""
    read = (
        cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell) for cell in found
    )
    return np.array([cell.strip() for cell in read], object)


def missing_as_nan(block: np.ndarray) -> np.ndarray:
    """Returns [n, features] float with NaN for infinite values and the mark of a missing one."""
    block = block.astype(np.result_type(block.dtype, np.float32), copy=False)
    block[~np.isfinite(block) | (block == MISSING_MARK)] = np.nan
    return block
