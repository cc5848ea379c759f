"""Topology: the devices that a run is planned for, and what its programs are compiled for."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from absl import logging
from jax.experimental import topologies

from moa_jax.config import suggestion
from moa_jax.errors import UserError, first_line
from moa_jax.plan import gpu_target
from moa_jax.plan.cards import CARDS, Card
from moa_jax.store import cores
from moa_jax.training.parallel import Devices, choose_strategy
from moa_jax.training.stage import Stage

# Two fused multiply-adds of eight float32 lanes per cycle at 2 GHz; two channels of DDR4.
CPU_CORE_FLOPS, CPU_BANDWIDTH = 64e9, 40e9
# Where JAX's compilers for NVIDIA GPUs lie.
_GPU_COMPILERS = ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13")
# Choosing among kernels by measuring them needs a card.
_WITHOUT_CARD: Mapping[str, Any] = {"xla_gpu_enable_triton_gemm": False}


@dataclasses.dataclass(frozen=True)
class Topology:
    """The devices that a run is planned for.

    Attributes:
      text: as configured.
      card: one of the devices.
      num_devices: how many there are.
      compile_for: what programs are compiled for: the devices themselves, one like them, or a CPU
        in the place of one. As members do not communicate, one device's part of the program tells
        all but what sharing batches or rows adds.
    """

    text: str
    card: Card
    num_devices: int
    compile_for: Devices

    @property
    def is_estimate(self) -> bool:
        """Whether programs are compiled for another kind of device."""
        return self.card.platform != self.compile_for.devices[0].platform

    @property
    def method(self) -> str:
        """How figures come about, in words."""
        return "compiled for the CPU: estimate" if self.is_estimate else f"compiled for {self.kind}"

    @property
    def kind(self) -> str:
        """The kind of device that is planned for, shortly."""
        kind = self.text.partition(":")[0]
        return "the CPU" if kind == "cpu" else "A100" if kind == "gpu" else _written(kind)

    def on_cpu(self) -> Topology:
        """Returns the same devices, programs being compiled for a CPU in the place of one."""
        return dataclasses.replace(self, compile_for=_one_cpu())

    def to_compile(
        self, stage: Stage, per_member: int, shares_rows: bool = False
    ) -> tuple[Stage, Devices]:
        """Returns what to compile, where so many devices share the batches of each member.

        Where programs are compiled for one device it has its part of the rows, and exchanges none.

        Args:
          stage: a stage, or its outline.
          per_member: devices that share the batches of each member.
          shares_rows: whether all share the rows that members read.
        """
        if len(self.compile_for.devices) == self.num_devices:
            devices = self.compile_for.sharing_batches(per_member)
            return stage, devices.sharing_rows() if shares_rows else devices
        part = dataclasses.replace(stage, batch_size=-(-stage.batch_size // per_member))
        if shares_rows:
            tables = stage.shared, stage.targets, stage.known
            shared, targets, known = jax.tree.map(lambda a: a[:: self.num_devices], tables)
            part = dataclasses.replace(part, shared=shared, targets=targets, known=known)
        return part, self.compile_for


def _written(kind: str) -> str:
    return kind if kind.startswith("v") else kind.upper()


def topology(text: str, strategy: str = "auto") -> Topology:
    """Returns the devices that a text such as `v5e:2x4`, `gpu:8` or `cpu` stands for.

    Args:
      text: kind of device, and after a colon their number or, of TPUs, their grid.
      strategy: as in the configuration; of TPUs, the whole program is compiled with it.

    Raises:
      UserError: the text is none, or libtpu is needed and not installed.
    """
    kind, _, size = text.partition(":")
    kinds = ["cpu", *CARDS]
    if kind not in kinds:
        raise UserError(
            f"config.plan.topology: expected one of {', '.join(kinds)}, with a size such as "
            f"gpu:8 or v5e:2x4, found {text!r}{suggestion(kind, kinds)}"
        )
    grid = (size or "1").split("x")
    sizes = [int(part) if part.isdecimal() and len(part) < 7 else 0 for part in grid]
    if not 0 < (count := math.prod(sizes)) <= 100_000:
        raise UserError(
            f"config.plan.topology: expected a size such as 8 or 2x4 after {kind}:, found {size!r}"
        )
    if kind == "cpu":
        chosen = _one_cpu()
        return Topology(text, _this_cpu(chosen, count), count, chosen)
    card = CARDS[kind]
    if card.platform == "tpu":
        devices = _tpu_devices(kind, sizes)
        return Topology(text, card, count, Devices(choose_strategy(strategy, count), devices))
    found = _gpu(card)
    if found is None:
        return Topology(text, card, count, _one_cpu())
    return Topology(text, card, count, Devices("vmap", (found,), options=_options(_WITHOUT_CARD)))


def compiles_for_this_cpu(text: str) -> bool:
    """Tells whether programs for a topology will be a CPU's, which a later run can read again."""
    card = CARDS.get(text.partition(":")[0])
    return card is None or (card.platform == "gpu" and not has_gpu_compiler())


def _options(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(options.items())


def _one_cpu() -> Devices:
    return Devices("vmap", (jax.local_devices(backend="cpu")[0],))


def _this_cpu(devices: Devices, count: int) -> Card:
    number = cores.available()
    return Card(
        f"a part of {number} CPU cores",
        "cpu",
        devices.memory_bytes() // count,
        CPU_BANDWIDTH / count,
        {"float32": number * CPU_CORE_FLOPS / count},
        "assumed",
    )


def has_gpu_compiler() -> bool:
    """Tells whether the compiler for NVIDIA GPUs is installed."""
    return importlib.util.find_spec("jax_plugins") is not None and any(
        importlib.util.find_spec(name) is not None for name in _GPU_COMPILERS
    )


def _gpu(card: Card) -> jax.Device | None:
    """Returns a GPU that is not there; None without its compiler."""
    if not has_gpu_compiler():
        return None
    try:
        found = topologies.get_topology_desc(
            "gpu", "cuda", target_config=gpu_target.text(card), topology="1x1x1"
        )
    except (jax.errors.JaxRuntimeError, RuntimeError, ValueError) as error:
        logging.warning("%s: estimated on the CPU: %s", card.name, first_line(error))
        return None
    return found.devices[0]


def _tpu_devices(kind: str, grid: Sequence[int]) -> tuple[jax.Device, ...]:
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            f"config.plan.topology: {kind} needs no TPU, but its compiler: "
            "pip install 'moa-jax[tpu]'"
        )
    # Only the compiler is wanted: there is no metadata server to ask, and no TPU to lock.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    bounds = [*grid, 1, 1][:3]
    # JAX runs both cores of a v4 chip as one device. Its hosts have four chips, others' vary.
    options: dict[str, Any] = {"chip_config_name": "megacore" if kind == "v4" else "default"}
    if kind != "v4":
        options["chips_per_host_bounds"] = tuple(bounds)
    name = f"{kind}:{'x'.join(map(str, bounds if kind == 'v4' else bounds[:2]))}"
    try:
        found = topologies.get_topology_desc(name, platform="tpu", **options)
    except jax.errors.JaxRuntimeError as error:
        reason = first_line(error)
        raise UserError(f"config.plan.topology: {name} cannot be had: {reason}") from None
    return tuple(found.devices)
