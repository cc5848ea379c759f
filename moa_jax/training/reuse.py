"""Reuse of compiled programs: the settings that they depend on, and the last ones."""

from __future__ import annotations

import collections
import threading
from collections.abc import Hashable
from concurrent.futures import Future
from typing import TypeAlias

import flax
import jax

# Programs that a process keeps: those of some stages, each of which has about four.
MOST_PROGRAMS = 32
# A program that a thread compiles or has compiled, and the seconds that this took.
Compiling: TypeAlias = Future[tuple[jax.stages.Compiled, float]]


def options() -> tuple[Hashable, ...]:
    """Returns all settings of JAX and Flax, and the mesh, that a program may depend on."""
    # Of some there is the value alone, of others a context may set another one.
    of_jax = (getattr(jax.config, name, value) for name, value in jax.config.values.items())
    of_flax = (getattr(flax.config, name) for name in dir(flax.config) if name.startswith("flax_"))
    return *of_jax, *of_flax, jax.sharding.get_abstract_mesh()


class LastUsed:
    """The compiled programs that were used last, by what makes them; threads may share it."""

    def __init__(self, most: int):
        self._most, self._lock = most, threading.Lock()
        self._programs: collections.OrderedDict[Hashable, Compiling] = collections.OrderedDict()

    def get(self, key: Hashable) -> Compiling | None:
        """Returns the program of this key, if there still is one."""
        with self._lock:
            if key in self._programs:
                self._programs.move_to_end(key)
            return self._programs.get(key)

    def put(self, key: Hashable, program: Compiling) -> None:
        """Keeps a program, in place of the one that was not used for longest."""
        with self._lock:
            self._programs[key] = program
            while len(self._programs) > self._most:
                self._programs.popitem(last=False)

    def drop(self, program: Compiling) -> None:
        """Forgets a program that could not be compiled, if it is there."""
        with self._lock:
            for key in [key for key, kept in self._programs.items() if kept is program]:
                del self._programs[key]

    def clear(self) -> None:
        """Forgets all of them, and gives their memory back."""
        with self._lock:
            self._programs.clear()


# Of this process: an estimator that is fitted again has no other place to find them in.
PROGRAMS = LastUsed(MOST_PROGRAMS)
