"""Cards: what vendors' data sheets say of one device of each kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

# What does the products of a type where a device has no units of its own for it. Exact products of
# float32 take a TPU six passes in bfloat16.
_STANDS_FOR = {"tf32": "float32", "bfloat16": "float32", "float16": "float32", "float64": "float32"}
TPU_PASSES = 6


@dataclasses.dataclass(frozen=True)
class Chip:
    """What XLA asks about a GPU that it compiles for, beside its memory.

    Attributes:
      name: as its driver calls it.
      capability: CUDA's compute capability, a key of `gpu_target.CAPABILITIES`.
      cores: streaming multiprocessors.
      clock_ghz: highest clock.
      l2_bytes: second-level cache.
    """

    name: str
    capability: tuple[int, int]
    cores: int
    clock_ghz: float
    l2_bytes: int


@dataclasses.dataclass(frozen=True)
class Card:
    """One device.

    Attributes:
      name: what its data sheet calls it.
      platform: JAX's name of its platform.
      memory_bytes: its memory.
      bandwidth: peak bytes/s from and to its memory.
      peaks: peak FLOP/s of dense products by their type: `tf32` is what JAX does with float32 on a
        GPU unless told otherwise, `float32` what it does at its highest precision.
      source: where the figures come from.
      chip: what a program is compiled for; None for a TPU, whose compiler knows it by name.
    """

    name: str
    platform: str
    memory_bytes: int
    bandwidth: float
    peaks: Mapping[str, float]
    source: str
    chip: Chip | None = None

    @property
    def multiplies_bfloat16(self) -> bool:
        """Whether it has units for bfloat16."""
        return "bfloat16" in self.peaks

    def peak(self, kind: str) -> float:
        """Returns the peak FLOP/s of products of a type, float64 counted as float32.

        Args:
          kind: `tf32` for float32 at JAX's default precision, or a type's name.
        """
        if self.platform == "tpu":
            exact = kind in ("float32", "float64")
            return self.peaks["bfloat16"] / (TPU_PASSES if exact else 1)
        return self.peaks[kind if kind in self.peaks else _STANDS_FOR[kind]]


# Tensor cores' figures are those without sparsity, which data sheets double.
_A100 = Card(
    name="NVIDIA A100 SXM 80 GB",
    platform="gpu",
    memory_bytes=80 * 10**9,
    bandwidth=2.039e12,
    peaks={"float32": 19.5e12, "tf32": 156e12, "bfloat16": 312e12, "float16": 312e12},
    source="https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/"
    "nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf",
    chip=Chip("NVIDIA A100-SXM4-80GB", (8, 0), 108, 1.41, 40 * 2**20),
)
_H100 = Card(
    name="NVIDIA H100 SXM 80 GB",
    platform="gpu",
    memory_bytes=80 * 10**9,
    bandwidth=3.35e12,
    peaks={"float32": 67e12, "tf32": 494.5e12, "bfloat16": 989.5e12, "float16": 989.5e12},
    source="https://www.nvidia.com/en-us/data-center/h100/",
    chip=Chip("NVIDIA H100 80GB HBM3", (9, 0), 132, 1.98, 50 * 2**20),
)
CARDS = {
    "gpu": _A100,
    "a100": _A100,
    "h100": _H100,
    "h200": dataclasses.replace(
        _H100,
        name="NVIDIA H200 SXM 141 GB",
        memory_bytes=141 * 10**9,
        bandwidth=4.8e12,
        source="https://www.nvidia.com/en-us/data-center/h200/",
        chip=Chip("NVIDIA H200", (9, 0), 132, 1.98, 50 * 2**20),
    ),
    "l4": Card(
        name="NVIDIA L4 24 GB",
        platform="gpu",
        memory_bytes=24 * 10**9,
        bandwidth=300e9,
        peaks={"float32": 30.3e12, "tf32": 60e12, "bfloat16": 121e12, "float16": 121e12},
        source="https://www.nvidia.com/en-us/data-center/l4/",
        chip=Chip("NVIDIA L4", (8, 9), 58, 2.04, 48 * 2**20),
    ),
    "t4": Card(
        name="NVIDIA T4 16 GB",
        platform="gpu",
        memory_bytes=16 * 10**9,
        bandwidth=320e9,
        peaks={"float32": 8.1e12, "float16": 65e12},
        source="https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/tesla-t4/"
        "t4-tensor-core-datasheet-951643.pdf",
        chip=Chip("Tesla T4", (7, 5), 40, 1.59, 4 * 2**20),
    ),
    "v4": Card(
        name="Cloud TPU v4",
        platform="tpu",
        memory_bytes=32 * 2**30,
        bandwidth=1.2e12,
        peaks={"bfloat16": 275e12},
        source="https://cloud.google.com/tpu/docs/v4",
    ),
    "v5e": Card(
        name="Cloud TPU v5e",
        platform="tpu",
        memory_bytes=16 * 2**30,
        bandwidth=0.819e12,
        peaks={"bfloat16": 197e12},
        source="https://cloud.google.com/tpu/docs/v5e",
    ),
    "v6e": Card(
        name="Cloud TPU v6e",
        platform="tpu",
        memory_bytes=32 * 2**30,
        bandwidth=1.64e12,
        peaks={"bfloat16": 918e12},
        source="https://cloud.google.com/tpu/docs/v6e",
    ),
}
