"""map_members: lifts a function of one member to all members on all devices.

Stacked trees have the leading axes [shards, members per shard], in which each strategy finds its
own axis without copying: `pmap` and `shard_map` split the first, every shard maps over the second.
A shard is one device, or several that share the rows of its members' batches.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from moa_jax.errors import UserError
from moa_jax.store import memory, processes
from moa_jax.training import in_turn, lanes, made_rows, shared_rows
from moa_jax.training.slots import Slots
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

    A GPU or TPU is filled by many members at once. On a CPU, one after another, their weights stay
    in its caches and are updated in place; what cores a small network leaves idle lanes fill.
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
      strategy: one of `STRATEGIES`; `vmap` uses JAX's default device alone.
      devices: the devices in use.
      per_member: how many of them, one after another, share the batches of each member.
      options: what the compiler is told of them, by XLA's names.
      shares_rows: whether each shard holds a part of the tables' rows, and not all of them.
      lanes: parts that the members of a shard are cut into, see `lanes`.
    """

    strategy: str
    devices: tuple[jax.Device, ...]
    per_member: int = 1
    options: tuple[tuple[str, Any], ...] = ()
    shares_rows: bool = False
    lanes: int = 1

    @classmethod
    def available(cls, strategy: str = "auto") -> Devices:
        devices = tuple(jax.devices())
        strategy = choose_strategy(strategy, len(devices), jax.process_count())
        if jax.process_count() > 1 and strategy != "shard_map":
            raise UserError(
                "config.parallel.strategy: expected auto or shard_map with several processes, "
                f"found {strategy}"
            )
        if strategy == "vmap":
            devices = tuple(jax.device_put(np.zeros(())).devices())  # which the caller may choose
        return cls(strategy, devices)

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

    def in_lanes(self, inner: str, num_members: int) -> Devices:
        """Returns the same devices, which run so many members of a shard side by side.

        A CPU's members are, where one after another they would leave cores idle: those of dense
        networks, on one device.

        Args:
          inner: as configured, see `Forward`.
          num_members: members that it runs.
        """
        if inner != "auto" or self.inner(inner) != "loop" or self.strategy != "vmap":
            return self
        return dataclasses.replace(self, lanes=lanes.number_for(num_members))

    def slots(self, num_members: int, per_shard: int) -> Slots:
        """Returns the places of members, so many of each shard."""
        return Slots(num_members, self.num_shards * self.lanes, -(-per_shard // self.lanes))

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
        if self.lanes > 1:
            return lanes.cut(tree, lambda part: _upload(part, self._split))
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
