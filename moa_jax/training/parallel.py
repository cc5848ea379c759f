"""map_members: lifts a function of one member to all members on all devices.

Stacked trees have the leading axes [shards, members per shard], in which each strategy finds its
own axis without copying: `pmap` and `shard_map` split the first, every shard maps over the second.
A shard is one device, or several that share the rows of its members' batches.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Hashable
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from moa_jax.errors import UserError
from moa_jax.store import memory, processes
from moa_jax.training import in_turn, made_rows, reuse, shared_rows
from moa_jax.training.identity import Unnamed, identity, kinds_of_nodes
from moa_jax.training.precision import in_precision
from moa_jax.training.trees import MemberFunction, Tree

# Axes of the mesh: members, and the rows of a batch.
MEMBER, DATA = "member", "data"
# Share of the memory that members may fill.
MEMORY_SHARE = 0.4
STRATEGIES = ("vmap", "pmap", "shard_map")


def choose_strategy(name: str, num_devices: int, num_processes: int = 1) -> str:
    """Returns the strategy that `auto` stands for on this machine, or `name` itself."""
    if name != "auto":
        return name
    if num_processes > 1:
        return "shard_map"
    return "pmap" if num_devices > 1 else "vmap"


def choose_inner(name: str, platform: str) -> str:
    """Returns how one device of this platform runs its members when asked for `auto`, or `name`.

    A GPU or TPU is filled by many members at once. On a CPU one wide network fills the cores, and
    one after another their weights stay in its caches and are updated in place.
    """
    if name != "auto":
        return name
    return "loop" if platform == "cpu" else "vmap"


def choose_per_member(
    wanted: int, strategy: str, shares_batches: bool, num_devices: int, num_members: int
) -> int:
    """Returns how many devices share the batches of each member.

    Args:
      wanted: what was asked for; 0 for as many as leave a place for every member. Where a run is
        read back on other devices, the largest part of it that divides them.
      strategy: as configured; only `shard_map` has a second axis.
      shares_batches: whether the network's batches may be shared, see `Forward`.
      num_devices: devices that there are.
      num_members: members that train at once.
    """
    if not shares_batches or strategy not in ("auto", "shard_map"):
        return 1
    if wanted:
        return math.gcd(wanted, num_devices)
    places = min(num_members, num_devices)
    divisors = (n for n in range(1, num_devices + 1) if num_devices % n == 0)
    return max(n for n in divisors if num_devices // n >= places)


def check_per_member(wanted: int, num_devices: int) -> None:
    """Checks that members can have that many devices each, before they are trained.

    Raises:
      UserError: they do not divide the devices.
    """
    if wanted and num_devices % wanted:
        raise UserError(
            f"config.parallel.devices_per_member: expected a divisor of {num_devices} devices, "
            f"found {wanted}"
        )


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices that share the members, and the strategy that spreads members over them.

    Attributes:
      strategy: one of `STRATEGIES`; `vmap` uses the first device alone.
      devices: the devices in use.
      per_member: how many of them, one after another, share the batches of each member.
      options: what the compiler is told of them, by XLA's names.
      shares_rows: whether each shard holds a part of the tables' rows, and not all of them.
    """

    strategy: str
    devices: tuple[jax.Device, ...]
    per_member: int = 1
    options: tuple[tuple[str, Any], ...] = ()
    shares_rows: bool = False

    @classmethod
    def available(cls, strategy: str = "auto") -> Devices:
        devices = tuple(jax.devices())
        strategy = choose_strategy(strategy, len(devices), jax.process_count())
        if jax.process_count() > 1 and strategy != "shard_map":
            raise UserError(
                "config.parallel.strategy: expected auto or shard_map with several processes, "
                f"found {strategy}"
            )
        return cls(strategy, devices[:1] if strategy == "vmap" else devices)

    def sharing_batches(self, per_member: int) -> Devices:
        """Returns the same devices, so many of which share the batches of each member."""
        if per_member == self.per_member:
            return self
        return dataclasses.replace(self, strategy="shard_map", per_member=per_member)

    def sharing_rows(self) -> Devices:
        """Returns the same devices, each shard with a part of the tables' rows."""
        return dataclasses.replace(self, strategy="shard_map", shares_rows=True)

    def updating_in_place(self) -> Devices:
        """Returns the same devices, their compiler told to save copies of what a step updates."""
        if self.devices[0].platform != "cpu":
            return self
        options = (*self.options, (in_turn.ASKS_FOR_READERS, True))
        return dataclasses.replace(self, options=options)

    @property
    def num_shards(self) -> int:
        """Parts that members are cut into."""
        return len(self.devices) // self.per_member

    @property
    def batch_axis(self) -> str | None:
        """The mapped axis over which rows of a batch are spread, if they are."""
        return DATA if self.per_member > 1 else None

    @property
    def local(self) -> tuple[jax.Device, ...]:
        """The devices of this process."""
        return tuple(d for d in self.devices if d.process_index == jax.process_index())

    def memory_bytes(self) -> int:
        """Returns the memory of all devices together, of this machine where they share its."""
        statistics = self.local[0].memory_stats() or {}
        if limit := statistics.get("bytes_limit"):
            return limit * len(self.devices)
        return memory.machine_bytes()

    def inner(self, name: str) -> str:
        return choose_inner(name, self.devices[0].platform)

    @property
    def mesh(self) -> Mesh:
        # Auto must be asked for: with the default, Explicit, gathering rows by sharded indices is
        # a type error.
        grid = np.asarray(self.devices).reshape(self.num_shards, self.per_member)
        return Mesh(grid, (MEMBER, DATA), axis_types=(AxisType.Auto,) * 2)

    def member_shapes(self, tree: Tree, per_shard: int) -> Tree:
        """Returns shapes [shards, members per shard, ...] for the shapes of one member."""
        axes = (self.num_shards, per_shard)
        return jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(axes + a.shape, a.dtype, sharding=self._split), tree
        )

    def table_shapes(self, tree: Tree) -> Any:
        """Returns the shapes of tables that every member reads, placed as `put_tables` does."""
        if self.shares_rows:
            return jax.tree.map(
                lambda a: shared_rows.outline(a, self._split, self.num_shards), tree
            )
        return jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=self._whole), tree
        )

    @property
    def _split(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(MEMBER))

    @property
    def _whole(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    def put_members(self, tree: Tree) -> Tree:
        """Uploads arrays [shards, members per shard, ...], each device its own part."""
        return _upload(tree, self._split)

    def put_shared(self, tree: Tree) -> Tree:
        """Uploads arrays that every member reads, one copy per device; spread rows lie there."""
        return jax.tree.map(
            lambda one: one if shared_rows.is_spread(one) else _upload(one, self._whole),
            tree,
            is_leaf=shared_rows.is_spread,
        )

    def put_tables(self, tree: Tree) -> Any:
        """Uploads tables [N, ...] that every member reads, all rows or its part to each shard.

        Those that lie there already stay.
        """
        if not self.shares_rows:
            return self.put_shared(made_rows.held(tree))

        def spread(table: Any) -> shared_rows.SharedRows:
            if shared_rows.is_spread(table):
                return table
            return shared_rows.spread(table, self._split, self.num_shards)

        return jax.tree.map(spread, tree, is_leaf=shared_rows.is_spread)


def _upload(tree: Tree, sharding: NamedSharding) -> Tree:
    if not processes.are_several():
        return jax.device_put(tree, sharding)

    def upload(array):
        if isinstance(array, jax.Array) and not array.is_fully_addressable:
            return array  # it lies where it should
        array = np.asarray(array)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(upload, tree)


def map_members(
    fn: MemberFunction,
    devices: Devices,
    *,
    inner: str = "vmap",
    skip: Callable[[Any], jax.Array] | None = None,
    donate: bool = True,
) -> Any:
    """Lifts a function of one member to all members on all devices, as one compiled program.

    Args:
      fn: `fn(state, arguments, shared) -> (state, output)` for one member.
      devices: where, and by which strategy. At a fixed device count all strategies give the same
        bits; on another count results differ by rounding only.
      inner: how one device runs its members. `vmap` batches them (dense networks); `loop` runs
        them one after another (convolutions, which `vmap` would turn into grouped ones).
      skip: for `inner='loop'`: members whose `skip(state)` holds are left as they are and cost
        nothing; their output is zero.
      donate: let the new state, of the same shapes, take the old state's memory; the old one must
        not be used again.

    Returns:
      The same function, to be called or lowered, for `state` and `arguments` with leading axes
      [shards, members per shard] and `shared` without them.
    """
    if inner not in ("vmap", "loop"):
        raise ValueError(f"inner: expected 'vmap' or 'loop', found {inner!r}")
    if skip is not None and inner == "vmap":
        raise ValueError("skip needs inner='loop': a batched branch runs both sides")

    device_body: MemberFunction = (
        jax.vmap(fn, in_axes=(0, 0, None)) if inner == "vmap" else in_turn.loop(fn, skip, donate)
    )
    donated = (0,) if donate else ()

    if devices.strategy == "pmap":
        return jax.pmap(
            device_body,
            axis_name=MEMBER,
            in_axes=(0, 0, None),
            devices=devices.devices,
            donate_argnums=donated,
        )

    def body(states, arguments, shared):
        state, own = jax.tree.map(lambda a: a[0], (states, arguments))
        return jax.tree.map(lambda a: a[None], device_body(state, own, shared))

    if devices.strategy == "shard_map":
        body = _on_shards(body, devices)
    return jax.jit(body, donate_argnums=donated)


def _on_shards(body: MemberFunction, devices: Devices) -> MemberFunction:
    """Spreads a function of one shard over all of them."""
    split = PartitionSpec(MEMBER)

    def spread(states, arguments, shared):
        # check_vma=False: carries of scans inside fn may start from constants, which are not
        # marked as varying over the devices. Devices that share batches agree on all results.
        return jax.shard_map(
            body,
            mesh=devices.mesh,
            in_specs=(split, split, shared_rows.specs(shared)),
            out_specs=split,
            check_vma=False,
        )(states, arguments, shared)

    return spread


class Program:
    """A function of one member, lifted to all of them; compiled once per shape and listed.

    What the process has compiled before, for the same function, name and devices, is taken from
    there, see `identity`.

    Attributes:
      compilations: programs of different shapes that were asked for.
      compile_seconds: time that compiling them took.
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
        self._compiled: dict[Any, jax.stages.Compiled] = {}
        self.compile_seconds = 0.0
        self._made_of = fn, options

    @property
    def compilations(self) -> int:
        return len(self._compiled)

    def __call__(self, state: Any, arguments: Any, shared: Any) -> tuple[Any, Any]:
        """Runs the program; host arrays among `state` and `arguments` are uploaded first."""
        state, arguments = self._devices.put_members((state, arguments))
        return self.compiled(state, arguments, shared)(state, arguments, shared)

    def compiled(self, state: Any, arguments: Any, shared: Any) -> jax.stages.Compiled:
        """Returns the program, compiled for arrays or for their shapes alone."""
        leaves, structure = jax.tree.flatten((state, arguments, shared))
        # Types that are weak give way to others.
        signature = tuple((a.shape, a.dtype, getattr(a, "weak_type", False)) for a in leaves)
        if signature not in self._compiled:
            places = tuple(getattr(a, "sharding", None) for a in leaves)
            called, kinds = (structure, signature, places), tuple(kinds_of_nodes(structure))
            with in_precision(self._precision):
                key = self._key(called, kinds)
                program = reuse.PROGRAMS.get(key) if key else None
                if program is None:
                    start = time.monotonic()
                    lowered = self._mapped.lower(state, arguments, shared)
                    program = in_turn.compiled(lowered, self._compiler_options)
                    slots = leaves[0].shape[0] * leaves[0].shape[1]
                    seconds = time.monotonic() - start
                    self.compile_seconds += seconds
                    logging.info("%s: compiled for %d slots in %.1f s", self._name, slots, seconds)
                    # What has changed while it was traced is not known to be in the program.
                    if key and key == self._key(called, kinds):
                        reuse.PROGRAMS.put(key, program)
            self._compiled[signature] = program
        return self._compiled[signature]

    def _key(self, called: Hashable, kinds: tuple[type, ...]) -> Hashable | None:
        """Returns what is equal for equal programs as things are now; None where nothing can be.

        Args:
          called: what tells of the arguments.
          kinds: the classes of their trees.
        """
        how = self._name, frozenset((self._compiler_options or {}).items()), self._devices
        try:
            return (*how, identity((*self._made_of, kinds)), reuse.options(), called)
        except (Unnamed, RecursionError) as error:
            logging.debug("%s: compiled for itself: it depends on a %s", self._name, error)
            return None
