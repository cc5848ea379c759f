"""Errors that are the user's to mend: one clear line, no traceback."""


class UserError(Exception):
    """A mistake in the user's files, flags or work folder.

    The message is a single line that names the file, column or field, says what was expected
    and what was found. The launcher prints it and exits with status 1; programming errors keep
    their traceback.
    """


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
