"""Errors that are the user's to mend: one clear line, no traceback."""

import re
from collections.abc import Iterable

# What no path, name or sentence has without a space; longer ones are cut, and are then so long.
_LONGEST, _HEAD, _TAIL = 600, 300, 60


class UserError(Exception):
    """A mistake in the user's files, flags or work folder.

    The message is a single line that names the file, column or field, says what was expected
    and what was found. The launcher prints it and exits with status 1; programming errors keep
    their traceback.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


class UnsupportedSystem(ImportError):
    """A module that the system lacks. The launcher prints it as it does a `UserError`."""


def check_words(words: Iterable[str]) -> None:
    """Raises a UserError for the first word of a command line that no file could be written with.

    Names of files may have any bytes, which Python reads as halves of characters.
    """
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{ascii(word)}: expected UTF-8, found other bytes; rename the file"
            ) from None


def one_line(text: str) -> str:
    r"""Returns a text without line breaks and other control characters, and long words cut.

    Names of files and columns may have them, which would change what a terminal shows.

    >>> one_line("a\nb: not found")
    'a\\nb: not found'
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return re.sub(rf"\S{{{_LONGEST},}}", _cut, text)


def _cut(word: re.Match) -> str:
    return f"{word[0][:_HEAD]}...{word[0][-_TAIL:]}"


def first_line(error: BaseException) -> str:
    """Returns the first line of what an error says; its type where it says nothing.

    >>> first_line(ValueError("\\nshort\\nand long")), first_line(EOFError())
    ('short', 'EOFError')
    """
    said = (line for line in str(error).splitlines() if line.strip())
    return next(said, type(error).__name__)


def joined_lines(error: BaseException) -> str:
    """Returns all that an error says as one line; its type where it says nothing.

    >>> joined_lines(ValueError("short\\n  and long"))
    'short and long'
    """
    return " ".join(str(error).split()) or type(error).__name__
