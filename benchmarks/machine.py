"""The machine: what it is, how fast it multiplies and copies, and which versions it has."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from moa_jax.store import memory

# Sides of square matrices, and bytes that no cache holds, for the rates.
SIDE, COPIED = 1536, 2**27
TRIES = 4
PACKAGES = (
    "moa-jax", "jax", "numpy", "scipy", "scikit-learn", "pandas", "pyarrow", "umap-learn",
    "iterative-stratification", "lightgbm", "torch", "pytorch-tabnet", "keras",
    "geffnet", "resnest", "tabm",
)  # fmt: skip


def described() -> dict[str, Any]:
    """Returns date, processor, cores, memory and load of the machine, as JSON has them."""
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory": memory.size(memory.machine_bytes()),
        # Processes that wanted a core in the minute before: more than 0.5 is company.
        "load": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def rates() -> dict[str, float]:
    """Returns FLOP/s of matrix products, `float32` and `float64`, and B/s of a `copy`.

    They are the best of several tries by numpy and, where JAX is loaded, by XLA: the bound of a row
    is by what this machine has been seen to do.
    """
    found: dict[str, float] = {}
    source = np.ones(COPIED, np.uint8)
    target = np.empty_like(source)
    found["copy"] = 2 * COPIED / _best(lambda: np.copyto(target, source))
    for dtype in (np.float32, np.float64):
        square = np.ones((SIDE, SIDE), dtype)
        out = np.empty_like(square)
        name = np.dtype(dtype).name
        found[name] = 2 * SIDE**3 / _best(lambda a=square, b=out: np.matmul(a, a, out=b))
    if "jax" in sys.modules:
        import jax
        import jax.numpy as jnp

        square = jnp.ones((SIDE, SIDE), jnp.float32)
        product = jax.jit(lambda a: a @ a)
        best = 2 * SIDE**3 / _best(lambda: product(square).block_until_ready())
        found["float32"] = max(found["float32"], best)
        values, add = jnp.ones(COPIED // 4, jnp.float32), jax.jit(lambda a: a + 1)
        best = 2 * COPIED / _best(lambda: add(values).block_until_ready())
        found["copy"] = max(found["copy"], best)
    return found


def bound(work: Mapping[str, Any], peaks: Mapping[str, float]) -> tuple[float, str]:
    """Returns the least seconds that a work takes at the peaks, and which of them holds.

    >>> bound({"flops": 2e9, "moved": 1e9, "dtype": "float32"}, {"float32": 1e11, "copy": 1e10})
    (0.1, 'copy')
    """
    products, copied = work["flops"] / peaks[work["dtype"]], work["moved"] / peaks["copy"]
    return (products, "products") if products > copied else (copied, "copy")


def _best(run: Callable[[], Any]) -> float:
    run()
    times = []
    for _ in range(TRIES):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
