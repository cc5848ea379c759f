"""A finished run in a folder: the command in this process, snapshots, and what a run must leave.

Programs are compiled once for all runs, so that a run over a finished folder takes tens of
milliseconds and one that trains again a second.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import logging
import os
import shutil
import signal
import traceback
import types
from collections.abc import Collection
from pathlib import Path

import flax.linen as nn
import pytest
import toy_system

from moa_jax import config as configuration
from moa_jax.command import completion, console, entry, stored_config
from moa_jax.config import (
    BlendConfig,
    CheckpointConfig,
    DataConfig,
    ExplainConfig,
    LoggingConfig,
    ParallelConfig,
    RunConfig,
)
from moa_jax.data import simulate
from moa_jax.deepinsight import inputs
from moa_jax.deepinsight.inputs import Placement
from moa_jax.engine import loading
from moa_jax.errors import UserError
from moa_jax.recipes import RECIPES, three_stage_nn
from moa_jax.recipes.image_features import ImageFeatures
from moa_jax.report import figures, html
from moa_jax.store import lock, workdir
from moa_jax.training import loop, predict

LONGEST_LINE = 700
# Seconds after which a run counts as one that hangs.
PATIENCE = 120
MODES = ("infer", "blend", "train", "all", "repair")


class Logistic(toy_system.Logistic):
    """One layer over the pixels of an image."""

    @nn.compact
    def __call__(self, x, mask=None, train=False):
        return nn.Dense(self.num_outputs)(x.reshape(len(x), -1))


@dataclasses.dataclass(frozen=True)
class Pixels(toy_system.Config):
    """Logistic regression on images; two such models share their feature maps."""

    recipe: str = "pixels"

    @property
    def placement(self):
        return Placement(
            self.folds, 0, "pca", "legacy", 5.0, False, self.split, self.frequent_above
        )

    def drawn_maps(self, workdir):
        return (inputs.folder(workdir, self.placement, fold=0),)

    def stages(self, levels, nonscored):
        (design,) = super().stages(levels, nonscored)
        features = ImageFeatures(levels, self.placement, 6, 0.0, 0.0)
        return (dataclasses.replace(design, network=Logistic, features=features),)


@dataclasses.dataclass(frozen=True)
class Chain(three_stage_nn.Config):
    """A nested chain of logistic regressions, each of which reads the one before it."""

    recipe: str = "logistic_chain"

    def stages(self, levels, nonscored):
        plain = toy_system.Config(epochs=2)
        return tuple(
            dataclasses.replace(design, network=toy_system.Logistic, training=plain.stage)
            for design in super().stages(levels, nonscored)
        )


CHAIN = Chain(
    seeds=(0,),
    folds=3,
    nested_blocks=3,
    same_folds=True,
    transforms="per_fold",
    features=three_stage_nn.FeaturesConfig(gene_factors=2, cell_factors=1, umap=False),
)
PIXELS = Pixels(folds=2, seeds=(0,), epochs=2)
# A chain of two nested stages, and two models that share what stands outside of their folders.
MODELS = {"chain": CHAIN, "one": PIXELS, "two": PIXELS}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended: `done`, in one `line`, with a `traceback`, or not at all (`hang`)."""

    kind: str
    text: str = ""


class FinishedRun:
    """The command on one small data set; see `environment`.

    Attributes:
      data: folder of the data.
      config: the configuration.
    """

    def __init__(self, data: Path, seed: int = 0):
        self.data = data
        self.config = RunConfig(
            MODELS,
            seed=seed,
            data=DataConfig(folder=str(data), test_features=str(data / "test_features.csv")),
            blend=BlendConfig("slsqp", nested_folds=2),
            parallel=ParallelConfig(strategy="vmap", members_at_once=2, predict_rows=128),
            checkpoint=CheckpointConfig(seconds=0.0),
            logging=LoggingConfig(tensorboard=False),  # its files are named by time and process
            explain=ExplainConfig("best", most_rows=2, steps=2),
        )

    def command(self, folder: Path, mode: str, repair: bool = False) -> Outcome:
        """Runs the command as from its flags on, and tells how it ended."""

        def configured():
            if mode != "infer":
                return self.config
            stored = configuration.parse(stored_config.get_config(str(folder)).to_dict(), RECIPES)
            return dataclasses.replace(stored, data=self.config.data)

        values = {"FIELDS": False, "DISTRIBUTED": False, "WORKDIR": str(folder), "MODE": mode,
                  "REPAIR": repair}  # fmt: skip
        holders = {name: types.SimpleNamespace(value=value) for name, value in values.items()}
        entry.flags = types.SimpleNamespace(configuration=configured, given=dict, **holders)
        with _undisturbed():
            try:
                entry.main(["moa-jax"])
            except UserError as error:
                text = str(error)
                is_line = text and "\n" not in text and len(text) < LONGEST_LINE
                return Outcome("line" if is_line else "traceback", text)
            except TimeoutError:
                return Outcome("hang", traceback.format_exc())
            except Exception:
                return Outcome("traceback", traceback.format_exc())
        return Outcome("done")


class _Stopped(Exception):
    """Stands for a kill."""


