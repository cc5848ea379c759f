"""Hardware: what a plan assumes of one device of each kind."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Hardware:
    """One device, by its vendor's data sheet.

    Attributes:
      name: what it is called there.
      platform: JAX's name of its platform.
      memory_bytes: its memory.
      flops: peak FLOP/s of dense products as JAX does them by default for float32: in TF32 on a
        GPU, in one bfloat16 pass on a TPU.
      bandwidth: peak bytes/s from and to its memory.
    """

    name: str
    platform: str
    memory_bytes: int
    flops: float
    bandwidth: float


HARDWARE = {
    "gpu": Hardware("NVIDIA A100 SXM 80 GB", "gpu", 80 * 10**9, 156e12, 2.039e12),
    "a100": Hardware("NVIDIA A100 SXM 80 GB", "gpu", 80 * 10**9, 156e12, 2.039e12),
    "h100": Hardware("NVIDIA H100 SXM 80 GB", "gpu", 80 * 10**9, 494.5e12, 3.35e12),
    "v4": Hardware("Cloud TPU v4", "tpu", 32 * 2**30, 275e12, 1.2e12),
    "v5e": Hardware("Cloud TPU v5e", "tpu", 16 * 2**30, 197e12, 0.819e12),
    "v6e": Hardware("Cloud TPU v6e", "tpu", 32 * 2**30, 918e12, 1.64e12),
}
