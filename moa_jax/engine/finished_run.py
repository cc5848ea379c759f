"""A finished run that is used from Python: its folder, and what predicts by it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from moa_jax import config as configuration
from moa_jax.blend import stored_weights
from moa_jax.config import RunConfig
from moa_jax.data.dataset import Dataset
from moa_jax.engine import explanation, loading, run
from moa_jax.engine.prediction import LoadedEnsemble
from moa_jax.errors import UserError
from moa_jax.recipes import RECIPES
from moa_jax.report import hits, html, records
from moa_jax.store import files, lock
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir
from moa_jax.training import conventions

if TYPE_CHECKING:
    import pandas as pd

# What a run needs no more when it is finished, or what is of one machine or file of new rows.
LEFT_OUT = (lock.NAME, "checkpoints", "tensorboard", "infer", "log.txt", "*.tmp-*")
# How the folder of a run is called that has no other name.
NAME = "mechanisms"


class FinishedRun:
    """A finished run: what predicts by it is read when it is first wanted, and then kept.

    A copy, and what pickle makes, has the run's files in a temporary folder of its own, which goes
    with it.
    """

    def __init__(self, folder: Path, is_temporary: bool = False):
        """What a temporary folder lies in goes with this object, or with the process."""
        self.folder = folder
        if is_temporary:
            weakref.finalize(self, _remove, folder.parent, os.getpid())

    @classmethod
    def train(cls, config: RunConfig, dataset: Dataset, folder: str | Path | None) -> FinishedRun:
        """Trains and blends in a folder, what is finished there being left; None for a temporary.

        Raises:
          UserError: see `run.complete`.
        """
        made = cls(_new_folder(), True) if folder is None else cls(Path(folder))
        with computing(config):
            run.complete(config, Workdir(made.folder), loading.with_groups(config, dataset))
        return made

    @functools.cached_property
    def config(self) -> RunConfig:
        return configuration.parse(Workdir(self.folder).read()["config"], RECIPES)

    def predict(self, rows: Dataset) -> Predictions:
        """Returns the blended predictions of rows, which have the columns of the training rows."""
        with computing(self.config):
            return self._ensemble.predict(self._ensemble.levelled(rows))[0]

    def compounds(self, rows: Dataset, drugs: np.ndarray) -> pd.DataFrame:
        """Returns the answers about compounds [N] of rows, see `LoadedEnsemble.compounds`."""
        with computing(self.config):
            return self._ensemble.compounds(rows, drugs)

    def explain(self, rows: Dataset, targets: Sequence[str] | None, by: str) -> pd.DataFrame:
        """Returns what drives the predictions of rows by the best of the models with networks.

        Args:
          rows: treated rows, and controls, which are left out.
          targets: the mechanisms; None for all.
          by: `mechanism` for means over the rows in which a mechanism is most likely, as many as
            the configuration says; `compound` for those of each compound, too; or `row`.

        Raises:
          UserError: see `attribution.attributions`; no model has networks.
        """
        explain = dataclasses.replace(self.config.explain, model="best")
        config = dataclasses.replace(self.config, explain=explain)
        with computing(config):
            context = explanation.explained(config, Workdir(self.folder))
            if context is None:
                raise UserError("explain: expected a model with networks, found none")
            ensemble = self._ensemble
            rows = ensemble.levelled(rows)
            predictions = None if by == "row" else ensemble.predicts[context.model](rows)
            return explanation.table(context, rows, predictions, by, targets)

    def load(self) -> None:
        """Reads what predicts, so that nothing damaged is found later.

        Raises:
          UserError: a file is missing or damaged.
        """
        with computing(self.config):
            self._ensemble  # noqa: B018

    @functools.cached_property
    def _ensemble(self) -> LoadedEnsemble:
        return LoadedEnsemble.load(self.config, Workdir(self.folder))

    @property
    def oof(self) -> Predictions:
        """The blend's out-of-fold predictions of the treated training rows."""
        return Predictions.read(self.folder / "blend" / "oof.parquet")

    @property
    def scores(self) -> dict[str, Any]:
        """The blend's log loss, as its report has it, and the table of its mechanisms."""
        record = stored_weights.read(self.folder, [*self.config.models], self.oof.targets)
        mechanisms = hits.read_csv(self.folder / "blend" / "mechanisms.csv", "mechanism")
        return {"log_loss": record["score"], "mechanisms": mechanisms.set_index("mechanism")}

    def write_report(self, path: Path) -> None:
        """Writes the page that the command line writes."""
        html.write(path, records.collect(self.folder))

    def copy(self, folder: Path) -> None:
        """Copies the run's files into a new folder, which after a failure is to be removed.

        Raises:
          UserError: the folder cannot be written.
        """
        with files.writing(folder):
            shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))

    def __getstate__(self) -> dict[str, Any]:
        ignored = shutil.ignore_patterns(*LEFT_OUT)
        return {"files": dict(_contents(self.folder, "", ignored))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        folder = _new_folder()
        self.__init__(folder, True)  # type: ignore[misc]
        for name, content in state["files"].items():
            path = (folder / name).resolve()
            if not path.is_relative_to(folder.resolve()):
                raise UserError(f"{name}: expected a file of a run, found one outside its folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _new_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="moa_jax-")) / NAME


def _remove(folder: Path, process: int) -> None:
    # A child that the process has forked is not to take it away.
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def computing(config: RunConfig) -> Iterator[None]:
    """Computes within in the precision that a configuration names, by JAX's usual conventions."""
    with conventions.usual(), jax.enable_x64(config.precision == "float64"):
        yield


def _contents(folder: Path, prefix: str, ignored: Any) -> Iterator[tuple[str, bytes]]:
    names = sorted(path.name for path in folder.iterdir())
    for name in sorted({*names} - ignored(str(folder), names)):
        path = folder / name
        if path.is_dir():
            yield from _contents(path, f"{prefix}{name}/", ignored)
        else:
            yield f"{prefix}{name}", path.read_bytes()
