"""Program: a function of one member, lifted to all of them and compiled once for each shape."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Hashable
from concurrent.futures import Future
from typing import Any

import jax
from absl import logging

from moa_jax.training import in_turn, lanes, reuse
from moa_jax.training.identity import Unnamed, identity, kinds_of_nodes
from moa_jax.training.parallel import Devices, map_members
from moa_jax.training.precision import in_precision
from moa_jax.training.reuse import Compiling
from moa_jax.training.trees import MemberFunction


class Program:
    """A function of one member, lifted to all of them; compiled once per shape and listed.

    What the process has compiled before, for the same function and devices, is taken from there,
    see `identity`: of stages whose networks are alike the first one's programs serve all.

    Attributes:
      compilations: programs of different shapes that were asked for.
      compile_seconds: time for which whoever called them has waited, so that they be compiled.
    """

    def __init__(
        self,
        name: str,
        fn: MemberFunction,
        devices: Devices,
        runs_once: bool = False,
        precision: str | None = None,
        **options: Any,
    ):
        """Describes a program.

        Args:
          name: name in logs.
          fn, devices, **options: as in `map_members`.
          runs_once: spend little time on making it fast.
          precision: see `Forward.precision`.
        """
        self._name, self._devices, self._precision = name, devices, precision
        # LLVM polishes the hundred generators of a deep network's weights for half a minute.
        unpolished = runs_once and devices.devices[0].platform == "cpu"
        told = {"xla_backend_optimization_level": 0} if unpolished else dict(devices.options)
        self._compiler_options = told or None
        self._mapped = map_members(fn, devices, **options)
        self._compiling: dict[Any, Compiling] = {}
        self._untold: set[Any] = set()  # of what was compiled here, and the log does not know yet
        self.compile_seconds = 0.0
        self._made_of = fn, options

    @property
    def compilations(self) -> int:
        return len(self._compiling)

    def __call__(self, state: Any, arguments: Any, shared: Any) -> tuple[Any, Any]:
        """Runs the program; host arrays among `state` and `arguments` are uploaded first."""
        calls = self._calls(state, arguments, shared)
        program = self.compiled(*calls[0])  # of the one shape that all lanes have
        if self._devices.lanes == 1:
            return program(*calls[0])
        return lanes.side_by_side(program, calls)

    def begin_call(self, state: Any, arguments: Any, shared: Any) -> None:
        """Does what `begin` does for arrays as a call takes them."""
        self.begin(*self._calls(state, arguments, shared)[0])

    def _calls(self, state: Any, arguments: Any, shared: Any) -> list[tuple[Any, Any, Any]]:
        """Returns the arguments of every lane."""
        trees = self._devices.put_members((state, arguments))
        every = [trees] if self._devices.lanes == 1 else lanes.each(trees, self._devices.lanes)
        return [(*own, shared) for own in every]

    def compiled(self, state: Any, arguments: Any, shared: Any) -> jax.stages.Compiled:
        """Returns the program, compiled for arrays or for their shapes alone."""
        self.begin(state, arguments, shared)
        signature, start = _signature(state, arguments, shared), time.monotonic()
        try:
            program, seconds = self._compiling[signature].result()
        except Exception:
            # It may succeed another time. Its error, if kept, would hold all that its callers have.
            self._untold.discard(signature)
            reuse.PROGRAMS.drop(self._compiling.pop(signature))
            raise
        self.compile_seconds += time.monotonic() - start
        if signature in self._untold:
            self._untold.remove(signature)
            slots = math.prod(jax.tree.leaves((state, arguments))[0].shape[:2])
            logging.info("%s: compiled for %d slots in %.1f s", self._name, slots, seconds)
        return program

    def begin(self, state: Any, arguments: Any, shared: Any) -> None:
        """Has a thread compile the program for arrays or shapes; who asks for it then waits.

        It is traced here: settings of JAX that a context has changed are those of one thread.
        """
        signature = _signature(state, arguments, shared)
        if signature in self._compiling:
            return
        leaves, structure = jax.tree.flatten((state, arguments, shared))
        places = tuple(getattr(a, "sharding", None) for a in leaves)
        called, kinds = (structure, signature, places), tuple(kinds_of_nodes(structure))
        with in_precision(self._precision):
            key = self._key(called, kinds)
            compiling = reuse.PROGRAMS.get(key) if key else None
            if compiling is None or (compiling.done() and compiling.exception()):
                start = time.monotonic()
                lowered = self._mapped.lower(state, arguments, shared)
                traced = time.monotonic() - start
                compiling = _in_a_thread(lowered, self._compiler_options, traced)
                self.compile_seconds += traced
                self._untold.add(signature)
                # What has changed while it was traced is not known to be in the program.
                if key and key == self._key(called, kinds):
                    reuse.PROGRAMS.put(key, compiling)
        self._compiling[signature] = compiling

    def _key(self, called: Hashable, kinds: tuple[type, ...]) -> Hashable | None:
        """Returns what is equal for equal programs as things are now; None where nothing can be.

        Args:
          called: what tells of the arguments.
          kinds: the classes of their trees.
        """
        how = frozenset((self._compiler_options or {}).items()), self._devices
        try:
            return (*how, identity((*self._made_of, kinds)), reuse.options(), called)
        except (Unnamed, RecursionError) as error:
            logging.debug("%s: compiled for itself: it depends on a %s", self._name, error)
            return None


def _signature(*arguments: Any) -> tuple[Hashable, ...]:
    """Returns shapes and types of all arrays; types that are weak give way to others."""
    leaves = jax.tree.leaves(arguments)
    return tuple((a.shape, a.dtype, getattr(a, "weak_type", False)) for a in leaves)


def _in_a_thread(
    lowered: jax.stages.Lowered, options: dict[str, Any] | None, traced: float
) -> Compiling:
    """Has a thread compile a program that took so many seconds to be traced.

    It is no thread of an executor: for those Python waits before its main thread counts as ended,
    and a signal that came would then end nothing, see `signals`.
    """
    found: Compiling = Future()
    threading.Thread(target=_compile, args=(found, lowered, options, traced)).start()
    return found


def _compile(
    found: Compiling, lowered: jax.stages.Lowered, options: dict[str, Any] | None, traced: float
) -> None:
    start = time.monotonic()
    try:
        program = in_turn.compiled(lowered, options)
    except BaseException as error:
        found.set_exception(error)
        del found  # the error has this frame, and would be held by itself
    else:
        found.set_result((program, traced + time.monotonic() - start))
