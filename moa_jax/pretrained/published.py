"""The published files that the original starts from: where they are, their checksums, a copy."""

from __future__ import annotations

import http.client
import os
import shutil
import tempfile
import urllib.request
from pathlib import Path

from moa_jax.errors import UserError
from moa_jax.store import cache, disk, files

_TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights"
_RESNEST = "https://github.com/zhanghang1989/ResNeSt/releases/download/weights_step1"
# The first digits of each file's SHA-256, as its publisher writes them into the file's name.
_NOISY_STUDENT = {
    "b0": "c0e6a31c", "b1": "99dd0c41", "b2": "00306e48", "b3": "9d44bf68", "b4": "d6313a46",
    "b5": "6f26d0cf", "b6": "51548356", "b7": "1dbc32de",
}  # fmt: skip
_IMAGENET = {
    "resnest50": "528c19ca", "resnest101": "22405ba7", "resnest200": "75117900",
    "resnest269": "0cc87c48", "resnest50_fast_1s1x64d": "d8fbf808",
    "resnest50_fast_2s1x64d": "44938639", "resnest50_fast_4s1x64d": "f74f3fc3",
    "resnest50_fast_1s2x40d": "32830b84", "resnest50_fast_2s2x40d": "9d126481",
    "resnest50_fast_4s2x40d": "41d14ed0", "resnest50_fast_1s4x24d": "d4a4f76f",
}  # fmt: skip
# Both publishers' licence is the Apache License 2.0.
URLS = {
    **{
        f"efficientnet_{variant}": f"{_TIMM}/tf_efficientnet_{variant}_ns-{digits}.pth"
        for variant, digits in _NOISY_STUDENT.items()
    },
    **{name: f"{_RESNEST}/{name}-{digits}.pth" for name, digits in _IMAGENET.items()},
}
_SECONDS = 60


def url(architecture: str) -> str:
    """Returns where a network's published file is.

    Raises:
      UserError: none is known.
    """
    if architecture not in URLS:
        raise UserError(
            f"pretrained: expected a file or none for {architecture}, found auto, which knows of "
            "no file that the original would start this network from"
        )
    return URLS[architecture]


def folder() -> Path:
    """Returns where fetched files are kept: the user's cache, `~/.cache/moa_jax` by default.

    Raises:
      UserError: the system knows of no home folder.
    """
    if (found := cache.folder()) is None:
        raise UserError(
            "pretrained=auto: expected a folder for the file, found no home folder; set "
            "XDG_CACHE_HOME, or pretrained=FILE"
        )
    return found


def check(path: Path, name: str) -> None:
    """Checks a file of a published name against the checksum in that name; others pass.

    Raises:
      UserError: the file is another than its name says.
    """
    known = {address.rpartition("/")[2] for address in URLS.values()}
    if name not in known:
        return
    digits, found = name.removesuffix(".pth").rpartition("-")[2], files.sha256(path)
    if not found.startswith(digits):
        raise UserError(f"{path}: damaged, expected a SHA-256 from {digits} on, found {found}")


def fetch(architecture: str) -> Path:
    """Returns the copy of a network's published file, which is fetched where there is none.

    Raises:
      UserError: no such file is known, it cannot be fetched or kept, or it is not what its
        checksum says.
    """
    address = url(architecture)
    name = address.rpartition("/")[2]
    path = folder() / name
    try:
        if not path.exists():
            _download(address, path)
        check(path, name)
    except (OSError, ValueError, http.client.HTTPException) as error:
        if disk.is_full(error):
            raise UserError(disk.line(path, error)) from error
        reason = str(getattr(error, "reason", error)).splitlines() or [type(error).__name__]
        raise UserError(
            f"pretrained=auto: {address} cannot be fetched: {reason[0]}; expected a network, that "
            f"file brought to {folder()} or named as pretrained=FILE, or pretrained=none for "
            "random weights"
        ) from error
    return path


def _download(address: str, path: Path) -> None:
    """Writes a file that appears whole and checked, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        part = Path(scratch) / path.name
        with (
            urllib.request.urlopen(address, timeout=_SECONDS) as response,
            open(part, "wb") as written,
        ):
            shutil.copyfileobj(response, written)
        check(part, path.name)
        os.replace(part, path)
