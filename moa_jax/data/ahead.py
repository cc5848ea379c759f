"""Ahead: the next part of a file is read by a thread while the one before it is worked on."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Part = TypeVar("Part")


def read_ahead(parts: Generator[Part, None, None]) -> Generator[Part, None, None]:
    """Yields the parts in their order, of which two are in memory at a time.

    What making a part raises is raised where the part would have been yielded. Closed before the
    end it waits for the part that is being read, and closes `parts`.

    >>> list(read_ahead(letter for letter in "abc"))
    ['a', 'b', 'c']
    """
    end = object()
    with contextlib.closing(parts), ThreadPoolExecutor(1) as pool:
        found: Any = pool.submit(next, parts, end).result()
        while found is not end:
            following = pool.submit(next, parts, end)
            yield found
            found = following.result()
