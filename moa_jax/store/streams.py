"""Standard streams: what a command prints, and where it goes when nobody reads it."""

from __future__ import annotations

import os
import sys

_STREAMS = {0: "stdin", 1: "stdout", 2: "stderr"}


def open_closed() -> None:
    """Opens standard streams that the caller has closed, to lead nowhere.

    The next files to be opened would have their numbers, and in them whatever libraries print.
    """
    for number, name in _STREAMS.items():
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number
        if getattr(sys, name) is None:
            stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)
            setattr(sys, name, stream)


def say(text: str) -> None:
    """Prints a text on standard output.

    Who reads it may leave before its end, as `head` does. What a stream's encoding has not is
    written as an escape.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError:
        # What is left would be written at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
