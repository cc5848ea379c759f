"""The manifest of a model: the files that its finished stages left, their sizes and checksums."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from moa_jax.errors import UserError
from moa_jax.store import files

VERSION = 1
FILE = "manifest.json"
_TEXTS = (".json", ".csv")


class Manifest:
    """What is finished of a model, file by file; it lies in the model's folder and is sealed.

    `manifest.json` holds its format's version, the hash of the run, the model's name and, for each
    file by its path in the work folder, `bytes` and `sha256`. Transforms and networks are added as
    they are written, what else a stage leaves when all of it is, and what the model leaves at its
    end, metrics always with the last: they say that a stage or the model is finished. What is not
    listed is made again. Nothing that is listed is believed before its checksum was found, once in
    a process. A link is followed: what counts is the content that it leads to.
    """

    def __init__(self, workdir: Path, model: str, run: str):
        """Describes a manifest, which is read when it is first asked for.

        Args:
          workdir: the work folder.
          model: the model's name, and that of its folder.
          run: the run that the files must be of, see `Workdir.run`; while it is empty, nothing of
            a run is finished.
        """
        self._workdir, self._model, self._run = workdir, model, run
        self._listed: dict[str, dict[str, Any]] | None = None
        self._whole: set[str] = set()

    @property
    def folder(self) -> Path:
        return self._workdir / self._model

    @property
    def path(self) -> Path:
        return self.folder / FILE

    @property
    def paths(self) -> list[Path]:
        """The files that are listed.

        Raises:
          UserError: the manifest is damaged, of another version, run or model.
        """
        return [self._workdir / name for name in self._entries()]

    def lists(self, path: Path) -> bool:
        """Tells whether a file is listed, wherever it is now; raises what `paths` raises."""
        return self._name(path) in self._entries()

    def has(self, path: Path) -> bool:
        """Tells whether a file is listed and something stands in its place.

        A file that is not there is one to be made again. Raises what `paths` raises.
        """
        return self.lists(path) and os.path.lexists(path)

    def add(self, paths: Iterable[Path]) -> None:
        """Lists files with the content that they have now.

        Raises:
          UserError: a file is missing or cannot be read, or the manifest cannot be written.
        """
        listed = dict(self._entries())
        for path in paths:
            name = self._name(path)
            listed[name] = files.described(path)
            self._whole.add(name)
        self._write(listed)

    def discard(self, given: Callable[[Path], bool]) -> None:
        """Strikes the files off the list of which `given` is true."""
        listed = self._entries()
        kept = {name: entry for name, entry in listed.items() if not given(self._workdir / name)}
        if kept != listed:
            self._whole &= kept.keys()
            self._write(kept)

    def is_whole(self, path: Path) -> bool:
        """Tells whether a file is listed and as it was then; raises what `paths` raises."""
        name = self._name(path)
        if name not in self._whole and name in self._entries() and not self._damage(name):
            self._whole.add(name)
        return name in self._whole

    def verify(self, *paths: Path) -> None:
        """Checks that files are as they were when they were listed.

        Raises:
          UserError: naming the first that is not listed, is not there, or has another content.
        """
        for path in paths:
            if self.is_whole(path):
                continue
            name = self._name(path)
            if name not in self._entries():
                raise UserError(
                    f"{path}: expected among the files of a finished model that {self.path} lists, "
                    f"found no such entry; {self.remedy}"
                )
            raise UserError(f"{self._damage(name)}; {self.remedy}")

    def damages(self) -> Iterator[tuple[Path, str]]:
        """Yields every listed file that is not as it was, and a line that says how."""
        for name in self._entries():
            if damage := self._damage(name):
                yield self._workdir / name, damage

    @property
    def remedy(self) -> str:
        """What to do about a file that is not as it was written, for messages."""
        return (
            f"delete the folder {self.folder} and train again, or run with --repair, which makes "
            "again what it must"
        )

    def _name(self, path: Path) -> str:
        return path.relative_to(self._workdir).as_posix()

    def _damage(self, name: str) -> str | None:
        path, entry = self._workdir / name, self._entries()[name]
        try:
            size = files.check_regular(path).stat().st_size
            if size != entry["bytes"]:
                said = f"{path}: damaged, expected {entry['bytes']} bytes, found {size}"
                return f"{said}{_told_line_ends(path, entry['sha256'])}"
            if files.sha256(path) != entry["sha256"]:
                return f"{path}: damaged, its content is not what was written"
        except UserError as error:
            return str(error)
        except OSError as error:
            return f"{path}: cannot be read: {error.strerror}"
        return None

    def _write(self, listed: dict[str, dict[str, Any]]) -> None:
        content = {"version": VERSION, "run": self._run, "model": self._model, "files": listed}
        files.write_sealed(self.path, content)
        self._listed = listed

    def _entries(self) -> dict[str, dict[str, Any]]:
        if self._listed is None:
            self._listed = self._read() if os.path.lexists(self.path) else {}
        return self._listed

    def _read(self) -> dict[str, dict[str, Any]]:
        stored = files.read_sealed(self.path, self.remedy)
        if not self._run and stored.get("run"):
            # The work folder lost its config.json. Bound again it says whose the files are.
            return {}
        for name, expected in (("version", VERSION), ("run", self._run), ("model", self._model)):
            if stored.get(name) != expected:
                raise UserError(
                    f"{self.path}: expected the {name} {expected!r} of this work folder, found "
                    f"{stored.get(name)!r}; {self.remedy}"
                )
        listed = stored.get("files")
        if not isinstance(listed, dict) or not all(map(_is_entry, listed, listed.values())):
            raise UserError(
                f"{self.path}: damaged, expected files with their sizes and checksums; "
                f"{self.remedy}"
            )
        return listed


def _told_line_ends(path: Path, expected: str) -> str:
    """Returns what to add about a text of which nothing but the ends of lines was changed."""
    if path.suffix not in _TEXTS:
        return ""
    content = path.read_bytes().replace(b"\r\n", b"\n")
    if hashlib.sha256(content).hexdigest() != expected:
        return ""
    return ": its lines end in CR LF, as git's core.autocrlf leaves them, and can be converted back"


def _is_entry(name: str, entry: Any) -> bool:
    """Tells whether an entry is of a file within the work folder."""
    path = PurePosixPath(name)
    is_within = not path.is_absolute() and ".." not in path.parts
    return is_within and isinstance(entry, dict) and {"bytes", "sha256"} <= entry.keys()