def interrupt(run: FinishedRun, folder: Path, stage: str, saves: int) -> None:
    """Leaves what a run leaves that is killed after so many checkpoints of a stage."""
    save, left = loop.Checkpoints.save, iter(range(saves))

    def saving(self, position, state):
        save(self, position, state)
        self.wait()
        if folder / stage == self._folder.parent and next(left) == saves - 1:
            raise _Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Checkpoints, "save", saving)
        assert "_Stopped" in run.command(folder, "train").text


@contextlib.contextmanager
def environment(patch):
    """Prepares this process for `FinishedRun`; `patch` is a MonkeyPatch."""
    programs, made, load_data = {}, loop.Program, loading.load_data
    datasets = {}

    def program(name, function, devices, **options):
        return programs.setdefault((name, devices), made(name, function, devices, **options))

    def data(config):
        if config.data.folder not in datasets:
            datasets[config.data.folder] = load_data(config)
        return datasets[config.data.folder]

    for recipe in (Chain, Pixels):
        patch.setitem(RECIPES, recipe.recipe, recipe)
    patch.setattr(entry, "flags", entry.flags)
    patch.setattr(loop, "Program", program)
    patch.setattr(predict, "Program", program)
    patch.setattr(loading, "load_data", data)
    # What costs most, and reads nothing of the folder.
    patch.setattr(figures, "write", lambda folder, report: None)
    patch.setattr(html, "environment", functools.cache(html.environment))
    patch.setattr(workdir, "environment", functools.cache(workdir.environment))
    patch.setattr(completion, "here", workdir.environment)
    patch.setattr(os, "fsync", lambda descriptor: None)
    patch.setattr(console, "use_compilation_cache", lambda: None)
    yield


@contextlib.contextmanager
def _undisturbed():
    """Gives back what a process of its own would at its end: locks, log files, the alarm."""
    root, held, hold = logging.getLogger(), [], lock.hold
    handlers = list(root.handlers)

    def holding(folder):
        held.append(hold(folder))
        return held[-1]

    def ring(number, frame):
        raise TimeoutError

    lock.hold = holding
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(PATIENCE)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        lock.hold = hold
        for opened in held:
            opened.close()
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers


class Snapshot:
    """The content of a folder, which is restored where it was changed.

    Attributes:
      files: the content of each file by its path.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        paths = sorted(folder.rglob("*"))
        self.files = {_name(folder, p): p.read_bytes() for p in paths if p.is_file()}
        self._folders = {_name(folder, p) for p in paths if p.is_dir()}

    def restore(self, folder: Path | None = None) -> Path:
        """Makes a folder, its own by default, what it was; returns it."""
        folder = folder or self.folder
        there = set()
        for root, folders, names in os.walk(folder):
            for name in [*folders, *names]:
                path = Path(root, name)
                relative = _name(folder, path)
                is_folder = path.is_dir() and not path.is_symlink()
                if is_folder and relative in self._folders:
                    continue
                if is_folder:
                    shutil.rmtree(path)
                    folders.remove(name)
                elif path.is_symlink() or not path.is_file() or relative not in self.files:
                    path.unlink()
                elif path.read_bytes() == self.files[relative]:
                    there.add(relative)
        for relative in self._folders:
            (folder / relative).mkdir(parents=True, exist_ok=True)
        for relative in self.files.keys() - there:
            (folder / relative).write_bytes(self.files[relative])
        return folder


def _name(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def differing(wanted: Snapshot, folder: Path, mode: str, damaged: Collection[str]) -> list[str]:
    """Returns what a mode that ended well should have left, and did not.

    Args:
      wanted: the undamaged run.
      folder: where the mode ran.
      mode: one of `MODES`.
      damaged: what was damaged before, which a mode leaves alone that neither reads nor makes it.
    """
    made = _MADE[mode]
    return [
        name
        for name, content in wanted.files.items()
        if (made(name) or (_is_of_model(name) and name not in damaged))
        and (not (folder / name).is_file() or (folder / name).read_bytes() != content)
    ]


def _is_of_model(name: str) -> bool:
    is_result = name.endswith((".npz", ".parquet", "transforms.json", "folds.csv"))
    return is_result and not name.startswith(("blend/", "infer/")) and "/checkpoints/" not in name


def _is_of_blend(name: str) -> bool:
    # Beside the report, which tells how long everything took.
    return name == "submission.csv" or (name.startswith("blend/") and name != "blend/report.html")


def _is_of_inference(name: str) -> bool:
    return name.startswith("infer/") and name.endswith((".parquet", ".csv"))


def _is_of_any(name: str) -> bool:
    return _is_of_model(name) or _is_of_blend(name) or _is_of_inference(name)


_MADE = {
    "train": _is_of_model,
    "blend": _is_of_blend,
    "infer": _is_of_inference,
    "all": _is_of_any,
    "repair": _is_of_any,
}


def write_data(folder: Path) -> Path:
    """Writes a small data set and returns its folder."""
    simulate.write(folder, rows=60, seed=1, genes=5, cells=3, scored=2, nonscored=0, test_rows=9)
    return folder
