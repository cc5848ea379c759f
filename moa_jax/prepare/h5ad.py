"""AnnData: wells or cells are the observations of an .h5ad file, features its variables."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from moa_jax.errors import UserError
from moa_jax.prepare import sources
from moa_jax.prepare.gctx import missing_as_nan
from moa_jax.prepare.sources import Source

# The name under which the observations' own names may be given a role.
INDEX = "obs_names"


def read(path: Path) -> Source:
    """Returns the observations of an .h5ad file; its matrix `X` stays on the disk.

    Raises:
      UserError: anndata is not installed, the file is damaged, or it has no `X`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        anndata = sources.extra("anndata", "anndata", path)
        try:
            opened = anndata.read_h5ad(path, backed="r")
        except Exception as error:  # anndata lets through whatever its readers raise
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{path}: cannot be read as AnnData: {reason}") from None
    if opened.X is None:
        raise UserError(f"{path}: expected a matrix X, found none")
    names = [str(name) for name in opened.var_names]
    sources.check_names(path, "variable", names)
    obs = opened.obs
    columns = {INDEX: np.array([str(name) for name in opened.obs_names], object)}
    columns |= {str(name): obs[name] for name in obs.columns if str(name) != INDEX}
    about = {"id": np.array(names, object)}
    about |= {str(n): opened.var[n].astype(str).to_numpy(object) for n in opened.var.columns}
    place = {name: index for index, name in enumerate(names)}

    def table(wanted: Sequence[str]) -> pa.Table:
        return pa.table({name: pa.Array.from_pandas(columns[name]) for name in wanted})

    def values(wanted: Sequence[str]) -> Iterator[np.ndarray]:
        index = np.array([place[name] for name in wanted])
        step = sources.block_rows(len(names), 8)
        for start in range(0, opened.n_obs, step):
            block = opened.X[start : start + step]
            block = block.toarray() if hasattr(block, "toarray") else np.asarray(block)
            yield missing_as_nan(block[:, index])

    return Source(path, tuple(columns), tuple(names), about, table, values)
