"""The work folder: bound to one configuration and one data set, used by one run at a time."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from moa_jax import config as configuration
from moa_jax.config import RunConfig
from moa_jax.errors import UserError
from moa_jax.schema import shown
from moa_jax.store import arrival, files, leftovers, lock, processes
from moa_jax.store.manifest import Manifest

# Of what stands in a work folder and how; a folder of another version is not read.
VERSION = 6
# Within it a work folder of its own: models on the folds that answer the other question.
OTHER_FOLDS = "other_folds"
# What stands among the fields for the data, whose files may move.
ROWS = ("data: training rows", "data: test rows")
# What to do about a config.json that is not what was written.
UNREPAIRABLE = (
    "it cannot be repaired: use another --workdir, or delete it and train again with the "
    "configuration and the data of this run"
)
# How many fields a message about other ones names, and how long a text may be to be quoted whole.
MOST_DIFFERENCES, LONGEST_TEXT = 5, 64
PACKAGES = (
    "moa_jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "pyarrow",
)


class Rows(Protocol):
    """What a work folder asks of the rows of a run."""

    @property
    def test(self) -> Rows | None:
        """The rows to predict that came with training rows, or None."""

    def fingerprint(self) -> str:
        """Returns a hash of everything in the rows."""

    def description(self) -> dict[str, Any]:
        """Returns their sizes and the names of their columns."""


class Workdir:
    """A work folder and what its `config.json` says.

    `config.json` holds its format's version, the resolved configuration, its hash, the command, the
    columns of the data and what was resolved on this machine (of each stage `members_at_once`, and
    `rows` where devices can share them). It is sealed, see `files.write_sealed`.
    """

    def __init__(self, path: str | Path):
        if "://" in str(path):
            raise UserError(
                f"--workdir: expected a folder, found {path}; a bucket can be mounted as one"
            )
        if not str(path):
            raise UserError("--workdir: expected a folder, found an empty text")
        files.check_no_tilde("--workdir", path)
        self.path = Path(path)
        try:
            is_other = self.path.exists() and not self.path.is_dir()
        except OSError as error:
            raise UserError(f"--workdir: {path}: {error.strerror}") from None
        if is_other:
            raise UserError(
                f"{path}: expected a folder, found a file; a work folder cannot be written there"
            )
        self._lock: BinaryIO | None = None
        self._run = ""
        self._manifests: dict[tuple[str, str], Manifest] = {}

    @property
    def _config_file(self) -> Path:
        return self.path / "config.json"

    def lock(self) -> None:
        """Keeps other runs out until this process ends, however it ends.

        What a killed run left behind is removed. Of several processes of one run the first one
        holds the lock, and the others see from now on what it sees in the folder.

        Raises:
          UserError: another run is using the folder, it cannot be written, or a link in it leads
            out of it. Or another process's folder is a different one.
        """
        shown: list[arrival.Content] = []
        if processes.is_first():
            with files.writing(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
            self._lock = lock.hold(self.path)
            leftovers.clean(self.path)
            if processes.are_several():
                there = leftovers.entries(self.path)
                shown = arrival.contents(self.path, (Path(e.path) for e in there if e.is_file()))
        for name, size, sha256 in processes.said_by_first(shown):
            arrival.wait_for(self.path / name, arrival.Content(name, size, sha256))
        processes.wait("work folder")

    def unlock(self) -> None:
        """Lets other runs in again."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def bind(self, config: RunConfig, dataset: Rows, strategy: str) -> None:
        """Writes `config.json` and `environment.json`, or checks that they are of this run.

        Raises:
          UserError: the folder belongs to another configuration or other data, or several
            processes have not the same; the first fields that differ are named, and how many more
            do.
        """
        fields = configuration.effective(config)
        test = dataset.test.fingerprint() if dataset.test else "none"
        fields |= dict(zip(ROWS, (dataset.fingerprint(), test), strict=True))
        first = processes.said_by_first(fields)
        if first != fields:
            raise UserError(
                "--distributed: expected all processes to have the same configuration and data, "
                f"found one that differs in {_differences(first, fields)}, there being process 0"
            )
        if os.path.lexists(self._config_file):
            stored = self.read()
            if stored["fields"] != fields:
                raise UserError(
                    f"{self.path}: belongs to another run, use another --workdir; it differs in "
                    + _differences(stored["fields"], fields)
                )
        else:
            stored = {"resolved": {}}
        stored |= {
            "version": VERSION,
            "config": configuration.plain(config),
            "fields": fields,
            "hash": hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16],
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "data": {"source": config.data.source, **dataset.description()},
        }
        files.write_sealed(self._config_file, stored)
        self._run = stored["hash"]
        files.write_json(self.path / "environment.json", environment(strategy))

    def check(self, config: RunConfig) -> None:
        """Checks that a configuration is this folder's, wherever it decides what is predicted.

        Raises:
          UserError: naming the first fields that differ, and how many more do.
        """
        stored = self.read()
        here = configuration.effective(config)
        here |= configuration.blend_fields(configuration.plain(config.blend))
        there = {name: value for name, value in stored["fields"].items() if name not in ROWS}
        there |= configuration.blend_fields(stored["config"].get("blend", {}))
        if there != here:
            raise UserError(
                f"{self.path}: expected the fields that its models were trained and blended with, "
                f"or none; found others: {_differences(there, here)}"
            )

    def read(self) -> dict[str, Any]:
        """Returns what `config.json` holds.

        Raises:
          UserError: there is none, it is damaged, or another version of the package made it.
        """
        if not os.path.lexists(self._config_file):
            raise UserError(f"{self.path}: expected a work folder with a config.json, found none")
        try:
            stored = files.read_json(self._config_file)
        except UserError as error:
            raise UserError(f"{error}; {UNREPAIRABLE}") from None
        version = stored.get("version") if isinstance(stored, dict) else None
        if version != VERSION:
            made_by = "a newer" if isinstance(version, int) and version > VERSION else "an older"
            raise UserError(
                f"{self._config_file}: expected format version {VERSION}, found "
                f"{'none' if version is None else repr(version)}: made by {made_by} moa_jax; use "
                "another --workdir or that version"
            )
        stored = files.unsealed(self._config_file, stored, UNREPAIRABLE)
        missing = {"config", "fields", "hash", "data", "resolved"} - set(stored)
        if missing:
            raise UserError(f"{self._config_file}: damaged, expected {sorted(missing)}")
        return stored

    @property
    def run(self) -> str:
        """The hash of the fields that decide numbers, of the data too; empty before `bind`."""
        if not self._run and os.path.lexists(self._config_file):
            self._run = self.read()["hash"]
        return self._run

    def manifest(self, model: str) -> Manifest:
        """Returns the manifest of a model, which is read once.

        Raises:
          UserError: `config.json` is damaged.
        """
        run = self.run
        return self._manifests.setdefault((model, run), Manifest(self.path, model, run))

    def resolved(self, name: str, value: Any, asked: bool = False) -> Any:
        """Returns the value that was resolved for `name` before, or records `value` for it.

        Args:
          name: what it is resolved for.
          value: of several processes the first one's counts.
          asked: somebody asks for `value`, which then takes the place of an earlier one.
        """
        stored, value = self.read(), processes.said_by_first(value)
        known = stored["resolved"]
        if name not in known or (asked and known[name] != value):
            known[name] = value
            files.write_sealed(self._config_file, stored)
        return known[name]


def environment(strategy: str) -> dict[str, Any]:
    """Returns versions and devices of this machine, as `environment.json` has them."""
    import jax

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
            versions[package] = "not installed"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "devices": [f"{device.platform}:{device.device_kind}" for device in jax.devices()],
        "strategy": strategy,
    }


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    names = sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name))
    told = [
        f"{name}: {_shown(there.get(name, 'absent'))} there, {_shown(here.get(name, 'absent'))} now"
        for name in names[:MOST_DIFFERENCES]
    ]
    if left := len(names) - len(told):
        told.append(f"and {left} more")
    return "; ".join(told)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= LONGEST_TEXT else shown(value)
