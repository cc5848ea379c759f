"""Whole files or none: everything is written to a temporary name and renamed.

Of several processes the first one writes, and the others go on when they see the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from moa_jax.errors import UserError, first_line
from moa_jax.store import arrival, disk, processes

# Where a sealed file keeps the hash of its content.
_SEAL = "sha256"


def check_no_tilde(what: str, path: str | Path) -> None:
    """Raises a UserError for a path that begins with `~`, which would be a folder of that name.

    Args:
      what: the flag or the argument that names it.
      path: as it was given.
    """
    if str(path).startswith("~"):
        raise UserError(
            f"{what}: {path}: expected a path without '~', which shells leave alone after '='; "
            "write $HOME, or ./~ for a folder of that name"
        )


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turns what a full disk or an unwritable folder raises into one line naming `path`.

    Of a full disk, which libraries' own errors may tell as well, the line has the free space.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) or disk.is_full(error):
            raise UserError(disk.line(path, error)) from error
        raise


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, renamed onto it when the block succeeds.

    A reader sees the previous file or the new one, never a part of either, also when the process
    is killed. The data reach the disk before the rename. Of several processes all must come here;
    the first one's file is kept, and none goes on before all see it.

    Raises:
      UserError: the folder cannot be written or the disk is full; an earlier `path` stays whole.
        Or another process's file has not come.
    """
    path = Path(path)
    if not processes.is_first():
        with tempfile.TemporaryDirectory() as elsewhere:
            yield Path(elsewhere) / path.name
        processes.wait(f"{path}: before")
        arrival.wait_for(path, arrival.Content(*processes.said_by_first(None)))
        processes.wait(f"{path}: seen")
        return
    # The suffix stays last, so that writers which look at it (numpy, pandas) behave as for `path`.
    temporary = path.with_name(f".{path.stem}.tmp-{os.getpid()}{path.suffix}")
    try:
        with writing(path):
            _make_folder(path.parent)
            # A link of that name, whoever made it, would be written through.
            temporary.unlink(missing_ok=True)
            yield temporary
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            # Until here the others may still look at what was there before.
            processes.wait(f"{path}: before")
            os.replace(temporary, path)
        if processes.are_several():
            processes.said_by_first(arrival.content(path))
            # What is written to it from now on would not be what they look for.
            processes.wait(f"{path}: seen")
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _make_folder(folder: Path) -> None:
    """Makes a folder and those it lies in.

    Raises:
      UserError: something else stands in its place, or in that of one of those.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        places = (folder, *folder.parents)
        other = next((p for p in places if os.path.lexists(p) and not p.is_dir()), folder)
        found = "a link that leads nowhere" if other.is_symlink() else "a file"
        raise UserError(f"{other}: expected a folder, found {found}; remove it") from None


def open_plain(path: str | Path, flags: int) -> int:
    """Returns the descriptor of a file that is one: no link, no folder, no pipe and no device.

    Args:
      path: the file.
      flags: of `os.open`.

    Raises:
      OSError: as `os.open` does.
      UserError: something else stands there.
    """
    if os.path.islink(path):
        raise UserError(
            f"{path}: expected a file, found a link to {os.readlink(path)}; remove the link"
        )
    # Without waiting, for a pipe waits for who reads it.
    opened = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise UserError(f"{path}: expected a file, found a folder, a pipe or a device; remove it")
    return opened


def open_append(path: str | Path) -> int:
    """Returns the descriptor of a file, made where there is none, that is written at its end.

    Raises:
      UserError: it cannot be written, or something else stands there.
    """
    with writing(path):
        return open_plain(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def append(path: str | Path, text: str) -> None:
    """Writes at the end of a file, made where there is none; raises what `open_append` raises."""
    opened = open_append(path)
    try:
        with writing(path):
            write_all(opened, text.encode())
    finally:
        os.close(opened)


def write_all(descriptor: int, data: bytes) -> None:
    """Writes all of `data`, where the system may take a part of it at a time."""
    while data:
        data = data[os.write(descriptor, data) :]


def write_text(path: str | Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    write_text(path, _json(value))


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def read_json(path: str | Path) -> Any:
    """Returns the parsed file.

    Raises:
      UserError: the file is missing, cannot be read or is not JSON.
    """
    path = check_regular(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    # Values may be nested deeper than the parser goes.
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged, expected JSON: {first_line(error)}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


def read_json_object(path: str | Path) -> dict[str, Any]:
    """Returns the parsed file, an object of any layout; raises what `read_json` raises.

    Raises:
      UserError: it is no object.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: damaged, expected an object, found {type(value).__name__}")
    return value


