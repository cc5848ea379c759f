"""Ahead: the next part of a file is read by a thread while the one before it is worked on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Part = TypeVar("Part")


def read_ahead(parts: Iterable[Part]) -> Iterator[Part]:
    """Yields the parts in their order, of which two are in memory at a time.

    What making a part raises is raised where the part would have been yielded.

    >>> list(read_ahead("abc"))
    ['a', 'b', 'c']
    """
    rest, end = iter(parts), object()
    with ThreadPoolExecutor(1) as pool:
        found: Any = pool.submit(next, rest, end).result()
        while found is not end:
            following = pool.submit(next, rest, end)
            yield found
            found = following.result()
