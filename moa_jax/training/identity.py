"""Identity of functions: what is equal for two that compute the same, and for no others."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import hashlib
import sys
import types
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.core import FrozenDict

# Only these kinds are what they show; a subclass may hold more.
_PLAIN = (type(None), bool, int, str, bytes, type(Ellipsis))
_MAPPINGS = (dict, collections.OrderedDict, types.MappingProxyType, FrozenDict)
_PARTIAL = (functools.partial, jax.tree_util.Partial)
_CONTAINERS = (dict, list, tuple, set, frozenset, str, bytes, int, float, complex, np.ndarray)
# Where an unbound module keeps what is no attribute of the network.
_OF_MODULES = {"_state", "_id", "_parent_ref", "scope"}
# Libraries whose functions stay as they are.
_LIBRARIES = ("jax", "jaxlib", "numpy", "scipy", "optax", "flax")
_SETTLED = (set(_LIBRARIES) - {"flax"}) | {"flax.core", "flax.linen.module"}
_SETTLED |= sys.stdlib_module_names


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


def identity(value: Any) -> Hashable:
    """Returns what is equal for two functions, or other values, that compute the same.

    A function is its code, with its defaults, all that it closes over, and what the names in its
    code stand for among the globals of its module; one that a module holds under its name, and a
    class, is itself besides. So two closures that the same `def` made of the same values are one,
    as are equal dataclasses, partial functions and bound methods; and a function is another one
    when it, or one that it calls, has been defined anew. Arrays go by their content.

    Functions of JAX, numpy and Optax, and what holds networks together in Flax, are taken to stay,
    and so is the state of an object that a module holds.

    >>> adder = lambda number: lambda x: x + number
    >>> identity(adder(1)) == identity(adder(1)), identity(adder(1)) == identity(adder(2))
    (True, False)

    Args:
      value: a function, or what one closes over.

    Raises:
      Unnamed: it is, or closes over, an object that nothing here knows, or itself.
    """
    walk = _Walk()
    return _compact((walk.of(value), *walk.named()))


def kinds_of_nodes(structure: jax.tree_util.PyTreeDef) -> dict[type, None]:
    """Returns the classes of a tree's nodes, in their order: a function may call their methods."""
    found: dict[type, None] = {}
    if node := structure.node_data():
        found[node[0]] = None
        for child in structure.children():
            found |= kinds_of_nodes(child)
    return found


class _Walk:
    """One walk through all that a value depends on."""

    def __init__(self) -> None:
        self._above: list[int] = []  # addresses of the values that the present one is part of
        # Functions and classes of modules, described one after another, and their places.
        self._met: list[Any] = []
        self._places: dict[int, int] = {}

    def named(self) -> Iterator[Hashable]:
        """Yields what describes the functions and classes that were met, and those they lead to."""
        for value in self._met:  # it grows meanwhile
            yield self._described(value)

    def of(self, value: Any) -> Hashable:
        """Returns the identity of a value, see `identity`."""
        kind = type(value)
        if kind in _PLAIN or isinstance(value, np.dtype):
            return kind, value
        if kind in (float, complex):
            # 0.0 and -0.0 are equal, and not the same.
            return kind, repr(value)
        if isinstance(value, types.ModuleType | enum.Enum):
            return _Itself(value)
        if isinstance(value, type) or _is_named(value):
            return self._named(value)
        if id(value) in self._above:
            raise Unnamed(kind.__name__)
        self._above.append(id(value))
        try:
            return self._made(value, kind)
        finally:
            self._above.pop()

    def _taken(self, value: Any) -> Hashable:
        """Returns the identity of what a module holds: an object with a state is itself."""
        try:
            return self.of(value)
        except Unnamed:
            return _Itself(value)

    def _parts(self, values: Iterable[Any]) -> Hashable:
        # A dictionary on the way may be filled by what is looked at: a cache, a lazy import.
        return tuple(map(self.of, tuple(values)))

    def _made(self, value: Any, kind: type) -> Hashable:
        """Returns the identity of what was made while the program runs."""
        if kind is np.ndarray or isinstance(value, np.generic | jax.Array):
            return kind, *_content(value)
        if kind in (tuple, list) or (isinstance(value, tuple) and _is_bare(value)):
            return self._taken(kind), self._parts(value)
        if kind in _MAPPINGS:
            return kind, self._parts(value), self._parts(value.values())
        if kind in _PARTIAL:
            return kind, self._parts((value.func, value.args, value.keywords, vars(value)))
        if kind is types.MethodType:
            return kind, self._parts((value.__func__, value.__self__))
        if kind in (staticmethod, classmethod):
            return kind, self.of(value.__func__)
        if kind is property:
            return kind, self._parts((value.fget, value.fset, value.fdel))
        if kind is functools.cached_property:
            return kind, self.of(value.func)
        if kind is types.FunctionType:
            return kind, self._function(value, self.of)
        if dataclasses.is_dataclass(value) and _holds_fields_alone(value):
            fields = [field.name for field in dataclasses.fields(value)]
            own = {name: getattr(value, name) for name in fields if hasattr(value, name)}
            return self._taken(kind), self.of(own)
        raise Unnamed(kind.__name__)

    def _named(self, value: Any) -> Hashable:
        """Returns the place of a module's function, or of a class, among those that were met."""
        if _is_settled(value):
            return _Itself(value)
        place = self._places.setdefault(id(value), len(self._met))
        if place == len(self._met):
            self._met.append(value)
        return place

    def _described(self, value: Any) -> Hashable:
        itself = _Itself(value)
        if isinstance(value, types.FunctionType):
            return itself, self._function(value, self._taken)
        if isinstance(value, type):
            own = (vars(base) for base in value.__mro__ if not _is_settled(base))
            return itself, tuple(
                (name, self._taken(attributes[name])) for attributes in own for name in attributes
            )
        # What a decorator has made of a function, such as one with a derivative of its own.
        held = [getattr(value, "__wrapped__", None), *getattr(value, "__dict__", {}).values()]
        return itself, tuple(map(self._taken, held))

    def _function(self, value: Any, part: Callable[[Any], Hashable]) -> Hashable:
        try:
            closed = tuple(part(cell.cell_contents) for cell in value.__closure__ or ())
        except ValueError:  # an empty cell
            raise Unnamed("variable without a value") from None
        given = part(value.__defaults__), part(value.__kwdefaults__), part(vars(value))
        globals_ = value.__globals__
        return (
            value.__code__,
            _Itself(globals_),
            given,
            closed,
            self._read(value.__code__, globals_),
        )

    def _read(self, code: types.CodeType, globals_: dict[str, Any]) -> Hashable:
        """Returns the identities of what names in the code stand for, in modules under them, too.

        A name may be that of an attribute, and what a global of this name is told for nothing.
        """
        names, seen = sorted(set(_names(code))), set()

        def at(value: Any) -> Hashable:
            if not isinstance(value, types.ModuleType) or id(value) in seen:
                return self._taken(value)
            seen.add(id(value))
            return _Itself(value), told(vars(value))

        def told(inside: Any) -> Hashable:
            return tuple((name, at(inside[name])) for name in names if name in inside)

        # Modules that are imported in a function are found by their whole names.
        own = globals_.get("__name__", "").split(".")[0]
        imported = {
            name: sys.modules[name]
            for name in names
            if name in sys.modules and name.split(".")[0] in (own, *_LIBRARIES)
        }
        return told(globals_), told(imported)