def write_sealed(path: str | Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object and, as its `sha256`, the hash of the rest of its content.

    The hash is that of the object without spaces, its keys in alphabetic order and everything
    beyond ASCII escaped, so that it does not depend on how the file is laid out.

    Raises:
      UserError: the folder cannot be written or the disk is full; an earlier file stays whole.
    """
    write_text(path, sealed_text(value))


def sealed_text(value: Mapping[str, Any]) -> str:
    """Returns what `write_sealed` writes: for who replaces several files together."""
    if _SEAL in value:
        raise ValueError(f"{_SEAL}: expected another name for a value")
    return _json({**value, _SEAL: content_hash(value)})


def read_sealed(path: str | Path, remedy: str) -> dict[str, Any]:
    """Returns what `write_sealed` was given.

    Args:
      path: the file.
      remedy: what to do where the file cannot be had as it was written, for the message.

    Raises:
      UserError: the file is missing, cannot be read, is not a JSON object or was changed.
    """
    try:
        stored = read_json(path)
    except UserError as error:
        raise UserError(f"{error}; {remedy}") from None
    return unsealed(path, stored, remedy)


def unsealed(path: str | Path, stored: Any, remedy: str) -> dict[str, Any]:
    """Returns parsed content without its seal: for who looks at a format's version first.

    Raises:
      UserError: it is not an object, or was changed.
    """
    if not isinstance(stored, dict) or not isinstance(stored.get(_SEAL), str):
        raise UserError(f"{path}: damaged, expected an object with its {_SEAL}; {remedy}")
    content = {name: value for name, value in stored.items() if name != _SEAL}
    try:
        is_whole = stored[_SEAL] == content_hash(content)
    except RecursionError:  # nested just as deep as the parser goes
        is_whole = False
    if not is_whole:
        raise UserError(f"{path}: damaged, its content is not what was written; {remedy}")
    return content


@contextlib.contextmanager
def parsing(path: str | Path) -> Iterator[None]:
    """Turns what content of another layout than the expected raises into one line naming `path`."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{path}: damaged, its content is laid out otherwise: {reason}") from None


def check_regular(path: str | Path) -> Path:
    """Checks that something is there to be read: a file, or a link to one.

    Raises:
      UserError: it is missing, a link that leads nowhere or in a circle, a folder, a pipe (which
        would be waited for without end) or a device.
    """
    path = Path(path)
    if (found := kind(path)) != "a file":
        said = "not found" if found == "none" else f"expected a file, found {found}"
        raise UserError(f"{path}: {said}")
    return path


def kind(path: str | Path) -> str:
    """Returns what stands at a path: `a file`, `a folder`, `none`, or what else it is."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # such as a link to itself, or a name that is too long
        if os.path.islink(path):
            return "a symbolic link that leads nowhere"
        reason = getattr(error, "strerror", None)
        return f"none ({reason})" if reason and not isinstance(error, FileNotFoundError) else "none"
    if stat.S_ISREG(mode):
        return "a file"
    return "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"


def content_hash(value: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of what JSON holds, however it is laid out, as hexadecimal digits."""
    # Through JSON once, because its keys are texts and are ordered as such.
    plain = json.loads(json.dumps(value))
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def remove(*paths: Path) -> None:
    """Removes the files that are there.

    Raises:
      UserError: one cannot be removed.
    """
    for path in paths:
        with writing(path):
            path.unlink(missing_ok=True)


def remove_all(path: Path) -> None:
    """Removes a folder and what is in it, or a file, or a link and not what it leads to.

    Of several processes all must come here, and none goes on before all see it.

    Raises:
      UserError: it cannot be removed, or another process has removed what this one still sees.
    """
    remove_each(path, lambda: [path])


def remove_each(where: Path, find: Callable[[], Iterable[Path]]) -> None:
    """Removes what is found, each as `remove_all` does; raises what that raises.

    Args:
      where: what processes tell this place by; all must come here.
      find: returns what is removed; the first process asks.
    """
    processes.wait(f"{where}: before removal")
    removed = []
    if processes.is_first():
        for path in find():
            removed.append(os.path.relpath(path, where))
            with writing(path):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
    for name in processes.said_by_first(removed):
        arrival.wait_for_removal(Path(os.path.normpath(where / name)))
    processes.wait(f"{where}: after removal")


def described(path: str | Path) -> dict[str, Any]:
    """Returns size and hash of a file that is there, as lists of files have them.

    Raises:
      UserError: it is missing, no file, or cannot be read.
    """
    return {"bytes": check_regular(path).stat().st_size, "sha256": sha256(path)}


def sha256(path: str | Path) -> str:
    """Returns the file's SHA-256 as hexadecimal digits.

    Raises:
      UserError: the file cannot be read.
    """
    try:
        with open(path, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
