"""Target of a GPU that is not there: the description from which XLA compiles for it."""

from __future__ import annotations

from typing import NamedTuple

from moa_jax.plan.cards import Card


class Capability(NamedTuple):
    """What all GPUs of a compute capability have, by the table of the CUDA programming guide.

    Attributes:
      threads_per_core: most threads on a streaming multiprocessor.
      shared_per_core, shared_per_block: bytes of shared memory of one, and of a block that asks
        for all it may have.
      lanes: float32 units of one.
    """

    threads_per_core: int
    shared_per_core: int
    shared_per_block: int
    lanes: int


CAPABILITIES = {
    (7, 5): Capability(1024, 64 * 1024, 64 * 1024, 64),
    (8, 0): Capability(2048, 164 * 1024, 163 * 1024, 64),
    (8, 9): Capability(1536, 100 * 1024, 99 * 1024, 128),
    (9, 0): Capability(2048, 228 * 1024, 227 * 1024, 128),
}
# The same on all of them: limits of a block and a grid, shared memory that need not be asked for.
_EVERYWHERE = {
    "threads_per_block_limit": 1024,
    "threads_per_warp": 32,
    "shared_memory_per_block": 48 * 1024,
    "block_dim_limit_x": 2**31 - 1,
    "block_dim_limit_y": 2**16 - 1,
    "block_dim_limit_z": 2**16 - 1,
    "registers_per_core_limit": 2**16,
    "registers_per_block_limit": 2**16,
}
# What JAX's wheels for CUDA 12 bring.
_CUDA, _CUDNN = {"major": 12, "minor": 8}, {"major": 9, "minor": 10, "patch": 0}


def text(card: Card) -> str:
    """Returns XLA's `GpuTargetConfigProto` of a card, as text.

    Raises:
      ValueError: it is no GPU of the table.
    """
    chip = card.chip
    if chip is None:
        raise ValueError(f"{card.name}: expected a GPU whose chip is known")
    found = CAPABILITIES[chip.capability]
    major, minor = chip.capability
    device = {
        **_EVERYWHERE,
        "threads_per_core_limit": found.threads_per_core,
        "shared_memory_per_core": found.shared_per_core,
        "shared_memory_per_block_optin": found.shared_per_block,
        "fpus_per_core": found.lanes,
        "core_count": chip.cores,
        "clock_rate_ghz": chip.clock_ghz,
        "l2_cache_size": chip.l2_bytes,
        "device_memory_size": card.memory_bytes,
        "memory_bandwidth": round(card.bandwidth),
        "cuda_compute_capability": {"major": major, "minor": minor},
    }
    return _message(
        {
            "gpu_device_info": device,
            "platform_name": '"CUDA"',
            "dnn_version_info": _CUDNN,
            "runtime_version": _CUDA,
            "device_description_str": f'"{chip.name}"',
        }
    )


def _message(fields: dict) -> str:
    lines = []
    for name, value in fields.items():
        inner = f" {{\n{_message(value)}}}" if isinstance(value, dict) else f": {value}"
        lines.append(f"{name}{inner}\n")
    return "".join(lines)
