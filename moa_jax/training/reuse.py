"""Reuse of compiled programs: what tells that two functions compute the same, and the last ones."""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import sys
import threading
import types
from collections.abc import Hashable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Programs that a process keeps: those of some stages, each of which has about four.
MOST_PROGRAMS = 32
# What JAX compiles differently under other values, beside the types of the arguments.
_OPTIONS = (
    "jax_default_matmul_precision",
    "jax_disable_most_optimizations",
    "jax_debug_nans",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
)
_PLAIN = (type(None), bool, int, str, bytes, type(Ellipsis), np.dtype)


class Unnamed(Exception):
    """Something whose value cannot be told but by itself, such as an object with state."""


class _Itself:
    """An object that equals itself alone; it is held, so that no other one takes its address."""

    def __init__(self, value: Any):
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self._value is other._value

    def __hash__(self) -> int:
        return id(self._value)


def identity(value: Any, above: tuple[int, ...] = ()) -> Hashable:
    """Returns what is equal for two functions, or other values, that compute the same.

    A function that a module holds under its name is itself; another one is its code, with its
    defaults and all that it closes over. So two closures that the same `def` made of the same
    values are one, as are equal dataclasses, partial functions and bound methods. Arrays go by
    their content. What a function finds among the globals of its module is taken to stay.

    >>> adder = lambda number: lambda x: x + number
    >>> identity(adder(1)) == identity(adder(1)), identity(adder(1)) == identity(adder(2))
    (True, False)

    Args:
      value: a function, or what one closes over.
      above: addresses of the values that this one is part of.

    Raises:
      Unnamed: it is, or closes over, an object that nothing here knows, or itself.
    """
    if id(value) in above:
        raise Unnamed(type(value).__name__)
    part = functools.partial(identity, above=(*above, id(value)))

    def parts(values: Any) -> Hashable:
        return tuple(map(part, values))

    kind = type(value)
    if isinstance(value, _PLAIN):
        return kind, value
    if isinstance(value, float | complex):
        # 0.0 and -0.0 are equal, and not the same.
        return kind, repr(value)
    if isinstance(value, type | types.ModuleType) or _is_named(value):
        return _Itself(value)
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return kind, *_content(value)
    if isinstance(value, tuple | list):
        return kind, parts(value)
    if isinstance(value, Mapping):
        return kind, parts(value), parts(value.values())
    if isinstance(value, functools.partial):
        return kind, part(value.func), parts(value.args), part(value.keywords)
    if isinstance(value, types.MethodType):
        return kind, part(value.__func__), part(value.__self__)
    if isinstance(value, types.FunctionType):
        closed = parts(cell.cell_contents for cell in value.__closure__ or ())
        given = part(value.__defaults__), part(value.__kwdefaults__)
        return kind, value.__code__, _Itself(value.__globals__), given, closed
    if dataclasses.is_dataclass(value):
        return kind, parts(getattr(value, field.name) for field in dataclasses.fields(value))
    raise Unnamed(kind.__name__)


def _is_named(value: Any) -> bool:
    """Tells whether a value is a module's own, which finds it under its name."""
    found: Any = sys.modules.get(getattr(value, "__module__", None) or "")
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if found is None or not isinstance(name, str):
        return False
    for step in name.split("."):
        found = getattr(found, step, None)
    return found is value


def _content(array: Any) -> tuple[Hashable, ...]:
    if isinstance(array, jax.core.Tracer) or array.dtype.hasobject:
        raise Unnamed(type(array).__name__)
    values = np.ascontiguousarray(array)
    return values.shape, values.dtype, hashlib.sha256(values.tobytes()).digest()


def options() -> tuple[Hashable, ...]:
    """Returns the settings of JAX that a program depends on."""
    precision = jnp.result_type(float)
    # Of some there is the value alone, of others a context may set another one.
    values = jax.config.values
    return precision, *(getattr(jax.config, name, values.get(name)) for name in _OPTIONS)


class LastUsed:
    """The compiled programs that were used last, by what makes them; threads may share it."""

    def __init__(self, most: int):
        self._most, self._lock = most, threading.Lock()
        self._programs: collections.OrderedDict[Hashable, jax.stages.Compiled] = (
            collections.OrderedDict()
        )

    def get(self, key: Hashable) -> jax.stages.Compiled | None:
        """Returns the program of this key, if there still is one."""
        with self._lock:
            if key in self._programs:
                self._programs.move_to_end(key)
            return self._programs.get(key)

    def put(self, key: Hashable, program: jax.stages.Compiled) -> None:
        """Keeps a program, in place of the one that was not used for longest."""
        with self._lock:
            self._programs[key] = program
            while len(self._programs) > self._most:
                self._programs.popitem(last=False)

    def clear(self) -> None:
        """Forgets all of them, and gives their memory back."""
        with self._lock:
            self._programs.clear()


# Of this process: an estimator that is fitted again has no other place to find them in.
PROGRAMS = LastUsed(MOST_PROGRAMS)
