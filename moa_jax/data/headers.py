"""Headers: the first line of a table of texts, where it is, what delimits it and its names."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Sequence
from pathlib import Path

from moa_jax.data import signatures
from moa_jax.data.names import name_of
from moa_jax.data.packed import Opened, unpacked
from moa_jax.errors import UserError

# What stands between cells of texts; of as many in the header the first one counts.
DELIMITERS = {"\t": "tab", ",": "comma", ";": "semicolon"}
# A header is looked for in as many bytes at a time, and at most.
HEADER_BLOCK, HEADER_LIMIT = 1 << 16, 1 << 24
BLANK = ' \t\r\n\0\x1a,;"'  # of rows in which nothing stands, and of old ends of files
# What pandas calls a first column without a name. R and pandas write names of rows there.
INDEX = "Unnamed: 0"
# Lines above a header, as the Connectivity Map's lists and many an instrument have them.
_COMMENT = rb"![^\r\n]*|#[^\r\n,;\t]*"
_ABOVE = re.compile(rb"\A(?:\xef\xbb\xbf(?=[#!]))?(?:(?:[ \t]*|" + _COMMENT + rb")[\r\n])+")
# UTF-32's mark begins with UTF-16's.
MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def header(path: Path, packed: str | None) -> tuple[str, int]:
    """Returns the first line of a table of texts that is no comment, and where the rows begin.

    Args:
      path: the file.
      packed: see `packed.unpacked`.

    Raises:
      UserError: there is none, it is not UTF-8, or a name in it has a line break. Damage is for
        `formats.reading` to tell.
    """
    with unpacked(path, packed) as opened:
        head, begin = _header(opened)
    text = _decoded(path, head)
    if text.count('"') % 2:
        raise UserError(
            f"{path}: a quote in the header is not closed, or a name has a line break; take it out"
        )
    return text, begin


def delimiter(header: str, key: str = "") -> str:
    """Returns what stands between the names of a header: of `DELIMITERS` the most frequent one.

    One by which `key` is a name of its own comes before others.

    >>> delimiter("sig_id\\tA, B"), delimiter("sig_id,A;B;C"), delimiter("sig_id,A;B;C", "sig_id")
    ('\\t', ';', ',')
    """
    # A tab beside a comma or a semicolon is a space.
    bare = re.sub(r'"[^"]*"|(?<=[,;])\s+|\s+(?=[,;])', "", header)
    there = [mark for mark in DELIMITERS if mark in bare]

    def fit(mark: str) -> tuple[bool, int]:
        names = (name_of(text).strip('"') for text in header.split(mark))
        return bool(key) and key in names, bare.count(mark)

    return max(there, key=fit, default=",")


def names_of(header: str, mark: str) -> list[str]:
    """Returns the names in a header between delimiters, as they are compared."""
    (words,) = csv.reader([header], delimiter=mark, skipinitialspace=True)
    return [*map(name_of, words)]


def _header(opened: Opened) -> tuple[bytes, int]:
    """Returns the first line with something in it but a comment, and where what follows begins.

    A line ends with a line feed, a carriage return or both.
    """
    line = b""
    skipped = 0  # bytes of blank lines, which are not kept
    while not re.search(rb"[\r\n]", line) and len(line) < HEADER_LIMIT:
        block = opened.read(HEADER_BLOCK)
        if not block:
            break
        read = line + block
        line = _ABOVE.sub(b"", read)
        skipped += len(read) - len(line)
        if skipped > HEADER_LIMIT:
            return b" ", skipped
    head = re.split(rb"[\r\n]", line, maxsplit=1)[0]
    return head, skipped + min(len(head) + 1, len(line))


def _decoded(path: Path, head: bytes) -> str:
    problem = None
    if not head.strip(BLANK.encode()):
        found = "an empty file, or comments alone"
        if head:
            found = "a first line without names; take it out"
        raise UserError(f"{path}: expected a table, found {found}")
    signatures.check_impostor(path, head)
    if inner := signatures.of_bytes(head):
        problem = f"a {inner} file is packed within"
    elif mark := next((mark for mark in MARKS if head.startswith(mark)), None):
        problem = f"found {MARKS[mark]}; save it as UTF-8"
    elif b"\0" in head:
        problem = "found null bytes, as in UTF-16 without its mark; save it as UTF-8"
    else:
        try:
            return head.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            byte = head[error.start]
            problem = f"found the byte 0x{byte:02x} in the header, as in Latin-1; save it as UTF-8"
    raise UserError(f"{path}: cannot be read as CSV in UTF-8: {problem}")


def index_named(names: Sequence[str]) -> list[str]:
    """Returns names of columns, of which the first one has one: another where it is there already.

    >>> index_named(["", "a"]), index_named(["", "Unnamed: 0", "a"])
    (['Unnamed: 0', 'a'], ['Unnamed: 0.0', 'Unnamed: 0', 'a'])
    """
    first = f"{INDEX}.0" if INDEX in names else INDEX
    return [name or first * (not number) for number, name in enumerate(names)]
