"""Signatures: what a file is by its first bytes, whatever its name says."""

from __future__ import annotations

import codecs
import contextlib
import re
from pathlib import Path

from moa_jax.errors import UserError

# Bytes that are looked at.
HEAD = 256
# What files begin with, and their names. Those of CSV have none.
SIGNATURES = {
    rb"\x1f\x8b": "gzip",
    rb"PK\x03\x04|PK\x05\x06": "zip",
    rb"PAR1": "parquet",
    rb"BZh[1-9]1AY&SY": "bzip2",
    rb"\xfd7zXZ\x00": "xz",
    rb"\x28\xb5\x2f\xfd": "zstd",
    rb"7z\xbc\xaf\x27\x1c": "7z",
    rb"ARROW1": "feather",
    rb"\xd0\xcf\x11\xe0": "Excel",
    rb"\x89HDF": "HDF5",
}
# What comes in the place of a table: how it begins, and what to do.
IMPOSTORS = {
    rb"version https://git-lfs": "a pointer of git-lfs; fetch the file with git lfs pull",
    rb"<(!doctype html|html|head|body)": "a web page, as of a failed download; download it again",
    rb"<\?xml|<[a-z]+[ >]": "XML; convert it to CSV",
    rb"[{\[]\s*[\"{\[]": "JSON; convert it to CSV",
    rb"#1\.[0-9]\s": "GCT; name it .gct",
}


def of_bytes(head: bytes) -> str | None:
    """Returns what a file is whose first bytes these are; None of a text or what is not known."""
    return next((kind for bytes_, kind in SIGNATURES.items() if re.match(bytes_, head)), None)


def of_file(path: Path) -> str | None:
    """Returns what a file is, see `of_bytes`; raises what `open` does."""
    with open(path, "rb") as opened:
        return of_bytes(opened.read(HEAD))


def check_impostor(path: Path, head: bytes) -> None:
    """Raises a UserError where something else stands in the place of a table."""
    begin = head.removeprefix(codecs.BOM_UTF8).lstrip()
    for bytes_, what in IMPOSTORS.items():
        if re.match(bytes_, begin, re.IGNORECASE):
            raise UserError(f"{path}: expected a table, found {what}")


def is_text(head: bytes) -> bool:
    """Tells whether first bytes are those of lines of UTF-8."""
    with contextlib.suppress(UnicodeDecodeError):
        return codecs.getincrementaldecoder("utf-8")().decode(head).isprintable() or b"\n" in head
    return False
