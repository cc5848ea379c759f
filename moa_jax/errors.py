"""Errors that are the user's to mend: one clear line, no traceback."""


class UserError(Exception):
    """A mistake in the user's files, flags or work folder.

    The message is a single line that names the file, column or field, says what was expected
    and what was found. The launcher prints it and exits with status 1; programming errors keep
    their traceback.
    """
