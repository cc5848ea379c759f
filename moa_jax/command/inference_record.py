"""Record of an inference: which file was read, and where and by what its predictions were made."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import moa_jax
from moa_jax.data import formats
from moa_jax.errors import UserError
from moa_jax.store import files, processes

FILE = "inference.json"
# Digits of the content's hash in a folder's name: more where two files have the first in common.
DIGITS = (8, 16, 32, 64)
LONGEST_NAME = 255  # bytes, of most file systems
# Beside what cannot be printed, what some file system has no name with.
_NOT_IN_NAMES = frozenset('/\\:*?"<>|')


@dataclasses.dataclass(frozen=True)
class InputFile:
    """A file as it was when it was first read.

    Attributes:
      path: where it is.
      identity: device, inode, size and times of the last changes.
      sha256: of its content, as hexadecimal digits.
    """

    path: Path
    identity: tuple[int, ...]
    sha256: str

    @classmethod
    def of(cls, path: str | Path) -> InputFile:
        """Reads a file through and returns what it is.

        Raises:
          UserError: it is no regular file, cannot be read, or is changed while it is.
        """
        path = Path(path)
        formats.check_file(path)
        try:
            # What has become a pipe since must not be waited for.
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as opened:
                status = os.fstat(opened.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise _changed(path)
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
        source = cls(path, _identity(status), digest)
        source.check()
        return source

    @property
    def record(self) -> dict[str, Any]:
        return {"bytes": self.identity[2], "sha256": self.sha256}

    def check(self) -> None:
        """Raises a UserError if the file is no longer the one that it was."""
        try:
            found = _identity(os.stat(self.path))
        except OSError:
            raise _changed(self.path) from None
        if found != self.identity:
            raise _changed(self.path)

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Checks, when the block ends, that the file is the one that it was.

        What the block finds wrong with it counts only then: half of another file has many faults.
        """
        try:
            yield
        except UserError:
            self.check()
            raise
        self.check()


def made_by(
    stored: Mapping[str, Any],
    manifests: Mapping[str, Path],
    weights: Mapping[str, Any],
    mean: str,
    answers: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns what decides the predictions beside the rows: run, data, models, blend, program.

    Args:
      stored: what `config.json` says.
      manifests: the manifest of each model, which is finished.
      weights: those of the blend.
      mean: the name of what it is the weighted mean of.
      answers: what the blend learned about answers.
    """
    return {
        "version": moa_jax.__version__,
        "run": stored["hash"],
        "data": files.content_hash(stored["data"]),
        "weights": files.content_hash(weights),
        "mean": mean,
        "answers": files.content_hash(answers),
        "models": {name: files.described(path) for name, path in manifests.items()},
    }


def find(
    parent: Path, source: InputFile, made_by: Mapping[str, Any], outputs: Sequence[str]
) -> tuple[Path, bool]:
    """Returns the folder of a file's predictions, and whether they are there as they were made.

    Two files of unlike content never have one folder.

    Args:
      parent: the folder of all inferences.
      source: the file.
      made_by: what predicts it, see `made_by`.
      outputs: names of the files of predictions.
    """
    *shorter, longest = DIGITS
    for digits in shorter:
        folder = parent / folder_name(source.path.name, source.sha256[:digits])
        record = _read(folder)
        if record is None or record.get("input", {}).get("sha256") == source.sha256:
            break
    else:
        folder = parent / folder_name(source.path.name, source.sha256[:longest])
        record = _read(folder)
    return folder, record is not None and _is_whole(folder, record, source, made_by, outputs)


def write(
    folder: Path,
    source: InputFile,
    made_by: Mapping[str, Any],
    rows: int,
    outputs: Sequence[str],
) -> None:
    """Writes the record of a finished inference.

    Args:
      folder: where its files lie.
      source: the file that was predicted.
      made_by: what predicted it, see `made_by`.
      rows: how many rows it has.
      outputs: names of the files that were written.
    """
    written = {name: files.described(folder / name) for name in outputs}
    record = {**_made(source, made_by), "rows": rows, "outputs": written}
    files.write_sealed(folder / FILE, record)


@contextlib.contextmanager
def removing_if_empty(folder: Path) -> Iterator[None]:
    """Removes a folder, and the one that it lies in, if the block fails and leaves them empty."""
    try:
        yield
    except BaseException:
        if processes.is_first():
            with contextlib.suppress(OSError):
                folder.rmdir()
                folder.parent.rmdir()
        raise


def folder_name(file_name: str, digits: str) -> str:
    """Returns the name of the folder of a file's predictions.

    It is the file's full name and the digits. What cannot be printed or is not allowed in every
    file system is an underscore, as is a dot or dash at the beginning; a long name is cut.

    >>> folder_name("new.v1.csv", "3f2a9c1d")
    'new.v1.csv-3f2a9c1d'
    >>> folder_name("-a:b?.csv", "3f2a9c1d")
    '_a_b_.csv-3f2a9c1d'
    """
    kept = "".join(c if c.isprintable() and c not in _NOT_IN_NAMES else "_" for c in file_name)
    kept = re.sub(r"^[.~ -]", "_", kept)
    room = LONGEST_NAME - len(digits) - 1
    return f"{kept.encode()[:room].decode(errors='ignore')}-{digits}"


def _is_whole(
    folder: Path,
    record: Mapping[str, Any],
    source: InputFile,
    made_by: Mapping[str, Any],
    outputs: Sequence[str],
) -> bool:
    if any(record.get(name) != value for name, value in _made(source, made_by).items()):
        return False
    try:
        return record.get("outputs") == {name: files.described(folder / name) for name in outputs}
    except UserError:  # one is not there
        return False


def _made(source: InputFile, made_by: Mapping[str, Any]) -> dict[str, Any]:
    return {"input": source.record, **made_by}


def _read(folder: Path) -> dict[str, Any] | None:
    """Returns the record that is whole; None where there is none to be believed."""
    with contextlib.suppress(UserError):
        return files.read_sealed(folder / FILE, "")
    return None


def _identity(status: os.stat_result) -> tuple[int, ...]:
    # The last of them also where a program sets the others back.
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _changed(path: Path) -> UserError:
    return UserError(
        f"{path}: another file than when it was first read: it was replaced, changed or removed "
        "meanwhile; nothing was written. Start again when it is complete"
    )
