"""Record of a run that came to its end: the same command finds it done, and does nothing anew.

`completed.json` tells by what a run was made (program, configuration, data) and which files it
left, with their checksums. It is believed only where all of that is as it was, on a machine with
the versions and devices of `environment.json`; otherwise the command does what it always does.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import logging

import moa_jax
from moa_jax.blend import stored_weights
from moa_jax.config import RunConfig, plain
from moa_jax.data.dataset import Dataset
from moa_jax.engine import participation
from moa_jax.errors import UserError
from moa_jax.store import files, lock, processes
from moa_jax.store.workdir import OTHER_FOLDS, Workdir
from moa_jax.store.workdir import environment as here

FILE = "completed.json"
# What a finished run does not read, or changes when it is asked for something else. Run and
# configuration of config.json are compared; the command beside them may be another.
_NOT_OF_IT = {FILE, "config.json", "log.txt", lock.NAME}
_FOLDERS_NOT_OF_IT = {"infer", "checkpoints", "tensorboard"}
_SOURCES = {".py", ".j2", ".css", ".js", ".json"}


def write(config: RunConfig, workdir: Workdir, dataset: Dataset) -> None:
    """Records that a run is complete, where it may be told later that nothing changed.

    A blend with predictions from elsewhere has no record, for their files may change; nor has a run
    of several processes, or one with something in its folder that is no file.

    Raises:
      UserError: the record cannot be written.
    """
    if not _is_recorded(config):
        return
    try:
        record = {**_made_by(config, workdir, dataset), "files": dict(_contents(workdir.path))}
    except (UserError, OSError):  # such as that another program removes a file meanwhile
        return
    files.write_sealed(workdir.path / FILE, record)


def is_there(config: RunConfig, workdir: Workdir, dataset: Dataset) -> bool:
    """Tells whether a run is complete, made as it would be now, and all its files are whole."""
    if not _is_recorded(config):
        return False
    try:
        record = files.read_sealed(workdir.path / FILE, "")
        listed = record.pop("files")
        if files.content_hash(record) != files.content_hash(_made_by(config, workdir, dataset)):
            return False
        environment = files.read_json(workdir.path / "environment.json")
        if here(environment["strategy"]) != environment:
            return False
        return listed == dict(_contents(workdir.path))
    except (UserError, OSError, KeyError, TypeError):  # what is damaged is told by what follows
        return False


def tell(config: RunConfig, workdir: Workdir) -> None:
    """Logs what is there."""
    weights = files.read_sealed(workdir.path / stored_weights.FILE, stored_weights.REMEDY)
    left_out = weights.get("left_out", {})
    for name in config.models:
        if name in left_out:
            logging.warning("config.models.%s: left out: %s", name, left_out[name])
        else:
            logging.info("%s: finished by an earlier run", name)
    if "score" in weights:
        logging.info(
            "blend: log loss %.5f, best single model %s %.5f",
            weights["score"],
            weights["best_model"],
            weights["best_model_loss"],
        )
    logging.info("%s: complete, of the same configuration and data; nothing to do", workdir.path)


def _is_recorded(config: RunConfig) -> bool:
    return not config.blend.files and not processes.are_several()


def _made_by(config: RunConfig, workdir: Workdir, dataset: Dataset) -> dict[str, Any]:
    """Returns what decides a run's files, as far as it may differ at the next start."""
    bound, order, test = workdir.read(), dataset.submission_ids, dataset.test
    return {
        "program": _program(),
        "figures": importlib.util.find_spec("matplotlib") is not None,
        "run": bound["hash"],
        "config": files.content_hash(plain(config)),
        "bound": files.content_hash(bound["config"]),
        "left_out": participation.of(config, workdir, dataset)[1],
        "data": dataset.fingerprint(),
        "described": files.content_hash(dataset.description()),
        "test": None if test is None else test.fingerprint(),
        "order": None if order is None else files.content_hash({"ids": list(order)}),
    }


def _program() -> str:
    """Returns a hash of the package's sources: a checkout changes without its version."""
    package, digest = Path(moa_jax.__file__).parent, hashlib.sha256()
    for path in sorted(path for path in package.rglob("*") if path.suffix in _SOURCES):
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _is_of_it(folder: Path) -> bool:
    """Tells whether files of a folder are the run's; a work folder within has a lock of its own."""
    is_other_run = os.path.lexists(folder / lock.NAME) and folder.name != OTHER_FOLDS
    return folder.name not in _FOLDERS_NOT_OF_IT and not is_other_run


def _contents(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the files of a run by their path in its folder, with sizes and checksums.

    Raises:
      UserError: something is no file, or cannot be read.
    """
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if _is_of_it(Path(where) / name))
        for name in sorted(names):
            path = files.check_regular(Path(where) / name)
            # Names that are no text, as of a disk from elsewhere, have none in JSON either.
            told = os.fsencode(path.relative_to(folder))
            relative = told.decode(errors="backslashreplace")
            if relative not in _NOT_OF_IT:
                yield relative, files.described(path)