def _compact(tree: Hashable) -> Hashable:
    """Returns what is equal for equal nests of tuples: how they nest, and what each has in them."""
    places: dict[Hashable, int] = {}
    nest = hashlib.sha256()

    def add(part: Any) -> None:
        if type(part) is tuple:
            nest.update(b"(")
            for one in part:
                add(one)
            nest.update(b")")
        else:
            nest.update(b"%d," % places.setdefault(part, len(places)))

    add(tree)
    return nest.digest(), tuple(places)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _is_settled(value: Any) -> bool:
    """Tells whether a function or class is one of the libraries that stay as they are."""
    module = getattr(value, "__module__", None) or ""
    steps = module.split(".")
    return any(".".join(steps[:count]) in _SETTLED for count in range(1, len(steps) + 1))


def _is_named(value: Any) -> bool:
    """Tells whether a value is a module's own, which finds it under its name."""
    found: Any = sys.modules.get(getattr(value, "__module__", None) or "")
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if found is None or not isinstance(name, str):
        return False
    for step in name.split("."):
        found = getattr(found, step, None)
    return found is value


def _is_bare(value: tuple) -> bool:
    """Tells whether a named tuple has nothing beside its fields."""
    return hasattr(value, "_fields") and not getattr(value, "__dict__", None)


def _holds_fields_alone(value: Any) -> bool:
    """Tells whether a dataclass's object holds its fields and what is made of them, no more."""
    if isinstance(value, _CONTAINERS) or isinstance(value, type):
        return False
    held = set(getattr(value, "__dict__", ())) - {field.name for field in dataclasses.fields(value)}
    if isinstance(value, nn.Module):
        if value.scope is not None:  # bound to variables
            return False
        held -= _OF_MODULES
    made = functools.cached_property
    return all(isinstance(getattr(type(value), name, None), made) for name in held)


def _content(array: Any) -> tuple[Hashable, ...]:
    placed: tuple[Hashable, ...] = ()
    if isinstance(array, jax.core.Tracer) or jax.dtypes.issubdtype(
        array.dtype, jax.dtypes.extended
    ):
        raise Unnamed(type(array).__name__)
    if isinstance(array, jax.Array):
        if not array.is_fully_addressable:
            raise Unnamed(type(array).__name__)
        placed = array.aval.weak_type, array.sharding
    if array.dtype.hasobject:
        raise Unnamed(type(array).__name__)
    values = np.ascontiguousarray(array)
    return *placed, values.shape, values.dtype, hashlib.sha256(values.tobytes()).digest()
